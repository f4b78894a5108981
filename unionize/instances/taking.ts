import { idsOf, type Sandboxes } from './homes.ts'
import type { Sandbox } from './sandbox.ts'

/** Sandboxes between the pool and the first container that refers to them. */
export interface Taking {
  /** Calls `work` with sandboxes of these names, which nobody else gets meanwhile though no container refers to them yet. */
  withFresh<T>(
    homes: readonly string[],
    take: (home: string) => Promise<Sandbox>,
    work: (fresh: Sandboxes) => Promise<T>,
  ): Promise<T>
  /** Whether somebody is at work with a sandbox. */
  holds(sandbox: string): boolean
}

export function createTaking(): Taking {
  const taken = new Set<string>()
  return {
    async withFresh(homes, take, work) {
      const fresh = new Map<string, Sandbox>()
      try {
        for (const home of homes) {
          const sandbox = await take(home)
          fresh.set(home, sandbox)
          taken.add(sandbox.id)
        }
        return await work(fresh)
      } finally {
        for (const id of idsOf(fresh)) taken.delete(id)
      }
    },
    holds: (sandbox) => taken.has(sandbox),
  }
}
