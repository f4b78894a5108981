import { z } from 'zod'
import { InvalidInput } from '../../../common/errors.ts'
import type { ServiceSpec } from '../../../common/service-spec.ts'
import type { Order } from '../../domain/instance.ts'
import type { Json, Template } from '../../domain/template.ts'

const shape = z.strictObject({
  /** Only on machines that have all of these labels. */
  labels: z.record(z.string().max(63), z.string().max(255)).default({}),
})

/** What a template says under `x-orchestrator.options.NAME`. */
export type CoreosOptions = z.infer<typeof shape>

/** @throws InvalidInput naming the field */
export function parseOptions(name: string, options: Json | undefined): CoreosOptions {
  const parsed = shape.safeParse(options ?? {})
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const path = ['x-orchestrator.options', name, ...(issue?.path ?? [])].join('.')
  throw new InvalidInput(path, issue?.message ?? 'not understood')
}

/** @throws InvalidInput for what machines cannot do */
export function checkContent(name: string, template: Template): void {
  parseOptions(name, template.options?.[name])
  checkWiring(template.wiring)
  const services = template.stack['services']
  if (typeof services !== 'object' || services === null) return
  const first = Object.entries(services).find(([, service]) => joinsNetworks(service))
  if (first) throw new InvalidInput(`services.${first[0]}.networks`, NO_NETWORKS)
}

/** @throws InvalidInput for what machines cannot do */
export function checkOrder(order: Order): void {
  checkWiring(order.wiring)
  const strange = order.services.find((service: ServiceSpec) => service.sandbox !== undefined || service.networks)
  if (strange) throw new InvalidInput(`services.${strange.name}.networks`, NO_NETWORKS)
}

const NO_NETWORKS = 'private networks are not there on machines: take them away, or use the backend docker'

function joinsNetworks(service: Json | undefined): boolean {
  if (typeof service !== 'object' || service === null || Array.isArray(service)) return false
  return 'networks' in service
}

function checkWiring(wiring: Template['wiring']): void {
  if (wiring === undefined) return
  if (wiring.interfaces.length > 0) {
    const remedy = 'take them away, or use the backend docker'
    throw new InvalidInput('wiring.interfaces', `instances on machines have their one interface: ${remedy}`)
  }
  if (Object.keys(wiring.networks).length > 0) throw new InvalidInput('wiring.networks', NO_NETWORKS)
}
