/** Lets calls about one instance come one after the other: two at once would each find nothing and make one. */
export interface Turns {
  /** @throws the signal's reason when that is aborted before its turn has come */
  take<T>(key: string, signal: AbortSignal, work: () => Promise<T>): Promise<T>
}

export function createTurns(): Turns {
  const last = new Map<string, Promise<unknown>>()
  return {
    take(key, signal, work) {
      const former = last.get(key) ?? Promise.resolve()
      const mine = turnOf(former, signal).then(work)
      // Who leaves the queue before its turn does not let the next one overtake.
      const both = Promise.allSettled([former, mine])
      last.set(key, both)
      void both.then(() => last.get(key) === both && last.delete(key))
      return mine
    },
  }
}

async function turnOf(former: Promise<unknown>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  const aborted = Promise.withResolvers<never>()
  const abort = () => aborted.reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  await Promise.race([former, aborted.promise]).finally(() => signal.removeEventListener('abort', abort))
}
