/** Who uses what machines share, and who takes it away: the two never at once, so that nothing is removed under a machine. */
export interface Turns {
  /** Beside others that work together, and not while one works alone. */
  together<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T>
  /** While nobody else works; whoever comes meanwhile waits. */
  alone<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T>
  /** One at a time of those with the same key. */
  oneByOne<T>(key: string, work: () => Promise<T>, signal: AbortSignal): Promise<T>
}

/** Each waits until its turn comes or its signal is aborted. */
export function createTurns(): Turns {
  /** What works together since the last that worked alone, and that one. Neither ever rejects. */
  let crowd: Promise<unknown> = Promise.resolve()
  let single: Promise<unknown> = Promise.resolve()
  const queues = new Map<string, Promise<unknown>>()
  return {
    together(work, signal) {
      const mine = after(single, work, signal)
      crowd = Promise.all([crowd, settled(mine)])
      return orAborted(mine, signal)
    },
    alone(work, signal) {
      const mine = after(Promise.all([single, crowd]), work, signal)
      single = settled(mine)
      crowd = single
      return orAborted(mine, signal)
    },
    oneByOne(key, work, signal) {
      const mine = after(queues.get(key) ?? Promise.resolve(), work, signal)
      const rest = settled(mine).then(() => {
        if (queues.get(key) === rest) queues.delete(key)
      })
      queues.set(key, rest)
      return orAborted(mine, signal)
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

/** Rejects at once with the signal's reason, also while others have their turn. */
function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason)
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}
