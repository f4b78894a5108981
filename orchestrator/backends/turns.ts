import { unlessAborted } from '../../common/unless-aborted.ts'

/** Work with the same key comes one after the other, in the order in which it was asked for: two at once would each make one. */
export interface Turns {
  /** Rejects with the signal's reason as soon as that is aborted; work that has begun goes on, and the next waits for its end. */
  take<T>(key: string, signal: AbortSignal, work: () => Promise<T>): Promise<T>
}

export function createTurns(): Turns {
  const last = new Map<string, Promise<unknown>>()
  return {
    async take(key, signal, work) {
      signal.throwIfAborted()
      const before = last.get(key)
      const turn = (async () => {
        await before
        signal.throwIfAborted()
        return await work()
      })()
      const settled = turn.catch(() => {})
      last.set(key, settled)
      void settled.then(() => {
        if (last.get(key) === settled) last.delete(key)
      })
      return await unlessAborted(turn, signal)
    },
  }
}
