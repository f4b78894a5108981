import { type DeviceData, deviceDataOf } from './device-data.ts'
import { macText } from './mac.ts'
import { attributeList, attributesIn, type Message, s32Of, sized, textOf, u8Of, u32Of } from './netlink.ts'

/** What RTM_NEWLINK tells: linux/if_link.h, linux/if.h, linux/if_bridge.h. */
const IFLA_ADDRESS = 1
const IFLA_IFNAME = 3
const IFLA_MTU = 4
const IFLA_LINK = 5
const IFLA_MASTER = 10
const IFLA_OPERSTATE = 16
const IFLA_LINKINFO = 18
const IFLA_IFALIAS = 20
const IFLA_AF_SPEC = 26
const IFLA_GROUP = 27
const IFLA_LINK_NETNSID = 37
const IFLA_PROP_LIST = 52
const IFLA_ALT_IFNAME = 53
const IFLA_PERM_ADDRESS = 54
const IFLA_PARENT_DEV_NAME = 56
const IFLA_PARENT_DEV_BUS_NAME = 57

const IFLA_INFO_KIND = 1
const IFLA_INFO_DATA = 2
const IFLA_INFO_SLAVE_KIND = 4
const IFLA_INFO_SLAVE_DATA = 5
const IFLA_BRPORT_STATE = 1
const IFLA_BRPORT_LEARNING = 8
const IFLA_BRPORT_UNICAST_FLOOD = 9
const IFLA_BRPORT_ISOLATED = 33
const IFLA_INET6_ADDR_GEN_MODE = 8
const AF_INET6 = 10
const WANTED = new Set([
  IFLA_ADDRESS,
  IFLA_IFNAME,
  IFLA_MTU,
  IFLA_LINK,
  IFLA_MASTER,
  IFLA_OPERSTATE,
  IFLA_LINKINFO,
  IFLA_IFALIAS,
  IFLA_AF_SPEC,
  IFLA_GROUP,
  IFLA_LINK_NETNSID,
  IFLA_PROP_LIST,
  IFLA_PERM_ADDRESS,
  IFLA_PARENT_DEV_NAME,
  IFLA_PARENT_DEV_BUS_NAME,
])
const WANTED_OF_PORT = new Set([
  IFLA_BRPORT_STATE,
  IFLA_BRPORT_LEARNING,
  IFLA_BRPORT_UNICAST_FLOOD,
  IFLA_BRPORT_ISOLATED,
])
const WANTED_FAMILY = new Set([AF_INET6])
const WANTED_SETTING = new Set([IFLA_INET6_ADDR_GEN_MODE])
const IFF_UP = 0x1
const IFF_RUNNING = 0x40
const IFINFOMSG = 16
/** BR_STATE_FORWARDING of linux/if_bridge.h and IF_OPER_UP of linux/if.h. */
const FORWARDING = 3
const OPERATIONAL = 6

/** An interface as a port of a bridge. */
export interface Port {
  /** BR_STATE_ of linux/if_bridge.h; 3: it forwards. */
  readonly state: number
  readonly learning: boolean
  readonly unicastFlood: boolean
  readonly isolated: boolean
}

/** An interface as the kernel described it. */
export interface Link {
  readonly index: number
  readonly name: string
  readonly altNames: readonly string[]
  /** Its label, by which we recognise what we made; empty: none. */
  readonly alias: string
  /** `aa:bb:cc:dd:ee:ff` */
  readonly mac: string
  /** The MAC that the hardware was made with; null: it has none. */
  readonly permanentMac: string | null
  readonly mtu: number
  readonly group: number
  /** Index of the other end of a veth pair, or of the parent, in that one's namespace; 0: none. */
  readonly peer: number
  /** By which id this namespace calls the one where `peer` is (see `getNetnsId`); null: it is this one. */
  readonly linkNetnsId: number | null
  /** Index of the bridge it is a port of; 0: none. */
  readonly master: number
  /** How it is a port; null: of no bridge. */
  readonly port: Port | null
  /** `veth`, `bridge`, …; empty for a real device. */
  readonly kind: string
  /** What is special about its kind; null: a real device, or a kind that we do not make. */
  readonly device: DeviceData | null
  /** Where hardware sits: `pci` and `0000:03:00.0`; empty for what has none, or before Linux 5.14. */
  readonly parentBus: string
  readonly parentDevice: string
  /** IN6_ADDR_GEN_MODE_: 0 by MAC (EUI-64), 1 none, 2 stable secret, 3 random; null: it has no IPv6. */
  readonly addrGenMode: number | null
  /** IFF_ of linux/if.h. */
  readonly flags: number
  /** Whether it was set up by an administrator. */
  readonly up: boolean
  /** IFF_RUNNING: it has a carrier, or never said otherwise, as a bridge that never had a port. */
  readonly running: boolean
  /** Whether packets pass a link: carrier there, queues set up, and, for a port, forwarded by its bridge. */
  readonly passing: boolean
}

/** Reads an RTM_NEWLINK. @throws WiringError `answer-unreadable` */
export function linkOf(reply: Message): Link {
  const header = sized(reply.body, IFINFOMSG)
  const attributes = attributesIn(header.subarray(IFINFOMSG), WANTED)
  const info = attributesIn(attributes.get(IFLA_LINKINFO))
  const flags = header.readUInt32LE(8)
  const kind = textOf(info.get(IFLA_INFO_KIND))
  const port =
    textOf(info.get(IFLA_INFO_SLAVE_KIND)) === 'bridge'
      ? portOf(attributesIn(info.get(IFLA_INFO_SLAVE_DATA), WANTED_OF_PORT))
      : null
  const operational = attributes.get(IFLA_OPERSTATE)?.[0] === OPERATIONAL
  const permanent = attributes.get(IFLA_PERM_ADDRESS)
  const number = (type: number) => optional(attributes.get(type), u32Of) ?? 0
  return {
    index: header.readInt32LE(4),
    name: textOf(attributes.get(IFLA_IFNAME)),
    altNames: altNamesIn(attributes.get(IFLA_PROP_LIST)),
    alias: textOf(attributes.get(IFLA_IFALIAS)),
    mac: macText(attributes.get(IFLA_ADDRESS)),
    permanentMac: permanent?.some((byte) => byte !== 0) ? macText(permanent) : null,
    mtu: number(IFLA_MTU),
    group: number(IFLA_GROUP),
    peer: number(IFLA_LINK),
    linkNetnsId: optional(attributes.get(IFLA_LINK_NETNSID), s32Of),
    master: number(IFLA_MASTER),
    port,
    kind,
    device: deviceDataOf(kind, info.get(IFLA_INFO_DATA)),
    parentBus: textOf(attributes.get(IFLA_PARENT_DEV_BUS_NAME)),
    parentDevice: textOf(attributes.get(IFLA_PARENT_DEV_NAME)),
    addrGenMode: addrGenModeIn(attributes.get(IFLA_AF_SPEC)),
    flags,
    up: (flags & IFF_UP) !== 0,
    running: (flags & IFF_RUNNING) !== 0,
    passing: operational && (port === null || port.state === FORWARDING),
  }
}

function portOf(data: ReadonlyMap<number, Buffer>): Port {
  const number = (type: number) => optional(data.get(type), u8Of) ?? 0
  return {
    state: number(IFLA_BRPORT_STATE),
    learning: number(IFLA_BRPORT_LEARNING) !== 0,
    unicastFlood: number(IFLA_BRPORT_UNICAST_FLOOD) !== 0,
    isolated: number(IFLA_BRPORT_ISOLATED) !== 0,
  }
}

function altNamesIn(payload: Buffer | undefined): string[] {
  return attributeList(payload)
    .filter(([type]) => type === IFLA_ALT_IFNAME)
    .map(([, name]) => textOf(name))
}

function addrGenModeIn(families: Buffer | undefined): number | null {
  const settings = attributesIn(attributesIn(families, WANTED_FAMILY).get(AF_INET6), WANTED_SETTING)
  return optional(settings.get(IFLA_INET6_ADDR_GEN_MODE), u8Of)
}

function optional<T>(payload: Buffer | undefined, read: (payload: Buffer) => T): T | null {
  return payload === undefined ? null : read(payload)
}
