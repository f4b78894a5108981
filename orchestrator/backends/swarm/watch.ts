import type { Clock } from '../../../common/clock.ts'
import { wording } from '../../../common/errors.ts'
import type { Log } from '../../../common/log.ts'
import type { Observed } from '../../domain/instance.ts'
import type { SwarmEngine } from './engine.ts'

/** Milliseconds between attempts to hear a manager that is away. */
const RECONNECT = { first: 500, most: 30_000 }
/** Milliseconds for which what happens at once is gathered. */
const GATHER_MS = 100

/**
 * Tells which of our services are not what they were when it last looked. It looks regularly, since a swarm tells nothing of
 * tasks, and whenever any manager tells of a service or a node. What it saw last it remembers from one call to the next, so
 * that nothing is missed in between.
 */
export interface Follower {
  /** Until aborted. @throws HostUnreachable when it cannot look */
  follow(tell: (observed: Observed) => void, signal: AbortSignal): Promise<void>
}

export function createFollower(parts: {
  readonly engine: SwarmEngine
  readonly list: (signal: AbortSignal) => Promise<readonly Observed[]>
  readonly pollMs: number
  readonly clock: Clock
  readonly log: Log
}): Follower {
  const { engine, list, pollMs, clock, log } = parts
  /** By instance, as JSON; null: never looked. */
  let seen: ReadonlyMap<string, Observed> | null = null

  const compare = (found: readonly Observed[], tell: (observed: Observed) => void): void => {
    const now = new Map(found.map((observed) => [observed.instance as string, observed]))
    for (const [instance, observed] of now) {
      const before = seen?.get(instance)
      const changed = before === undefined ? seen !== null || observed.state !== 'running' : differs(before, observed)
      if (changed) tell(observed)
    }
    for (const [instance, observed] of seen ?? []) {
      if (!now.has(instance)) tell({ ...observed, state: 'stopped', detail: 'the swarm has no service of it any more' })
    }
    seen = now
  }

  /** Wakes at each event of one manager, until aborted; its absence is no fault of the swarm's. */
  const hear = async (manager: string, wake: () => void, signal: AbortSignal): Promise<void> => {
    let since = clock.now()
    let backoff = RECONNECT.first
    while (!signal.aborted) {
      try {
        for await (const { timeNano } of engine.events(manager, since, signal)) {
          since = Math.max(since, Math.floor(timeNano / 1e6))
          backoff = RECONNECT.first
          wake()
        }
      } catch (error) {
        if (signal.aborted) return
        log.debug('swarm.manager-silent', 'a manager tells no events', { manager, error: wording(error, 300) })
        await clock.wait(backoff, signal).catch(() => {})
        backoff = Math.min(backoff * 2, RECONNECT.most)
        wake()
      }
    }
  }

  return {
    async follow(tell, signal) {
      signal.throwIfAborted()
      const ending = new AbortController()
      const both = AbortSignal.any([signal, ending.signal])
      let wake = () => {}
      let woken = false
      const hearing = engine.managers.map((manager) =>
        hear(
          manager,
          () => {
            woken = true
            wake()
          },
          both,
        ),
      )
      try {
        for (;;) {
          woken = false
          compare(await list(both), tell)
          const { promise, resolve } = Promise.withResolvers<void>()
          wake = resolve
          const rest = new AbortController()
          const timer = clock.wait(pollMs, AbortSignal.any([both, rest.signal]))
          await Promise.race([woken ? undefined : promise, timer])
          rest.abort()
          await timer.catch(() => {})
          signal.throwIfAborted()
          if (woken) await clock.wait(GATHER_MS, both)
        }
      } catch (error) {
        if (!signal.aborted) throw error
      } finally {
        ending.abort()
        await Promise.all(hearing)
      }
    },
  }
}

function differs(a: Observed, b: Observed): boolean {
  const facts = ({ state, generation, reach }: Observed) => JSON.stringify([state, generation, reach])
  return facts(a) !== facts(b)
}
