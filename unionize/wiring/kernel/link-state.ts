import type { Link } from './link.ts'
import { macText } from './mac.ts'
import { eachAttribute, type Message, sized, textOf, u8Of, u32Of } from './netlink.ts'

/** What RTM_NEWLINK tells: linux/if_link.h, linux/if.h, linux/if_bridge.h. */
const IFLA_ADDRESS = 1
const IFLA_MTU = 4
const IFLA_LINK = 5
const IFLA_MASTER = 10
const IFLA_OPERSTATE = 16
const IFLA_LINKINFO = 18
const IFLA_INFO_KIND = 1
const IFLA_INFO_SLAVE_KIND = 4
const IFLA_INFO_SLAVE_DATA = 5
const IFLA_BRPORT_STATE = 1
const IFINFOMSG = 16
const IFF_UP = 0x1
const IFF_RUNNING = 0x40
/** BR_STATE_FORWARDING of linux/if_bridge.h and IF_OPER_UP of linux/if.h. */
const FORWARDING = 3
const OPERATIONAL = 6

/** Of an interface what linking a sandbox has to know. */
export type LinkState = Pick<Link, 'index' | 'mac' | 'mtu' | 'peer' | 'master' | 'kind' | 'up' | 'running' | 'passing'>

/** Reads of an RTM_NEWLINK what {@link LinkState} has as `linkOf` does, and nothing else. @throws WiringError `answer-unreadable` */
export function stateOf(reply: Message): LinkState {
  const body = sized(reply.body, IFINFOMSG)
  const number = (from: number, to: number) => u32Of(body.subarray(from, to))
  const found = { mac: '', mtu: 0, peer: 0, master: 0, operational: false, link: NO_KIND }
  eachAttribute(body, IFINFOMSG, body.length, (type, from, to) => {
    if (type === IFLA_ADDRESS) found.mac = macText(body.subarray(from, to))
    else if (type === IFLA_MTU) found.mtu = number(from, to)
    else if (type === IFLA_LINK) found.peer = number(from, to)
    else if (type === IFLA_MASTER) found.master = number(from, to)
    else if (type === IFLA_OPERSTATE) found.operational = body.subarray(from, to)[0] === OPERATIONAL
    else if (type === IFLA_LINKINFO) found.link = kindIn(body, from, to)
  })
  const { mac, mtu, peer, master, operational, link } = found
  const flags = body.readUInt32LE(8)
  return {
    index: body.readInt32LE(4),
    mac,
    mtu,
    peer,
    master,
    kind: link.kind,
    up: (flags & IFF_UP) !== 0,
    running: (flags & IFF_RUNNING) !== 0,
    passing: operational && (link.portKind !== 'bridge' || link.portState === FORWARDING),
  }
}

interface Kind {
  readonly kind: string
  readonly portKind: string
  /** BR_STATE_ of linux/if_bridge.h, where it is a port of a bridge. */
  readonly portState: number
}

const NO_KIND: Kind = { kind: '', portKind: '', portState: 0 }

function kindIn(body: Buffer, from: number, to: number): Kind {
  const found = { ...NO_KIND }
  let data: readonly [from: number, to: number] = [0, 0]
  eachAttribute(body, from, to, (type, start, end) => {
    if (type === IFLA_INFO_KIND) found.kind = textOf(body.subarray(start, end))
    else if (type === IFLA_INFO_SLAVE_KIND) found.portKind = textOf(body.subarray(start, end))
    else if (type === IFLA_INFO_SLAVE_DATA) data = [start, end]
  })
  if (found.portKind !== 'bridge') return found
  eachAttribute(body, ...data, (type, start, end) => {
    if (type === IFLA_BRPORT_STATE) found.portState = u8Of(body.subarray(start, end))
  })
  return found
}
