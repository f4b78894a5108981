import { DROP_REASONS, type DropCounts, type DropReason } from '../../../common/drop-reasons.ts'
import { WiringError } from '../errors.ts'
import { FirewallRefusal, Nftables } from '../kernel/libnftables.ts'
import { Nfnetlink } from '../kernel/nfnetlink.ts'
import type { HostNetwork, Passage, Placement, Source } from '../wiring.ts'
import { type Change, Contents, type Plan } from './contents.ts'
import type { Surroundings } from './path-rules.ts'
import type { Path, PathName } from './paths.ts'
import { readContents } from './reading.ts'
import { COUNTER_PREFIX, type Family, TABLES } from './rules.ts'
import { baseRules, type Count, counterSeeds, flushElements, removeTables } from './ruleset.ts'

/** What the rules were made for. */
interface Loaded {
  readonly network: HostNetwork
  readonly surroundings: Surroundings
}

/**
 * The filter between owners and instances. What the kernel holds is known here too, so that one change is one
 * transaction of additions and removals and asks nothing; where the kernel turns out to hold something else, that is
 * read, or what is lost is restored, and the change is made again.
 */
export class Firewall {
  readonly #nft = new Nftables()
  readonly #kernel = new Nfnetlink()
  readonly #tell: (message: string) => void
  readonly #surroundings: (network: HostNetwork) => Surroundings | null
  #contents = new Contents([], [])
  readonly #rerouted = new Set<string>()
  #loaded: Loaded | null = null
  /** As last read: with it counters begin again after somebody removed them. */
  #counts: readonly Count[] = []

  /**
   * @param tell given what an operator should know of repairs
   * @param surroundings reads what the rules must know of the host, now and again; null: the bridge is away
   */
  constructor(tell: (message: string) => void, surroundings: (network: HostNetwork) => Surroundings | null) {
    this.#tell = tell
    this.#surroundings = surroundings
  }

  /** Loads the rules. Elements that are there stay. @throws FirewallRefusal */
  load(network: HostNetwork): void {
    const loaded = this.#look(network)
    try {
      this.#nft.run(baseRules(network, loaded.surroundings))
    } catch (thrown) {
      if (!isUnexpected(thrown)) throw thrown
      this.#tell(`the firewall tables of unionize are of another version, and made anew: ${thrown.message}`)
      this.#count()
      this.#nft.run([removeTables(), ...counterSeeds(this.#counts), this.#rules(loaded)].join('\n'))
    }
    this.#loaded = loaded
    this.#contents = this.#read()
    this.#count()
  }

  /** The addresses that a link may send from. */
  addressesOf(link: string): string[] {
    return this.sourcesOf(link).map((source) => source.address)
  }

  /** What a link may send from. */
  sourcesOf(link: string): readonly Source[] {
    return this.#contents.sourcesOf(link)
  }

  /** What may be sent from each address, by whoever got it last. */
  holders(): readonly Source[] {
    return this.#contents.holders()
  }

  /** Whether another link has this address. */
  isElsewhere(address: string, link: string): boolean {
    return this.#contents.isElsewhere(address, link)
  }

  /** The next hops that are needed, each by its address. */
  hops(): ReadonlyMap<string, string> {
    return this.#contents.hops()
  }

  /** As {@link hops}, of the addresses alone whose next hop may be another one since it was asked last; null: none. */
  changedHops(): ReadonlyMap<string, string | null> {
    const changed = new Map([...this.#rerouted].map((address) => [address, this.#contents.hopTo(address)]))
    this.#rerouted.clear()
    return changed
  }

  open(path: Path): void {
    this.#apply(() => ({ open: [path] }))
  }

  close(path: PathName): void {
    this.#apply(() => ({ close: [path] }))
  }

  /**
   * Lets a link send from its new address only, and its owner reach it: a passage that is open just so keeps its place.
   * Passages to a former address are closed, and those of anybody else to this one.
   */
  place({ link, mac, address, policy, owner, ownerVia }: Omit<Placement, 'pid'>): void {
    const source = { link, mac, address, ...(policy && { policy }) }
    this.#apply(() => ({
      guard: { link, sources: [source] },
      close: [...this.addressesOf(link), address]
        .flatMap((one) => this.#passagesOf(link, one))
        .filter((passage) => passage.instance !== address || (owner !== null && passage.owner !== owner)),
      keep: owner === null ? [] : [{ owner, instance: address, ...(ownerVia && { ownerVia }) }],
    }))
  }

  /** Forbids a link to send from this address, and closes every passage to it unless another link has it now. */
  unplace(link: string, address: string): void {
    this.#apply(() => this.#leaving(link, address))
  }

  /** The same for many, in one transaction. */
  unplaceAll(gone: readonly { readonly link: string; readonly address: string }[]): void {
    const commands: string[] = []
    try {
      for (const { link, address } of gone) {
        const plan = this.#contents.plan(this.#leaving(link, address))
        commands.push(...plan.commands)
        plan.commit()
        this.#note(plan)
      }
      if (commands.length > 0) this.#nft.run(commands.join('\n'))
    } catch (thrown) {
      this.#contents = this.#read()
      if (!isUnexpected(thrown)) throw thrown
      for (const { link, address } of gone) this.unplace(link, address)
    }
  }

  /** Makes exactly this the contents, in one transaction. @throws FirewallRefusal */
  replace(network: HostNetwork, paths: readonly Path[], sources: readonly Source[]): void {
    const contents = new Contents(paths, sources)
    const loaded = this.#look(network)
    const kept = new Set(contents.reaches().map(({ name }) => name))
    const unused = this.#tablesExist() ? this.#contents.reaches().filter(({ name }) => !kept.has(name)) : []
    const commands = [
      this.#rules(loaded),
      ...flushElements(),
      ...unused.flatMap(({ remove }) => remove),
      ...contents.additions(),
    ]
    this.#nft.run(commands.join('\n'))
    this.#loaded = loaded
    this.#contents = contents
  }

  /**
   * Restores the tables if somebody removed them (`nft flush ruleset` does): without them every instance is open. Keeps
   * the rules in step with the host's own networks.
   */
  guard(): void {
    if (this.#loaded === null) return
    const { network, surroundings: former } = this.#loaded
    const loaded = this.#look(network)
    if (!this.#tablesExist()) this.#restore(loaded)
    else if (!isSame(former, loaded.surroundings)) this.#nft.run(this.#rules(loaded))
    this.#loaded = loaded
  }

  /** What was dropped since the kernel began to count; also after the tables were lost and restored. */
  counters(): DropCounts {
    if (this.#loaded !== null && !this.#tablesExist()) this.#restore(this.#loaded)
    this.#count()
    const sums: { [R in DropReason]?: number } = {}
    for (const { reason, packets } of this.#counts) sums[reason] = (sums[reason] ?? 0) + packets
    return sums
  }

  /** Removes our tables. @throws FirewallRefusal */
  remove(): void {
    this.#nft.run(removeTables())
    this.#contents = new Contents([], [])
    this.#loaded = null
    this.#counts = []
  }

  #leaving(link: string, address: string): Change {
    return {
      guard: { link, sources: this.#contents.sourcesOf(link).filter((source) => source.address !== address) },
      close: this.#passagesOf(link, address),
    }
  }

  #passagesOf(link: string, address: string): Passage[] {
    return this.#contents.isElsewhere(address, link) ? [] : this.#contents.passagesTo(address)
  }

  #apply(change: () => Change): void {
    try {
      this.#try(change())
    } catch (thrown) {
      if (!isUnexpected(thrown) || this.#loaded === null) throw thrown
      this.#recover(this.#loaded, thrown)
      this.#try(change())
    }
  }

  #try(change: Change): void {
    const plan = this.#contents.plan(change)
    if (plan.commands.length > 0) this.#nft.run(plan.commands.join('\n'))
    plan.commit()
    this.#note(plan)
  }

  #note({ rerouted }: Plan): void {
    for (const address of rerouted) this.#rerouted.add(address)
  }

  /** Our tables are there or not as a whole; of contents that someone changed the rest counts. */
  #recover(loaded: Loaded, reason: FirewallRefusal): void {
    if (!this.#tablesExist()) {
      this.#restore(loaded)
      return
    }
    this.#tell(`someone else changed the firewall tables of unionize, which are read anew: ${reason.message}`)
    this.#nft.run(this.#rules(loaded))
    this.#contents = this.#read()
  }

  #restore(loaded: Loaded): void {
    this.#tell('someone else removed the firewall tables of unionize, which are restored')
    this.#nft.run(
      [removeTables(), ...counterSeeds(this.#counts), this.#rules(loaded), ...this.#contents.additions()].join('\n'),
    )
  }

  /** Of a bridge that is away the last is kept: it may return as it was. @throws WiringError `bridge-missing` if there is none */
  #look(network: HostNetwork): Loaded {
    const surroundings = this.#surroundings(network) ?? this.#loaded?.surroundings
    if (surroundings !== undefined) return { network, surroundings }
    throw new WiringError('bridge-missing', `bridge ${network.bridge} does not exist`)
  }

  #rules({ network, surroundings }: Loaded): string {
    return baseRules(network, surroundings)
  }

  #tablesExist(): boolean {
    const found = this.#kernel.tables()
    return TABLES.every((table) => found.includes(table))
  }

  #read(): Contents {
    return readContents((command) => this.#nft.list(command))
  }

  #count(): void {
    const isReason = (name: string): name is DropReason => (DROP_REASONS as readonly string[]).includes(name)
    this.#counts = TABLES.flatMap((table) => {
      const [family, name = ''] = table.split(' ') as [Family, string]
      return this.#kernel.counters(family, name).flatMap((counter) => {
        const reason = counter.name.slice(COUNTER_PREFIX.length)
        return isReason(reason) ? [{ ...counter, family, reason }] : []
      })
    })
  }
}

function isUnexpected(thrown: unknown): thrown is FirewallRefusal {
  return thrown instanceof FirewallRefusal && thrown.unexpectedState
}

function isSame(one: Surroundings, other: Surroundings): boolean {
  return one.gatewayMac === other.gatewayMac && one.networks.join() === other.networks.join()
}
