import { WiringError } from '../errors.ts'
import { canonical } from '../input.ts'
import { FirewallRefusal, Nftables } from '../kernel/libnftables.ts'
import type { HostNetwork, Passage, Source } from '../wiring.ts'
import { type Change, Contents } from './contents.ts'
import { baseRules, flushElements, removeTables, TABLES } from './ruleset.ts'

/**
 * The filter between owners and instances. What the kernel holds is known here too, so that one change is one
 * transaction of additions and removals and asks nothing; where the kernel turns out to hold something else, that is
 * read, or what is lost is restored, and the change is made again.
 */
export class Firewall {
  readonly #nft = new Nftables()
  readonly #tell: (message: string) => void
  #contents = new Contents([], [])
  #network: HostNetwork | null = null

  /** `tell` is given what an operator should know of repairs. */
  constructor(tell: (message: string) => void) {
    this.#tell = tell
  }

  /** Loads the rules. Elements that are there stay. @throws FirewallRefusal */
  load(network: HostNetwork): void {
    this.#nft.run(baseRules(network))
    this.#network = network
    this.#contents = this.#read()
  }

  /** The addresses that a link may send from. */
  addressesOf(link: string): string[] {
    return this.#contents.sourcesOf(link).map((source) => source.address)
  }

  /** Whether another link has this address. */
  isElsewhere(address: string, link: string): boolean {
    return this.#contents.isElsewhere(address, link)
  }

  open(passage: Passage): void {
    this.#apply(() => ({ open: [passage] }))
  }

  close(passage: Passage): void {
    this.#apply(() => ({ close: [passage] }))
  }

  /** Lets a link send from its new address only, and its owner reach it. Passages to a former address are closed. */
  place(source: Source, owner: string | null): void {
    this.#apply(() => ({
      guard: { link: source.link, sources: [source] },
      close: this.addressesOf(source.link)
        .filter((address) => address !== source.address)
        .flatMap((address) => this.#passagesOf(source.link, address)),
      open: owner === null ? [] : [{ owner, instance: source.address }],
    }))
  }

  /** Forbids a link to send from this address, and closes every passage to it unless another link has it now. */
  unplace(link: string, address: string): void {
    this.#apply(() => ({
      guard: { link, sources: this.#contents.sourcesOf(link).filter((source) => source.address !== address) },
      close: this.#passagesOf(link, address),
    }))
  }

  /** Makes exactly this the contents, in one transaction. @throws FirewallRefusal */
  replace(network: HostNetwork, passages: readonly Passage[], sources: readonly Source[]): void {
    const contents = new Contents(passages, sources)
    this.#nft.run([baseRules(network), ...flushElements(), ...contents.additions()].join('\n'))
    this.#contents = contents
  }

  /** Restores the tables if somebody removed them (`nft flush ruleset` does): without them every instance is open. */
  guard(): void {
    if (this.#network !== null && !this.#tablesExist()) this.#restore(this.#network)
  }

  /** Removes our tables. @throws FirewallRefusal */
  remove(): void {
    this.#nft.run(removeTables())
    this.#contents = new Contents([], [])
  }

  #passagesOf(link: string, address: string): Passage[] {
    return this.#contents.isElsewhere(address, link) ? [] : this.#contents.passagesTo(address)
  }

  #apply(change: () => Change): void {
    try {
      this.#try(change())
    } catch (thrown) {
      if (!(thrown instanceof FirewallRefusal && thrown.unexpectedState) || this.#network === null) throw thrown
      this.#recover(this.#network, thrown)
      this.#try(change())
    }
  }

  #try(change: Change): void {
    const plan = this.#contents.plan(change)
    if (plan.commands.length > 0) this.#nft.run(plan.commands.join('\n'))
    plan.commit()
  }

  #recover(network: HostNetwork, reason: FirewallRefusal): void {
    if (this.#tablesExist()) {
      this.#tell(`someone else changed the firewall tables of unionize, which are read anew: ${reason.message}`)
      this.#contents = this.#read()
      return
    }
    this.#restore(network)
  }

  #restore(network: HostNetwork): void {
    this.#tell('someone else removed the firewall tables of unionize, which are restored')
    this.#nft.run([removeTables(), baseRules(network), ...this.#contents.additions()].join('\n'))
  }

  #tablesExist(): boolean {
    const { nftables } = this.#nft.list('list tables') as { nftables: { table?: { family: string; name: string } }[] }
    const found = nftables.map(({ table }) => `${table?.family} ${table?.name}`)
    return TABLES.every((table) => found.includes(table))
  }

  #read(): Contents {
    const leads = this.#elements('map inet unionize mine').map((element) => passageOf(texts(element)))
    const passages = this.#concatenations('set inet unionize passages').map(passageOf)
    const sources = this.#concatenations('set bridge unionize sources').map(([link = '', mac = '', address = '']) => ({
      link,
      mac,
      address: canonical(address),
    }))
    const known = new Set(passages.map((passage) => `${passage.owner} ${passage.instance}`))
    const led = leads.filter((passage) => known.has(`${passage.owner} ${passage.instance}`))
    return new Contents([...passages, ...led], sources, leads)
  }

  #concatenations(set: string): string[][] {
    return this.#elements(set).map((element) => texts((element as { concat?: unknown }).concat))
  }

  #elements(set: string): unknown[] {
    const { nftables } = this.#nft.list(`list ${set}`) as { nftables: Record<string, { elem?: unknown[] }>[] }
    return nftables.flatMap((entry) => (entry['set'] ?? entry['map'])?.elem ?? [])
  }
}

function passageOf([owner = '', instance = '']: readonly string[]): Passage {
  return { owner: canonical(owner), instance: canonical(instance) }
}

function texts(value: unknown): string[] {
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value
  throw new WiringError('wiring-fault', `libnftables listed ${JSON.stringify(value)} where texts were expected`)
}
