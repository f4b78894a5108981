/** Lets so many work at once; the others wait in the order in which they came. */
export interface Permits {
  /** @throws the signal's reason when it is aborted before its turn */
  hold<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T>
}

export function createPermits(most: number): Permits {
  const waiting: (() => void)[] = []
  let held = 0
  const take = async (signal: AbortSignal): Promise<void> => {
    if (held < most) {
      held++
      return
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const stop = (): void => {
      const at = waiting.indexOf(resolve)
      if (at < 0) return // its turn has come
      waiting.splice(at, 1)
      reject(signal.reason)
    }
    signal.addEventListener('abort', stop, { once: true })
    waiting.push(resolve)
    await promise.finally(() => signal.removeEventListener('abort', stop))
  }
  const release = (): void => {
    const next = waiting.shift()
    if (next === undefined) held--
    else next()
  }
  return {
    async hold(signal, work) {
      await take(signal)
      try {
        return await work()
      } finally {
        release()
      }
    },
  }
}
