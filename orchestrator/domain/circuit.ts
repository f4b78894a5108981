/**
 * What is known of whether a target answers. `closed`: calls go there. `open`: it did not answer several times in a row, so
 * nobody waits for it until then. `half-open`: one call tries whether it does again.
 */
export type Circuit =
  | { readonly state: 'closed' /** In a row. */; readonly failures: number }
  | {
      readonly state: 'open'
      /** Epoch ms at which it opened first, of those times in a row. */
      readonly since: number
      /** Epoch ms at which one call may try again. */
      readonly until: number
      /** How often in a row it opened, from 1. */
      readonly times: number
    }
  | { readonly state: 'half-open'; readonly since: number; readonly times: number }

/** What came of a call. `unclear`: it was ended before there was an answer, by whoever had asked. */
export type CallOutcome = 'answered' | 'unreachable' | 'unclear'

/** A call that may go to the target. `trial`: the one that tries whether it answers again. `asked`: by a person, whatever is known. */
export type Pass = 'call' | 'trial' | 'asked'

export interface CircuitLimits {
  /** Calls in a row without an answer after which it opens, from 1. */
  readonly failures: number
  /** Milliseconds that it is open the first time; twice as long each further time in a row, and at most. */
  readonly firstMs: number
  readonly mostMs: number
}

/** Five failures are no chance event; a quarter of a minute is what a host that is away is given, too. */
export const CIRCUIT_LIMITS: CircuitLimits = { failures: 5, firstMs: 15_000, mostMs: 120_000 }

/** Before anything was asked. */
export const CLOSED: Circuit = { state: 'closed', failures: 0 }

/**
 * Whether a call may go to the target now, and what is known then.
 * @param lasting it takes as long as it takes (a stream), so it cannot tell soon whether the target answers: it is no trial
 * @param now epoch ms
 */
export function enter(
  circuit: Circuit,
  lasting: boolean,
  now: number,
): { readonly pass: Pass | null; circuit: Circuit } {
  if (circuit.state === 'closed') return { pass: 'call', circuit }
  if (circuit.state === 'half-open' || lasting || now < circuit.until) return { pass: null, circuit }
  return { pass: 'trial', circuit: { state: 'half-open', since: circuit.since, times: circuit.times } }
}

/** What is known after a call has ended. @param now epoch ms */
export function leave(circuit: Circuit, pass: Pass, outcome: CallOutcome, limits: CircuitLimits, now: number): Circuit {
  if (outcome === 'answered') return CLOSED
  if (outcome === 'unclear') {
    // The trial told nothing: the next call is one.
    return pass === 'trial' && circuit.state === 'half-open' ? { ...circuit, state: 'open', until: now } : circuit
  }
  if (circuit.state === 'closed') {
    const failures = circuit.failures + 1
    return failures < limits.failures ? { state: 'closed', failures } : opened(now, 1, limits, now)
  }
  // Calls that were under way when it opened tell nothing new.
  return pass === 'trial' && circuit.state === 'half-open'
    ? opened(circuit.since, circuit.times + 1, limits, now)
    : circuit
}

function opened(since: number, times: number, limits: CircuitLimits, now: number): Circuit {
  return { state: 'open', since, until: now + Math.min(limits.firstMs * 2 ** (times - 1), limits.mostMs), times }
}
