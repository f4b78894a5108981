import { InvalidInput } from '../../common/errors.ts'
import type { InstanceWiring } from '../../common/instance-wiring.ts'
import { parseIpv6 } from '../../common/ipv6.ts'
import type { NetworkSpecs } from '../../common/private-networks.ts'
import { type ServiceInput, type ServiceSpec, servicesShape } from '../../common/service-spec.ts'
import type { Host } from '../domain/host.ts'
import type { Instance, Order } from '../domain/instance.ts'
import type { Lease } from '../domain/lease.ts'
import type { Parameters } from '../domain/parameter.ts'
import type { Template } from '../domain/template.ts'
import { interpolateTree } from './interpolate.ts'
import { valuesFor } from './order-values.ts'
import { isMap } from './stack/reading.ts'
import { checkSize, readStack } from './stack/services.ts'
import { environmentOf, factsOf } from './variables.ts'

/** Where every service finds what its template was given. */
export const PARAMETERS_FILE = '/orchestrator/parameters.json'

/**
 * The order for an instance: its template's services with parameters and the facts of instance and lease filled in, and
 * the files that they are given. The wiring is the template's, word for word, with the networks of its Compose file:
 * nothing that a lease says can ask for a device of the host.
 * @param home the host of its lease
 * @param parameters settled and opened: all that have a value
 * @throws InvalidInput naming the key or parameter; never with the value of a secret
 */
export function orderFor(
  instance: Instance,
  template: Template,
  lease: Lease,
  home: Pick<Host, 'name' | 'facts'>,
  parameters: Parameters,
): Order {
  const values = valuesFor(template, factsOf(instance, lease), parameters)
  const stack = interpolateTree(template.stack, '', { value: values.text, shown: values.shown })
  const { services, networks, weakens } = readStack(isMap(stack) ? stack : {}, {
    entry: template.entry.service,
    files: { read: (path) => fileOf(template, path) },
    variables: values,
  })
  // A variable's value may ask for what no check of the template has seen.
  const unseen = weakens.find((key) => !template.weakens.includes(key))
  if (unseen !== undefined) {
    throw new InvalidInput(
      unseen,
      'with these parameters it would weaken isolation, which the template does not say by itself',
    )
  }
  const wiring = withNetworks(template.wiring, networks)
  const options = template.options?.[instance.backend]
  const declares = template.parameters.length > 0 || Object.keys(template.fixed).length > 0
  const file = declares ? [{ target: PARAMETERS_FILE, content: encoded(values.all), mode: 0o444 as const }] : []
  const environment = environmentOf(instance, lease)
  const given = services.map((service) => ({
    ...service,
    environment: { ...service.environment, ...environment },
    files: [...(service.files ?? []), ...file],
  }))
  checkSize(given)
  return {
    instance: instance.id,
    generation: instance.generation,
    owner: instance.owner,
    name: instance.name,
    address: instance.address,
    ownerAddress: instance.ownerAddress,
    services: specsOf(given),
    outputs: template.outputs.length > 0,
    ...(wiring ? { wiring } : {}),
    entryPort: template.entry.port,
    home: { name: home.name, address: home.facts.address === undefined ? null : parseIpv6(home.facts.address) },
    ...(options === undefined ? {} : { options }),
  }
}

function fileOf({ files }: Template, path: string): Uint8Array | null {
  const content = Object.hasOwn(files, path) ? files[path] : undefined
  return content === undefined ? null : Buffer.from(content, 'base64')
}

function encoded(values: Parameters): string {
  return Buffer.from(`${JSON.stringify(values, null, 2)}\n`).toString('base64')
}

function withNetworks(wiring: InstanceWiring | undefined, networks: NetworkSpecs): InstanceWiring | undefined {
  if (Object.keys(networks).length === 0) return wiring
  return { interfaces: [], ...wiring, networks: { ...wiring?.networks, ...networks } }
}

/** With every default filled in, as hosts take them. */
function specsOf(services: readonly ServiceInput[]): readonly ServiceSpec[] {
  const parsed = servicesShape.safeParse(services)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw new InvalidInput(['services', ...(issue?.path ?? [])].join('.'), issue?.message ?? 'hosts would refuse it')
}
