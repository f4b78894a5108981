import type { Clock } from '../common/clock.ts'
import { wording } from '../common/errors.ts'
import type { Log } from '../common/log.ts'

const PRUNE_MS = 3_600_000

/** Forgets what is over, now and then every hour. @returns how to end it */
export function pruneRegularly(prune: () => Promise<void>, clock: Clock, log: Log): () => Promise<void> {
  const stopped = new AbortController()
  const done = (async () => {
    while (!stopped.signal.aborted) {
      await prune().catch((error) => log.error('store.prune', wording(error)))
      await clock.wait(PRUNE_MS, stopped.signal).catch(() => {})
    }
  })()
  return async () => {
    stopped.abort()
    await done
  }
}
