import type { Ipv6 } from '../../common/ipv6.ts'
import type { Build } from '../domain/build.ts'
import type { OperatorEvent, StoredEvent } from '../domain/event.ts'
import type { Host, HostName } from '../domain/host.ts'
import type { Instance, InstanceId } from '../domain/instance.ts'
import type { Lease, Owner } from '../domain/lease.ts'
import type { Parameters, Sealed } from '../domain/parameter.ts'
import type { Price } from '../domain/price.ts'
import type { Ruleset } from '../domain/rule.ts'
import type { Template, TemplateContent, TemplateHead, TemplateRef } from '../domain/template.ts'

/** A place in a source's journal that has been acted upon. */
export interface JournalPosition {
  readonly source: string
  readonly journal: string
  /** Bytes. */
  readonly offset: number
}

/** A token as stored: only its SHA-256, hex. */
export interface StoredToken {
  readonly hash: string
  readonly kind: 'api' | 'join'
  /** For a join token: the host it admits; null: any. */
  readonly host: string | null
  /** Epoch ms; null: never. */
  readonly expiresAt: number | null
  readonly usedAt: number | null
}

/** What lets backends in: fields by name, sealed as one. */
export interface StoredCredential {
  readonly name: string
  readonly sealed: Sealed
  /** Names of the fields, which are no secrets. */
  readonly fields: readonly string[]
  /** Epoch ms. */
  readonly changedAt: number
}

/** What one transaction may do. All of it happens, or nothing. */
export interface Transaction {
  lease(owner: Owner): Promise<Lease | null>
  putLease(lease: Lease): Promise<void>
  activeLeases(source: string): Promise<readonly Lease[]>
  /** The owner's instance that is not gone. */
  liveInstance(owner: Owner): Promise<Instance | null>
  instance(id: InstanceId): Promise<Instance | null>
  /** Whether a living instance bears this name. */
  nameTaken(name: string): Promise<boolean>
  insertInstance(instance: Instance): Promise<void>
  updateInstance(instance: Instance): Promise<void>
  /** The instance address that this owner had last; null: none yet. */
  addressOf(owner: Owner): Promise<Ipv6 | null>
  /** Who had this instance address last; null: nobody. */
  holderOf(address: Ipv6): Promise<Owner | null>
  /** Gives the address to the owner, taking it from whoever had it. */
  assignAddress(address: Ipv6, owner: Owner, at: number): Promise<void>
  /** Addresses whose holder has no living instance, assigned longest ago first. */
  idleAddresses(limit: number): Promise<readonly Ipv6[]>
  journalOffset(source: string, journal: string): Promise<number>
  putJournalOffset(position: JournalPosition, at: number): Promise<void>
  appendEvent(event: OperatorEvent, at: number): Promise<void>
  /** Keeps a version and gives it its number; the same content again is the same version with the same number. */
  putTemplate(ref: TemplateRef, content: TemplateContent, at: number): Promise<Template>
  template(ref: TemplateRef): Promise<Template | null>
  /** Versions of one template, or of all, by name and number. */
  templateVersions(name?: string): Promise<readonly Template[]>
  head(name: string): Promise<TemplateHead | null>
  heads(): Promise<readonly TemplateHead[]>
  putHead(head: TemplateHead, at: number): Promise<void>
  /** Forgets the head and every version that no instance was made from. */
  removeTemplate(name: string): Promise<void>
  /** The rules in force; null: none were ever applied. */
  ruleset(): Promise<Ruleset | null>
  /** Revision of the rules in force, 0 for none: one small read, for who keeps them in memory. */
  rulesRevision(): Promise<number>
  putRuleset(ruleset: Omit<Ruleset, 'revision'>, at: number): Promise<Ruleset>
  /** Living instances: all, those of a rule, those of a DUID. */
  countLive(of: { readonly rule?: string; readonly duid?: string }): Promise<number>
  /** What living instances cost in an hour, all or those of a rule: one sum for each currency. */
  spentLive(of: { readonly rule?: string }): Promise<readonly Price[]>
  /** Names of the living instances that were made from a template: from that version, or from any. */
  liveNames(template: { readonly name: string; readonly version?: string }): Promise<readonly string[]>
  /** Active leases that were refused an instance, longest waiting first. @param after only those that stand behind this one */
  refusedLeases(limit: number, after?: Lease): Promise<readonly Lease[]>
  putBuild(build: Build): Promise<void>
}

/** How much to read. */
export interface Page {
  readonly limit: number
  /** Only what comes after this (ids of events). */
  readonly after?: number | undefined
}

/** Everything that outlives a process: SQLite on one machine, PostgreSQL beyond it, by the same code. */
export interface Store {
  /** Runs `work` in one transaction; an error rolls all of it back. Conflicts of concurrent writers are tried again. */
  transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T>

  leases(filter?: { state?: 'active' | 'ended' }): Promise<readonly Lease[]>
  lease(owner: Owner): Promise<Lease | null>
  instances(filter?: { live?: boolean; host?: HostName }): Promise<readonly Instance[]>
  instance(id: InstanceId): Promise<Instance | null>
  /** Living first, then the newest: by id or by name. */
  findInstance(idOrName: string): Promise<Instance | null>

  /** Where work waits: each host with something due, longest waiting first. Before one is chosen, the lease's source counts. */
  dueHosts(now: number): Promise<readonly HostName[]>
  due(host: HostName, now: number, limit: number): Promise<readonly Instance[]>
  /** When work that is not due yet will be, epoch ms; null: none waits. */
  nextDue(now: number): Promise<number | null>
  /**
   * Records what came of an action, if the instance still has that generation and update time (compare-and-set).
   * @returns whether it was recorded; false: someone was first, look again
   */
  settle(seen: Pick<Instance, 'id' | 'generation' | 'updatedAt'>, change: SettleChange, at: number): Promise<boolean>
  /** Adds marks that arrive later (reachable), whatever else has changed. */
  addMarks(id: InstanceId, generation: number, marks: Instance['marks']): Promise<void>
  /** Makes every instance of a host, or waiting for it, due whose last action failed: the host is back. */
  wakeHost(host: HostName, at: number): Promise<void>

  /** Living instances that the host of this name leads its owners to elsewhere. */
  elsewhere(source: HostName): Promise<readonly Instance[]>
  /** Living instances of a backend by target. */
  load(backend: string): Promise<ReadonlyMap<HostName, number>>
  /** What a backend keeps beyond restarts, by key. */
  backendRecords(backend: string): Promise<ReadonlyMap<string, string>>
  /** @param value null: removes it */
  putBackendRecord(backend: string, key: string, value: string | null): Promise<void>
  /** 16 hex digits that tell this installation's things from others'; never changes, the same for all orchestrators on the store. */
  installation(): Promise<string>
  /** Keeps it under its name, in the place of what was there. */
  putCredential(credential: StoredCredential): Promise<void>
  credential(name: string): Promise<StoredCredential | null>
  /** All, by name. */
  credentials(): Promise<readonly StoredCredential[]>
  /** @returns false: there was none of that name */
  removeCredential(name: string): Promise<boolean>

  template(ref: TemplateRef): Promise<Template | null>
  /** All versions of all templates. */
  templates(): Promise<readonly Template[]>
  /** The number of every version, without their contents. */
  templateNumbers(): Promise<readonly (TemplateRef & { readonly number: number })[]>
  heads(): Promise<readonly TemplateHead[]>
  ruleset(): Promise<Ruleset | null>
  /** Records what an instance wrote to its outputs file. */
  setOutputs(id: InstanceId, outputs: Parameters): Promise<void>
  /** Builds, newest first. */
  builds(page: Page): Promise<readonly Build[]>
  build(id: string): Promise<Build | null>

  hosts(): Promise<readonly Host[]>
  host(name: HostName): Promise<Host | null>
  putHost(host: { name: HostName; fingerprint: string; joinedAt: number }): Promise<void>
  /** SHA-256 of the certificate that the host joined with, hex; null: never joined. */
  hostFingerprint(name: HostName): Promise<string | null>
  /** Opens a new epoch for the host and returns it. */
  hostConnected(name: HostName, facts: Host['facts'], at: number): Promise<number>
  /** Closes that epoch, unless a newer one is open. */
  hostDisconnected(name: HostName, epoch: number, at: number): Promise<void>
  /** After a start: nobody is connected yet. */
  disconnectAllHosts(at: number): Promise<void>

  appendEvent(event: OperatorEvent, at: number): Promise<void>
  events(page: Page & { instance?: InstanceId | undefined }): Promise<readonly StoredEvent[]>

  putToken(token: StoredToken): Promise<void>
  token(hash: string): Promise<StoredToken | null>
  /** Uses a one-time token up. @returns false: it was used before */
  useToken(hash: string, at: number): Promise<boolean>

  /** How many there are, without reading them. */
  counts(): Promise<{
    readonly pending: number
    readonly running: number
    readonly leases: number
    /** Active leases that were refused an instance. */
    readonly refused: number
  }>
  /**
   * Forgets all but the newest `keepEvents` events, journals, tokens, leases, builds and instances over for 90 days, and
   * rules and template versions that were applied before that and that nothing refers to any more.
   */
  prune(keepEvents: number, now: number): Promise<void>
  /** Throws when the store cannot be written. */
  check(): Promise<void>
  close(): Promise<void>
}

/** The fields that the reconciler writes; those left out stay. */
export type SettleChange = Partial<
  Pick<
    Instance,
    | 'backend'
    | 'otherwise'
    | 'host'
    | 'reach'
    | 'price'
    | 'state'
    | 'settled'
    | 'failures'
    | 'dueAt'
    | 'lastError'
    | 'marks'
  >
>
