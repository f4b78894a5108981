import { OrchestratorError } from '../../common/errors.ts'

/**
 * What the wiring refuses or cannot do. Codes:
 *
 * - `bridge-missing`, `gateway-missing`, `forwarding-off`: the host is not ready; the message names the remedy.
 * - `sandbox-gone`: the process, and so the network namespace, is no more.
 * - `link-gone`: the sandbox has no `eth0` that is the other end of this link; attach it again.
 * - `not-isolated`: the sandbox shares the host's own network namespace.
 * - `interface-in-use`: the sandbox has an `eth0`, or the host a link of that name, that is not ours.
 * - `link-not-up`: the kernel did not bring the link or its address up in time (retryable).
 * - `bridge-full`: the bridge has its 1,023 ports.
 * - `library-missing`: libnftables is not installed.
 * - `kernel-refused`, `firewall-refused`: the kernel said no; its own words are in the message.
 * - `not-permitted`: a capability is missing.
 * - `not-prepared`: a call came before `prepare`.
 * - `worker-died`: the worker that was doing this ended; a new one is there (retryable).
 * - `wiring-stopped`: the call came after `stop`.
 * - `wiring-fault`: a defect of the wiring itself.
 */
export class WiringError extends OrchestratorError {}

/** An error as it crosses from a worker to the main thread. */
export interface SentError {
  readonly code: string
  readonly message: string
  readonly retryable: boolean
}

/** Makes any thrown value fit to cross threads. */
export function sendable(thrown: unknown): SentError {
  if (thrown instanceof OrchestratorError) {
    return { code: thrown.code, message: thrown.message, retryable: thrown.retryable }
  }
  const text = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)
  return { code: 'wiring-fault', message: `the wiring failed unexpectedly: ${text}`, retryable: false }
}

/** The error that a worker sent. */
export function received(sent: SentError): WiringError {
  return new WiringError(sent.code, sent.message, { retryable: sent.retryable })
}
