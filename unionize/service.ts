import type { ContainerSpec } from './containers.ts'
import { LABEL, type WireOrder, type WireService } from './contract.ts'
import { withoutEnvironment } from './orders.ts'

/** Name of a service's container: the engine lets it exist once, so it is the key that makes a repeated create harmless. */
export function serviceContainerName(instance: string, service: string): string {
  return `orc-${instance}-${service}`
}

/** How the container of one service of an instance is made: inside the sandbox's namespace, all else closed. */
export function serviceSpec(order: WireOrder, service: WireService, host: string, sandbox: string): ContainerSpec {
  return {
    name: serviceContainerName(order.instance, service.name),
    image: service.image,
    labels: {
      [LABEL.role]: 'service',
      [LABEL.host]: host,
      [LABEL.instance]: order.instance,
      [LABEL.service]: service.name,
      [LABEL.generation]: String(order.generation),
      [LABEL.order]: JSON.stringify(withoutEnvironment(order)),
    },
    network: { namespaceOf: sandbox },
    ...(service.command ? { command: service.command } : {}),
    environment: service.environment,
    capabilities: service.capabilities,
    memoryBytes: service.memoryBytes,
    pids: service.pids,
    stopGraceMs: service.stopGraceMs,
    keepOutput: true,
  }
}

/** Whether a container made for `made` serves as `wanted`; environment values never make one unfit. */
export function sameService(made: WireService | undefined, wanted: WireService): boolean {
  const essence = (service: WireService) =>
    JSON.stringify([
      service.image,
      service.command ?? null,
      service.memoryBytes,
      service.pids,
      [...service.capabilities].sort(),
    ])
  return made !== undefined && essence(made) === essence(wanted)
}
