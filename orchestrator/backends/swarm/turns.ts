/** Work on one instance comes one after the other, in the order in which it was asked for. */
export interface Turns {
  /** @throws the signal's reason when it is aborted before its turn */
  take<T>(instance: string, signal: AbortSignal, work: () => Promise<T>): Promise<T>
}

export function createTurns(): Turns {
  const last = new Map<string, Promise<unknown>>()
  return {
    async take(instance, signal, work) {
      signal.throwIfAborted()
      const before = last.get(instance)
      const turn = (async () => {
        await before
        signal.throwIfAborted()
        return await work()
      })()
      const settled = turn.catch(() => {})
      last.set(instance, settled)
      try {
        return await turn
      } finally {
        if (last.get(instance) === settled) last.delete(instance)
      }
    },
  }
}
