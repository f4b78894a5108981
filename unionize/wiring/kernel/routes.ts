import {
  type Family,
  familyNamed,
  familyNumber,
  familyNumberOf,
  familyOf,
  ipText,
  type Prefix,
  prefixText,
  unspecified,
} from './ip.ts'
import {
  attribute,
  attributesIn,
  attributeU32,
  type Message,
  message,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  s32Of,
  sized,
  u32Of,
  unreadable,
} from './netlink.ts'

/** Messages about routes: linux/rtnetlink.h. */
const RTM_NEWROUTE = 24
const RTM_DELROUTE = 25
const RTM_GETROUTE = 26

const RTMSG = 12
const RTA_DST = 1
const RTA_OIF = 4
const RTA_GATEWAY = 5
const RTA_PRIORITY = 6
const RTA_PREFSRC = 7
const RTA_METRICS = 8
const RTA_CACHEINFO = 12
const RTA_TABLE = 15
const RTA_VIA = 18
const RTAX_MTU = 2
/** Where struct rta_cacheinfo has `rta_expires`. */
const CACHEINFO_EXPIRES = 8
/** USER_HZ, in which the kernel tells times to programs. */
const TICKS_PER_SECOND = 100
const RT_TABLE_MAIN = 254
const RT_SCOPE_UNIVERSE = 0
const RT_SCOPE_LINK = 253
/** For a deletion: of any scope. */
const RT_SCOPE_NOWHERE = 255
const RTPROT_STATIC = 4
const RTN_UNSPEC = 0
const RTN_UNICAST = 1
const RTN_LOCAL = 2
const RTNH_F_ONLINK = 4
const RTM_F_CLONED = 0x200
/** Better than the 1,024 of a route that the kernel makes of a router advertisement, so that none takes its place. */
const ROUTE_METRIC = 512

const SET = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE
const ADD = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
const REMOVE = NLM_F_REQUEST | NLM_F_ACK

/**
 * The protocol (rtm_protocol, rtnetlink(7)) of routes, rules and addresses that we make, by which they are known as
 * ours; `ip route show proto 117` lists them. Nobody else's in iproute2's rt_protos or linux/rtnetlink.h.
 */
export const OUR_PROTOCOL = 117
/** The same of routes to one address through a next hop: those of ways, which are told apart by it. */
export const WAY_PROTOCOL = 118

/** A route that there is to be. */
export interface RouteWish {
  readonly family: Family
  /** The network, its host bits 0 (see `networkOf`); null: the default route. */
  readonly to: Prefix | null
  /** Of the other family, it is one for IPv4 through an IPv6 router (RFC 9229). */
  readonly via?: Buffer
  /** Index of the interface. */
  readonly index?: number
  /** Absent: 0 for IPv4 and 1,024 for IPv6, as the kernel has it. Lower wins. */
  readonly metric?: number
  /** Absent: main, 254. */
  readonly table?: number
  readonly source?: Buffer
  /** The gateway is on the link though no prefix says so. */
  readonly onlink?: boolean
  readonly mtu?: number
  /** Absent: ours. */
  readonly protocol?: number
}

/** A route as the kernel has it. */
export interface Route {
  readonly family: Family
  /** Canonical text with prefix length; `0.0.0.0/0` and `::/0` are default routes. */
  readonly to: string
  /** null: on the link, or several next hops. */
  readonly via: string | null
  /** 0: several next hops, or none. */
  readonly index: number
  readonly metric: number
  readonly table: number
  readonly source: string | null
  readonly onlink: boolean
  readonly mtu: number | null
  readonly protocol: number
  readonly scope: number
  /** RTN_ of linux/rtnetlink.h: 1 unicast, 2 local, 3 broadcast, 7 unreachable, … */
  readonly type: number
  /** Seconds from now; null: for ever. */
  readonly expiresSeconds: number | null
  /** Not a route but a memory of one, such as a path MTU. */
  readonly cloned: boolean
}

/** Makes a route or, where there is one to the same network with this metric in this table, puts it in its place. */
export function setRoute(wish: RouteWish): Buffer {
  return newRoute(SET, wish)
}

/** Makes a route; EEXIST if there is one to the same network with this metric in this table. */
export function addRoute(wish: RouteWish): Buffer {
  return newRoute(ADD, wish)
}

/** Removes a route, if its protocol is that of the wish. ESRCH: there is none. */
export function deleteRoute(wish: RouteWish): Buffer {
  const { source: _source, mtu: _mtu, ...key } = wish
  const scope = wish.family === 'ipv4' ? RT_SCOPE_NOWHERE : RT_SCOPE_UNIVERSE
  return message(RTM_DELROUTE, REMOVE, routeHeader(key, { scope, type: RTN_UNSPEC }), ...routeAttributes(key))
}

/**
 * Asks for all routes of one family, of all tables; the kernel's own for local addresses are among them.
 * @param protocol of this one alone; kernels before Linux 4.20 tell them all nevertheless
 */
export function getRoutes(family: Family, protocol = 0): Buffer {
  const header = Buffer.alloc(RTMSG)
  header[0] = familyNumber(family)
  header[5] = protocol
  return message(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, header)
}

/** Asks how packets to an address would go. */
export function getRoute(address: Buffer): Buffer {
  const header = Buffer.alloc(RTMSG)
  header[0] = familyNumberOf(address)
  header[1] = address.length * 8
  return message(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_ACK, header, attribute(RTA_DST, address))
}

/** Whether an RTM_NEWROUTE says that packets end here. */
export function endsHere(reply: Message): boolean {
  return reply.body[7] === RTN_LOCAL
}

/** The default route of a sandbox. */
export function setDefaultRoute(index: number, gateway: Buffer): Buffer {
  return message(RTM_NEWROUTE, SET, sandboxHeader(), ...sandboxRoute(index, gateway))
}

export function deleteDefaultRoute(index: number, gateway: Buffer): Buffer {
  return message(RTM_DELROUTE, REMOVE, sandboxHeader(), ...sandboxRoute(index, gateway))
}

/** Reads an RTM_NEWROUTE. @throws WiringError `answer-unreadable` */
export function routeOf(reply: Message): Route {
  const header = sized(reply.body, RTMSG)
  const attributes = attributesIn(header.subarray(RTMSG))
  const family = familyNamed(header[0])
  if (family === null) throw unreadable(`a route of family ${header[0]}`)
  const number = (type: number) => {
    const payload = attributes.get(type)
    return payload === undefined ? 0 : u32Of(payload)
  }
  const text = (type: number) => {
    const payload = attributes.get(type)
    return payload === undefined ? null : ipText(payload)
  }
  const other = attributes.get(RTA_VIA)
  const mtu = attributesIn(attributes.get(RTA_METRICS)).get(RTAX_MTU)
  const cache = attributes.get(RTA_CACHEINFO)
  const expires = cache === undefined ? 0 : s32Of(cache.subarray(CACHEINFO_EXPIRES))
  const table = attributes.get(RTA_TABLE)
  const flags = header.readUInt32LE(8)
  return {
    family,
    to: prefixText(attributes.get(RTA_DST) ?? unspecified(family), header.readUInt8(1)),
    via: other === undefined ? text(RTA_GATEWAY) : ipText(sized(other, 2).subarray(2)),
    index: number(RTA_OIF),
    metric: number(RTA_PRIORITY),
    table: table === undefined ? header.readUInt8(4) : u32Of(table),
    source: text(RTA_PREFSRC),
    onlink: (flags & RTNH_F_ONLINK) !== 0,
    mtu: mtu === undefined ? null : u32Of(mtu),
    protocol: header.readUInt8(5),
    scope: header.readUInt8(6),
    type: header.readUInt8(7),
    expiresSeconds: expires === 0 ? null : expires / TICKS_PER_SECOND,
    cloned: (flags & RTM_F_CLONED) !== 0,
  }
}

/**
 * Of an RTM_NEWROUTE only where it leads, its bytes in hexadecimal: thousands are compared at once. null: it is not of this
 * protocol, or not to one address through one next hop.
 */
export function hopIn({ body }: Message, protocol: number): { readonly to: string; readonly via: string } | null {
  const header = sized(body, RTMSG)
  if (header.readUInt8(5) !== protocol) return null
  const attributes = attributesIn(header.subarray(RTMSG))
  const [to, via] = [attributes.get(RTA_DST), attributes.get(RTA_GATEWAY)]
  if (to === undefined || via === undefined || header.readUInt8(1) !== to.length * 8) return null
  return { to: to.toString('hex'), via: via.toString('hex') }
}

/** IPv4 asks for the narrower scope where there is no gateway (ip-route(8)). */
function newRoute(flags: number, wish: RouteWish): Buffer {
  const onLink = wish.family === 'ipv4' && wish.via === undefined
  const header = routeHeader(wish, { scope: onLink ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE, type: RTN_UNICAST })
  return message(RTM_NEWROUTE, flags, header, ...routeAttributes(wish))
}

function routeHeader(wish: RouteWish, rest: { scope: number; type: number }): Buffer {
  const table = wish.table ?? RT_TABLE_MAIN
  const bytes = Buffer.alloc(RTMSG)
  bytes[0] = familyNumber(wish.family)
  bytes[1] = wish.to?.prefixLength ?? 0
  bytes[4] = table > 0xff ? 0 : table
  bytes[5] = wish.protocol ?? OUR_PROTOCOL
  bytes[6] = rest.scope
  bytes[7] = rest.type
  bytes.writeUInt32LE(wish.onlink ? RTNH_F_ONLINK : 0, 8)
  return bytes
}

function routeAttributes({ family, to, via, index, metric, table, source, mtu }: RouteWish): Buffer[] {
  const everywhere = family === 'ipv4' ? [] : [attribute(RTA_DST, unspecified(family))]
  return [
    ...(to === null ? everywhere : [attribute(RTA_DST, to.address)]),
    ...(table === undefined || table <= 0xff ? [] : [attributeU32(RTA_TABLE, table)]),
    ...(via === undefined ? [] : [gateway(family, via)]),
    ...(metric === undefined ? [] : [attributeU32(RTA_PRIORITY, metric)]),
    ...(source === undefined ? [] : [attribute(RTA_PREFSRC, source)]),
    ...(index === undefined ? [] : [attributeU32(RTA_OIF, index)]),
    ...(mtu === undefined ? [] : [attribute(RTA_METRICS, attributeU32(RTAX_MTU, mtu))]),
  ]
}

/** struct rtvia begins with the family. */
function gateway(family: Family, via: Buffer): Buffer {
  if (familyOf(via) === family) return attribute(RTA_GATEWAY, via)
  return attribute(RTA_VIA, Buffer.of(familyNumberOf(via), 0), via)
}

function sandboxHeader(): Buffer {
  return Buffer.of(
    familyNumber('ipv6'),
    0,
    0,
    0,
    RT_TABLE_MAIN,
    RTPROT_STATIC,
    RT_SCOPE_UNIVERSE,
    RTN_UNICAST,
    0,
    0,
    0,
    0,
  )
}

function sandboxRoute(index: number, via: Buffer): Buffer[] {
  return [attribute(RTA_GATEWAY, via), attributeU32(RTA_OIF, index), attributeU32(RTA_PRIORITY, ROUTE_METRIC)]
}
