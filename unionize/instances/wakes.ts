/** Lets those who wait for something to happen to an instance look again when it does. */
export interface Wakes {
  /** Begins to listen: what happens from now on ends the wait. */
  listen(instance: string): Listener
  /** Ends all waits of an instance. @returns whether anybody waited */
  wake(instance: string): boolean
}

/** One who waits. */
export interface Listener {
  /** Resolves when something happened since {@link Wakes.listen}, or after `ms`. @throws the signal's reason when aborted */
  wait(ms: number, signal: AbortSignal): Promise<void>
  /** Ends listening. */
  leave(): void
}

export function createWakes(): Wakes {
  const listeners = new Map<string, Set<() => void>>()
  return {
    listen(instance) {
      const { promise, resolve } = Promise.withResolvers<void>()
      const mine = listeners.get(instance) ?? new Set()
      listeners.set(instance, mine.add(resolve))
      return {
        async wait(ms, signal) {
          signal.throwIfAborted()
          const end = () => resolve()
          const timer = setTimeout(end, ms)
          signal.addEventListener('abort', end, { once: true })
          await promise
          clearTimeout(timer)
          signal.removeEventListener('abort', end)
          signal.throwIfAborted()
        },
        leave() {
          mine.delete(resolve)
          if (mine.size === 0 && listeners.get(instance) === mine) listeners.delete(instance)
        },
      }
    },
    wake(instance) {
      const waiting = [...(listeners.get(instance) ?? [])]
      for (const end of waiting) end()
      return waiting.length > 0
    },
  }
}
