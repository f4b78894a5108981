import { unlessAborted } from '../../common/unless-aborted.ts'

/** Work with the same key comes one after the other, in the order in which it was asked for: two at once would each make one. */
export interface Turns {
  /**
   * Work that has begun heeds the signal itself, and says why it ended; the next waits for its end.
   * @throws the signal's reason as soon as that is aborted before its turn
   */
  take<T>(key: string, signal: AbortSignal, work: () => Promise<T>): Promise<T>
}

export function createTurns(): Turns {
  const last = new Map<string, Promise<unknown>>()
  return {
    async take(key, signal, work) {
      signal.throwIfAborted()
      const before = last.get(key) ?? Promise.resolve()
      const turn = before.then(() => {
        signal.throwIfAborted()
        return work()
      })
      const settled = turn.catch(() => {})
      last.set(key, settled)
      void settled.then(() => {
        if (last.get(key) === settled) last.delete(key)
      })
      await unlessAborted(before, signal)
      return await turn
    },
  }
}
