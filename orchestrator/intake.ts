import type { Clock } from '../common/clock.ts'
import type { Instance, InstanceId } from './domain/instance.ts'
import { type Lease, type LeaseChange, type LeaseEvent, mergeLease, type Owner, ownerKey } from './domain/lease.ts'
import { type Instantiation, instantiate } from './instantiation.ts'
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
  /** The instance's own time is over, although its lease may go on: it is wanted gone. Before that time nothing happens. */
  expire(id: InstanceId): Promise<void>
  /**
   * Looks again at every lease that was refused an instance, longest waiting first: an instance is gone, or rules,
   * templates or quotas have changed. Any number of calls while it looks are one more look.
   */
  retryRefused(): Promise<void>
}

export interface IntakeOptions extends Instantiation {
  readonly store: Store
  readonly clock: Clock
  /** Called after each commit that may have made work. A wake carries no news; the store does. */
  readonly wake: () => void
}

/** Milliseconds around a snapshot's reading within which a lease's own events are trusted more. */
const SNAPSHOT_MARGIN_MS = 5_000

/** Refused leases looked at in one transaction at most: during each an orchestrator on SQLite does nothing else. */
const RETRY_BATCH = 32

export function createIntake(options: IntakeOptions): Intake {
  const { store, clock, wake } = options
  const retryRefused = oneAtATime(() => retryAll(options))
  return {
    retryRefused,

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
      // What a crash kept from being tried again is tried now.
      await retryRefused()
    },

    async expire(id) {
      const expired = await store.transaction(async (tx) => {
        const instance = await tx.instance(id)
        const now = clock.now()
        if (instance?.wanted !== 'running' || instance.endsAt === null || instance.endsAt > now) return false
        const message = `instance ${instance.name} ended: it may live no longer, although its lease goes on`
        await tx.appendEvent({ level: 'info', kind: 'instance.expired', message, ...about(instance) }, now)
        await wantGone(tx, instance, now, now)
        return true
      })
      if (expired) wake()
    },

    async dismiss(id) {
      const dismissed = await store.transaction(async (tx) => {
        const instance = await tx.instance(id)
        if (instance === null || instance.state === 'gone') return null
        const now = clock.now()
        // It may have had some grace left after its lease: an operator does not wait for that.
        if (instance.wanted === 'gone') return await hasten(tx, instance, now)
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
    if (instance !== null && instance.wanted === 'running') await wantGone(tx, instance, now + instance.graceMs, now)
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

/** Looks at all refused leases once, some in each transaction. */
async function retryAll(options: IntakeOptions): Promise<void> {
  const { store, clock, wake } = options
  let last: Lease | undefined
  for (;;) {
    const some = await store.transaction((tx) => tx.refusedLeases(RETRY_BATCH, last))
    last = some.at(-1)
    if (last === undefined) return
    const made = await store.transaction(async (tx) => {
      let count = 0
      for (const { owner } of some) if (await retry(tx, options, owner, clock.now())) count++
      return count
    })
    if (made > 0) wake()
  }
}

/** @returns whether the lease was refused and has an instance now */
async function retry(tx: Transaction, options: IntakeOptions, owner: Owner, now: number): Promise<boolean> {
  const lease = await tx.lease(owner)
  if (lease?.state !== 'active' || lease.refusal === null) return false
  if ((await tx.liveInstance(owner)) !== null) return false
  const next = await instantiate(tx, options, lease, now, now)
  if (next.refusal !== lease.refusal) await tx.putLease(next)
  return next.refusal === null
}

/** The same work never twice at once: calls while it is under way are one more run after it. */
function oneAtATime(work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | null = null
  let next: Promise<void> | null = null
  const begin = (): Promise<void> => {
    running = work().finally(() => {
      running = null
    })
    return running
  }
  return () => {
    if (running === null && next === null) return begin()
    next ??= (running ?? Promise.resolve())
      .catch(() => {})
      .then(() => {
        next = null
        return begin()
      })
    return next
  }
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
  if (begun && instance.endsAt !== null && instance.endsAt <= now) {
    // Its time is over: the new lease is to have a new one.
    return makeRoom(tx, instance, lease, `its former instance ${instance.name} must be gone first`, now)
  }
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
  await makeRoom(tx, instance, lease, `its instance ${instance.name} at ${instance.source} must be gone first`, now)
}

/** Lets the lease wait until this instance is gone. */
async function makeRoom(
  tx: Transaction,
  instance: Instance,
  lease: Lease,
  refusal: string,
  now: number,
): Promise<void> {
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

/** What is wanted gone later is wanted gone now. */
async function hasten(tx: Transaction, instance: Instance, now: number): Promise<Instance> {
  if (instance.dueAt === null || instance.dueAt <= now) return instance
  const next: Instance = { ...instance, dueAt: now, updatedAt: Math.max(now, instance.updatedAt + 1) }
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
    if (known) continue
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

function refusedEvent(source: string, refused: { reason: string; original: string }) {
  const message = `a lease event was refused: ${refused.reason}; it read ${JSON.stringify(refused.original)}`
  return { level: 'warning', kind: 'lease.event-refused', message, host: source } as const
}

function about(instance: Instance): { instance: InstanceId; owner: Owner } {
  return { instance: instance.id, owner: instance.owner }
}
