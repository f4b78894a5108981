/** How urgent work at the engine is; the first stands before the others in the queue. */
export type Urgency = 'ensure' | 'remove' | 'refill'

/**
 * Bounds what is done at the engine at once: beyond a handful of starts the engine gets no faster, only its tail longer.
 * `refill` makes stock that no one waits for, so it begins only while no `ensure` is under way or waiting.
 */
export interface Slots {
  /** Runs `work` when its turn has come. @throws the signal's reason when aborted while waiting */
  run<T>(urgency: Urgency, work: () => Promise<T>, signal?: AbortSignal): Promise<T>
}

/** @param parallel pieces of work at once, at least 1 */
export function createSlots(parallel: number): Slots {
  const waiting: Record<Urgency, (() => void)[]> = { ensure: [], remove: [], refill: [] }
  const active: Record<Urgency, number> = { ensure: 0, remove: 0, refill: 0 }

  const mayBegin = (urgency: Urgency): boolean => {
    if (active.ensure + active.remove + active.refill >= parallel) return false
    if (urgency === 'ensure') return true
    if (waiting.ensure.length > 0) return false
    return urgency === 'remove' || (active.ensure === 0 && active.refill === 0 && waiting.remove.length === 0)
  }
  const next = () => {
    for (const urgency of ['ensure', 'remove', 'refill'] as const) {
      while (waiting[urgency].length > 0 && mayBegin(urgency)) waiting[urgency].shift()?.()
    }
  }
  const turn = async (urgency: Urgency, signal: AbortSignal | undefined): Promise<void> => {
    signal?.throwIfAborted()
    if (waiting[urgency].length === 0 && mayBegin(urgency)) {
      active[urgency]++
      return
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const begin = () => {
      active[urgency]++
      resolve()
    }
    const leave = () => {
      const place = waiting[urgency].indexOf(begin)
      if (place < 0) return
      waiting[urgency].splice(place, 1)
      reject(signal?.reason)
      next()
    }
    waiting[urgency].push(begin)
    signal?.addEventListener('abort', leave, { once: true })
    try {
      await promise
    } finally {
      signal?.removeEventListener('abort', leave)
    }
  }

  return {
    async run(urgency, work, signal) {
      await turn(urgency, signal)
      try {
        return await work()
      } finally {
        active[urgency]--
        next()
      }
    },
  }
}
