/** Milliseconds before something that was just mended is mended again: doubled each time, up to the most. */
const DELAY = { first: 1_000, most: 300_000 }
/** Forgotten after it held so many times its last delay, and at least so many milliseconds. */
const HELD = { times: 4, least: 10_000 }

/** Delays between attempts, by what is attempted. */
export interface RepairDelay {
  /** Tells, each time, how long in milliseconds to wait before the next time. */
  next(key: string): number
  forget(key: string): void
}

export function createRepairDelay(now: () => number): RepairDelay {
  const last = new Map<string, { readonly at: number; readonly delay: number }>()
  const isRecent = (one: { readonly at: number; readonly delay: number }): boolean =>
    now() - one.at < Math.max(one.delay * HELD.times, HELD.least)
  const next = (key: string): number => {
    const before = last.get(key)
    const delay = before !== undefined && isRecent(before) ? Math.min(before.delay * 2, DELAY.most) : DELAY.first
    for (const [other, one] of last) if (!isRecent(one)) last.delete(other)
    last.set(key, { at: now(), delay })
    return delay
  }
  return { next, forget: (key) => void last.delete(key) }
}
