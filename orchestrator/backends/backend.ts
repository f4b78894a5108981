import type { Clock } from '../../common/clock.ts'
import type { Log } from '../../common/log.ts'
import type { WantedImage } from '../domain/build.ts'
import type { HostName, Target } from '../domain/host.ts'
import type { InstanceId, Observed, Order } from '../domain/instance.ts'
import type { Price } from '../domain/price.ts'
import type { Template } from '../domain/template.ts'

/** Version of this contract. A package that was written for another one is refused at the start. */
export const CONTRACT_VERSION = 1

/**
 * A place where instances run. Every call may be repeated, after any crash, and ends in the same place; every call is
 * cancelled by its signal. The contract suite (test/contract/backend.ts) tells an author when a backend is done.
 *
 * Failures that all backends word alike: `HostUnreachable` when the target could not be asked (nothing is concluded from
 * it), `NoRoom` when it has none (another backend may be tried), `InvalidInput` for what no retry mends, and any other
 * OrchestratorError with its own `code`, `retryable` and `retryAfterMs`.
 */
export interface Backend {
  /** The name that templates and rules use: that of the settings, not of the kind. */
  readonly name: string
  /**
   * Where it puts instances, now; one that is no longer among them is gone for good, with all that was there. Absent: on hosts
   * that run unionize, each instance on the one its lease came from.
   */
  targets?(): readonly HostName[]
  /**
   * Chooses one of {@link targets} for a new instance. Absent: the one with the fewest. @param load living instances by target
   * @throws NoRoom, HostUnreachable
   */
  place?(template: Template, load: ReadonlyMap<HostName, number>): HostName
  /** Pure: what its options (`x-orchestrator.options.NAME`) and services ask for. @throws InvalidInput naming the field */
  checkTemplate(template: Template): void
  /** What an instance costs, as an estimate; null: not known. Absent: nothing. Pure: from the settings or what it last heard. */
  price?(template: Template): Price | null
  /** All that we own there, every page of it. @throws HostUnreachable: `[]` never means "could not look". */
  list(target: Target, signal: AbortSignal): Promise<readonly Observed[]>
  /**
   * Makes it exist, run and be wired; finds its own half-done work, also by label or tag alone, and finishes it. Resolves
   * when it runs; or, where that takes minutes, with `starting` as soon as the target has taken it: then it is called again.
   * @throws OrchestratorError `stale-generation` when the target has seen a newer generation
   */
  ensure(order: Order, target: Target, signal: AbortSignal): Promise<Observed>
  /** Resolves when it is gone, with all that was made for it. Already gone is success. @throws OrchestratorError `stale-generation` */
  remove(instance: { id: InstanceId; generation: number }, target: Target, signal: AbortSignal): Promise<void>
  /**
   * Tells what changes there by itself, without a gap, until aborted; rejects when it cannot follow, and is called again.
   * Absent: the regular {@link list} finds it. Whoever is told looks for itself: an event is a hint.
   */
  watch?(target: Target, tell: (observed: Observed) => void, signal: AbortSignal): Promise<void>
  /** Makes targets have these images before a lease asks for them. Optional: present means supported. */
  prepare?(target: Target, images: readonly WantedImage[], signal: AbortSignal): Promise<void>
  /** What its services print. Optional: present means supported. */
  logs?(id: InstanceId, target: Target, options: LogOptions, signal: AbortSignal): AsyncIterable<string>
  /** Asks the target what it is and what we may do there, changing nothing. @throws HostUnreachable, or why we are refused */
  check?(target: Target, signal: AbortSignal): Promise<TargetCheck>
  close(): Promise<void>
}

/** `tail`: lines from the end to begin with; `follow`: go on until the signal. */
export interface LogOptions {
  readonly service?: string | undefined
  readonly tail: number
  readonly follow: boolean
}

/** What `orctl backend check` shows of a target that answers. */
export interface TargetCheck {
  /** Name and version of what answers: `Docker Swarm 20.10.24`. */
  readonly version: string
  /** What we may and can do there, in a few words each. */
  readonly abilities: readonly string[]
  /** What is missing, each with its remedy; empty: all is well. */
  readonly missing: readonly string[]
}

/** What a backend is given when it is made. It reads neither the store nor the environment. */
export interface BackendContext {
  /** Its name in the settings. */
  readonly name: string
  /** Tells our things in a target from those of another orchestrator: 16 hex digits, for labels and tags. Never changes. */
  readonly installation: string
  readonly log: Log
  readonly clock: Clock
  /**
   * The fields of a stored credential, asked anew each time: they may be rotated. Never to be logged or shown.
   * @throws OrchestratorError `credential-missing` with the command that sets it
   */
  credential(name: string): Promise<Readonly<Record<string, string>>>
  /** What it must remember beyond a restart and cannot find again in its targets. */
  readonly records: Records
}

/** Small texts by key, kept in the store for one backend. Not for secrets. */
export interface Records {
  all(): Promise<ReadonlyMap<string, string>>
  /** At most 64 KiB; null removes it. */
  put(key: string, value: string | null): Promise<void>
}

/** What a backend's module exports as `backend`; `settings` is what stands under `backends.NAME.settings`. */
export interface BackendKind {
  readonly contract: typeof CONTRACT_VERSION
  /** Reaches for nothing yet: targets that are away at the start come later. @throws InvalidInput naming the setting */
  create(settings: unknown, context: BackendContext): Promise<Backend>
}
