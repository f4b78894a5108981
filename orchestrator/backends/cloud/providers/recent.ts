import type { Clock } from '../../../../common/clock.ts'
import type { CloudMachine } from '../provider.ts'

/**
 * Machines that a provider has just acknowledged, for providers whose lists are eventually consistent: a machine that was
 * made may be missing there for a while, and one that was deleted may still be there.
 */
export interface Recent {
  made(machine: CloudMachine): void
  deleted(id: string): void
  /** The list as it will be: what was made lately is added, and what was deleted lately counts as `ending`. */
  completed(listed: readonly CloudMachine[]): readonly CloudMachine[]
  /** Made lately, and not deleted since. */
  has(id: string): boolean
}

/** Milliseconds for which we know better than the list; AWS names no bound, and advises to retry for some minutes. */
export const KNOWN_BETTER_MS = 120_000

export function createRecent(clock: Clock): Recent {
  const made = new Map<string, { machine: CloudMachine; at: number }>()
  const deleted = new Map<string, number>()
  const forget = () => {
    const old = clock.now() - KNOWN_BETTER_MS
    for (const [id, { at }] of made) if (at < old) made.delete(id)
    for (const [id, at] of deleted) if (at < old) deleted.delete(id)
  }
  return {
    made(machine) {
      made.set(machine.id, { machine, at: clock.now() })
    },
    deleted(id) {
      made.delete(id)
      deleted.set(id, clock.now())
    },
    completed(listed) {
      forget()
      const ids = new Set(listed.map((machine) => machine.id))
      // A list knows a machine from now on: if it ends, the list tells so by leaving it out.
      for (const id of ids) made.delete(id)
      const missing = [...made.values()].map(({ machine }) => machine)
      return [...listed, ...missing].map((machine) =>
        deleted.has(machine.id) ? { ...machine, state: 'ending' as const } : machine,
      )
    },
    has(id) {
      forget()
      return made.has(id)
    },
  }
}
