import { isDeepStrictEqual } from 'node:util'
import type { Passage, Source } from '../wiring.ts'
import { addressElements, commands, type Element, portElements, reachesOf } from './elements.ts'
import { destinationOf, hopOf, isWay, keyOf, leadElement, type Path, type PathName, pathElements } from './paths.ts'
import type { Reach } from './reaches.ts'

/** What one change puts in and takes out. */
export interface Change {
  readonly open?: readonly Path[]
  /** Opened as well; one that is there as it is keeps its place among its owner's. */
  readonly keep?: readonly Path[]
  readonly close?: readonly PathName[]
  /** The sources that a link has from now on; none: `[]`. */
  readonly guard?: { readonly link: string; readonly sources: readonly Source[] }
}

/** A change made ready: the firewall commands, and what to remember once they are carried out. */
export interface Plan {
  readonly commands: readonly string[]
  /** Addresses whose route through a next hop may be another one then. */
  readonly rerouted: readonly string[]
  commit(): void
}

/**
 * What the sets of the firewall hold. The cost of a change does not grow with the number of instances.
 *
 * An owner with several instances is led by `my.instance` to the one opened last; when that is closed, to the one before.
 * Of an address that several links have, the policy of the one that got it last holds; of one that several paths lead to
 * through next hops, the next hop of the last.
 */
export class Contents {
  readonly #paths = new Map<string, readonly Path[]>()
  readonly #owners = new Map<string, Set<string>>()
  /** Elements that several paths may need, with how many do. */
  readonly #uses = new Map<string, number>()
  /** By address, the next hops of the paths that need one, each by the path; the last holds. */
  readonly #hops = new Map<string, Map<string, string>>()
  readonly #leads: Map<string, string>
  readonly #sources = new Map<string, readonly Source[]>()
  readonly #links = new Map<string, Set<string>>()
  /** Chains that addresses are led to, with how many are. */
  readonly #reaches = new Map<string, { readonly reach: Reach; readonly users: number }>()

  /**
   * Of a path that comes twice the last place counts. `leads`: where `my.instance` leads each owner, where that is known
   * to be otherwise.
   */
  constructor(paths: readonly Path[], sources: readonly Source[], leads?: ReadonlyMap<string, string>) {
    for (const [owner, list] of Map.groupBy(paths, (path) => path.owner)) {
      const latest = new Map<string, Path>()
      for (const path of list) {
        latest.delete(keyOf(path))
        latest.set(keyOf(path), path)
      }
      this.#setPaths(owner, [...latest.values()])
    }
    this.#leads = new Map(leads ?? [...this.#paths].flatMap(([owner, list]) => lead(owner, list.at(-1))))
    for (const [link, list] of Map.groupBy(sources, (source) => source.link)) {
      const latest = new Map(list.map((source) => [`${source.mac} ${source.address}`, source]))
      this.#setSources(link, [...latest.values()])
    }
    for (const holder of this.holders()) this.#count(chainsOf(holder), 1)
  }

  sourcesOf(link: string): readonly Source[] {
    return this.#sources.get(link) ?? []
  }

  /** Whether another link has this address. */
  isElsewhere(address: string, link: string): boolean {
    return [...(this.#links.get(address) ?? [])].some((other) => other !== link)
  }

  passagesTo(instance: string): Passage[] {
    return [...(this.#owners.get(instance) ?? [])].map((owner) => ({ owner, instance }))
  }

  /** The next hop to an address; null: there need be none. */
  hopTo(address: string): string | null {
    return [...(this.#hops.get(address)?.values() ?? [])].at(-1) ?? null
  }

  /** All addresses that there is a next hop to, each with it. */
  hops(): Map<string, string> {
    return new Map([...this.#hops.keys()].map((address) => [address, this.hopTo(address) ?? '']))
  }

  /** The chains that exist because of what is here. */
  reaches(): Reach[] {
    return [...this.#reaches.values()].map(({ reach }) => reach)
  }

  /** All that is here, as commands for empty sets. */
  additions(): string[] {
    const paths = new Map([...this.#paths.values()].flat().flatMap(pathElements).map(keyed))
    const leads = [...this.#leads].map(([owner, to]) => leadElement(owner, to))
    const ports = [...this.#sources].flatMap(([link, sources]) => portElements(link, sources))
    const addresses = this.holders().flatMap(addressElements)
    const elements = [...paths.values(), ...leads, ...ports, ...addresses]
    return [...this.reaches().flatMap((reach) => reach.make), ...commands('add', elements)]
  }

  /** What the change opens and guards is always added: someone may have taken it away behind our back. */
  plan(change: Change): Plan {
    const { close = [], open = [], keep = [], guard } = change
    const next = new Map<string, readonly Path[]>()
    const pathsOf = (owner: string) => next.get(owner) ?? this.#paths.get(owner) ?? []
    const without = (name: PathName) => pathsOf(name.owner).filter((path) => keyOf(path) !== keyOf(name))
    for (const name of close) next.set(name.owner, without(name))
    for (const path of open) next.set(path.owner, [...without(path), path])
    const opened = new Set(open)
    for (const path of keep) {
      const there = pathsOf(path.owner).find((other) => isDeepStrictEqual(other, path))
      next.set(path.owner, there === undefined ? [...without(path), path] : pathsOf(path.owner))
      opened.add(there ?? path)
    }
    const former = [...next.keys()].flatMap((owner) => this.#paths.get(owner) ?? [])
    const leads = [...next].flatMap(([owner, list]) => lead(owner, list.at(-1)))
    const oldLeads = [...next.keys()].flatMap((owner) => {
      const to = this.#leads.get(owner)
      const kept = leads.some(([other, newTo]) => other === owner && newTo === to)
      return to === undefined || kept ? [] : [leadElement(owner, to)]
    })
    const guarding = guard === undefined ? NOTHING : this.#guarding(guard.link, guard.sources)
    const opening = new Map(
      [...next.values()]
        .flat()
        .filter((path) => opened.has(path))
        .flatMap(pathElements)
        .map(keyed),
    )
    return {
      commands: [
        ...commands('delete', [...this.#unused(former, [...next.values()].flat()), ...oldLeads, ...guarding.leaving]),
        ...guarding.made.flatMap((reach) => reach.make),
        ...commands('add', [
          ...opening.values(),
          ...leads.map(([owner, to]) => leadElement(owner, to)),
          ...guarding.coming,
        ]),
        ...guarding.unused.flatMap((reach) => reach.remove),
      ],
      rerouted: [...former, ...opened].flatMap((path) => hopOf(path)?.to ?? []),
      commit: () => {
        for (const [owner, list] of next) {
          this.#setPaths(owner, list)
          this.#leads.delete(owner)
        }
        for (const [owner, to] of leads) this.#leads.set(owner, to)
        if (guard === undefined) return
        this.#setSources(guard.link, guard.sources)
        for (const [reach, by] of guarding.users) this.#count([reach], by)
      },
    }
  }

  /** The elements of former paths that nobody needs when these are in their place. */
  #unused(former: readonly Path[], paths: readonly Path[]): Element[] {
    const needed = new Map<string, number>()
    const need = (by: number) => (element: Element) => {
      const key = elementKey(element)
      needed.set(key, (needed.get(key) ?? this.#uses.get(key) ?? 0) + by)
    }
    const old = former.flatMap(pathElements)
    old.forEach(need(-1))
    paths.flatMap(pathElements).forEach(need(1))
    return [...new Map(old.map(keyed))].flatMap(([key, element]) => (needed.get(key) === 0 ? [element] : []))
  }

  /** What becomes of the elements and chains of a link, and of the addresses that it has or gets. */
  #guarding(link: string, sources: readonly Source[]): Guarding {
    const former = this.sourcesOf(link)
    const addresses = new Set([...former, ...sources].map((source) => source.address))
    const holdersBefore = [...addresses].flatMap((address) => this.#holder(address) ?? [])
    const holdersAfter = [...addresses].flatMap(
      (address) => sources.find((source) => source.address === address) ?? this.#holder(address, link) ?? [],
    )
    const coming = [...portElements(link, sources), ...holdersAfter.flatMap(addressElements)]
    const kept = new Set(coming.map(elementKey))
    const old = [...portElements(link, former), ...holdersBefore.flatMap(addressElements)]
    const users = new Map<string, [Reach, number]>()
    const use = (reach: Reach, by: number) => users.set(reach.name, [reach, (users.get(reach.name)?.[1] ?? 0) + by])
    for (const reach of holdersAfter.flatMap(chainsOf)) use(reach, 1)
    for (const reach of holdersBefore.flatMap(chainsOf)) use(reach, -1)
    const all = [...users.values()]
    const usedBefore = (reach: Reach) => this.#reaches.get(reach.name)?.users ?? 0
    return {
      leaving: old.filter((element) => !kept.has(elementKey(element))),
      coming,
      users: all,
      made: all.filter(([reach, by]) => usedBefore(reach) === 0 && by > 0).map(([reach]) => reach),
      unused: all.filter(([reach, by]) => by < 0 && usedBefore(reach) + by === 0).map(([reach]) => reach),
    }
  }

  /** The source whose policy holds for an address; null: no link but `except` has it. */
  #holder(address: string, except?: string): Source | null {
    const link = [...(this.#links.get(address) ?? [])].findLast((other) => other !== except)
    return this.sourcesOf(link ?? '').find((source) => source.address === address) ?? null
  }

  holders(): Source[] {
    return [...this.#links.keys()].flatMap((address) => this.#holder(address) ?? [])
  }

  #count(reaches: readonly Reach[], by: number): void {
    for (const reach of reaches) {
      const users = (this.#reaches.get(reach.name)?.users ?? 0) + by
      if (users === 0) this.#reaches.delete(reach.name)
      else this.#reaches.set(reach.name, { reach, users })
    }
  }

  #setPaths(owner: string, list: readonly Path[]): void {
    const former = this.#paths.get(owner) ?? []
    reindex(this.#owners, owner, former.flatMap(instanceOf), list.flatMap(instanceOf))
    for (const path of former) this.#use(path, -1)
    for (const path of list) this.#use(path, 1)
    if (list.length === 0) this.#paths.delete(owner)
    else this.#paths.set(owner, list)
  }

  #use(path: Path, by: 1 | -1): void {
    for (const key of pathElements(path).map(elementKey)) {
      const uses = (this.#uses.get(key) ?? 0) + by
      if (uses === 0) this.#uses.delete(key)
      else this.#uses.set(key, uses)
    }
    const hop = hopOf(path)
    if (hop === null) return
    const name = `${path.owner} ${keyOf(path)}`
    const hops = this.#hops.get(hop.to) ?? new Map<string, string>()
    if (by < 0) hops.delete(name)
    else hops.set(name, hop.via)
    if (hops.size === 0) this.#hops.delete(hop.to)
    else this.#hops.set(hop.to, hops)
  }

  #setSources(link: string, list: readonly Source[]): void {
    const addresses = (sources: readonly Source[]) => sources.map((source) => source.address)
    reindex(this.#links, link, addresses(this.sourcesOf(link)), addresses(list))
    if (list.length === 0) this.#sources.delete(link)
    else this.#sources.set(link, list)
  }
}

interface Guarding {
  readonly leaving: readonly Element[]
  readonly coming: readonly Element[]
  /** Chains, with how many more addresses are led to each. */
  readonly users: readonly (readonly [Reach, number])[]
  readonly made: readonly Reach[]
  readonly unused: readonly Reach[]
}

const NOTHING: Guarding = { leaving: [], coming: [], users: [], made: [], unused: [] }

/** By owner, where `my.instance` leads. */
function lead(owner: string, path: Path | undefined): (readonly [string, string])[] {
  return path === undefined ? [] : [[owner, destinationOf(path)]]
}

function instanceOf(path: Path): string[] {
  return isWay(path) ? [] : [path.instance]
}

function chainsOf(source: Source): Reach[] {
  const { opens, begins } = reachesOf(source)
  return [opens, begins].filter((reach) => reach !== null && reach.make.length > 0) as Reach[]
}

function keyed(element: Element): [string, Element] {
  return [elementKey(element), element]
}

function elementKey({ set, key, value }: Element): string {
  return `${set} ${key}${value ?? ''}`
}

/** Keeps `index`, from each of the values to the keys that have it, in step with a key's new values. */
function reindex(
  index: Map<string, Set<string>>,
  key: string,
  former: readonly string[],
  values: readonly string[],
): void {
  for (const value of former) {
    const keys = index.get(value)
    keys?.delete(key)
    if (keys?.size === 0) index.delete(value)
  }
  for (const value of values) index.set(value, (index.get(value) ?? new Set()).add(key))
}
