import type { Host } from './host.ts'
import type { Instance } from './instance.ts'

/** The next thing to do for one instance. `retire`: it never got anywhere, so it is gone by writing so. */
export type Action =
  | { readonly kind: 'none' }
  | { readonly kind: 'wait'; readonly why: string }
  | { readonly kind: 'place'; readonly host: Host['name'] }
  | { readonly kind: 'ensure' }
  | { readonly kind: 'remove' }
  | { readonly kind: 'retire' }

/**
 * Decides what comes next, from what is wanted, what was reached, and what time it is. Pure: the same question has the
 * same answer, and once the answer is carried out the next one is `none`.
 *
 * @param home the host whose lease server made the instance; null: it is not known here
 * @param now epoch ms
 */
export function plan(instance: Instance, home: Host | null, now: number): Action {
  if (instance.dueAt === null || instance.dueAt > now) return { kind: 'none' }
  if (instance.wanted === 'gone') {
    if (instance.state === 'gone') return { kind: 'none' }
    return instance.host === null ? { kind: 'retire' } : { kind: 'remove' }
  }
  if (instance.state === 'running' && instance.settled === instance.generation) return { kind: 'none' }
  if (instance.host !== null) return { kind: 'ensure' }
  if (home === null) return { kind: 'wait', why: `host ${instance.source} has not joined` }
  return { kind: 'place', host: home.name }
}

/** Milliseconds before the first retry, and at most. */
const BACKOFF = { first: 500, most: 60_000 } as const

/**
 * Milliseconds to wait after the `failures`-th failure in a row: doubling, with a fifth of jitter either way so that
 * what failed together is not tried together.
 * @param chance 0 to 1, from the caller's source of randomness
 */
export function backoff(failures: number, chance: number): number {
  const base = Math.min(BACKOFF.first * 2 ** Math.max(0, failures - 1), BACKOFF.most)
  return Math.round(base * (0.8 + 0.4 * chance))
}
