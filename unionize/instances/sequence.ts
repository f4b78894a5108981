/** Lets only one piece of work at a time happen for one key; other keys go on beside it. */
export interface Sequence {
  /** @throws the signal's reason when it is aborted before the work's turn has come */
  run<T>(key: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T>
  /** Resolves when what is under way, or waits for its turn, has ended; what comes later is not waited for. */
  settled(): Promise<void>
}

export function createSequence(): Sequence {
  const last = new Map<string, Promise<unknown>>()
  return {
    async run(key, signal, work) {
      const before = last.get(key)
      const turn = (async () => {
        await before?.catch(() => {}) // its caller has the error
        signal?.throwIfAborted()
        return work()
      })()
      last.set(key, turn)
      try {
        return await turn
      } finally {
        if (last.get(key) === turn) last.delete(key)
      }
    },
    async settled() {
      await Promise.allSettled([...last.values()])
    },
  }
}
