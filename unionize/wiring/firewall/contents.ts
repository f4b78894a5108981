import type { Passage, Source } from '../wiring.ts'
import {
  addressElements,
  commands,
  type Element,
  leadElement,
  passageElement,
  portElements,
  reachesOf,
} from './elements.ts'
import type { Reach } from './reaches.ts'

/** What one change puts in and takes out. */
export interface Change {
  readonly open?: readonly Passage[]
  readonly close?: readonly Passage[]
  /** The sources that a link has from now on; none: `[]`. */
  readonly guard?: { readonly link: string; readonly sources: readonly Source[] }
}

/** A change made ready: the firewall commands, and what to remember once they are carried out. */
export interface Plan {
  readonly commands: readonly string[]
  commit(): void
}

/**
 * What the sets of the firewall hold. The cost of a change does not grow with the number of instances.
 *
 * An owner with several instances is led by `my.instance` to the one opened last; when that is closed, to the one before.
 * Of an address that several links have, the policy of the one that got it last holds.
 */
export class Contents {
  readonly #instances = new Map<string, readonly string[]>()
  readonly #owners = new Map<string, Set<string>>()
  readonly #leads = new Map<string, string>()
  readonly #sources = new Map<string, readonly Source[]>()
  readonly #links = new Map<string, Set<string>>()
  /** Chains that addresses are led to, with how many are. */
  readonly #reaches = new Map<string, { readonly reach: Reach; readonly users: number }>()

  /** Of a passage that comes twice the last place counts. `leads`: where that is known to be otherwise. */
  constructor(passages: readonly Passage[], sources: readonly Source[], leads?: readonly Passage[]) {
    for (const { owner, instance } of passages) {
      this.#setInstances(owner, [...(this.#instances.get(owner) ?? []).filter((other) => other !== instance), instance])
    }
    for (const { owner, instance } of leads ?? passages) this.#leads.set(owner, instance)
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

  /** The chains that exist because of what is here. */
  reaches(): Reach[] {
    return [...this.#reaches.values()].map(({ reach }) => reach)
  }

  /** All that is here, as commands for empty sets. */
  additions(): string[] {
    const passages = [...this.#instances].flatMap(([owner, list]) => list.map((instance) => ({ owner, instance })))
    const leads = [...this.#leads].map(([owner, instance]) => ({ owner, instance }))
    const ports = [...this.#sources].flatMap(([link, sources]) => portElements(link, sources))
    const addresses = this.holders().flatMap(addressElements)
    const elements = [...passages.map(passageElement), ...leads.map(leadElement), ...ports, ...addresses]
    return [...this.reaches().flatMap((reach) => reach.make), ...commands('add', elements)]
  }

  /** What the change opens and guards is always added: someone may have taken it away behind our back. */
  plan(change: Change): Plan {
    const { close = [], open = [], guard } = change
    const next = new Map<string, readonly string[]>()
    const before = (owner: string) => next.get(owner) ?? this.#instances.get(owner) ?? []
    const without = ({ owner, instance }: Passage) => before(owner).filter((other) => other !== instance)
    for (const passage of close) next.set(passage.owner, without(passage))
    for (const passage of open) next.set(passage.owner, [...without(passage), passage.instance])
    const closing = [...next].flatMap(([owner, list]) =>
      (this.#instances.get(owner) ?? [])
        .filter((instance) => !list.includes(instance))
        .map((instance) => ({ owner, instance })),
    )
    const leads = [...next].flatMap(([owner, list]) => lead(owner, list.at(-1)))
    const oldLeads = [...next.keys()].flatMap((owner) => lead(owner, this.#leads.get(owner)))
    const differs = (old: Passage) => next.get(old.owner)?.at(-1) !== old.instance
    const guarding = guard === undefined ? NOTHING : this.#guarding(guard.link, guard.sources)
    return {
      commands: [
        ...commands('delete', [
          ...closing.map(passageElement),
          ...oldLeads.filter(differs).map(leadElement),
          ...guarding.leaving,
        ]),
        ...guarding.made.flatMap((reach) => reach.make),
        ...commands('add', [...open.map(passageElement), ...leads.map(leadElement), ...guarding.coming]),
        ...guarding.unused.flatMap((reach) => reach.remove),
      ],
      commit: () => {
        for (const [owner, list] of next) {
          this.#setInstances(owner, list)
          const last = list.at(-1)
          if (last === undefined) this.#leads.delete(owner)
          else this.#leads.set(owner, last)
        }
        if (guard === undefined) return
        this.#setSources(guard.link, guard.sources)
        for (const [reach, by] of guarding.users) this.#count([reach], by)
      },
    }
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

  #setInstances(owner: string, list: readonly string[]): void {
    reindex(this.#owners, owner, this.#instances.get(owner) ?? [], list)
    if (list.length === 0) this.#instances.delete(owner)
    else this.#instances.set(owner, list)
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

function lead(owner: string, instance: string | undefined): Passage[] {
  return instance === undefined ? [] : [{ owner, instance }]
}

function chainsOf(source: Source): Reach[] {
  const { opens, begins } = reachesOf(source)
  return [opens, begins].filter((reach) => reach !== null && reach.make.length > 0) as Reach[]
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
