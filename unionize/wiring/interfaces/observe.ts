import { readFileSync } from 'node:fs'
import type { LinkSpec } from '../../../common/wiring-spec.ts'
import { WiringError } from '../errors.ts'
import { type Address, addressOf, getAllAddresses } from '../kernel/addresses.ts'
import { getBridgeVlans, type VlanRange, vlansOf } from '../kernel/bridge-vlans.ts'
import { ipBytes } from '../kernel/ip.ts'
import { type Link, linkOf } from '../kernel/link.ts'
import { getLink, getLinks } from '../kernel/links.ts'
import { getIngressFilters, getQdiscs, type Police, policeOf, type Qdisc, qdiscOf } from '../kernel/queueing.ts'
import type { RouteSocket } from '../kernel/route-socket.ts'
import { getRoute, getRoutes, type Route, routeOf } from '../kernel/routes.ts'
import { getRules, type Rule, ruleOf } from '../kernel/rules.ts'
import type { OvsPort } from '../ovs/open-vswitch.ts'
import { findDevice, findFormer, formerOf } from './device.ts'
import { type Ground, identityOf } from './ground.ts'
import { safeName } from './names.ts'
import type { FormerDevice, Kept, Made } from './state.ts'
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

/** A bridge or VLAN sub-interface of the host that we may have made. */
export interface Support {
  readonly link: Link
  /** Names of what depends on it. */
  readonly dependents: readonly string[]
}

/** What the kernel has, as far as it matters for one wiring. */
export interface Scene {
  readonly identity: string
  readonly links: readonly Link[]
  readonly addresses: readonly Address[]
  readonly routes: readonly Route[]
  readonly rules: readonly Rule[]
  readonly seen: ReadonlyMap<string, Seen>
  /** By name, without those that are wanted: what may have to go when nothing stands on it any more. */
  readonly supports: ReadonlyMap<string, Support>
}

/** The group (IFLA_GROUP) of what on the host was made for wirings and is removed with the last of them: "uniw". */
export const OUR_GROUP = 0x756e6977

const FAMILIES = ['ipv4', 'ipv6'] as const
/** Before the name of a support that is a bridge of Open vSwitch. */
export const OVS_PREFIX = 'ovs:'

const NOTHING: Queues = { qdiscs: [], police: null }

/** Looks at everything that a comparison with `wanted` and with what was made before needs. @throws WiringError */
export function observe(ground: Ground, former: Pick<Kept, 'made' | 'supports'>, wanted: readonly Wanted[]): Scene {
  const { made } = former
  const { route } = ground.sandbox
  const links = route.dump({ purpose: 'list its interfaces', bytes: getLinks() }).map(linkOf)
  const read = {
    links,
    addresses: route.dump({ purpose: 'read its addresses', bytes: getAllAddresses() }).map(addressOf),
    routes: FAMILIES.flatMap((family) =>
      route.dump({ purpose: `read its ${family} routes`, bytes: getRoutes(family) }).map(routeOf),
    ),
    rules: FAMILIES.flatMap((family) =>
      route.dump({ purpose: `read its ${family} rules`, bytes: getRules(family) }).map(ruleOf),
    ),
  }
  const host = new HostView(ground.host, ghostsOf(made, links, wanted))
  const seen = new Map<string, Seen>()
  for (const name of new Set([...wanted.map((one) => one.name), ...Object.keys(made)])) {
    const wish = wanted.find((one) => one.name === name) ?? null
    seen.set(name, look({ ground, host, links, name, wish, made: made[name] ?? null }))
  }
  const needed = new Set(wanted.flatMap((one) => supportsOf(one.link)))
  const supports = supportsIn(
    host,
    former.supports.filter((name) => !needed.has(name)),
  )
  return { identity: identityOf(ground.sandbox), ...read, seen, supports }
}

/** Looks at bridges and VLAN sub-interfaces that may have to go. */
export function observeSupports(host: RouteSocket, names: readonly string[]): Map<string, Support> {
  return supportsIn(new HostView(host), names)
}

function supportsIn(host: HostView, names: readonly string[]): Map<string, Support> {
  const supports = new Map<string, Support>()
  for (const name of names) {
    const support = name.startsWith(OVS_PREFIX) ? null : host.support(name)
    if (support !== null) supports.set(name, support)
  }
  return supports
}

/** What was seen of an interface that was asked for. */
export function seenOf(scene: Scene, name: string): Seen {
  const seen = scene.seen.get(name)
  if (seen === undefined) throw new WiringError('wiring-fault', `${name} was not looked at`)
  return seen
}

/** Names of what on the host we may have made for such a link. */
export function supportsOf(link: LinkSpec): string[] {
  if (link.kind === 'bridge') return link.create ? [link.bridge] : []
  if (link.kind === 'ovs') return link.create ? [OVS_PREFIX + safeName(link.bridge)] : []
  return 'vlan' in link && link.vlan !== undefined ? [subInterface(link.parent, link.vlan)] : []
}

/** The name of a VLAN sub-interface that is made below a macvlan or ipvlan. */
export function subInterface(parent: string, vlan: number): string {
  return safeName(`${parent}.${vlan}`)
}

/** A device that is inside and may return to the host before anything else is done, as it will be there. */
interface Ghost {
  readonly inner: string
  readonly link: Link
  readonly former: FormerDevice
}

/** The host's interfaces, listed at most once. */
class HostView {
  readonly ghosts: readonly Ghost[]
  readonly #route: RouteSocket
  #all: Link[] | null = null

  constructor(route: RouteSocket, ghosts: readonly Ghost[] = []) {
    this.#route = route
    this.ghosts = ghosts
  }

  find(ref: string | number): Link | null {
    return findLink(this.#route, ref) ?? this.ghosts.find(({ link }) => link.name === ref)?.link ?? null
  }

  all(): Link[] {
    this.#all ??= [
      ...this.#route.dump({ purpose: 'list the interfaces of the host', bytes: getLinks() }).map(linkOf),
      ...this.ghosts.map(({ link }) => link),
    ]
    return this.#all
  }

  support(name: string): Support | null {
    const link = this.find(name)
    return link === null ? null : { link, dependents: this.#dependentsOf(link) }
  }

  addresses(): Address[] {
    return this.#route.dump({ purpose: 'read the addresses of the host', bytes: getAllAddresses() }).map(addressOf)
  }

  routes(): Route[] {
    return FAMILIES.flatMap((family) =>
      this.#route.dump({ purpose: 'read the routes of the host', bytes: getRoutes(family) }).map(routeOf),
    )
  }

  /** Ports of a bridge, and what is stacked on an interface here. */
  #dependentsOf(link: Link): string[] {
    return this.all()
      .filter((other) => other.index !== link.index)
      .filter((other) => other.master === link.index || (other.peer === link.index && other.linkNetnsId === null))
      .map((other) => other.name)
  }

  vlansOf(index: number): VlanRange[] {
    const all = this.#route.dump({ purpose: 'read the VLANs of bridge ports', bytes: getBridgeVlans() }).map(vlansOf)
    return all.filter((entry) => entry.index === index).flatMap((entry) => entry.vlans)
  }

  wayTo(address: string): Link | null {
    const request = { purpose: `find the way to ${address}`, bytes: getRoute(ipBytes(address)) }
    const [answer] = this.#route.ask({ ...request, fine: ['ENETUNREACH', 'EHOSTUNREACH'] })
    const reply = answer?.messages[0]
    return reply === undefined ? null : this.find(routeOf(reply).index)
  }
}

/** The interface of this name or number, or null. */
export function findLink(route: RouteSocket, ref: string | number): Link | null {
  if (ref === 0) return null
  const [answer] = route.ask({ purpose: `read ${ref}`, bytes: getLink(ref), fine: ['ENODEV'] })
  const reply = answer?.messages[0]
  return reply === undefined ? null : linkOf(reply)
}

/** Devices inside that are not wanted under the name that they have, or by other words. */
function ghostsOf(made: Kept['made'], links: readonly Link[], wanted: readonly Wanted[]): Ghost[] {
  return Object.entries(made).flatMap(([inner, { link, former }]) => {
    const inside = links.find((one) => one.name === inner)
    const wish = wanted.find((one) => one.name === inner)?.link
    const stays = wish?.kind === 'physical' && link.kind === 'physical' && wish.device === link.device
    if (former === null || inside === undefined || stays) return []
    const { name, mac, mtu, up } = former
    return [{ inner, former, link: { ...inside, name, mac, mtu, up, index: NOWHERE, master: 0 } }]
  })
}

/** No interface has this number. */
const NOWHERE = -1

interface Subject {
  readonly ground: Ground
  readonly host: HostView
  readonly links: readonly Link[]
  readonly name: string
  readonly wish: Wanted | null
  readonly made: Made | null
}

function look(subject: Subject): Seen {
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

function readSettings(
  ground: Ground,
  name: string,
  exists: boolean,
  paths: readonly string[],
): Map<string, string | null> {
  const found = new Map<string, string | null>()
  if (paths.length === 0) return found
  ground.sandbox.inside(() => {
    for (const path of paths) found.set(path, readSetting(settingFile(exists ? name : 'default', path)))
  })
  return found
}

/** To be opened while the thread is in the namespace: what /proc/sys/net shows is that of the thread. */
export function settingFile(name: string, path: string): string {
  const [family, group, setting] = path.split('.')
  return `/proc/sys/net/${family}/${group}/${name}/${setting}`
}

function readSetting(file: string): string | null {
  try {
    return readFileSync(file, 'utf8').trim().replaceAll('\t', ' ')
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw thrown
  }
}
