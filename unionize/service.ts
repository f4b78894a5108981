import { sandboxOf } from '../common/private-networks.ts'
import type { ContainerSpec } from './containers.ts'
import { LABEL, type WireOrder, type WireService } from './contract.ts'
import { isMember } from './networks/plan.ts'
import { withoutEnvironment } from './orders.ts'

/** Name of a service's container: the engine lets it exist once, so it is the key that makes a repeated create harmless. */
export function serviceContainerName(instance: string, service: string): string {
  return `orc-${instance}-${service}`
}

/** How the container of one service of an instance is made: inside the sandbox's namespace, all else closed. */
export function serviceSpec(
  order: WireOrder,
  service: WireService,
  place: { readonly host: string; readonly sandbox: string; readonly hostsFile: string | null },
): ContainerSpec {
  return {
    name: serviceContainerName(order.instance, service.name),
    image: service.image,
    labels: {
      [LABEL.role]: 'service',
      [LABEL.host]: place.host,
      [LABEL.instance]: order.instance,
      [LABEL.service]: service.name,
      [LABEL.generation]: String(order.generation),
      [LABEL.order]: JSON.stringify(withoutEnvironment(order)),
    },
    network: { namespaceOf: place.sandbox },
    ...(place.hostsFile === null ? {} : { hostsFile: place.hostsFile }),
    ...(service.command ? { command: service.command } : {}),
    environment: service.environment,
    capabilities: service.capabilities,
    memoryBytes: service.memoryBytes,
    pids: service.pids,
    stopGraceMs: service.stopGraceMs,
    keepOutput: true,
  }
}

/**
 * Whether a container that was made for the service of that name in one order serves in another; environment values
 * never make one unfit, nor do other names on its private networks.
 */
export function sameService(made: WireOrder | null, wanted: WireOrder, name: string): boolean {
  const essence = (order: WireOrder): string | null => {
    const service = order.services.find((one) => one.name === name)
    if (service === undefined) return null
    return JSON.stringify([
      sandboxOf(service),
      isMember(order, sandboxOf(service)),
      service.image,
      service.command ?? null,
      service.memoryBytes,
      service.pids,
      [...service.capabilities].sort(),
    ])
  }
  const before = made === null ? null : essence(made)
  return before !== null && before === essence(wanted)
}
