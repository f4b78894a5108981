import { randomUUID } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'
import { InvalidInput, wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import { MAX_BATCH, type WireLease, type WireLeaseEvent, type WireRefusedLine } from '../contract.ts'
import { type LeaseLimits, readLeaseLimits } from './dnsmasq/config.ts'
import { parseJournalLine } from './dnsmasq/event.ts'
import { type LeaseTable, readLeaseFile } from './dnsmasq/leasefile.ts'
import { eventsFirst, type Patience } from './events-first.ts'
import type { Journal, JournalLine } from './journal.ts'

export type LeaseItem = WireLeaseEvent | WireRefusedLine

/** Where leases go: the connection to the orchestrator. */
export interface LeaseSink {
  /** Resolves when they are stored, however often the connection breaks in between; in the order of the calls. */
  deliver(id: string, items: readonly LeaseItem[]): Promise<void>
  /** Resolves when the whole table is stored. Rejects when the connection ends first: a newer table is better then. */
  compare(id: string, readAt: number, leases: readonly WireLease[]): Promise<void>
  /** Resolves when connected; at once if it is. */
  connected(signal: AbortSignal): Promise<void>
}

type Notice = (level: 'info' | 'warning' | 'error', code: string, message: string) => void

export interface SourceOptions {
  readonly journal: Journal
  readonly sink: LeaseSink
  /** dnsmasq's configuration; null: no lease file is compared. */
  readonly configPath: string | null
  readonly compareMs: number
  readonly log: Log
  readonly now: () => number
  readonly notice: Notice
  /** How long a comparison waits for events. */
  readonly patience?: Patience
}

/** Batches that may be under way at once; beyond that the journal itself is the queue. */
const WINDOW = 4
/** Bytes of a batch at most: far below a message's limit, whatever the lines hold. */
const BATCH_BYTES = 1024 * 1024
/** Milliseconds before the journal is tried again after it could not be read. */
const RETRY_MS = 2_000
/** Part of the lease table in use at which operators are told. */
const NEARLY_FULL = 0.9

/** Follows journal and lease file until aborted. Resolves when nothing is under way any more. */
export async function followLeases(options: SourceOptions, signal: AbortSignal): Promise<void> {
  const progress = { storedAt: 0 }
  await Promise.all([sendEvents(options, progress, signal), compareTables(options, progress, signal)])
}

/** When events were last stored, on the clock of performance.now(). */
interface Progress {
  storedAt: number
}

async function sendEvents(options: SourceOptions, progress: Progress, signal: AbortSignal): Promise<void> {
  const { journal, sink, log, notice } = options
  const underWay = new Set<Promise<void>>()
  let fault = ''
  while (!signal.aborted) {
    try {
      const lines = await journal.next(MAX_BATCH, signal)
      fault = ''
      for (const batch of batches(lines.map((line) => leaseItem(line, log)))) {
        while (underWay.size >= WINDOW) await firstOf(underWay, signal)
        signal.throwIfAborted()
        const sent = sink.deliver(randomUUID(), batch).then(() => {
          progress.storedAt = performance.now()
          return acknowledge(journal, batch)
        })
        const settled = sent.catch((error) => {
          if (!signal.aborted)
            log.error('journal.not-saved', 'the journal offset was not saved', { error: wording(error) })
        })
        underWay.add(settled)
        void settled.finally(() => underWay.delete(settled))
      }
    } catch (error) {
      if (signal.aborted) break
      if (fault !== wording(error))
        notice('error', 'journal-unreadable', `the lease journal cannot be read: ${wording(error)}`)
      fault = wording(error)
      await wait(RETRY_MS, undefined, { signal }).catch(() => {})
    }
  }
  await Promise.race([Promise.all(underWay), wait(1_000)])
}

/** What the orchestrator is told of a line. */
export function leaseItem(line: JournalLine, log: Log): LeaseItem {
  const { position, writtenAt: hookAt } = line
  try {
    if (line.text === null) throw new InvalidInput('journal', line.reason)
    return { type: 'event', ...parseJournalLine(line.text), position, hookAt }
  } catch (error) {
    if (!(error instanceof InvalidInput)) throw error
    const reason = line.text === null ? line.reason : wording(error)
    log.warn('lease.refused', 'a line of the journal was refused', { reason, position })
    return { type: 'refused', reason, original: line.beginning.slice(0, 4096).toWellFormed(), position, hookAt }
  }
}

function batches(items: readonly LeaseItem[]): LeaseItem[][] {
  const all: LeaseItem[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const item of items) {
    const size = Buffer.byteLength(JSON.stringify(item))
    if (bytes + size > BATCH_BYTES) {
      all.push([])
      bytes = 0
    }
    all.at(-1)?.push(item)
    bytes += size
  }
  return all
}

/** The last place in each file of the batch. */
async function acknowledge(journal: Journal, batch: readonly LeaseItem[]): Promise<void> {
  const last = new Map(batch.map(({ position }) => [position.journal, position]))
  for (const position of last.values()) await journal.acknowledge(position)
}

/**
 * Sends the lease table at every start and every now and then: an event is a hint, the table is the truth. But an event
 * tells more of a lease than the table, and what a lease becomes is decided when it is first heard of: events go first.
 */
async function compareTables(options: SourceOptions, progress: Progress, signal: AbortSignal): Promise<void> {
  const { configPath, journal, sink, compareMs, log, now, notice, patience } = options
  if (configPath === null) return
  const watermark = createWatermark(notice)
  let fault = ''
  let inTime = true
  while (!signal.aborted) {
    try {
      await sink.connected(signal)
      const limits = await readLeaseLimits(configPath)
      const table = await readLeaseFile(limits.leaseFile, now, signal)
      for (const line of table.faults)
        log.warn('lease.table-fault', 'a line of the lease file was passed over', { line })
      watermark(table, limits)
      const before = inTime
      inTime = await eventsFirst(journal, () => progress.storedAt, signal, patience)
      if (before && !inTime) {
        log.warn('lease.compared-early', 'the lease file is compared although events of the journal are not stored')
      }
      await sink.compare(randomUUID(), table.readAt, table.leases)
      fault = ''
    } catch (error) {
      if (signal.aborted) return
      const wrong = wording(error)
      if (fault !== wrong) log.warn('lease.not-compared', 'the lease file was not compared', { error: wrong })
      fault = wrong
    }
    await wait(fault === '' ? compareMs : Math.min(compareMs, RETRY_MS), undefined, { signal }).catch(() => {})
  }
}

/**
 * Tells once when the table is nearly full, once when it is full, and once when there is room again. Full is serious:
 * dnsmasq then answers clients as if they had a lease, but stores nothing and runs no hook.
 */
export function createWatermark(notice: Notice): (table: LeaseTable, limits: LeaseLimits) => void {
  let told: 'room' | 'nearly' | 'full' = 'room'
  return (table, limits) => {
    const used = Math.max(
      table.entries / limits.most,
      limits.addresses === null ? 0 : table.leases.length / limits.addresses,
    )
    const state = used >= 1 ? 'full' : used >= NEARLY_FULL ? 'nearly' : 'room'
    if (state === told) return
    told = state
    const words = `${table.entries} of at most ${limits.most} leases, ${table.leases.length} of ${limits.addresses ?? 0} DHCPv6 addresses in use`
    const remedy = 'raise dhcp-lease-max or widen dhcp-range'
    if (state === 'room') notice('info', 'lease-table-has-room', `the lease table has room again: ${words}`)
    else if (state === 'nearly') notice('warning', 'lease-table-nearly-full', `${words}; ${remedy}`)
    else notice('error', 'lease-table-full', `${words}: new devices get no instance; ${remedy}`)
  }
}

/** Waits until one of these has settled, or the signal is aborted; leaves no listener behind. */
async function firstOf(some: Iterable<Promise<void>>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  const { promise, resolve } = Promise.withResolvers<void>()
  const leave = () => resolve()
  signal.addEventListener('abort', leave, { once: true })
  try {
    await Promise.race([...some, promise])
  } finally {
    signal.removeEventListener('abort', leave)
  }
}
