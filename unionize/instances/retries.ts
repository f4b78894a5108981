/** Milliseconds before work that failed is tried again: doubled each time. */
const RETRY = { first: 500, most: 60_000 }

/** Work that failed while nobody waited for it, and when it is tried again: for each key once, and later each time. */
export interface Retries {
  /** Tries again later, unless that is to come anyway. */
  later(key: string): void
  /** It succeeded, or nobody wants it any more: the next failure is the first one. */
  done(key: string): void
  /** From now on nothing is tried again. */
  stop(): void
}

/** @param attempt tries again; it calls `later` itself where it fails, and tells of it */
export function createRetries(attempt: (key: string) => void): Retries {
  const pending = new Map<string, { readonly delay: number; timer: NodeJS.Timeout | null }>()
  let stopped = false
  return {
    later(key) {
      const last = pending.get(key)
      if (stopped || (last !== undefined && last.timer !== null)) return
      const delay = last === undefined ? RETRY.first : Math.min(last.delay * 2, RETRY.most)
      const timer = setTimeout(() => {
        pending.set(key, { delay, timer: null })
        attempt(key)
      }, delay)
      pending.set(key, { delay, timer })
    },
    done(key) {
      const last = pending.get(key)
      if (last !== undefined && last.timer !== null) clearTimeout(last.timer)
      pending.delete(key)
    },
    stop() {
      stopped = true
      for (const { timer } of pending.values()) if (timer !== null) clearTimeout(timer)
      pending.clear()
    },
  }
}
