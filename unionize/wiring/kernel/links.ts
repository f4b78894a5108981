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
  NLM_F_EXCL,
  NLM_F_REQUEST,
  textOf,
} from './netlink.ts'

/** Messages about interfaces: linux/rtnetlink.h, linux/if_link.h, linux/veth.h. */
const RTM_NEWLINK = 16
const RTM_DELLINK = 17
const RTM_GETLINK = 18

const IFLA_ADDRESS = 1
const IFLA_IFNAME = 3
const IFLA_MTU = 4
const IFLA_LINK = 5
const IFLA_MASTER = 10
const IFLA_OPERSTATE = 16
const IFLA_LINKINFO = 18
const IFLA_AF_SPEC = 26
const IFLA_GROUP = 27
const IFLA_NET_NS_FD = 28
const IFLA_EXT_MASK = 29

const IFLA_INFO_KIND = 1
const IFLA_INFO_DATA = 2
const IFLA_INFO_SLAVE_KIND = 4
const IFLA_INFO_SLAVE_DATA = 5
const VETH_INFO_PEER = 1
const IFLA_BRPORT_STATE = 1
const IFLA_BRPORT_LEARNING = 8
const IFLA_BRPORT_UNICAST_FLOOD = 9
const IFLA_BRPORT_ISOLATED = 33
const IFLA_INET6_ADDR_GEN_MODE = 8
const IN6_ADDR_GEN_MODE_NONE = 1
const AF_INET6 = 10
const RTEXT_FILTER_SKIP_STATS = 8
const IFF_UP = 0x1
const IFF_RUNNING = 0x40
const IFINFOMSG = 16
/** BR_STATE_FORWARDING of linux/if_bridge.h and IF_OPER_UP of linux/if.h. */
const FORWARDING = 3
const OPERATIONAL = 6

/** An interface as the kernel described it. */
export interface Link {
  readonly index: number
  readonly name: string
  /** `aa:bb:cc:dd:ee:ff` */
  readonly mac: string
  readonly mtu: number
  /** Index of the other end of a veth pair, in that end's namespace; 0: none. */
  readonly peer: number
  /** Index of the bridge it is a port of; 0: none. */
  readonly master: number
  /** `veth`, `bridge`, …; empty for a real device. */
  readonly kind: string
  /** Whether it was set up by an administrator. */
  readonly up: boolean
  /** IFF_RUNNING: it has a carrier, or never said otherwise, as a bridge that never had a port. */
  readonly running: boolean
  /** Whether packets pass a link: carrier there, queues set up, and, for a port, forwarded by its bridge. */
  readonly passing: boolean
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
    header({}),
    attributeText(IFLA_IFNAME, pair.peerName),
    attribute(IFLA_ADDRESS, macBytes(pair.peerMac)),
    attributeU32(IFLA_MTU, pair.mtu),
    attributeU32(IFLA_NET_NS_FD, pair.namespace),
  )
  return message(
    RTM_NEWLINK,
    NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
    header({}),
    attributeText(IFLA_IFNAME, pair.name),
    attributeU32(IFLA_MTU, pair.mtu),
    attributeU32(IFLA_MASTER, pair.bridge),
    attribute(IFLA_LINKINFO, attributeText(IFLA_INFO_KIND, 'veth'), attribute(IFLA_INFO_DATA, peer)),
  )
}

/** Makes an interface a port of a bridge. */
export function setMaster(name: string, bridge: number): Buffer {
  return change({}, name, attributeU32(IFLA_MASTER, bridge))
}

/**
 * How a port of ours behaves: no frames to other such ports, no learning and no flooding of unknown destinations,
 * because its one MAC is a static entry (see `staticPortEntry` in addresses.ts).
 */
export function setPort(name: string): Buffer {
  return change(
    {},
    name,
    attribute(
      IFLA_LINKINFO,
      attributeText(IFLA_INFO_SLAVE_KIND, 'bridge'),
      attribute(
        IFLA_INFO_SLAVE_DATA,
        attributeU8(IFLA_BRPORT_LEARNING, 0),
        attributeU8(IFLA_BRPORT_UNICAST_FLOOD, 0),
        attributeU8(IFLA_BRPORT_ISOLATED, 1),
      ),
    ),
  )
}

/** Keeps an interface without a link-local address, and so without a second of duplicate address detection. */
export function setNoLinkLocal(name: string): Buffer {
  const mode = attributeU8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE)
  return change({}, name, attribute(IFLA_AF_SPEC, attribute(AF_INET6, mode)))
}

/** Sets an interface up. */
export function setUp(name: string): Buffer {
  return change({ flags: IFF_UP, mask: IFF_UP }, name)
}

/** Gives an interface a MAC. A bridge keeps it from then on, whatever ports come and go. */
export function setMac(name: string, mac: string): Buffer {
  return change({}, name, attribute(IFLA_ADDRESS, macBytes(mac)))
}

/** Puts an interface into a group, so that many go in one `deleteGroup`. */
export function setGroup(name: string, group: number): Buffer {
  return change({}, name, attributeU32(IFLA_GROUP, group))
}

/** Removes an interface; with it goes the other end of a veth pair. */
export function deleteLink(name: string): Buffer {
  return message(RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, header({}), attributeText(IFLA_IFNAME, name))
}

/** Removes every interface of a group at once. */
export function deleteGroup(group: number): Buffer {
  return message(RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, header({}), attributeU32(IFLA_GROUP, group))
}

/** Asks for one interface. */
export function getLink(name: string): Buffer {
  return message(
    RTM_GETLINK,
    NLM_F_REQUEST | NLM_F_ACK,
    header({}),
    attributeText(IFLA_IFNAME, name),
    attributeU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS),
  )
}

/** Asks for all interfaces. */
export function getLinks(): Buffer {
  return message(
    RTM_GETLINK,
    NLM_F_REQUEST | NLM_F_DUMP,
    header({}),
    attributeU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS),
  )
}

/** Reads an RTM_NEWLINK. */
export function linkOf(reply: Message): Link {
  const attributes = attributesIn(reply.body.subarray(IFINFOMSG))
  const info = attributesIn(attributes.get(IFLA_LINKINFO) ?? Buffer.alloc(0))
  const port = attributesIn(info.get(IFLA_INFO_SLAVE_DATA) ?? Buffer.alloc(0))
  const isPort = textOf(info.get(IFLA_INFO_SLAVE_KIND)) === 'bridge'
  const flags = reply.body.readUInt32LE(8)
  const operational = attributes.get(IFLA_OPERSTATE)?.[0] === OPERATIONAL
  return {
    index: reply.body.readInt32LE(4),
    name: textOf(attributes.get(IFLA_IFNAME)),
    mac: [...(attributes.get(IFLA_ADDRESS) ?? [])].map((byte) => byte.toString(16).padStart(2, '0')).join(':'),
    mtu: attributes.get(IFLA_MTU)?.readUInt32LE() ?? 0,
    peer: attributes.get(IFLA_LINK)?.readUInt32LE() ?? 0,
    master: attributes.get(IFLA_MASTER)?.readUInt32LE() ?? 0,
    kind: textOf(info.get(IFLA_INFO_KIND)),
    up: (flags & IFF_UP) !== 0,
    running: (flags & IFF_RUNNING) !== 0,
    passing: operational && (!isPort || port.get(IFLA_BRPORT_STATE)?.[0] === FORWARDING),
  }
}

/** The six bytes of `aa:bb:cc:dd:ee:ff`. */
export function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex')
}

function change(ifinfo: { flags?: number; mask?: number }, name: string, ...attributes: readonly Buffer[]): Buffer {
  return message(
    RTM_NEWLINK,
    NLM_F_REQUEST | NLM_F_ACK,
    header(ifinfo),
    attributeText(IFLA_IFNAME, name),
    ...attributes,
  )
}

function header(ifinfo: { flags?: number; mask?: number }): Buffer {
  const bytes = Buffer.alloc(IFINFOMSG)
  bytes.writeUInt32LE(ifinfo.flags ?? 0, 8)
  bytes.writeUInt32LE(ifinfo.mask ?? 0, 12)
  return bytes
}
