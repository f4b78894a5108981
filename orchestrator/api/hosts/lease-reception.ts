import type { Clock } from '../../../common/clock.ts'
import { errorCode, wording } from '../../../common/errors.ts'
import type { Log } from '../../../common/log.ts'
import type { FromHost } from '../../../unionize/contract.ts'
import type { HostName } from '../../domain/host.ts'
import type { Intake, TableLease } from '../../intake.ts'
import { leaseItem, tableLease } from './from-wire.ts'

/** Milliseconds between attempts to store what a host sent while the store cannot be written. */
const RETRY = { first: 250, most: 10_000 } as const
/** Leases in one table at most, over all of its parts. */
const MOST_TABLE_LEASES = 1_000_000

type Leases = Extract<FromHost, { type: 'leases' }>
type Snapshot = Extract<FromHost, { type: 'snapshot' }>

/** What came of a message. `waiting`: more parts must come. `given-up`: the connection ended first. */
export type Reception = 'stored' | 'waiting' | 'given-up' | { readonly broken: string }

/** Hands one host's lease messages to the intake, in order. For one caller at a time. */
export class LeaseReception {
  readonly #host: HostName
  readonly #options: {
    readonly intake: Pick<Intake, 'applyLeases' | 'applySnapshot'>
    readonly clock: Clock
    readonly log: Log
  }
  #snapshot: { readonly id: string; parts: number; readonly table: TableLease[] } | null = null

  constructor(
    host: HostName,
    options: { intake: Pick<Intake, 'applyLeases' | 'applySnapshot'>; clock: Clock; log: Log },
  ) {
    this.#host = host
    this.#options = options
  }

  async leases(message: Leases, signal: AbortSignal): Promise<Reception> {
    const items = message.items.map((item) => leaseItem(this.#host, item))
    return await this.#untilStored(() => this.#options.intake.applyLeases(this.#host, items), signal)
  }

  /** Gathers the parts of a table, which come in turn; the last one makes the comparison. */
  async snapshot(message: Snapshot, signal: AbortSignal): Promise<Reception> {
    if (message.part === 0) this.#snapshot = { id: message.id, parts: 0, table: [] }
    const gathered = this.#snapshot
    if (gathered === null || gathered.id !== message.id || gathered.parts !== message.part) {
      return { broken: `part ${message.part} of snapshot ${message.id} came out of turn` }
    }
    gathered.parts++
    for (const lease of message.leases) {
      try {
        gathered.table.push(tableLease(lease))
      } catch (error) {
        this.#options.log.warn('lease.table-refused', wording(error), { host: this.#host })
      }
    }
    if (gathered.table.length > MOST_TABLE_LEASES) return { broken: `more than ${MOST_TABLE_LEASES} leases` }
    if (!message.last) return 'waiting'
    this.#snapshot = null
    const { intake } = this.#options
    return await this.#untilStored(() => intake.applySnapshot(this.#host, gathered.table, message.readAt), signal)
  }

  /** Tries until it succeeds or the connection ends: what a host sent is held, in order, never dropped. */
  async #untilStored(work: () => Promise<void>, signal: AbortSignal): Promise<Reception> {
    const { clock, log } = this.#options
    for (let pause: number = RETRY.first; ; pause = Math.min(pause * 2, RETRY.most)) {
      try {
        await work()
        return 'stored'
      } catch (error) {
        const fields = { host: this.#host, code: errorCode(error), retryInMs: pause }
        log.error('lease.not-stored', `lease events of host ${this.#host} cannot be stored: ${wording(error)}`, fields)
      }
      await clock.wait(pause, signal).catch((error: unknown) => {
        if (!signal.aborted) throw error
      })
      if (signal.aborted) return 'given-up'
    }
  }
}
