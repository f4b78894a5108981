import { InvalidInput } from '../../../common/errors.ts'
import type { NetworkSpecs } from '../../../common/private-networks.ts'
import type { ServiceInput } from '../../../common/service-spec.ts'
import type { Json } from '../../domain/template.ts'
import {
  booleanOf,
  fieldsOf,
  given,
  isList,
  type JsonMap,
  listOf,
  mapOf,
  type Remarks,
  textOf,
  textsOf,
} from './reading.ts'

/** The network of all services that name no other, as in Compose. */
export const DEFAULT_NETWORK = 'default'

/** A network as the file declares it. */
export interface DeclaredNetwork {
  readonly spec: NetworkSpecs[string]
  /** Where its prefix stands. */
  readonly subnetKey: string
}

/** The top-level `networks`, by name. All of them are private to the instance. */
export function networksOf(section: Json, remarks: Remarks): ReadonlyMap<string, DeclaredNetwork> {
  return new Map(
    Object.entries(mapOf(section, 'networks')).map(([name, value]) => {
      const key = `networks.${name}`
      if (!/^[a-z0-9]([a-z0-9_-]{0,29}[a-z0-9])?$/.test(name)) {
        throw new InvalidInput(key, 'expected a name of a-z, 0-9, - and _, at most 31 characters')
      }
      const fields = fieldsOf(value, key, ['driver', 'internal', 'enable_ipv6', 'ipam'])
      const [driver, internal, ipv6] = [
        given(fields, 'driver'),
        given(fields, 'internal'),
        given(fields, 'enable_ipv6'),
      ]
      if (driver !== undefined && driver !== 'bridge') throw new InvalidInput(`${key}.driver`, 'expected bridge')
      if (internal !== undefined) booleanOf(internal, `${key}.internal`)
      if (ipv6 !== undefined && !booleanOf(ipv6, `${key}.enable_ipv6`)) {
        throw new InvalidInput(`${key}.enable_ipv6`, 'networks are IPv6 here: take it away')
      }
      return [name, prefixOf(given(fields, 'ipam') ?? null, `${key}.ipam`, remarks)]
    }),
  )
}

function prefixOf(ipam: Json, key: string, remarks: Remarks): DeclaredNetwork {
  const config = given(fieldsOf(ipam, key, ['config']), 'config')
  const found: { prefix: string; subnetKey: string }[] = []
  for (const [index, item] of (config === undefined ? [] : listOf(config, `${key}.config`)).entries()) {
    const subnetKey = `${key}.config[${index}].subnet`
    const subnet = given(fieldsOf(item, `${key}.config[${index}]`, ['subnet']), 'subnet')
    const prefix = subnet === undefined ? undefined : textOf(subnet, subnetKey)
    if (prefix === undefined) continue
    if (/^\d+(\.\d+){3}\/\d+$/.test(prefix)) remarks.note(subnetKey, 'is not given: networks are IPv6 here')
    else found.push({ prefix, subnetKey })
  }
  const [first, second] = found
  if (second) throw new InvalidInput(second.subnetKey, 'a network has one IPv6 subnet')
  return first
    ? { spec: { prefix: first.prefix }, subnetKey: first.subnetKey }
    : { spec: {}, subnetKey: `${key}.config` }
}

export interface ServiceNetworks {
  readonly sandbox: 'instance' | 'own'
  readonly memberships: NonNullable<ServiceInput['networks']>
  /** Whether it names no network, so that it is on the default one. */
  readonly implicit: boolean
}

/** `networks`, `network_mode` and `container_name` of a service. */
export function networksOfService(
  service: JsonMap,
  key: string,
  entry: string,
  declared: ReadonlyMap<string, DeclaredNetwork>,
  remarks: Remarks,
): ServiceNetworks {
  const isEntry = key === `services.${entry}`
  const [mode, networks] = [given(service, 'network_mode'), given(service, 'networks')]
  if (mode !== undefined) {
    if (networks !== undefined) throw new InvalidInput(`${key}.network_mode`, 'cannot stand beside networks')
    return modeOfNetwork(textOf(mode, `${key}.network_mode`), `${key}.network_mode`, isEntry, entry)
  }
  const memberships = networks === undefined ? [] : membershipsOf(networks, `${key}.networks`, declared, remarks)
  const sandbox = isEntry ? 'instance' : 'own'
  const alias = containerAlias(service, key, remarks)
  const implicit = memberships.length === 0
  const all = implicit ? [[DEFAULT_NETWORK, { aliases: [] }] as const] : memberships
  const named = all.map(([name, { aliases, ...rest }]) => [name, { ...rest, aliases: [...aliases, ...alias] }])
  return { sandbox, memberships: Object.fromEntries(named), implicit }
}

function modeOfNetwork(mode: string, key: string, isEntry: boolean, entry: string): ServiceNetworks {
  if (mode === 'host')
    throw new InvalidInput(key, 'is refused: in the network of the host there is no address of an instance')
  if (mode === 'none' && !isEntry) return { sandbox: 'own', memberships: {}, implicit: false }
  if (mode === `service:${entry}` && !isEntry) return { sandbox: 'instance', memberships: {}, implicit: false }
  if (isEntry) throw new InvalidInput(key, 'clients reach the entry: it has the network of the instance')
  throw new InvalidInput(key, `expected none, or service:${entry}, which is the entry`)
}

type Membership = { readonly aliases: readonly string[]; readonly address?: string }

function membershipsOf(
  value: Json,
  key: string,
  declared: ReadonlyMap<string, DeclaredNetwork>,
  remarks: Remarks,
): readonly (readonly [string, Membership])[] {
  const check = (name: string, at: string): string => {
    if (declared.has(name) || name === DEFAULT_NETWORK) return name
    throw new InvalidInput(at, `there is no network ${name}: declare it in the top-level networks`)
  }
  if (isList(value)) {
    return textsOf(value, key).map(({ text, key: at }) => [check(text, at), { aliases: [] }] as const)
  }
  return Object.entries(mapOf(value, key)).map(([name, entry]) => {
    const at = `${key}.${check(name, `${key}.${name}`)}`
    const fields = fieldsOf(entry, at, ['aliases', 'ipv6_address', 'ipv4_address'])
    const [aliases, address] = [given(fields, 'aliases'), given(fields, 'ipv6_address')]
    if (given(fields, 'ipv4_address') !== undefined) {
      remarks.note(`${at}.ipv4_address`, 'is not given: networks are IPv6 here')
    }
    const names = aliases === undefined ? [] : textsOf(aliases, `${at}.aliases`).map(({ text }) => text)
    return [
      name,
      {
        aliases: [...new Set(names)],
        ...(address === undefined ? {} : { address: textOf(address, `${at}.ipv6_address`) }),
      },
    ] as const
  })
}

/** Others find a service by its `container_name`, too. */
function containerAlias(service: JsonMap, key: string, remarks: Remarks): readonly string[] {
  const value = given(service, 'container_name')
  if (value === undefined) return []
  const at = `${key}.container_name`
  const name = textOf(value, at)
  remarks.note(at, 'names no container: it is a further name of the service on its networks')
  if (`services.${name}` === key) return []
  if (/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name)) return [name]
  remarks.note(at, `${name} is not a host name, so that nobody finds the service by it: use the name of the service`)
  return []
}
