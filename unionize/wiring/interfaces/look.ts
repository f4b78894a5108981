import type { LinkSpec } from '../../../common/wiring-spec.ts'
import { type Address, addressOf, getAllAddresses } from '../kernel/addresses.ts'
import type { VlanRange } from '../kernel/bridge-vlans.ts'
import type { Link } from '../kernel/link.ts'
import { getIngressFilters, getQdiscs, type Police, policeOf, type Qdisc, qdiscOf } from '../kernel/queueing.ts'
import type { RouteSocket } from '../kernel/route-socket.ts'
import type { OvsPort } from '../ovs/open-vswitch.ts'
import { findDevice, findFormer, formerOf } from './device.ts'
import type { Ground } from './ground.ts'
import { findLink, type HostView, OUR_GROUP, subInterface } from './host-view.ts'
import { safeName } from './names.ts'
import { readSettings } from './settings.ts'
import type { FormerDevice, Made } from './state.ts'
import type { Wanted } from './wanted.ts'

/** Something that packets pass on their way, and how large they may be there, in bytes. */
export interface Hop {
  readonly name: string
  readonly mtu: number
  /** How many of them it adds. */
  readonly overhead: number
}

/** What the kernel has of one interface, ours or to be ours. */
export interface Seen {
  readonly inner: Link | null
  /** The other end of a veth pair; null: it is not where it belongs, or the kind has none. */
  readonly outer: Link | null
  readonly outerAddresses: readonly Address[]
  /** There is something else of the name that the outer end is to have. */
  readonly outerNameTaken: boolean
  /** The bridge, the parent, or the way to the other end of a tunnel: what the interface hangs on; null: missing or none. */
  readonly base: Link | null
  /** Whether a VLAN sub-interface has yet to be made for `base` to be there; then `base` is its parent. */
  readonly subInterfaceMissing: boolean
  /** Other ports of the bridge. */
  readonly hops: readonly Hop[]
  readonly vlans: readonly VlanRange[]
  /** Settings by path; of an interface that is missing what it would begin with. Null: this kernel has no such setting. */
  readonly settings: ReadonlyMap<string, string | null>
  readonly queues: Queues
  readonly outerQueues: Queues
  /** The device that is wanted is the one that is inside, whatever words are used for it. */
  readonly sameDevice: boolean
  /** A device that had moved in and is on the host again. */
  readonly returned: Link | null
  /** The device of the host that is to move in. */
  readonly device: Link | null
  /** What that device is like before it moves in; null: it did already, or there is none. */
  readonly former: FormerDevice | null
  /** Null for other kinds than Open vSwitch. */
  readonly ovs: { readonly bridgeThere: boolean; readonly port: OvsPort | null } | null
}

/** What shapes an interface. */
export interface Queues {
  readonly qdiscs: readonly Qdisc[]
  readonly police: Police | null
}

const NOTHING: Queues = { qdiscs: [], police: null }

interface Subject {
  readonly ground: Ground
  readonly host: HostView
  readonly links: readonly Link[]
  readonly name: string
  readonly wish: Wanted | null
  readonly made: Made | null
}

export function look(subject: Subject): Seen {
  const { ground, host, links, name, wish, made } = subject
  const inner = links.find((link) => link.name === name) ?? null
  const far = lookFar(subject, inner)
  const { base, subInterfaceMissing } = wish === null ? NO_BASE : baseOf(wish.link, host)
  const queueing = inner !== null && made !== null
  return {
    inner,
    ...far,
    base,
    subInterfaceMissing,
    hops: wish?.link.kind === 'bridge' && wish.spec.mtu !== undefined ? hopsOf(base, far.outer, host) : [],
    vlans:
      far.outer !== null && base?.device?.kind === 'bridge' && base.device.vlanFiltering
        ? host.vlansOf(far.outer.index)
        : [],
    settings: readSettings(ground, name, inner !== null, [
      ...(wish?.settings.map((setting) => setting.path) ?? []),
      ...Object.keys(made?.sysctls ?? {}),
    ]),
    queues: queueing ? queuesOf(ground.sandbox.route, inner.index) : NOTHING,
    outerQueues: queueing && far.outer !== null ? far.queues : NOTHING,
    ...lookDevice(subject, inner),
    ovs: lookSwitch(ground, wish, far.outer),
  }
}

function lookSwitch(ground: Ground, wish: Wanted | null, outer: Link | null): Seen['ovs'] {
  if (wish?.link.kind !== 'ovs') return null
  const bridgeThere = ground.ovs.bridgeOf(safeName(wish.link.bridge)) !== null
  return { bridgeThere, port: outer === null ? null : ground.ovs.portOf(outer.name) }
}

const NO_BASE = { base: null, subInterfaceMissing: false }

/** The outer end, where the interface that was made has it, and whether its name to be is free. */
function lookFar(subject: Subject, inner: Link | null) {
  const { ground, wish, made } = subject
  const nothing = { outer: null, outerAddresses: [], outerNameTaken: false, queues: NOTHING }
  const link = made?.link ?? wish?.link
  if (link === undefined || !['bridge', 'ovs', 'veth'].includes(link.kind)) {
    return wish?.hostName == null ? nothing : { ...nothing, outerNameTaken: isTaken(ground, wish, null) }
  }
  const to = link.kind === 'veth' ? link.to : undefined
  const found =
    inner?.kind !== 'veth'
      ? nothing
      : ground.far(to, ({ route }) => {
          const outer = findLink(route, inner.peer)
          if (outer?.kind !== 'veth' || outer.peer !== inner.index) return nothing
          const addresses =
            link.kind === 'veth'
              ? route.dump({ purpose: `read the addresses of ${outer.name}`, bytes: getAllAddresses() }).map(addressOf)
              : []
          return {
            outer,
            outerAddresses: addresses.filter((address) => address.interfaceIndex === outer.index),
            outerNameTaken: false,
            queues: queuesOf(route, outer.index),
          }
        })
  return wish?.hostName == null ? found : { ...found, outerNameTaken: isTaken(ground, wish, found.outer) }
}

function isTaken(ground: Ground, wish: Wanted, outer: Link | null): boolean {
  const { hostName, link } = wish
  if (hostName === null) return false
  return ground.far(link.kind === 'veth' ? link.to : undefined, ({ route }) => {
    const other = findLink(route, hostName)
    return other !== null && other.index !== outer?.index
  })
}

function baseOf(link: LinkSpec, host: HostView): { base: Link | null; subInterfaceMissing: boolean } {
  switch (link.kind) {
    case 'bridge':
      return { base: host.find(link.bridge), subInterfaceMissing: false }
    case 'macvlan':
    case 'ipvlan': {
      const parent = findDevice(link.parent, host)
      if (link.vlan === undefined || parent === null) return { base: parent, subInterfaceMissing: false }
      const sub = host.find(subInterface(link.parent, link.vlan))
      return { base: sub ?? parent, subInterfaceMissing: sub === null }
    }
    case 'vlan':
      return { base: findDevice(link.parent, host), subInterfaceMissing: false }
    case 'vxlan': {
      const base = link.parent === undefined ? host.wayTo(link.remote) : findDevice(link.parent, host)
      return { base, subInterfaceMissing: false }
    }
    case 'ovs':
    case 'dummy':
    case 'physical':
    case 'veth':
      return NO_BASE
  }
}

/** All other ports of the bridge, and the bridge itself unless its MTU follows from its ports because we made it. */
function hopsOf(bridge: Link | null, outer: Link | null, host: HostView): Hop[] {
  if (bridge === null) return []
  const ports = host.all().filter((link) => link.master === bridge.index && link.index !== outer?.index)
  const passed = bridge.group === OUR_GROUP ? ports : [bridge, ...ports]
  return passed.map(({ name, mtu }) => ({ name, mtu, overhead: 0 }))
}

function lookDevice(subject: Subject, inner: Link | null): Pick<Seen, 'returned' | 'device' | 'former' | 'sameDevice'> {
  const { host, name, wish, made } = subject
  const remembered = made?.former ?? null
  const returned = remembered !== null && inner === null ? findFormer(remembered, host) : null
  const nothing = { returned, device: null, former: null, sameDevice: false }
  if (wish?.link.kind !== 'physical') return nothing
  const { device: wanted } = wish.link
  const same = made?.link.kind === 'physical' && made.link.device === wanted
  if (same) return { ...nothing, device: returned, sameDevice: true }
  const device = findDevice(wanted, host)
  if (device === null) return nothing
  const ghost = host.ghosts.find((one) => one.link === device)
  if (ghost?.inner === name) return { ...nothing, sameDevice: true }
  if (ghost !== undefined) return { ...nothing, device, former: ghost.former }
  const master = host.find(device.master)?.name ?? null
  const on = { master, addresses: host.addresses(), routes: host.routes(), now: Date.now() }
  return { ...nothing, device, former: formerOf(device, on) }
}

function queuesOf(route: RouteSocket, index: number): Queues {
  const qdiscs = route.dump({ purpose: 'read its queues', bytes: getQdiscs(index) }).map(qdiscOf)
  const own = qdiscs.filter((qdisc) => qdisc.index === index)
  if (!own.some((qdisc) => qdisc.kind === 'ingress')) return { qdiscs: own, police: null }
  const filters = route.dump({ purpose: 'read its filters', bytes: getIngressFilters(index) }).map(policeOf)
  return { qdiscs: own, police: filters.find((filter) => filter !== null) ?? null }
}
