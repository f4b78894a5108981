import type { InstanceWiring } from '../../common/instance-wiring.ts'
import type { Memberships, SandboxChoice } from '../../common/private-networks.ts'

/** Name and version of a template; a version is the hash of its content, so it never changes meaning. */
export interface TemplateRef {
  readonly name: string
  readonly version: string
}

/** One container of an instance. */
export interface Service {
  readonly name: string
  readonly image: string
  readonly command?: readonly string[] | undefined
  readonly environment: Readonly<Record<string, string>>
  readonly memoryBytes: number
  /** Processes at most. */
  readonly pids: number
  /** Linux capabilities kept (without CAP_); all others are dropped. */
  readonly capabilities: readonly string[]
  /** Milliseconds between the polite stop and the end. */
  readonly stopGraceMs: number
  /** Absent: it shares the network namespace of the instance. */
  readonly sandbox?: SandboxChoice | undefined
  /** Private networks that it is on, by name; absent: none. */
  readonly networks?: Memberships | undefined
}

/** What a lease becomes. */
export interface Template extends TemplateRef {
  readonly summary: string
  /** Which backend runs it. */
  readonly backend: string
  /** In order of start; the first is the entry. */
  readonly services: readonly Service[]
  /** TCP port at which the instance is reachable; null: nothing to probe. */
  readonly entryPort: number | null
  /** What its instances have beyond a place on the instances' bridge; absent: nothing. */
  readonly wiring?: InstanceWiring | undefined
  /** Milliseconds that an instance outlives its lease. */
  readonly graceMs: number
}
