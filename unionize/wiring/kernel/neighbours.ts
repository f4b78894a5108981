import { type Family, familyNamed, familyNumber, familyNumberOf, ipText } from './ip.ts'
import { macBytes, macText } from './mac.ts'
import {
  attribute,
  attributesIn,
  type Message,
  message,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  sized,
} from './netlink.ts'

/** Messages about neighbours: linux/neighbour.h. */
const RTM_NEWNEIGH = 28
const RTM_DELNEIGH = 29
const RTM_GETNEIGH = 30

const AF_BRIDGE = 7
const NDMSG = 12
const NDA_DST = 1
const NDA_LLADDR = 2
const NTF_MASTER = 4
const NUD_NOARP = 0x40
const NUD_PERMANENT = 0x80

const SET = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE
const REMOVE = NLM_F_REQUEST | NLM_F_ACK

/** An entry of the neighbour table. */
export interface Neighbour {
  readonly family: Family
  readonly index: number
  /** Canonical text. */
  readonly address: string
  /** Empty while it is not known. */
  readonly mac: string
  readonly permanent: boolean
}

/** A neighbour that needs no asking: a lost first solicitation costs a second (RFC 4861, RETRANS_TIMER). */
export function setNeighbour(index: number, address: Buffer, mac: string): Buffer {
  const header = neighbourHeader({ family: familyNumberOf(address), index, state: NUD_PERMANENT, flags: 0 })
  return message(RTM_NEWNEIGH, SET, header, attribute(NDA_DST, address), attribute(NDA_LLADDR, macBytes(mac)))
}

export function deleteNeighbour(index: number, address: Buffer): Buffer {
  const header = neighbourHeader({ family: familyNumberOf(address), index, state: NUD_PERMANENT, flags: 0 })
  return message(RTM_DELNEIGH, REMOVE, header, attribute(NDA_DST, address))
}

/** Tells a bridge which MAC is behind a port. Goes away with the port. */
export function staticPortEntry(portIndex: number, mac: string): Buffer {
  const header = neighbourHeader({ family: AF_BRIDGE, index: portIndex, state: NUD_NOARP, flags: NTF_MASTER })
  return message(RTM_NEWNEIGH, SET, header, attribute(NDA_LLADDR, macBytes(mac)))
}

/** Asks for all neighbours of one family. */
export function getNeighbours(family: Family): Buffer {
  const header = neighbourHeader({ family: familyNumber(family), index: 0, state: 0, flags: 0 })
  return message(RTM_GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP, header)
}

/** Reads an RTM_NEWNEIGH; null: it is not about IPv4 or IPv6. @throws WiringError `answer-unreadable` */
export function neighbourOf(reply: Message): Neighbour | null {
  const header = sized(reply.body, NDMSG)
  const attributes = attributesIn(header.subarray(NDMSG))
  const family = familyNamed(header[0])
  const address = attributes.get(NDA_DST)
  if (family === null || address === undefined) return null
  return {
    family,
    index: header.readInt32LE(4),
    address: ipText(address),
    mac: macText(attributes.get(NDA_LLADDR)),
    permanent: (header.readUInt16LE(8) & NUD_PERMANENT) !== 0,
  }
}

function neighbourHeader(entry: { family: number; index: number; state: number; flags: number }): Buffer {
  const bytes = Buffer.alloc(NDMSG)
  bytes[0] = entry.family
  bytes.writeInt32LE(entry.index, 4)
  bytes.writeUInt16LE(entry.state, 8)
  bytes[10] = entry.flags
  return bytes
}
