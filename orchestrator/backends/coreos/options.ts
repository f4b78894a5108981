import { z } from 'zod'
import { InvalidInput } from '../../../common/errors.ts'
import type { Order } from '../../domain/instance.ts'
import type { Json, Template } from '../../domain/template.ts'
import { checkNetworks, checkTemplateNetworks } from '../one-network.ts'

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
  checkInterfaces(template.wiring)
  checkTemplateNetworks(template)
}

/** @throws InvalidInput for what machines cannot do */
export function checkOrder(order: Order): void {
  checkInterfaces(order.wiring)
  checkNetworks(order)
}

function checkInterfaces(wiring: Template['wiring']): void {
  if (wiring !== undefined && wiring.interfaces.length > 0) {
    const remedy = 'take them away, or use the backend docker'
    throw new InvalidInput('wiring.interfaces', `instances on machines have their one interface: ${remedy}`)
  }
}
