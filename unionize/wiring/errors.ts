import { OrchestratorError } from '../../common/errors.ts'

/**
 * What the wiring refuses or cannot do. Codes:
 *
 * - `bridge-missing`, `gateway-missing`, `forwarding-off`: the host is not ready; the message names the remedy.
 * - `sandbox-gone`: the process, and so the network namespace, is no more.
 * - `link-gone`: the sandbox has no `eth0` that is the other end of this link; attach it again.
 * - `not-isolated`: the sandbox shares the host's own network namespace.
 * - `interface-in-use`: the sandbox has an `eth0`, or the host a link of that name, that is not ours.
 * - `next-hop-unreachable`: no link of this host leads to a next hop; the message names both (retryable).
 * - `link-not-up`: the kernel did not bring the link or its address up in time (retryable).
 * - `bridge-full`: the bridge has its 1,023 ports.
 * - `library-missing`: libnftables is not installed.
 * - `kernel-refused`, `firewall-refused`: the kernel said no; its own words are in the message.
 * - `not-supported`: this kernel was built without what is needed; the message names the option and the module.
 * - `answer-unreadable`: the kernel's answer is not in the form that we know.
 * - `target-missing`: there is no such container, process or namespace, or the container does not run.
 * - `not-wired`: nothing of that name or key is wired.
 * - `namespace-gone`: the file of a network namespace is no more.
 * - `device-missing`: the host has no such device, or one that moved in has not come back.
 * - `path-mtu`: packets as large as was asked for do not fit through a hop, which the message names.
 * - `vlans-not-filtered`: a bridge that we did not make does not tell VLANs apart.
 * - `state-unreadable`, `state-unwritable`: what is remembered of declared wirings; nothing was changed.
 * - `busy`: another process holds the lock of the declared wirings for too long (retryable).
 * - `ovs-unreachable`: Open vSwitch is not there, or does not carry out changes (retryable).
 * - `ovs-refused`: Open vSwitch said no; its own words are in the message.
 * - `not-permitted`: a capability is missing.
 * - `not-prepared`: a call came before `prepare`.
 * - `worker-died`: the worker, or the wiring process, that was doing this ended; a new one takes its place (retryable).
 * - `wiring-away`: the wiring process cannot be reached; the message says why (retryable).
 * - `already-running`: another wiring process answers on the socket.
 * - `protocol-mismatch`: the wiring process is of another version; it or its client has to be restarted (retryable).
 * - `bad-message`, `message-too-long`: what came over the socket is not a message of ours.
 * - `dhcp-client-missing`: dhcpcd is not installed.
 * - `dhcp-client-failed`: dhcpcd did not start; its own words are in the message (retryable).
 * - `repair-undone`: something else undid what was just made (retryable).
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
