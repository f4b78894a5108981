import { setTimeout as timer } from 'node:timers/promises'

/** Time as something handed in, so that a test can own it. Milliseconds since 1970 (UTC). */
export interface Clock {
  now(): number
  /** Resolves after `ms` milliseconds; rejects with the signal's reason when that is aborted first. */
  wait(ms: number, signal?: AbortSignal): Promise<void>
}

export const systemClock: Clock = {
  now: () => Date.now(),
  wait: async (ms, signal) => {
    await timer(ms, undefined, signal === undefined ? {} : { signal })
  },
}
