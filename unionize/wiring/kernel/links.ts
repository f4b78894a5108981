import { macBytes } from './mac.ts'
import {
  attribute,
  attributesIn,
  attributeText,
  attributeU8,
  attributeU32,
  type Message,
  message,
  NLA_F_NESTED,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REQUEST,
  s32Of,
  zeros,
} from './netlink.ts'

export { type Link, linkOf, type Port } from './link.ts'
export { type LinkState, stateOf } from './link-state.ts'

/** Messages about interfaces: linux/rtnetlink.h, linux/if_link.h, linux/veth.h. */
export const RTM_NEWLINK = 16
export const RTM_DELLINK = 17
const RTM_GETLINK = 18
const RTM_GETNSID = 90
const RTM_NEWLINKPROP = 108
const RTM_DELLINKPROP = 109

const IFLA_ADDRESS = 1
const IFLA_IFNAME = 3
const IFLA_MTU = 4
const IFLA_MASTER = 10
const IFLA_LINKINFO = 18
const IFLA_IFALIAS = 20
const IFLA_AF_SPEC = 26
const IFLA_GROUP = 27
const IFLA_NET_NS_FD = 28
const IFLA_EXT_MASK = 29
const IFLA_PROP_LIST = 52
const IFLA_ALT_IFNAME = 53

const IFLA_INFO_KIND = 1
const IFLA_INFO_DATA = 2
const IFLA_INFO_SLAVE_KIND = 4
const IFLA_INFO_SLAVE_DATA = 5
const VETH_INFO_PEER = 1
const IFLA_BRPORT_GUARD = 5
const IFLA_BRPORT_PROTECT = 6
const IFLA_BRPORT_LEARNING = 8
const IFLA_BRPORT_UNICAST_FLOOD = 9
const IFLA_BRPORT_MCAST_FLOOD = 27
const IFLA_BRPORT_ISOLATED = 33
const IFLA_INET6_ADDR_GEN_MODE = 8
const IN6_ADDR_GEN_MODE_NONE = 1
const AF_INET6 = 10
const RTEXT_FILTER_SKIP_STATS = 8
const IFF_UP = 0x1
const IFINFOMSG = 16
const NETNSA_NSID = 1
const NETNSA_FD = 3
/** Bytes of struct rtgenmsg, padded. */
const RTGENMSG = 4

const CHANGE = NLM_F_REQUEST | NLM_F_ACK

/** An interface by its index, which is certain, or by its name. */
export type LinkRef = number | string

/** How a port of a bridge behaves; what is absent stays as it is. */
export interface PortOptions {
  /** No frames to other isolated ports. */
  readonly isolated?: boolean
  readonly learning?: boolean
  /** Frames to a MAC that the bridge does not know. */
  readonly unicastFlood?: boolean
  readonly multicastFlood?: boolean
  /** Shut the port when a spanning tree's frame comes in. */
  readonly bpduGuard?: boolean
  /** Never let the spanning tree's root be behind this port. */
  readonly rootBlock?: boolean
}

/** Makes a veth pair: `name` here as a port of the bridge, and `peerName` in the namespace. Both ends are down. */
export function createPair(pair: {
  name: string
  bridge: number
  mtu: number
  peerName: string
  peerMac: string
  namespace: number
}): Buffer {
  const peer = attribute(
    VETH_INFO_PEER,
    linkHeader({}),
    attributeText(IFLA_IFNAME, pair.peerName),
    attribute(IFLA_ADDRESS, macBytes(pair.peerMac)),
    attributeU32(IFLA_MTU, pair.mtu),
    attributeU32(IFLA_NET_NS_FD, pair.namespace),
  )
  return message(
    RTM_NEWLINK,
    CHANGE | NLM_F_CREATE | NLM_F_EXCL,
    linkHeader({}),
    attributeText(IFLA_IFNAME, pair.name),
    attributeU32(IFLA_MTU, pair.mtu),
    attributeU32(IFLA_MASTER, pair.bridge),
    attribute(IFLA_LINKINFO, attributeText(IFLA_INFO_KIND, 'veth'), attribute(IFLA_INFO_DATA, peer)),
  )
}

/** Makes an interface a port of a bridge; 0 takes it out of the one it is in. */
export function setMaster(ref: LinkRef, bridge: number): Buffer {
  return changeLink(ref, attributeU32(IFLA_MASTER, bridge))
}

/**
 * How a port of ours behaves: no frames to other such ports, no learning and no flooding of unknown destinations,
 * because its one MAC is a static entry (see `staticPortEntry` in neighbours.ts). A bridge with spanning tree takes its
 * frames before any filter sees them, so such a frame closes the port that it came from.
 */
export function setPort(ref: LinkRef): Buffer {
  return setPortOptions(ref, { learning: false, unicastFlood: false, isolated: true, bpduGuard: true })
}

/** Sets what a port of a bridge may do. */
export function setPortOptions(ref: LinkRef, options: PortOptions): Buffer {
  const values: readonly (readonly [number, boolean | undefined])[] = [
    [IFLA_BRPORT_LEARNING, options.learning],
    [IFLA_BRPORT_UNICAST_FLOOD, options.unicastFlood],
    [IFLA_BRPORT_MCAST_FLOOD, options.multicastFlood],
    [IFLA_BRPORT_ISOLATED, options.isolated],
    [IFLA_BRPORT_GUARD, options.bpduGuard],
    [IFLA_BRPORT_PROTECT, options.rootBlock],
  ]
  const data = values.flatMap(([type, value]) => (value === undefined ? [] : [attributeU8(type, Number(value))]))
  const kind = attributeText(IFLA_INFO_SLAVE_KIND, 'bridge')
  return changeLink(ref, attribute(IFLA_LINKINFO, kind, attribute(IFLA_INFO_SLAVE_DATA, ...data)))
}

/** Keeps an interface without a link-local address, and so without a second of duplicate address detection. */
export function setNoLinkLocal(ref: LinkRef): Buffer {
  return setAddrGenMode(ref, IN6_ADDR_GEN_MODE_NONE)
}

/** How the kernel makes link-local and SLAAC addresses: IN6_ADDR_GEN_MODE_ of linux/if_link.h, see `Link`. */
export function setAddrGenMode(ref: LinkRef, mode: number): Buffer {
  return changeLink(ref, attribute(IFLA_AF_SPEC, attribute(AF_INET6, attributeU8(IFLA_INET6_ADDR_GEN_MODE, mode))))
}

/** Sets an interface up. */
export function setUp(ref: LinkRef): Buffer {
  return request(RTM_NEWLINK, CHANGE, ref, { flags: IFF_UP, mask: IFF_UP })
}

/** Sets an interface down. Its IPv6 addresses go with that, unless `keep_addr_on_down` says otherwise, and all its routes. */
export function setDown(ref: LinkRef): Buffer {
  return request(RTM_NEWLINK, CHANGE, ref, { mask: IFF_UP })
}

/** Gives an interface a MAC. A bridge keeps it from then on, whatever ports come and go. */
export function setMac(ref: LinkRef, mac: string): Buffer {
  return changeLink(ref, attribute(IFLA_ADDRESS, macBytes(mac)))
}

export function setMtu(ref: LinkRef, mtu: number): Buffer {
  return changeLink(ref, attributeU32(IFLA_MTU, mtu))
}

/**
 * Gives an interface a label of up to 255 bytes; an empty one takes it away. It stays with the interface in whatever
 * namespace it goes, and cannot be given while the interface is being made.
 */
export function setAlias(ref: LinkRef, alias: string): Buffer {
  return changeLink(ref, attribute(IFLA_IFALIAS, Buffer.from(alias === '' ? '\0' : alias)))
}

/** Kernels before Linux 6.1 refuse (EBUSY) while it is up. */
export function rename(index: number, name: string): Buffer {
  return changeLink(index, attributeText(IFLA_IFNAME, name))
}

/**
 * Moves an interface to the namespace of a file descriptor, under a new name if told. It arrives down, with its alias
 * and MAC, without addresses and routes. If its old name is free there and the new one is not, it moves and then keeps
 * the old name, and EEXIST is answered: look first.
 */
export function moveLink(index: number, to: { namespace: number; name?: string }): Buffer {
  const name = to.name === undefined ? [] : [attributeText(IFLA_IFNAME, to.name)]
  return changeLink(index, attributeU32(IFLA_NET_NS_FD, to.namespace), ...name)
}

/** Gives an interface one more name, of up to 127 characters. */
export function addAltName(index: number, name: string): Buffer {
  return altName(RTM_NEWLINKPROP, CHANGE | NLM_F_CREATE | NLM_F_EXCL | NLM_F_APPEND, index, name)
}

export function deleteAltName(index: number, name: string): Buffer {
  return altName(RTM_DELLINKPROP, CHANGE, index, name)
}

/** Puts an interface into a group, so that many go in one `deleteGroup`. */
export function setGroup(ref: LinkRef, group: number): Buffer {
  return changeLink(ref, attributeU32(IFLA_GROUP, group))
}

/** Removes an interface; with it goes the other end of a veth pair. */
export function deleteLink(ref: LinkRef): Buffer {
  return request(RTM_DELLINK, CHANGE, ref, {})
}

/** Removes every interface of a group at once. */
export function deleteGroup(group: number): Buffer {
  return message(RTM_DELLINK, CHANGE, linkHeader({}), attributeU32(IFLA_GROUP, group))
}

/** Asks for one interface. */
export function getLink(ref: LinkRef): Buffer {
  return request(RTM_GETLINK, CHANGE, ref, {}, attributeU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS))
}

/** Asks for all interfaces. */
export function getLinks(): Buffer {
  return message(
    RTM_GETLINK,
    NLM_F_REQUEST | NLM_F_DUMP,
    linkHeader({}),
    attributeU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS),
  )
}

/** Asks by which id this namespace calls the one of a file descriptor: what `Link.linkNetnsId` tells. */
export function getNetnsId(namespace: number): Buffer {
  return message(RTM_GETNSID, CHANGE, Buffer.alloc(RTGENMSG), attributeU32(NETNSA_FD, namespace))
}

/** Reads the answer to `getNetnsId`; null: it has no id here yet, so that nothing here points there. */
export function netnsIdOf(reply: Message): number | null {
  const id = attributesIn(reply.body.subarray(RTGENMSG)).get(NETNSA_NSID)
  if (id === undefined) return null
  const number = s32Of(id)
  return number < 0 ? null : number
}

/** Changes attributes of an interface that is there. */
export function changeLink(ref: LinkRef, ...attributes: readonly Buffer[]): Buffer {
  return request(RTM_NEWLINK, CHANGE, ref, {}, ...attributes)
}

/** struct ifinfomsg. */
export function linkHeader(ifinfo: { index?: number; flags?: number; mask?: number }): Buffer {
  const bytes = zeros(IFINFOMSG)
  bytes.writeInt32LE(ifinfo.index ?? 0, 4)
  bytes.writeUInt32LE(ifinfo.flags ?? 0, 8)
  bytes.writeUInt32LE(ifinfo.mask ?? 0, 12)
  return bytes
}

const NLM_F_APPEND = 0x800

function altName(type: number, flags: number, index: number, name: string): Buffer {
  const list = attribute(IFLA_PROP_LIST | NLA_F_NESTED, attributeText(IFLA_ALT_IFNAME, name))
  return message(type, flags, linkHeader({ index }), list)
}

function request(
  type: number,
  flags: number,
  ref: LinkRef,
  ifinfo: { flags?: number; mask?: number },
  ...attributes: readonly Buffer[]
): Buffer {
  if (typeof ref === 'number') return message(type, flags, linkHeader({ ...ifinfo, index: ref }), ...attributes)
  return message(type, flags, linkHeader(ifinfo), attributeText(IFLA_IFNAME, ref), ...attributes)
}
