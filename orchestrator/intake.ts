import { randomBytes } from 'node:crypto'
import type { Clock } from '../common/clock.ts'
import { OrchestratorError } from '../common/errors.ts'
import type { Ipv6 } from '../common/ipv6.ts'
import { type AddressPool, allows, candidates } from './domain/addressing.ts'
import type { Instance, InstanceId } from './domain/instance.ts'
import { type Lease, type LeaseChange, type LeaseEvent, mergeLease, type Owner, ownerKey } from './domain/lease.ts'
import { nameCandidates } from './domain/naming.ts'
import type { Template } from './domain/template.ts'
import type { Store, Transaction } from './store/store.ts'

/** Where an item stood in its source's journal. */
export interface JournalPlace {
  readonly journal: string
  /** Byte after the item. */
  readonly offset: number
}

/** What a host sends: an event, or a line that it could not understand. */
export type LeaseItem =
  | { readonly event: LeaseEvent; readonly position: JournalPlace }
  | { readonly refused: { readonly reason: string; readonly original: string }; readonly position: JournalPlace }

/** A lease as a lease server's own table has it. */
export type TableLease = Pick<Lease, 'owner' | 'address' | 'expiresAt' | 'facts'>

/** Turns what lease servers say into intent. */
export interface Intake {
  /** Applies items of one source in order, in one transaction: all are stored when it resolves. Repeats are harmless. */
  applyLeases(source: string, items: readonly LeaseItem[]): Promise<void>
  /** Compares a source's lease table, read at `readAt` (epoch ms), with what is stored: what events missed is found here. */
  applySnapshot(source: string, table: readonly TableLease[], readAt: number): Promise<void>
  /** An operator wants the instance gone. A new grant to its owner makes a new one. @returns null: no such instance */
  dismiss(id: InstanceId): Promise<Instance | null>
}

/** What a lease becomes; looked up anew for each lease, so a changed template is used at once. */
export interface IntakeOptions {
  readonly store: Store
  readonly clock: Clock
  readonly pool: AddressPool
  readonly template: () => Template
  /** Called after each commit that may have made work. A wake carries no news; the store does. */
  readonly wake: () => void
}

/** Milliseconds around a snapshot's reading within which a lease's own events are trusted more. */
const SNAPSHOT_MARGIN_MS = 5_000

/** Idle addresses looked at for one that may be taken over: those of a former prefix are among them. */
const IDLE_LOOK = 1000

/** No address of the instances prefix is free. */
class AddressPoolExhausted extends OrchestratorError {
  constructor(pool: AddressPool) {
    super(
      'address-pool-exhausted',
      `no address is free in the instances prefix ${pool.prefix.base}/${pool.prefix.length}; set instances.prefix to a larger one`,
      { retryable: true },
    )
  }
}

export function createIntake(options: IntakeOptions): Intake {
  const { store, clock, wake } = options
  return {
    async applyLeases(source, items) {
      await store.transaction(async (tx) => {
        const now = clock.now()
        for (const item of items) {
          const { journal, offset } = item.position
          if (offset <= (await tx.journalOffset(source, journal))) continue
          if ('event' in item) await applyEvent(tx, options, item.event, now)
          else await tx.appendEvent(refusedEvent(source, item.refused), now)
          await tx.putJournalOffset({ source, journal, offset }, now)
        }
      })
      wake()
    },

    async applySnapshot(source, table, readAt) {
      const now = clock.now()
      const changed = await store.transaction((tx) => compareTable(tx, options, source, table, readAt, now))
      if (changed) wake()
    },

    async dismiss(id) {
      const dismissed = await store.transaction(async (tx) => {
        const instance = await tx.instance(id)
        if (instance === null || instance.state === 'gone') return null
        if (instance.wanted === 'gone') return instance
        const now = clock.now()
        const message = `instance ${instance.name} was removed by an operator`
        await tx.appendEvent({ level: 'info', kind: 'instance.dismissed', message, ...about(instance) }, now)
        return wantGone(tx, instance, now, now)
      })
      if (dismissed !== null) wake()
      return dismissed
    },
  }
}

async function applyEvent(tx: Transaction, options: IntakeOptions, event: LeaseEvent, now: number): Promise<void> {
  const change = mergeLease(await tx.lease(event.owner), event, now)
  await applyChange(tx, options, change, event.hookAt, now)
}

async function applyChange(
  tx: Transaction,
  options: IntakeOptions,
  change: LeaseChange,
  hookAt: number,
  now: number,
): Promise<void> {
  if (change.kind === 'stale') return
  const { lease } = change
  const instance = await tx.liveInstance(lease.owner)
  if (change.kind === 'ended') {
    await tx.putLease(lease)
    const message = `lease of ${lease.address} by ${ownerKey(lease.owner)} ended`
    await tx.appendEvent({ level: 'info', kind: 'lease.ended', message, owner: lease.owner, host: lease.source }, now)
    if (instance !== null && instance.wanted === 'running') {
      const template = await tx.template(instance.template)
      await wantGone(tx, instance, now + (template?.graceMs ?? 0), now)
    }
    return
  }
  if (change.kind === 'begun') {
    const message = `lease of ${lease.address} granted to ${ownerKey(lease.owner)}`
    await tx.appendEvent({ level: 'info', kind: 'lease.granted', message, owner: lease.owner, host: lease.source }, now)
  }
  const due = change.kind === 'begun' || lease.refusal !== null
  if (instance === null) await tx.putLease(due ? await instantiate(tx, options, lease, hookAt, now) : lease)
  else {
    await tx.putLease(lease)
    await follow(tx, instance, lease, change.kind === 'begun', hookAt, now)
  }
}

/** Makes the lease's instance wanted; the lease comes back with a refusal when it cannot have one. */
async function instantiate(
  tx: Transaction,
  options: IntakeOptions,
  lease: Lease,
  hookAt: number,
  now: number,
): Promise<Lease> {
  const template = options.template()
  let address: Ipv6
  try {
    address = await addressFor(tx, options.pool, lease, now)
  } catch (error) {
    if (!(error instanceof AddressPoolExhausted)) throw error
    if (lease.refusal !== error.message) {
      const said = { level: 'error', kind: 'lease.refused', owner: lease.owner, host: lease.source } as const
      await tx.appendEvent({ ...said, message: error.message }, now)
    }
    return { ...lease, refusal: error.message }
  }
  const id = newInstanceId()
  await tx.insertInstance({
    id,
    owner: lease.owner,
    name: await nameFor(tx, lease, id),
    template: { name: template.name, version: template.version },
    backend: template.backend,
    host: null,
    wanted: 'running',
    generation: 1,
    state: 'pending',
    settled: 0,
    address,
    ownerAddress: lease.address,
    source: lease.source,
    failures: 0,
    dueAt: now,
    lastError: null,
    marks: { hookAt, storedAt: now },
    createdAt: now,
    updatedAt: now,
  })
  return { ...lease, refusal: null }
}

/** Makes a living instance follow its lease: wanted again after all, or reached from another address. */
async function follow(
  tx: Transaction,
  instance: Instance,
  lease: Lease,
  begun: boolean,
  hookAt: number,
  now: number,
): Promise<void> {
  if (instance.source !== lease.source) return moveOut(tx, instance, lease, now)
  const revived = begun && instance.wanted === 'gone'
  if (!revived && (instance.wanted === 'gone' || instance.ownerAddress === lease.address)) return
  await tx.updateInstance({
    ...instance,
    wanted: 'running',
    ownerAddress: lease.address,
    generation: instance.generation + 1,
    failures: 0,
    lastError: null,
    dueAt: now,
    marks: { hookAt, storedAt: now },
    updatedAt: Math.max(now, instance.updatedAt + 1),
  })
}

/** The device took its lease on another host's network: its instance there ends, and one here follows when it is gone. */
async function moveOut(tx: Transaction, instance: Instance, lease: Lease, now: number): Promise<void> {
  const refusal = `its instance ${instance.name} at ${instance.source} must be gone first`
  await tx.putLease({ ...lease, refusal })
  if (instance.wanted === 'running') await wantGone(tx, instance, now, now)
}

async function wantGone(tx: Transaction, instance: Instance, dueAt: number, now: number): Promise<Instance> {
  const next: Instance = {
    ...instance,
    wanted: 'gone',
    generation: instance.generation + 1,
    failures: 0,
    lastError: null,
    dueAt,
    updatedAt: Math.max(now, instance.updatedAt + 1),
  }
  await tx.updateInstance(next)
  return next
}

async function compareTable(
  tx: Transaction,
  options: IntakeOptions,
  source: string,
  table: readonly TableLease[],
  readAt: number,
  now: number,
): Promise<boolean> {
  let changed = false
  const present = new Set<string>()
  const active = await tx.activeLeases(source)
  const unchanged = new Map(active.map((lease) => [ownerKey(lease.owner), lease]))
  for (const entry of table) {
    const key = ownerKey(entry.owner)
    present.add(key)
    const stored = unchanged.get(key) ?? (await tx.lease(entry.owner))
    const known = stored?.state === 'active' && stored.address === entry.address && stored.expiresAt === entry.expiresAt
    if (known && stored.refusal === null) continue
    // An end that was stored after the table was read is newer than the table.
    if (stored !== null && stored.updatedAt > readAt - SNAPSHOT_MARGIN_MS) continue
    unchanged.delete(key)
    const change = mergeLease(stored, { ...entry, kind: 'confirmed', source, hookAt: now }, now)
    await applyChange(tx, options, change, now, now)
    changed ||= change.kind !== 'stale'
  }
  for (const lease of active) {
    if (present.has(ownerKey(lease.owner)) || lease.updatedAt > readAt - SNAPSHOT_MARGIN_MS) continue
    const ended: LeaseEvent = { ...lease, kind: 'ended', source, hookAt: now }
    await applyChange(tx, options, mergeLease(lease, ended, now), now, now)
    changed = true
  }
  return changed
}

/** The address that the owner had before, else the first free candidate, else the idle one that was assigned longest ago. */
async function addressFor(tx: Transaction, pool: AddressPool, lease: Lease, now: number): Promise<Ipv6> {
  const { owner } = lease
  const former = await tx.addressOf(owner)
  if (former !== null && allows(pool, former)) return former
  for (const address of candidates(pool, owner, lease.address)) {
    if ((await tx.holderOf(address)) !== null) continue
    await tx.assignAddress(address, owner, now)
    return address
  }
  const idle = (await tx.idleAddresses(IDLE_LOOK)).find((address) => allows(pool, address))
  if (idle === undefined) throw new AddressPoolExhausted(pool)
  await tx.assignAddress(idle, owner, now)
  return idle
}

async function nameFor(tx: Transaction, lease: Lease, id: InstanceId): Promise<string> {
  for (const name of nameCandidates(lease.facts.hostname, id)) {
    if (!(await tx.nameTaken(name))) return name
  }
  return id
}

/** 50 random bits in Crockford's base 32, lower case. */
function newInstanceId(): InstanceId {
  const digits = '0123456789abcdefghjkmnpqrstvwxyz'
  return `i-${Array.from(randomBytes(10), (byte) => digits[byte & 31]).join('')}` as InstanceId
}

function refusedEvent(source: string, refused: { reason: string; original: string }) {
  const message = `a lease event was refused: ${refused.reason}; it read ${JSON.stringify(refused.original)}`
  return { level: 'warning', kind: 'lease.event-refused', message, host: source } as const
}

function about(instance: Instance): { instance: InstanceId; owner: Owner } {
  return { instance: instance.id, owner: instance.owner }
}
