import { InvalidInput } from '../../common/errors.ts'
import type { Order } from '../domain/instance.ts'
import type { Json, Template } from '../domain/template.ts'

/**
 * Backends whose instances have one network for all of their services: what Compose says of networks comes true where it
 * is the network that services share anyway.
 */

/** The network of all services that name no other, as in Compose. */
const DEFAULT_NETWORK = 'default'
/** Where every service of such an instance is for the others (RFC 4291, 2.5.3). */
export const LOOPBACK = '::1'

const REMEDY = 'leave it out, or use the backend docker'
const NO_OTHERS = `all services of an instance share one network here, and there are no others: ${REMEDY}`
const NO_OPTIONS = `the one network that all services share here takes no options: ${REMEDY}`
const NO_ADDRESS = `services share one network here and find each other by name, at ${LOOPBACK}: ${REMEDY}`
const NOT_NONE = `all services of an instance share one network here, and none is without: ${REMEDY}`

/**
 * What a template says of networks before any variable has a value; checkNetworks has the last word.
 * @throws InvalidInput naming the key of the Compose file
 */
export function checkTemplateNetworks({ stack, wiring }: Pick<Template, 'stack' | 'wiring'>): void {
  checkDeclared(wiring)
  for (const [name, declared] of Object.entries(mapOf(stack['networks']))) {
    if (name !== DEFAULT_NETWORK) throw new InvalidInput(`networks.${name}`, NO_OTHERS)
    const option = Object.entries(mapOf(declared)).find(([key, value]) => isSaid(key, value))
    if (option !== undefined) throw new InvalidInput(`networks.${name}.${option[0]}`, NO_OPTIONS)
  }
  for (const [name, service] of Object.entries(mapOf(stack['services']))) {
    const { network_mode: mode, networks } = mapOf(service)
    if (mode === 'none') throw new InvalidInput(`services.${name}.network_mode`, NOT_NONE)
    checkMemberships(networks, `services.${name}.networks`)
  }
}

function checkMemberships(networks: Json | undefined, key: string): void {
  if (isList(networks)) {
    const other = networks.findIndex((one) => one !== DEFAULT_NETWORK && !hasVariable(one))
    if (other >= 0) throw new InvalidInput(`${key}[${other}]`, NO_OTHERS)
    return
  }
  for (const [name, membership] of Object.entries(mapOf(networks))) {
    if (name !== DEFAULT_NETWORK) throw new InvalidInput(`${key}.${name}`, NO_OTHERS)
    const { ipv6_address: address = null } = mapOf(membership)
    if (address !== null) throw new InvalidInput(`${key}.${name}.ipv6_address`, NO_ADDRESS)
  }
}

/** What an order asks of networks. @throws InvalidInput naming the key of the Compose file */
export function checkNetworks({ services, wiring }: Pick<Order, 'services' | 'wiring'>): void {
  checkDeclared(wiring)
  for (const { name: service, sandbox, networks = {} } of services) {
    const memberships = Object.entries(networks)
    if (sandbox === 'own' && memberships.length === 0) {
      throw new InvalidInput(`services.${service}.network_mode`, NOT_NONE)
    }
    for (const [name, { address }] of memberships) {
      const key = `services.${service}.networks.${name}`
      if (name !== DEFAULT_NETWORK) throw new InvalidInput(key, NO_OTHERS)
      if (address !== undefined) throw new InvalidInput(`${key}.ipv6_address`, NO_ADDRESS)
    }
  }
}

function checkDeclared(wiring: Order['wiring']): void {
  for (const [name, { prefix }] of Object.entries(wiring?.networks ?? {})) {
    if (name !== DEFAULT_NETWORK) throw new InvalidInput(`networks.${name}`, NO_OTHERS)
    if (prefix !== undefined) throw new InvalidInput(`networks.${name}.ipam`, NO_OPTIONS)
  }
}

/** The names by which services find each other, and themselves, at LOOPBACK: their own and their aliases, each once. */
export function namesOfServices({ services }: Pick<Order, 'services'>): readonly string[] {
  const all = services.flatMap(({ name, networks = {} }) => [
    name,
    ...Object.values(networks).flatMap(({ aliases }) => aliases),
  ])
  return [...new Set(all)]
}

/**
 * Whether an option of a network asks for something: null does not, nor does what is so anyway (the compiler leaves out `driver`
 * and `enable_ipv6`), and extensions (`x-…`) may stand everywhere.
 */
function isSaid(key: string, value: Json): boolean {
  return value !== null && !key.startsWith('x-') && !(key === 'internal' && value === false)
}

function hasVariable(value: Json): boolean {
  return typeof value === 'string' && value.includes('$')
}

function isList(value: Json | undefined): value is readonly Json[] {
  return Array.isArray(value)
}

function mapOf(value: Json | undefined): { readonly [key: string]: Json } {
  return typeof value === 'object' && value !== null && !isList(value) ? value : {}
}
