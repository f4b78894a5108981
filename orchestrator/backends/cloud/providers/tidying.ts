import type { Clock } from '../../../../common/clock.ts'
import { wording } from '../../../../common/errors.ts'
import type { Log } from '../../../../common/log.ts'
import type { Sharing } from './sharing.ts'

/** Takes away what machines shared, and comes again to what was still held by one that was just deleted. */
export interface Tidying {
  tidy(signal: AbortSignal): Promise<void>
  /** Makes something; nothing is tidied away meanwhile. */
  making<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T>
  /** To be called with each list: tidies if something is left, and keeps nobody waiting who makes something. Only logs what fails. */
  again(signal: AbortSignal): Promise<void>
}

/** Milliseconds after which what was left is tried again, and after which a new process looks, for one before it may have left some. */
const AGAIN_MS = 10_000
const FIRST_MS = 60_000

/** @param work tidies, and tells whether something unused is left. It runs alone */
export function createTidying(
  work: (signal: AbortSignal) => Promise<boolean>,
  turns: Sharing,
  { clock, log, target }: { readonly clock: Clock; readonly log: Log; readonly target: string },
): Tidying {
  let makers = 0
  let dueAt = clock.now() + FIRST_MS
  const tidy = async (signal: AbortSignal): Promise<void> => {
    await turns.alone(async () => {
      dueAt = clock.now() + AGAIN_MS
      if (!(await work(signal))) dueAt = Number.POSITIVE_INFINITY
    }, signal)
  }
  return {
    tidy,
    async making(make, signal) {
      makers++
      try {
        return await turns.together(make, signal)
      } finally {
        makers--
      }
    },
    async again(signal) {
      if (makers > 0 || clock.now() < dueAt) return
      try {
        await tidy(signal)
      } catch (error) {
        signal.throwIfAborted()
        log.warn('cloud.untidied', wording(error), { host: target })
      }
    },
  }
}
