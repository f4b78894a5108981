import { OrchestratorError } from '../../common/errors.ts'
import { sandboxOf } from '../../common/private-networks.ts'
import { LABEL, type WireOrder, type WireService } from '../contract.ts'
import type { ListedContainer } from '../engine/containers.ts'
import { readOrder } from './orders.ts'
import type { Sandbox } from './sandbox.ts'
import { sameService } from './service.ts'

/** The sandboxes of one instance, by name: '' is that of the instance itself, others are those of single services. */
export type Sandboxes = ReadonlyMap<string, Sandbox>

/** @throws OrchestratorError code incomplete */
export function inside(sandboxes: Sandboxes, home: string): Sandbox {
  const sandbox = sandboxes.get(home)
  if (sandbox) return sandbox
  throw new OrchestratorError('incomplete', `there is no sandbox ${JSON.stringify(home)}`)
}

/** Ids of all of them. */
export function idsOf(sandboxes: Sandboxes): string[] {
  return [...sandboxes.values()].map(({ id }) => id)
}

/** Names of the sandboxes that an order needs, that of the instance first. */
export function homesOf(order: WireOrder): readonly string[] {
  return [...new Set(['', ...order.services.map(sandboxOf)])]
}

/** The name of the sandbox that a container was made for. */
export function homeOf(container: ListedContainer): string {
  const name = container.labels[LABEL.service]
  const made = readOrder(container.labels[LABEL.order])?.services.find((service) => service.name === name)
  return made ? sandboxOf(made) : ''
}

/** Ids of the sandboxes that containers were made for, by name. */
export function homesIn(found: readonly ListedContainer[]): ReadonlyMap<string, string> {
  const homes = new Map<string, string>()
  for (const container of found) {
    const home = homeOf(container)
    if (container.namespaceOf !== null && !homes.has(home)) homes.set(home, container.namespaceOf)
  }
  return homes
}

/** The orders that containers were made for, each once. */
export function ordersOf(found: readonly ListedContainer[]): WireOrder[] {
  const texts = new Set(found.map((container) => container.labels[LABEL.order]))
  return [...texts].map(readOrder).filter((order) => order !== null)
}

/** What is there of an order's services: fit to stay, not fit, or missing. */
export function sortServices(order: WireOrder, found: readonly ListedContainer[], sandboxes: Sandboxes) {
  const fit: ListedContainer[] = []
  const missing: WireService[] = []
  for (const service of order.services) {
    const container = found.find((c) => c.labels[LABEL.service] === service.name)
    const made = readOrder(container?.labels[LABEL.order])
    const home = inside(sandboxes, sandboxOf(service)).id
    if (container && container.namespaceOf === home && sameService(made, order, service.name)) fit.push(container)
    else missing.push(service)
  }
  return { fit, missing, unfit: found.filter((c) => !fit.includes(c)) }
}
