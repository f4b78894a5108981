import { InvalidInput } from '../../../common/errors.ts'
import { orderShape, type WireOrder } from '../../../unionize/contract.ts'
import type { Order } from '../../domain/instance.ts'
import type { Template } from '../../domain/template.ts'
import type { Backend } from '../backend.ts'
import type { Agents } from './agents.ts'

/** A reference such as `registry:5000/team/image:tag` or `image@sha256:…`; the engine has the last word. */
const IMAGE = /^[a-z0-9]([a-z0-9._:/-]*[a-z0-9])?(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?$/i

/** Docker containers on hosts that run `unionize`. */
export function dockerBackend(options: { readonly agents: Agents }): Backend {
  const { agents } = options
  return {
    name: 'docker',
    checkTemplate,
    async list(host, signal) {
      return await agents.list(host.name, signal)
    },
    async ensure(order, host, signal) {
      return await agents.ensure(host.name, wireOrder(order), signal)
    },
    async remove(instance, host, signal) {
      await agents.remove(host.name, instance.id, instance.generation, signal)
    },
    prepare: (host, images, signal) => agents.images(host.name, images, signal),
    logs: (id, host, logOptions, signal) => agents.logs(host.name, id, logOptions, signal),
    async close() {},
  }
}

/** @throws InvalidInput naming what no host would accept */
function wireOrder(order: Order): WireOrder {
  const parsed = orderShape.safeParse(order)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const path = (issue?.path ?? []).map((step, index, all) =>
    all[index - 1] === 'services' ? (order.services[Number(step)]?.name ?? String(step)) : String(step),
  )
  throw new InvalidInput(path.join('.'), issue?.message ?? 'no host would accept it')
}

/** What its services need was checked when it was compiled; what is left is what Docker calls an image. */
function checkTemplate(template: Template): void {
  if (template.options?.['docker'] !== undefined) {
    throw new InvalidInput('x-orchestrator.options.docker', 'this backend has no options: take it away')
  }
  const strange = template.images.find((image) => !IMAGE.test(image))
  if (strange === undefined) return
  throw new InvalidInput('services.*.image', `expected an image reference, got ${JSON.stringify(strange)}`)
}
