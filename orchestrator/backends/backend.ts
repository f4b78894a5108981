import type { WantedImage } from '../domain/build.ts'
import type { Host } from '../domain/host.ts'
import type { InstanceId, Observed, Order } from '../domain/instance.ts'
import type { Template } from '../domain/template.ts'

/**
 * A place where instances run. Every call may be repeated, after any crash, and ends in the same place; every call is
 * cancelled by its signal. The contract suite (test/contract/backend.ts) tells an author when a backend is done.
 */
export interface Backend {
  readonly name: string
  /** Pure. @throws InvalidInput naming the field that this backend cannot honour */
  checkTemplate(template: Template): void
  /** All that we own there. @throws HostUnreachable: `[]` never means "could not look". */
  list(host: Host, signal: AbortSignal): Promise<readonly Observed[]>
  /**
   * Resolves when it exists, runs and is wired. Finds its own half-done work and finishes it.
   * @throws OrchestratorError `stale-generation` when the target has seen a newer generation
   */
  ensure(order: Order, host: Host, signal: AbortSignal): Promise<Observed>
  /** Resolves when it is gone. Already gone is success. @throws OrchestratorError `stale-generation` */
  remove(instance: { id: InstanceId; generation: number }, host: Host, signal: AbortSignal): Promise<void>
  /** Makes hosts have these images before a lease asks for them. Optional: present means supported. */
  prepare?(host: Host, images: readonly WantedImage[], signal: AbortSignal): Promise<void>
  /** What its services print. Optional: present means supported. */
  logs?(id: InstanceId, host: Host, options: LogOptions, signal: AbortSignal): AsyncIterable<string>
  close(): Promise<void>
}

/** `tail`: lines from the end to begin with; `follow`: go on until the signal. */
export interface LogOptions {
  readonly service?: string | undefined
  readonly tail: number
  readonly follow: boolean
}
