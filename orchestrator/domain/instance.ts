import type { InstanceWiring } from '../../common/instance-wiring.ts'
import type { Ipv6 } from '../../common/ipv6.ts'
import type { ServiceSpec } from '../../common/service-spec.ts'
import type { HostName } from './host.ts'
import type { Owner } from './lease.ts'
import type { Parameters, StoredParameters } from './parameter.ts'
import type { Price } from './price.ts'
import type { Json, TemplateRef } from './template.ts'

export type InstanceId = string & { readonly __instance: true }

/** Where the reconciler has got with it. */
export type InstanceState = 'pending' | 'running' | 'gone'

/** When each stage of a start was reached, epoch ms. */
export interface Marks {
  readonly hookAt?: number | undefined
  readonly storedAt?: number | undefined
  readonly decidedAt?: number | undefined
  /** When a target that takes its time had taken it. */
  readonly acceptedAt?: number | undefined
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
  /** Backends to try, in order, when this one is full or away before it ever ran. */
  readonly otherwise: readonly string[]
  /** The target where it was put, of its backend; null: not yet. */
  readonly host: HostName | null
  /** How the host of its lease leads its owner there; null: it is on that host, or not known yet. */
  readonly reach: Reach | null
  /** What it costs while it lives, as its backend estimates; null: nothing, or not known. */
  readonly price: Price | null
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

/**
 * Where an instance is that does not run on the host of its lease. `routed`: it has its own address, behind this next hop,
 * which sends answers back the same way. `translated`: it is reached at another address, from the host's own.
 */
export type Reach =
  | { readonly kind: 'routed'; readonly via: Ipv6 }
  | { readonly kind: 'translated'; readonly address: Ipv6 }

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
  /** The host of its lease, where its owner comes from, and that host's address; null: it has told none. */
  readonly home: { readonly name: HostName; readonly address: Ipv6 | null }
  /** What the template says under `x-orchestrator.options` for this backend; absent: nothing. */
  readonly options?: Json | undefined
}

/** What a backend found. `starting`: it will run, without our doing; `partial`: some of its parts are missing or stopped. */
export interface Observed {
  readonly instance: InstanceId
  readonly generation: number
  readonly state: 'starting' | 'running' | 'partial' | 'stopped'
  /** Of `starting`: milliseconds until it makes sense to look again; 5,000 unless told. */
  readonly againMs?: number | undefined
  /** Absent: it is on the host of its lease. */
  readonly reach?: Reach | undefined
  readonly address: Ipv6 | null
  readonly detail?: string | undefined
  readonly marks?: Marks | undefined
  /** The text of its outputs file when it has changed: at most 64 KiB, not to be trusted. */
  readonly outputs?: string | undefined
}
