import { z } from 'zod'
import { InvalidInput } from './errors.ts'
import { contains, type Prefix, parseIpv6, parsePrefix } from './ipv6.ts'

/**
 * Private networks of a client: isolated bridges behind its instance. One shape for templates and for the messages
 * between the daemons.
 */

/** Name of a network: also a label in the names of its members, `db.NAME.internal`. */
const networkName = z.string().regex(/^[a-z0-9]([a-z0-9_-]{0,29}[a-z0-9])?$/, 'expected a-z, 0-9, - and _, at most 31')
const hostName = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?){0,7}$/, 'expected a host name')
  .max(253)

/** Bits of a prefix that a template may give: at least a few addresses, and no more than a site's whole network. */
const PREFIX_LENGTH = { least: 48, most: 120 } as const
/** RFC 4193: nobody else routes to them, so that a private network hides nothing that exists. */
const UNIQUE_LOCAL = parsePrefix('fc00::/7')

const network = z.strictObject({
  /** Absent: a /64 of unique local addresses (RFC 4193) that follows from the client and the network's name. */
  prefix: z.string().optional(),
})

const membership = z.strictObject({
  /** Absent: follows from instance, service and network. Only in a network whose prefix is given. */
  address: z.string().optional(),
  /** Names beside that of the service. */
  aliases: z.array(hostName).max(16).default([]),
})

/** The private networks of an instance, by name. */
export const networksShape = z
  .record(networkName, network)
  .refine((all) => Object.keys(all).length <= 16, 'expected at most 16 networks')

/** The networks that a service is on, by name. */
export const membershipsShape = z.record(networkName, membership)

/**
 * Whose network namespace a service runs in: that of the instance, which its owner reaches; or one of its own, which has
 * nothing but its private networks.
 */
export const sandboxShape = z.enum(['instance', 'own'])

export type NetworkSpecs = z.infer<typeof networksShape>
export type Memberships = z.infer<typeof membershipsShape>
export type SandboxChoice = z.infer<typeof sandboxShape>

/** What the rules below look at of a service. */
export interface Networked {
  readonly name: string
  readonly sandbox?: SandboxChoice | undefined
  readonly networks?: Memberships | undefined
}

/** A fault in how services and networks go together. */
export interface NetworkFault {
  readonly path: readonly (string | number)[]
  readonly message: string
}

/** The name of the sandbox of a service: its own name, or '' for that of the instance. */
export function sandboxOf(service: Networked): string {
  return service.sandbox === 'own' ? service.name : ''
}

/**
 * Every fault in how services and networks go together, such as a network that nobody declared.
 * @param servicePath where a service stands in the text that the operator wrote
 */
export function networkFaults(
  services: readonly Networked[],
  networks: NetworkSpecs,
  servicePath: (service: Networked) => readonly (string | number)[],
): NetworkFault[] {
  const faults: NetworkFault[] = []
  const [entry] = services
  if (entry?.sandbox === 'own') {
    const message = 'the first service is the one that the client reaches: it runs in the sandbox of the instance'
    faults.push({ path: [...servicePath(entry), 'sandbox'], message })
  }
  const { prefixes, faults: prefixFaults } = parsePrefixes(networks)
  faults.push(...prefixFaults)
  const taken = new Map<string, string>()
  const chosen = new Map<string, string>()
  for (const service of services) {
    for (const [name, { address }] of Object.entries(service.networks ?? {})) {
      const path = [...servicePath(service), 'networks', name]
      if (!Object.hasOwn(networks, name)) faults.push({ path, message: 'there is no such network in wiring.networks' })
      else if (address !== undefined) {
        const message = addressFault(address, prefixes.get(name), (text) => {
          const [key, seat] = [`${name} ${text}`, `${name} ${sandboxOf(service)}`]
          const before = taken.get(key)
          const other = chosen.get(seat)
          taken.set(key, seat)
          chosen.set(seat, text)
          if (before !== undefined && before !== seat) return 'another service has this address'
          return other !== undefined && other !== text
            ? `services that share a sandbox share its address, ${other}`
            : null
        })
        if (message !== null) faults.push({ path: [...path, 'address'], message })
      }
    }
  }
  return faults
}

/** Whether two prefixes have an address in common. */
export function overlap(a: Prefix, b: Prefix): boolean {
  return a.length <= b.length ? contains(a, b.base) : contains(b, a.base)
}

function parsePrefixes(networks: NetworkSpecs): { prefixes: ReadonlyMap<string, Prefix>; faults: NetworkFault[] } {
  const prefixes = new Map<string, Prefix>()
  const faults: NetworkFault[] = []
  for (const [name, { prefix }] of Object.entries(networks)) {
    if (prefix === undefined) continue
    const path = ['wiring', 'networks', name, 'prefix']
    const parsed = attempt(() => parsePrefix(prefix))
    const message = 'fault' in parsed ? parsed.fault : prefixFault(parsed.value, prefixes)
    if (message !== null) faults.push({ path, message })
    if ('value' in parsed) prefixes.set(name, parsed.value)
  }
  return { prefixes, faults }
}

function prefixFault(prefix: Prefix, others: ReadonlyMap<string, Prefix>): string | null {
  const { least, most } = PREFIX_LENGTH
  if (prefix.length < least || prefix.length > most) return `expected a length of ${least} to ${most} bits`
  if (!contains(UNIQUE_LOCAL, prefix.base)) return 'expected unique local addresses: a prefix within fc00::/7'
  const other = [...others].find(([, taken]) => overlap(taken, prefix))
  return other === undefined ? null : `expected a prefix that does not overlap that of ${other[0]}`
}

function addressFault(
  text: string,
  prefix: Prefix | undefined,
  seat: (address: string) => string | null,
): string | null {
  if (prefix === undefined) return 'an address can be given only in a network whose prefix is given'
  const parsed = attempt(() => parseIpv6(text))
  if ('fault' in parsed) return parsed.fault
  // The first address of a prefix is every router's (RFC 4291, 2.6.1).
  if (!contains(prefix, parsed.value) || parsed.value === prefix.base) {
    return `expected an address of ${prefix.base}/${prefix.length}, and not its first`
  }
  return seat(parsed.value)
}

/** What `work` gives, or the words in which it refuses. */
function attempt<T>(work: () => T): { readonly value: T } | { readonly fault: string } {
  try {
    return { value: work() }
  } catch (error) {
    if (!(error instanceof InvalidInput)) throw error
    return { fault: error.message.slice(error.field.length + 2) }
  }
}
