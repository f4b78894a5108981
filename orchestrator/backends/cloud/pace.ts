import type { Clock } from '../../../common/clock.ts'
import { OrchestratorError } from '../../../common/errors.ts'

/** How often one account of a provider is called: a bucket of calls that fills steadily, shared by all of its regions. */
export interface Pace {
  /**
   * Resolves when the next call may be made.
   * @throws OrchestratorError `rate-limited` while the provider's own limit is used up, with the time that is left
   */
  turn(signal: AbortSignal): Promise<void>
  /** The provider said to come back after so many milliseconds: nobody asks before. */
  hold(ms: number): void
}

/** @param perSecond calls a second in the long run; as many may come at once, at least one */
export function createPace(perSecond: number, clock: Clock): Pace {
  const most = Math.max(1, perSecond)
  let full = most
  let filledAt = clock.now()
  let heldUntil = 0
  return {
    async turn(signal) {
      signal.throwIfAborted()
      const now = clock.now()
      if (now < heldUntil) throw rateLimited(heldUntil - now)
      full = Math.min(most, full + (Math.max(0, now - filledAt) / 1000) * perSecond) - 1
      filledAt = now
      // Below zero: calls that wait already have taken what comes next.
      if (full < 0) await clock.wait(Math.ceil((-full / perSecond) * 1000), signal)
    },
    hold(ms) {
      heldUntil = Math.max(heldUntil, clock.now() + ms)
    },
  }
}

/** What is thrown when a provider has had enough of us. @param retryAfterMs from its own hint */
export function rateLimited(retryAfterMs: number, cause?: unknown): OrchestratorError {
  return new OrchestratorError(
    'rate-limited',
    `the provider takes no more calls of this account for ${Math.ceil(retryAfterMs / 1000)} s`,
    { retryable: true, retryAfterMs, cause },
  )
}
