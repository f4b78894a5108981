import { type Family, familyNamed, familyNumber, familyNumberOf, ipText } from './ip.ts'
import {
  attribute,
  attributesIn,
  attributeText,
  attributeU8,
  attributeU32,
  type Message,
  message,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  sized,
  textOf,
  u8Of,
  u32Of,
  unreadable,
} from './netlink.ts'

/** Messages about addresses: linux/if_addr.h. */
const RTM_NEWADDR = 20
const RTM_DELADDR = 21
const RTM_GETADDR = 22

const IFADDRMSG = 8
const IFA_ADDRESS = 1
const IFA_LOCAL = 2
const IFA_LABEL = 3
const IFA_BROADCAST = 4
const IFA_CACHEINFO = 6
const IFA_FLAGS = 8
const IFA_PROTO = 11
/** Bytes of struct ifa_cacheinfo. */
const CACHEINFO = 16
/** A temporary address (RFC 8981); for IPv4 the same bit means a second address of the same network. */
const IFA_F_TEMPORARY = 0x01
const IFA_F_NODAD = 0x02
const IFA_F_DADFAILED = 0x08
const IFA_F_DEPRECATED = 0x20
const IFA_F_TENTATIVE = 0x40
const IFA_F_PERMANENT = 0x80
const IFA_F_NOPREFIXROUTE = 0x200
const RT_SCOPE_UNIVERSE = 0
/** INFINITY_LIFE_TIME of net/addrconf.h: RFC 4861 gives all ones this meaning. */
const FOR_EVER = 0xffff_ffff

const SET = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE
const REMOVE = NLM_F_REQUEST | NLM_F_ACK

/** Who made an address, as the kernel tells it since Linux 5.18 (IFAPROT_ of linux/if_addr.h). */
export const FROM_ADVERTISEMENT = 2

/** An address that an interface is to have. */
export interface AddressWish {
  readonly index: number
  readonly address: Buffer
  readonly prefixLength: number
  /** Seconds; absent: for ever. */
  readonly validSeconds?: number
  /** Seconds until it is used for no new connection; absent: for ever. */
  readonly preferredSeconds?: number
  /** Let the kernel look for duplicates of an IPv6 address first (RFC 4862); it is tentative meanwhile. */
  readonly detectDuplicates?: boolean
  /** Make no route to the prefix. */
  readonly noPrefixRoute?: boolean
  /** IPv4 only. Like ip-address(8) we set none unless told. */
  readonly broadcast?: Buffer
  /** IPv4 only: what old programs show instead of the interface's name. */
  readonly label?: string
  /** Who made it (IFA_PROTO), for those who read it; kernels before Linux 5.18 forget it. */
  readonly protocol?: number
}

/** An address on an interface. */
export interface Address {
  readonly family: Family
  /** Canonical text. */
  readonly address: string
  /** The bytes in hexadecimal. */
  readonly hex: string
  readonly prefixLength: number
  readonly interfaceIndex: number
  /** Of any scope smaller than global. */
  readonly linkLocal: boolean
  /** RT_SCOPE_ of linux/rtnetlink.h: 0 global, 253 link, 254 host. */
  readonly scope: number
  /** Not usable: duplicate address detection (RFC 4862) runs, waits for the link, or has failed. */
  readonly tentative: boolean
  /** Duplicate address detection found another owner. */
  readonly duplicate: boolean
  /** Past its preferred lifetime. */
  readonly deprecated: boolean
  /** It has a lifetime: from a router advertisement, by DHCP. */
  readonly dynamic: boolean
  /** A temporary address of RFC 8981, made by the kernel beside another. */
  readonly temporary: boolean
  /** Seconds from now; null: for ever. */
  readonly validSeconds: number | null
  readonly preferredSeconds: number | null
  /** Empty: none. */
  readonly label: string
  /** IPv4 only; null: none. */
  readonly broadcast: string | null
  /** Who made it: `FROM_ADVERTISEMENT`, ours, …; 0: not told. */
  readonly protocol: number
}

/** Gives an interface an address, or changes lifetimes of one that it has. */
export function putAddress(wish: AddressWish): Buffer {
  const flags =
    (wish.address.length === 4 || wish.detectDuplicates ? 0 : IFA_F_NODAD) |
    (wish.noPrefixRoute ? IFA_F_NOPREFIXROUTE : 0)
  const { index, address, prefixLength, label, broadcast, protocol } = wish
  return message(
    RTM_NEWADDR,
    SET,
    addressHeader({ family: familyNumberOf(address), index, prefixLength, flags: flags > 0xff ? 0 : flags }),
    attribute(IFA_LOCAL, address),
    ...(label === undefined ? [] : [attributeText(IFA_LABEL, label)]),
    ...(flags > 0xff ? [attributeU32(IFA_FLAGS, flags)] : []),
    attribute(IFA_ADDRESS, address),
    ...(broadcast === undefined ? [] : [attribute(IFA_BROADCAST, broadcast)]),
    ...lifetimes(wish),
    ...(protocol === undefined ? [] : [attributeU8(IFA_PROTO, protocol)]),
  )
}

/** Gives an interface an address, usable at once. */
export function addAddress(index: number, address: Buffer, prefixLength: number): Buffer {
  return putAddress({ index, address, prefixLength })
}

/** Takes an address from an interface. */
export function deleteAddress(index: number, address: Buffer, prefixLength: number): Buffer {
  const header = addressHeader({ family: familyNumberOf(address), index, prefixLength, flags: 0 })
  return message(RTM_DELADDR, REMOVE, header, attribute(IFA_LOCAL, address), attribute(IFA_ADDRESS, address))
}

/** Asks for the addresses of one interface. */
export function getAddresses(index: number, family: Family = 'ipv6'): Buffer {
  const header = addressHeader({ family: familyNumber(family), index, prefixLength: 0, flags: 0 })
  return message(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, header)
}

/** Asks for the addresses of all interfaces, of both families. */
export function getAllAddresses(): Buffer {
  const header = addressHeader({ family: 0, index: 0, prefixLength: 0, flags: 0 })
  return message(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, header)
}

/** Reads an RTM_NEWADDR. @throws WiringError `answer-unreadable` */
export function addressOf(reply: Message): Address {
  const header = sized(reply.body, IFADDRMSG)
  const attributes = attributesIn(header.subarray(IFADDRMSG))
  const family = familyNamed(header[0])
  if (family === null) throw unreadable(`an address of family ${header[0]}`)
  const told = attributes.get(IFA_FLAGS)
  const flags = told === undefined ? header.readUInt8(2) : u32Of(told)
  const bytes = (family === 'ipv4' ? attributes.get(IFA_LOCAL) : undefined) ?? attributes.get(IFA_ADDRESS)
  const cache = attributes.get(IFA_CACHEINFO)
  const protocol = attributes.get(IFA_PROTO)
  const broadcast = attributes.get(IFA_BROADCAST)
  if (bytes === undefined) throw unreadable('an address without its bytes')
  return {
    family,
    address: ipText(bytes),
    hex: bytes.toString('hex'),
    prefixLength: header.readUInt8(1),
    interfaceIndex: header.readUInt32LE(4),
    linkLocal: header.readUInt8(3) !== RT_SCOPE_UNIVERSE,
    scope: header.readUInt8(3),
    tentative: (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) !== 0,
    duplicate: (flags & IFA_F_DADFAILED) !== 0,
    deprecated: (flags & IFA_F_DEPRECATED) !== 0,
    dynamic: (flags & IFA_F_PERMANENT) === 0,
    temporary: family === 'ipv6' && (flags & IFA_F_TEMPORARY) !== 0,
    preferredSeconds: cache === undefined ? null : secondsOf(u32Of(cache)),
    validSeconds: cache === undefined ? null : secondsOf(u32Of(cache.subarray(4))),
    label: textOf(attributes.get(IFA_LABEL)),
    broadcast: broadcast === undefined ? null : ipText(broadcast),
    protocol: protocol === undefined ? 0 : u8Of(protocol),
  }
}

function secondsOf(number: number): number | null {
  return number === FOR_EVER ? null : number
}

function lifetimes({ validSeconds, preferredSeconds }: AddressWish): Buffer[] {
  if (validSeconds === undefined && preferredSeconds === undefined) return []
  const payload = Buffer.alloc(CACHEINFO)
  const valid = validSeconds ?? FOR_EVER
  payload.writeUInt32LE(Math.min(preferredSeconds ?? FOR_EVER, valid), 0)
  payload.writeUInt32LE(valid, 4)
  return [attribute(IFA_CACHEINFO, payload)]
}

function addressHeader(entry: { family: number; index: number; prefixLength: number; flags: number }): Buffer {
  const bytes = Buffer.alloc(IFADDRMSG)
  bytes[0] = entry.family
  bytes[1] = entry.prefixLength
  bytes[2] = entry.flags
  bytes[3] = RT_SCOPE_UNIVERSE
  bytes.writeUInt32LE(entry.index, 4)
  return bytes
}
