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
      void settled.then(() => {
        if (last.get(instance) === settled) last.delete(instance)
      })
      return await givenUp(turn, signal)
    },
  }
}

/** Resolves with the work, or rejects when the signal is aborted; the work goes on. */
export async function givenUp<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await work
  const { promise: ended, reject } = Promise.withResolvers<never>()
  const onAbort = () => reject(signal.reason)
  if (signal.aborted) throw signal.reason
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([work, ended])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
