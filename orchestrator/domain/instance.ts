import type { InstanceWiring } from '../../common/instance-wiring.ts'
import type { Ipv6 } from '../../common/ipv6.ts'
import type { ServiceSpec } from '../../common/service-spec.ts'
import type { HostName } from './host.ts'
import type { Owner } from './lease.ts'
import type { Parameters, StoredParameters } from './parameter.ts'
import type { TemplateRef } from './template.ts'

export type InstanceId = string & { readonly __instance: true }

/** Where the reconciler has got with it. */
export type InstanceState = 'pending' | 'running' | 'gone'

/** When each stage of a start was reached, epoch ms. */
export interface Marks {
  readonly hookAt?: number | undefined
  readonly storedAt?: number | undefined
  readonly decidedAt?: number | undefined
  readonly sandboxAt?: number | undefined
  readonly startedAt?: number | undefined
  readonly reachableAt?: number | undefined
}

/** Two fields, two writers: intake and API write `wanted`, the reconciler writes `state`. */
export interface Instance {
  readonly id: InstanceId
  readonly owner: Owner
  /** DNS label, unique among the living. */
  readonly name: string
  readonly template: TemplateRef
  /** What the template was given; secrets are sealed. */
  readonly parameters: StoredParameters
  /** The rule that gave it; null: the default, without rules. */
  readonly rule: string | null
  readonly backend: string
  /** Chosen once, by plan(). */
  readonly host: HostName | null
  readonly wanted: 'running' | 'gone'
  /** +1 with each change of what is wanted; agents refuse an older one. */
  readonly generation: number
  readonly state: InstanceState
  /** The generation that `state` was reached for: behind `generation` means work to do. */
  readonly settled: number
  readonly address: Ipv6
  /** The address that alone reaches it. */
  readonly ownerAddress: Ipv6
  /** Which lease server's events made it; the host of that name is where it can be reached. */
  readonly source: string
  readonly failures: number
  /** When the reconciler looks at it next, epoch ms; null: only when something changes. */
  readonly dueAt: number | null
  readonly lastError: string | null
  /** Milliseconds that it outlives its lease: the rule's, else the template's. */
  readonly graceMs: number
  /** When it ends although its lease goes on, epoch ms; null: never. */
  readonly endsAt: number | null
  /** What it wrote to its outputs file, as far as its template declares it; null: nothing yet. */
  readonly outputs: Parameters | null
  readonly marks: Marks
  readonly createdAt: number
  readonly updatedAt: number
}

/** Everything a backend must know to make one instance. */
export interface Order {
  readonly instance: InstanceId
  readonly generation: number
  readonly owner: Owner
  readonly name: string
  readonly address: Ipv6
  readonly ownerAddress: Ipv6
  /** The first is the entry. */
  readonly services: readonly ServiceSpec[]
  /** Whether `/orchestrator` is a place to write to, and what is written there is told. */
  readonly outputs: boolean
  readonly wiring?: InstanceWiring | undefined
  readonly entryPort: number | null
}

/** What a backend found. `partial`: some of its parts are missing or stopped. */
export interface Observed {
  readonly instance: InstanceId
  readonly generation: number
  readonly state: 'running' | 'partial' | 'stopped'
  readonly address: Ipv6 | null
  readonly detail?: string | undefined
  readonly marks?: Marks | undefined
  /** The text of its outputs file when it has changed: at most 64 KiB, not to be trusted. */
  readonly outputs?: string | undefined
}
