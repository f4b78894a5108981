import { macBytes } from './links.ts'
import {
  attribute,
  attributesIn,
  attributeU32,
  type Message,
  message,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
} from './netlink.ts'

/** Messages about addresses, routes and neighbours: linux/if_addr.h, linux/rtnetlink.h, linux/neighbour.h. */
const RTM_NEWADDR = 20
const RTM_DELADDR = 21
const RTM_GETADDR = 22
const RTM_NEWROUTE = 24
const RTM_DELROUTE = 25
const RTM_GETROUTE = 26
const RTM_NEWNEIGH = 28
const RTM_DELNEIGH = 29

const AF_BRIDGE = 7
const AF_INET6 = 10
const IFA_ADDRESS = 1
const IFA_LOCAL = 2
const IFA_FLAGS = 8
const IFA_F_NODAD = 0x02
const IFA_F_DADFAILED = 0x08
const IFA_F_TENTATIVE = 0x40
const IFADDRMSG = 8
const RT_SCOPE_UNIVERSE = 0
const RTA_OIF = 4
const RTA_GATEWAY = 5
const RTA_PRIORITY = 6
const RT_TABLE_MAIN = 254
const RTPROT_STATIC = 4
const RTN_UNICAST = 1
const RTN_LOCAL = 2
const RTA_DST = 1
const ADDRESS_BITS = 128
const NDA_DST = 1
const NDA_LLADDR = 2
const NTF_MASTER = 4
const NUD_NOARP = 0x40
const NUD_PERMANENT = 0x80
/** Better than the 1,024 of a route that the kernel makes of a router advertisement, so that none takes its place. */
const ROUTE_METRIC = 512

const SET = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE
const REMOVE = NLM_F_REQUEST | NLM_F_ACK

/** An address on an interface. */
export interface Address {
  /** The sixteen bytes in hexadecimal. */
  readonly hex: string
  readonly prefixLength: number
  readonly interfaceIndex: number
  readonly linkLocal: boolean
  /** Not usable: duplicate address detection (RFC 4862) runs, waits for the link, or has failed. */
  readonly tentative: boolean
}

/** Gives an interface an address, usable at once. */
export function addAddress(index: number, address: Buffer, prefixLength: number): Buffer {
  return message(
    RTM_NEWADDR,
    SET,
    addressHeader(index, prefixLength, IFA_F_NODAD),
    attribute(IFA_LOCAL, address),
    attribute(IFA_ADDRESS, address),
  )
}

/** Takes an address from an interface. */
export function deleteAddress(index: number, address: Buffer, prefixLength: number): Buffer {
  return message(RTM_DELADDR, REMOVE, addressHeader(index, prefixLength, 0), attribute(IFA_LOCAL, address))
}

/** Asks for the IPv6 addresses of one interface. */
export function getAddresses(index: number): Buffer {
  return message(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, addressHeader(index, 0, 0))
}

/** Reads an RTM_NEWADDR. */
export function addressOf(reply: Message): Address {
  const attributes = attributesIn(reply.body.subarray(IFADDRMSG))
  return {
    hex: (attributes.get(IFA_ADDRESS) ?? Buffer.alloc(0)).toString('hex'),
    prefixLength: reply.body[1] ?? 0,
    interfaceIndex: reply.body.readUInt32LE(4),
    linkLocal: (reply.body[3] ?? 0) !== RT_SCOPE_UNIVERSE,
    tentative: ((attributes.get(IFA_FLAGS)?.readUInt32LE() ?? 0) & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) !== 0,
  }
}

/** Asks how packets to an address would go. */
export function getRoute(address: Buffer): Buffer {
  const header = Buffer.alloc(12)
  header[0] = AF_INET6
  header[1] = ADDRESS_BITS
  return message(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_ACK, header, attribute(RTA_DST, address))
}

/** Whether an RTM_NEWROUTE says that packets end here. */
export function endsHere(reply: Message): boolean {
  return reply.body[7] === RTN_LOCAL
}

/** The default route of a sandbox. */
export function setDefaultRoute(index: number, gateway: Buffer): Buffer {
  return message(RTM_NEWROUTE, SET, routeHeader(), ...routeAttributes(index, gateway))
}

export function deleteDefaultRoute(index: number, gateway: Buffer): Buffer {
  return message(RTM_DELROUTE, REMOVE, routeHeader(), ...routeAttributes(index, gateway))
}

/** A neighbour that needs no asking: a lost first solicitation costs a second (RFC 4861, RETRANS_TIMER). */
export function setNeighbour(index: number, address: Buffer, mac: string): Buffer {
  const header = neighbourHeader({ family: AF_INET6, index, state: NUD_PERMANENT, flags: 0 })
  return message(RTM_NEWNEIGH, SET, header, attribute(NDA_DST, address), attribute(NDA_LLADDR, macBytes(mac)))
}

export function deleteNeighbour(index: number, address: Buffer): Buffer {
  const header = neighbourHeader({ family: AF_INET6, index, state: 0, flags: 0 })
  return message(RTM_DELNEIGH, REMOVE, header, attribute(NDA_DST, address))
}

/** Tells a bridge which MAC is behind a port. Goes away with the port. */
export function staticPortEntry(portIndex: number, mac: string): Buffer {
  const header = neighbourHeader({ family: AF_BRIDGE, index: portIndex, state: NUD_NOARP, flags: NTF_MASTER })
  return message(RTM_NEWNEIGH, SET, header, attribute(NDA_LLADDR, macBytes(mac)))
}

function addressHeader(index: number, prefixLength: number, flags: number): Buffer {
  const bytes = Buffer.alloc(IFADDRMSG)
  bytes[0] = AF_INET6
  bytes[1] = prefixLength
  bytes[2] = flags
  bytes[3] = RT_SCOPE_UNIVERSE
  bytes.writeUInt32LE(index, 4)
  return bytes
}

function routeHeader(): Buffer {
  return Buffer.of(AF_INET6, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0, 0, 0, 0)
}

function routeAttributes(index: number, gateway: Buffer): Buffer[] {
  return [attribute(RTA_GATEWAY, gateway), attributeU32(RTA_OIF, index), attributeU32(RTA_PRIORITY, ROUTE_METRIC)]
}

function neighbourHeader(entry: { family: number; index: number; state: number; flags: number }): Buffer {
  const bytes = Buffer.alloc(12)
  bytes[0] = entry.family
  bytes.writeInt32LE(entry.index, 4)
  bytes.writeUInt16LE(entry.state, 8)
  bytes[10] = entry.flags
  return bytes
}
