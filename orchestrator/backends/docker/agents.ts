import type { WireOrder } from '../../../unionize/contract.ts'
import type { WantedImage } from '../../domain/build.ts'
import type { HostName } from '../../domain/host.ts'
import type { Observed } from '../../domain/instance.ts'
import type { LogOptions } from '../backend.ts'

/**
 * The hosts' daemons as this backend needs them, by host name. Every call rejects with HostUnreachable when the host is
 * not connected or the connection ends before the answer, with the host's own OrchestratorError (its `code`, its
 * `retryable`) when it refused, and with the signal's reason when that is aborted.
 */
export interface Agents {
  ensure(host: HostName, order: WireOrder, signal: AbortSignal): Promise<Observed>
  remove(host: HostName, instance: string, generation: number, signal: AbortSignal): Promise<void>
  list(host: HostName, signal: AbortSignal): Promise<readonly Observed[]>
  /** Resolves when the host has all of these images; what it has of ours beside them may go. */
  images(host: HostName, wanted: readonly WantedImage[], signal: AbortSignal): Promise<void>
  logs(host: HostName, instance: string, options: LogOptions, signal: AbortSignal): AsyncIterable<string>
}
