import type { Backend } from '../../orchestrator/backends/backend.ts'
import type { Target } from '../../orchestrator/domain/host.ts'
import type { Order } from '../../orchestrator/domain/instance.ts'

/** What the suite needs of a backend under test. All times in milliseconds. */
export interface Subject {
  readonly backend: Backend
  /** A target that answers. */
  readonly host: Target
  /** A target that does not. */
  readonly absent: Target
  /** An order that this backend can carry out; the n-th is another instance with another address. */
  order(n: number, generation?: number): Order
  /**
   * Closes the backend and makes it anew, as a restart of the orchestrator does: same settings, records and targets, nothing
   * else. It is asked for between the calls; absent: `backend` goes on.
   */
  reopen?(): Promise<Backend>
  /** A backend of another orchestrator (another installation, other records) on the same target; absent: left out. */
  another?(): Promise<Backend>
  /** How long an instance takes from its first `ensure` until it runs, at most; 30,000 unless told. */
  readonly startsWithinMs?: number
  /** How long `list` may lag behind what was done, at most; 0 unless told. */
  readonly lagMs?: number
  /**
   * Everything that stands in the target for our instances, found there by label, tag or name without the backend: services,
   * networks, ports, units, files … each in a few words. What all instances share stays out of it.
   */
  things?(): Promise<readonly string[]>
  /** Makes calls to the target go wrong; absent: these tests are left out. */
  readonly faults?: FaultInjector
  /** How long the tests of one kind of fault go on; calls that were not reached by then are told. 60,000 unless told. */
  readonly faultsMs?: number
}

/**
 * How a call to the target goes wrong. `refuse`: it has no effect and fails (503, a refused connection). `lose-answer`: it
 * takes effect and the connection ends. `hang`: it takes effect and no answer comes. `repeat`: it is carried out twice and
 * the second answer is given. `wrong-page`: a list comes without what is on it, or an earlier page of it comes again.
 */
export type Fault = 'refuse' | 'lose-answer' | 'hang' | 'repeat' | 'wrong-page'

/** Stands between a backend and its target: test/support/target-proxy.ts is one for whatever speaks HTTP. */
export interface FaultInjector {
  /** Those that it can make. */
  readonly faults: readonly Fault[]
  /** The `call`-th call from now on (1: the next) goes wrong, once. What was armed before is forgotten. */
  arm(fault: Fault, call: number): ArmedFault
}

export interface ArmedFault {
  /** Resolves when the call came and went wrong. */
  readonly hit: Promise<void>
  /** Lets calls pass again, and ends those that hang. May be called again. @returns whether it was hit */
  end(): boolean
}
