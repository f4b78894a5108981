import type { Action, HostAction } from './action.ts'
import type { Difference, Step } from './interfaces.ts'

/** One thing that is to be done, and why. */
export interface Change {
  /** Name inside the namespace; of a bridge or parent its name on the host. */
  readonly interface: string
  /** What, as a phrase; null: not worth telling, such as a wait. */
  readonly text: string | null
  /** In what the kernel differs; null where that follows from another change, such as making the interface. */
  readonly difference: Omit<Difference, 'interface'> | null
  readonly act: Action
}

/** A change of the host alone. */
export type HostChange = Change & { readonly act: HostAction }

/** A change for which the kernel differs in one field. */
export function differing(
  on: string,
  difference: { field: string; wanted: string | number; found: string | number },
  text: string,
  act: Action,
): Change {
  const { field, wanted, found } = difference
  return { interface: on, text, difference: { field, wanted: String(wanted), found: String(found) }, act }
}

/** A change that only belongs to another. */
export function consequent(on: string, text: string, act: Action): Change {
  return { interface: on, text, difference: null, act }
}

/** A wait, or what else nobody needs to hear of. */
export function silent(on: string, act: Action): Change {
  return { interface: on, text: null, difference: null, act }
}

/** The changes as they are told. */
export function stepsOf(changes: readonly Change[]): Step[] {
  return changes.flatMap(({ interface: on, text }) => (text === null ? [] : [{ interface: on, text }]))
}
