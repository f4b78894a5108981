import { wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import type { WireMarks, WireOrder } from '../contract.ts'
import type { Assembled } from './assembly.ts'
import { answers } from './probe.ts'

/** What we know of an instance beyond what the engine tells. */
export interface Known {
  /** The order that was last carried out. */
  readonly order: WireOrder
  /** Ids of its sandboxes: the first is that of the instance, others are those of single services. */
  readonly sandboxes: readonly string[]
  readonly marks: WireMarks
  /** Whether a service waits for another one. */
  readonly unfinished: boolean
  /** Ends the probing of its entry port. */
  readonly probing: AbortController
}

/** The instances that were put together here. */
export interface KnownInstances {
  get(instance: string): Known | undefined
  /** Keeps what came of an order and begins to probe what was started. */
  keep(order: WireOrder, assembled: Assembled, receivedAt: number): Known
  /** Notes what a former run of unionize had carried out. */
  remember(order: WireOrder, sandboxes: readonly string[]): void
  forget(instance: string): void
  /** The instance whose sandbox this is; undefined: none's. */
  instanceIn(sandbox: string): string | undefined
  stopProbing(): void
}

/** Milliseconds after which an entry port that does not answer is reported. */
const REACHABLE_LIMIT_MS = 30_000

export function createKnown(options: {
  readonly log: Log
  readonly now: () => number
  /** Told when the entry port has answered for the first time, or not in time (`silence`). */
  readonly probed: (known: Known, silence: string | null) => void
}): KnownInstances {
  const { log, now, probed } = options
  const known = new Map<string, Known>()

  const probe = async (order: WireOrder, entry: Known): Promise<void> => {
    if (order.entryPort === null) return
    const { signal } = entry.probing
    const answered = await answers(order.address, order.entryPort, REACHABLE_LIMIT_MS, signal)
    const latest = known.get(order.instance)
    if (latest?.probing !== entry.probing) return
    if (answered) {
      const reached: Known = { ...latest, marks: { ...latest.marks, reachableAt: now() } }
      known.set(order.instance, reached)
      probed(reached, null)
    } else {
      probed(latest, `port ${order.entryPort} has not answered within ${REACHABLE_LIMIT_MS / 1000} s`)
    }
  }

  return {
    get: (instance) => known.get(instance),
    keep(order, assembled, receivedAt) {
      const former = known.get(order.instance)
      const { sandboxAt, startedAt, waiting } = assembled
      const place = { order, sandboxes: assembled.sandboxes, unfinished: waiting.length > 0 }
      if (former && (place.unfinished || !(assembled.restarted || former.unfinished))) {
        const same = { ...former, ...place }
        known.set(order.instance, same)
        return same
      }
      former?.probing.abort()
      // One whose start had to wait began when its order came.
      const begun = former?.unfinished && former.marks.startedAt === undefined ? former.marks : {}
      const all = { receivedAt, sandboxAt, ...begun, startedAt }
      const { startedAt: _, ...some } = all
      const marks = place.unfinished ? some : assembled.restarted || former ? all : { receivedAt }
      const entry: Known = { ...place, marks, probing: new AbortController() }
      known.set(order.instance, entry)
      if (place.unfinished) return entry
      probe(order, entry).catch((error) => {
        if (entry.probing.signal.aborted) return
        const { instance } = order
        log.warn('instance.probe-failed', 'the entry port could not be probed', { instance, error: wording(error) })
      })
      return entry
    },
    remember(order, sandboxes) {
      if (known.has(order.instance)) return
      known.set(order.instance, {
        ...{ order, sandboxes, marks: {}, unfinished: false },
        probing: new AbortController(),
      })
    },
    forget(instance) {
      known.get(instance)?.probing.abort()
      known.delete(instance)
    },
    instanceIn: (sandbox) => [...known].find(([, entry]) => entry.sandboxes.includes(sandbox))?.[0],
    stopProbing() {
      for (const entry of known.values()) entry.probing.abort()
    },
  }
}
