import type { InstanceWiring } from '../../common/instance-wiring.ts'
import type { Ipv6 } from '../../common/ipv6.ts'
import type { HostName } from './host.ts'
import type { Lease, Owner } from './lease.ts'
import type { Service, Template, TemplateRef } from './template.ts'

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
  readonly services: readonly Service[]
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
}

/**
 * The order for an instance: its template's services with the facts of instance and lease in their environment. The
 * wiring is the template's, word for word: nothing that a lease says can ask for a device of the host.
 */
export function orderFor(instance: Instance, template: Template, lease: Lease): Order {
  const facts: Record<string, string> = {
    ORCHESTRATOR_INSTANCE: instance.id,
    ORCHESTRATOR_NAME: instance.name,
    ORCHESTRATOR_ADDRESS: instance.address,
    ORCHESTRATOR_OWNER_DUID: instance.owner.duid,
    ORCHESTRATOR_OWNER_IAID: String(instance.owner.iaid),
    ORCHESTRATOR_OWNER_ADDRESS: instance.ownerAddress,
    ORCHESTRATOR_HOSTNAME: lease.facts.hostname ?? '',
  }
  return {
    instance: instance.id,
    generation: instance.generation,
    owner: instance.owner,
    name: instance.name,
    address: instance.address,
    ownerAddress: instance.ownerAddress,
    services: template.services.map((service) => ({
      ...service,
      environment: { ...service.environment, ...facts },
    })),
    ...(template.wiring ? { wiring: template.wiring } : {}),
    entryPort: template.entryPort,
  }
}
