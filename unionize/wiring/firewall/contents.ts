import type { Passage, Source } from '../wiring.ts'
import { mineElements, passageElements, sourceElements } from './ruleset.ts'

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
 */
export class Contents {
  readonly #instances = new Map<string, readonly string[]>()
  readonly #owners = new Map<string, Set<string>>()
  readonly #leads = new Map<string, string>()
  readonly #sources = new Map<string, readonly Source[]>()
  readonly #links = new Map<string, Set<string>>()

  /** Of a passage that comes twice the last place counts. `leads`: where that is known to be otherwise. */
  constructor(passages: readonly Passage[], sources: readonly Source[], leads?: readonly Passage[]) {
    for (const { owner, instance } of passages) {
      this.#setInstances(owner, [...(this.#instances.get(owner) ?? []).filter((other) => other !== instance), instance])
    }
    for (const { owner, instance } of leads ?? passages) this.#leads.set(owner, instance)
    for (const source of sources) this.#setSources(source.link, [...this.sourcesOf(source.link), source])
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

  /** All that is here, as commands for empty sets. */
  additions(): string[] {
    const passages = [...this.#instances].flatMap(([owner, list]) => list.map((instance) => ({ owner, instance })))
    const leads = [...this.#leads].map(([owner, instance]) => ({ owner, instance }))
    return [
      ...passageElements('add', passages),
      ...mineElements('add', leads),
      ...sourceElements('add', [...this.#sources.values()].flat()),
    ]
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
    const kept = new Set(guard?.sources.map(sourceKey))
    const leaving = guard === undefined ? [] : this.sourcesOf(guard.link).filter((old) => !kept.has(sourceKey(old)))
    return {
      commands: [
        ...passageElements('delete', closing),
        ...mineElements('delete', oldLeads.filter(differs)),
        ...sourceElements('delete', leaving),
        ...passageElements('add', open),
        ...mineElements('add', leads),
        ...sourceElements('add', guard?.sources ?? []),
      ],
      commit: () => {
        for (const [owner, list] of next) {
          this.#setInstances(owner, list)
          const last = list.at(-1)
          if (last === undefined) this.#leads.delete(owner)
          else this.#leads.set(owner, last)
        }
        if (guard !== undefined) this.#setSources(guard.link, guard.sources)
      },
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

function lead(owner: string, instance: string | undefined): Passage[] {
  return instance === undefined ? [] : [{ owner, instance }]
}

function sourceKey(source: Source): string {
  return `${source.mac} ${source.address}`
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
