import type { NextFunction, Request, Response } from 'express'
import type { Clock } from '../../common/clock.ts'
import { sameHash, tokenHash } from '../pki/tokens.ts'
import type { Store } from '../store/store.ts'
import type { ApiMetrics } from './metrics.ts'
import { Problem } from './problem.ts'

/** Failures that one address may make in a window before it has to wait. */
const FAILURES = { most: 20, windowMs: 60_000 } as const
/** Addresses, and accepted tokens, that are remembered; the oldest go first. */
const MEMORY = 10_000

/** Who failed how often: slows down guessing without shutting out those whose token is good. */
export class FailureLimit {
  readonly #clock: Clock
  readonly #failures = new Map<string, { count: number; until: number }>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Milliseconds that this address has to wait; 0: none. */
  wait(address: string): number {
    const entry = this.#failures.get(address)
    return entry !== undefined && entry.count >= FAILURES.most ? Math.max(0, entry.until - this.#clock.now()) : 0
  }

  failed(address: string): void {
    const now = this.#clock.now()
    const entry = this.#failures.get(address)
    const fresh = entry === undefined || entry.until <= now
    this.#failures.delete(address)
    this.#failures.set(
      address,
      fresh ? { count: 1, until: now + FAILURES.windowMs } : { ...entry, count: entry.count + 1 },
    )
    for (const oldest of this.#failures.keys()) {
      if (this.#failures.size <= MEMORY) break
      this.#failures.delete(oldest)
    }
  }

  /** @throws Problem 429 while the address has to wait */
  check(address: string): void {
    const wait = this.wait(address)
    if (wait === 0) return
    const seconds = Math.ceil(wait / 1000)
    throw new Problem(429, 'too-many-failures', `too many failures from ${address}; try again in ${seconds} s`, {
      headers: { 'Retry-After': String(seconds) },
    })
  }
}

/** Lets requests pass that bear an API token of ours (`Authorization: Bearer orc_…`). */
export function requireToken(options: { store: Store; clock: Clock; limit: FailureLimit; metrics: ApiMetrics }) {
  const { store, clock, limit, metrics } = options
  /** Hashes of tokens that were good: a neighbour who guesses does not shut them out. */
  const known = new Set<string>()
  return async (request: Request, _response: Response, next: NextFunction): Promise<void> => {
    const address = addressOf(request)
    const [, token] = /^Bearer +(\S{1,256})$/i.exec(request.get('authorization') ?? '') ?? []
    const hash = token === undefined ? null : tokenHash(token)
    if (hash === null || !known.has(hash)) limit.check(address)
    const stored = hash === null ? null : await store.token(hash)
    const good =
      hash !== null &&
      stored?.kind === 'api' &&
      sameHash(stored.hash, hash) &&
      (stored.expiresAt === null || stored.expiresAt > clock.now())
    if (good) {
      if (known.size >= MEMORY) known.clear()
      known.add(hash)
      return next()
    }
    if (hash !== null) known.delete(hash)
    metrics.authFailures.inc()
    limit.failed(address)
    const message =
      token === undefined
        ? 'a token is needed: send "Authorization: Bearer <token>" (the first one is in the file api-token of the state directory)'
        : 'the token is not valid here'
    throw new Problem(401, 'unauthorized', message, { headers: { 'WWW-Authenticate': 'Bearer' } })
  }
}

/** The address that a request came from; the one that failures are counted for. */
export function addressOf(request: Request): string {
  return request.socket.remoteAddress ?? 'unknown'
}
