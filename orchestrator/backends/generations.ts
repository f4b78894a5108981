import type { Clock } from '../../common/clock.ts'
import { OrchestratorError } from '../../common/errors.ts'
import type { Records } from './backend.ts'

/** The newest generation of each instance that a backend was told: for targets that cannot refuse an older one themselves. */
export interface Generations {
  /**
   * Resolves when it is remembered, also beyond a restart.
   * @throws OrchestratorError `stale-generation` when a newer one was accepted before
   */
  accept(instance: string, generation: number): Promise<void>
}

/** Milliseconds that a generation is remembered after it was last accepted: no call of ours is under way for so long. */
const KEPT_MS = 7 * 86_400_000
const PREFIX = 'generation/'

export function createGenerations(records: Records, clock: Clock): Generations {
  let loading: Promise<Map<string, number>> | null = null
  const load = async (): Promise<Map<string, number>> => {
    const newest = new Map<string, number>()
    for (const [key, text] of await records.all()) {
      if (!key.startsWith(PREFIX)) continue
      const [generation = 0, at = 0] = text.split(' ').map(Number)
      if (clock.now() - at > KEPT_MS) await records.put(key, null)
      else newest.set(key.slice(PREFIX.length), generation)
    }
    return newest
  }
  return {
    async accept(instance, generation) {
      loading ??= load().catch((error) => {
        loading = null
        throw error
      })
      const newest = await loading
      const seen = newest.get(instance) ?? 0
      if (generation < seen) {
        throw new OrchestratorError(
          'stale-generation',
          `${instance}: generation ${generation} is older than ${seen}, which was asked for already`,
        )
      }
      if (generation === seen) return
      newest.set(instance, generation)
      try {
        await records.put(PREFIX + instance, `${generation} ${clock.now()}`)
      } catch (error) {
        if (newest.get(instance) === generation) newest.set(instance, seen)
        throw error
      }
    },
  }
}
