import type { Instance } from './instance.ts'

/** Why a backend does not take an instance: it has no room, or it could not be asked. */
export type Declined = 'full' | 'away'

/**
 * The backend to try instead, and those left after it; null: it stays where it is, and is tried again there. Only an instance
 * that never ran moves: nobody has anything there yet. What a target had taken moves only when that says itself that it is
 * full; a target that is away for a while goes on with it.
 */
export function secondChoice(
  instance: Instance,
  declined: Declined,
): { readonly backend: string; readonly otherwise: readonly string[] } | null {
  const [backend, ...otherwise] = instance.otherwise
  if (backend === undefined || instance.wanted !== 'running' || instance.settled !== 0) return null
  const isTaken = instance.marks.acceptedAt !== undefined || instance.reach !== null
  return declined === 'away' && isTaken ? null : { backend, otherwise }
}
