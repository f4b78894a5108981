import { unlessAborted } from '../../../../common/unless-aborted.ts'
import { createTurns, type Turns } from '../../turns.ts'

/**
 * Who uses what machines share, and who takes it away: the two never at once, so that nothing is removed under a machine. Each
 * waits until its turn comes or its signal is aborted.
 */
export interface Sharing extends Turns {
  /** Beside others that work together, and not while one works alone. */
  together<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T>
  /** While nobody else works; whoever comes meanwhile waits. */
  alone<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T>
}

export function createSharing(): Sharing {
  /** What works together since the last that worked alone, and that one. Neither ever rejects. */
  let crowd: Promise<unknown> = Promise.resolve()
  let single: Promise<unknown> = Promise.resolve()
  return {
    ...createTurns(),
    together(work, signal) {
      const mine = after(single, work, signal)
      crowd = Promise.all([crowd, settled(mine)])
      return unlessAborted(mine, signal)
    },
    alone(work, signal) {
      const mine = after(Promise.all([single, crowd]), work, signal)
      single = settled(mine)
      crowd = single
      return unlessAborted(mine, signal)
    },
  }
}

async function after<T>(before: Promise<unknown>, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  await before
  signal.throwIfAborted()
  return work()
}

function settled(work: Promise<unknown>): Promise<unknown> {
  return work.catch(() => undefined)
}
