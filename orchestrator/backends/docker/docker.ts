import { InvalidInput } from '../../../common/errors.ts'
import { orderShape, type WireOrder } from '../../../unionize/contract.ts'
import type { Order } from '../../domain/instance.ts'
import type { Template } from '../../domain/template.ts'
import type { Backend } from '../backend.ts'
import type { Agents } from './agents.ts'

/** Docker refuses a container with less memory. */
const LEAST_MEMORY_BYTES = 6 * 1024 * 1024
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
    logs: (id, host, logOptions, signal) => agents.logs(host.name, id, logOptions, signal),
    async close() {},
  }
}

function wireOrder(order: Order): WireOrder {
  return {
    ...order,
    services: order.services.map((service) => ({
      ...service,
      command: service.command === undefined ? undefined : [...service.command],
      environment: { ...service.environment },
      capabilities: [...service.capabilities],
    })),
  }
}

function checkTemplate(template: Template): void {
  const names = new Set<string>()
  for (const service of template.services) {
    const field = (key: string) => `services.${service.name}.${key}`
    if (names.has(service.name)) throw new InvalidInput(field('name'), 'another service has this name too')
    names.add(service.name)
    if (!IMAGE.test(service.image)) {
      throw new InvalidInput(field('image'), `expected an image reference, got ${JSON.stringify(service.image)}`)
    }
    if (service.memoryBytes < LEAST_MEMORY_BYTES) {
      throw new InvalidInput(field('memory'), `Docker needs at least ${LEAST_MEMORY_BYTES} bytes (6 MiB)`)
    }
    const prefixed = service.capabilities.find((capability) => capability.startsWith('CAP_'))
    if (prefixed) throw new InvalidInput(field('capabilities'), `write ${prefixed.slice(4)} instead of ${prefixed}`)
  }
  refuseWhatTheWireRefuses(template)
}

/** A template is good when an order made of it is a message that a host accepts. */
function refuseWhatTheWireRefuses(template: Template): void {
  const { services, wiring, entryPort } = template
  const order = {
    instance: 'i-check',
    generation: 1,
    owner: { duid: '', iaid: 0 },
    name: 'check',
    address: '::',
    ownerAddress: '::',
    services,
    wiring,
    entryPort,
  }
  const issue = orderShape.safeParse(order).error?.issues[0]
  if (issue === undefined) return
  const path = issue.path.map((step) =>
    typeof step === 'number' ? (services[step]?.name ?? String(step)) : String(step),
  )
  throw new InvalidInput(path.join('.'), issue.message)
}
