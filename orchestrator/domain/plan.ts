import type { Host } from './host.ts'
import type { Instance } from './instance.ts'

/**
 * The next thing to do for one instance. `place`: its backend says where, or it goes to the host of its lease. `retire`: it never got anywhere, so it is gone by writing so. `expire`: its own
 * time is over; what is wanted is not the reconciler's to change, so intake is asked to.
 */
export type Action =
  | { readonly kind: 'none' }
  | { readonly kind: 'wait'; readonly why: string }
  | { readonly kind: 'place'; readonly home: Host }
  | { readonly kind: 'expire' }
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
  if (instance.endsAt !== null && instance.endsAt <= now) return { kind: 'expire' }
  if (instance.state === 'running' && instance.settled === instance.generation) return { kind: 'none' }
  if (instance.host !== null) return { kind: 'ensure' }
  if (home === null) return { kind: 'wait', why: `host ${instance.source} has not joined` }
  return { kind: 'place', home }
}

/** When an instance for which nothing is to be done is looked at again: at its end. null: only when something changes. */
export function nextLook(instance: Instance): number | null {
  return instance.wanted === 'running' ? instance.endsAt : null
}

/** When an instance that is to be tried again at `at` is looked at: at its end, if that comes before. Epoch ms. */
export function nextTry(instance: Instance, at: number, now: number): number {
  const end = nextLook(instance)
  return end !== null && end > now ? Math.min(at, end) : at
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
