import type { LinkSpec } from '../../../common/wiring-spec.ts'
import { type Address, addressOf, getAllAddresses } from '../kernel/addresses.ts'
import { getBridgeVlans, type VlanRange, vlansOf } from '../kernel/bridge-vlans.ts'
import { ipBytes } from '../kernel/ip.ts'
import { type Link, linkOf } from '../kernel/link.ts'
import { getLink, getLinks } from '../kernel/links.ts'
import type { RouteSocket } from '../kernel/route-socket.ts'
import { getRoute, getRoutes, type Route, routeOf } from '../kernel/routes.ts'
import { safeName } from './names.ts'
import type { FormerDevice, Kept } from './state.ts'
import type { Wanted } from './wanted.ts'

/** A bridge or VLAN sub-interface of the host that we may have made. */
export interface Support {
  readonly link: Link
  /** Names of what depends on it. */
  readonly dependents: readonly string[]
}

/** The group (IFLA_GROUP) of what on the host was made for wirings and is removed with the last of them: "uniw". */
export const OUR_GROUP = 0x756e6977
export const FAMILIES = ['ipv4', 'ipv6'] as const
/** Before the name of a support that is a bridge of Open vSwitch. */
export const OVS_PREFIX = 'ovs:'

/** Looks at bridges and VLAN sub-interfaces that may have to go. */
export function observeSupports(host: RouteSocket, names: readonly string[]): Map<string, Support> {
  return supportsIn(new HostView(host), names)
}

export function supportsIn(host: HostView, names: readonly string[]): Map<string, Support> {
  const supports = new Map<string, Support>()
  for (const name of names) {
    const support = name.startsWith(OVS_PREFIX) ? null : host.support(name)
    if (support !== null) supports.set(name, support)
  }
  return supports
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
export class HostView {
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
export function ghostsOf(made: Kept['made'], links: readonly Link[], wanted: readonly Wanted[]): Ghost[] {
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
