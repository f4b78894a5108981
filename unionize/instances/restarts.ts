/** Milliseconds before a part that died is started again: doubled each time, forgotten after it lived `forget` long. */
const RESTART = { first: 200, most: 60_000, forget: 120_000 }

/** Milliseconds to wait before the next restart of something that dies again and again. */
export function createRestartDelay(now: () => number): (key: string) => number {
  const deaths = new Map<string, { at: number; delay: number }>()
  return (key) => {
    const last = deaths.get(key)
    const recent = last !== undefined && now() - last.at < RESTART.forget
    const delay = recent ? Math.min(last.delay * 2, RESTART.most) : RESTART.first
    for (const [k, death] of deaths) if (now() - death.at >= RESTART.forget) deaths.delete(k)
    deaths.set(key, { at: now(), delay })
    return delay
  }
}

/** The parts of instances that died, and when they are started again: a part that dies again and again holds up no other. */
export interface Restarts {
  /** Notes a death. The part is held for `delayMs`, until `release` is called. */
  died(instance: string, part: string): { readonly delayMs: number; release(): void }
  /** Whether a part is not to be started yet. */
  held(instance: string, part: string): boolean
}

export function createRestarts(now: () => number): Restarts {
  const delayOf = createRestartDelay(now)
  /** The last death of each part that is held. */
  const held = new Map<string, symbol>()
  const keyOf = (instance: string, part: string) => `${instance}/${part}`
  return {
    died(instance, part) {
      const key = keyOf(instance, part)
      const death = Symbol(key)
      held.set(key, death)
      const release = () => {
        if (held.get(key) === death) held.delete(key)
      }
      return { delayMs: delayOf(key), release }
    },
    held: (instance, part) => held.has(keyOf(instance, part)),
  }
}
