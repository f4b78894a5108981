import { createHash } from 'node:crypto'
import { InvalidInput } from '../../common/errors.ts'
import { formatPrefix, type Ipv6, join, type Prefix, parseIpv6, parsePrefix } from '../../common/ipv6.ts'
import { overlap, sandboxOf } from '../../common/private-networks.ts'
import type { WireOrder } from '../contract.ts'

/** One sandbox of an instance on one of its private networks. */
export interface PlannedMember {
  /** Name of the sandbox: that of its service, or '' for that of the instance. */
  readonly sandbox: string
  readonly port: string
  readonly interface: string
  readonly mac: string
  readonly address: Ipv6
  /** Host names that lead to it: those of its services, and their aliases. */
  readonly names: readonly string[]
}

/** One private network of an instance. */
export interface PlannedNetwork {
  readonly name: string
  readonly bridge: string
  readonly prefix: Prefix
  readonly members: readonly PlannedMember[]
}

/** The private networks of one instance, down to every name and address: the same order always has the same. */
export interface NetworkPlan {
  /** Owner, as the label of its hub holds it. */
  readonly owner: string
  /** With which the names of the instance's ports in the hub begin. */
  readonly scope: string
  readonly networks: readonly PlannedNetwork[]
}

/** What an instance can reach beside its private networks; none of these may hide any of it. */
export interface Surroundings {
  /** The prefix of the instances' bridge. */
  readonly instances: Prefix
  /** The address behind `my.instance`. */
  readonly myAddress: Ipv6
}

/** The names that every member resolves: those without a domain and those with this one, which is never looked up (ICANN, 2024). */
const DOMAIN = 'internal'
/** Attempts to derive what is not taken yet; two in a row that fail are already as good as impossible. */
const ATTEMPTS = 16

/** How the owner of an order is named in labels. */
export function ownerKey(order: Pick<WireOrder, 'owner'>): string {
  return `${order.owner.duid}/${order.owner.iaid}`
}

/** With which the names of an instance's ports in the hub begin. */
export function scopeOf(instance: string): string {
  return `m${digest(['scope', instance]).slice(0, 7)}`
}

/** Whether an order has a private network with somebody on it. */
export function hasNetworks(order: WireOrder): boolean {
  return order.services.some((service) => Object.keys(service.networks ?? {}).length > 0)
}

/** Whether a sandbox of an order is on any private network. */
export function isMember(order: WireOrder, sandbox: string): boolean {
  return hasNetworks({ ...order, services: order.services.filter((service) => sandboxOf(service) === sandbox) })
}

/** @throws InvalidInput naming the network whose prefix would hide what the instance has to reach */
export function planNetworks(order: WireOrder, around: Surroundings): NetworkPlan {
  const owner = ownerKey(order)
  const scope = scopeOf(order.instance)
  const single = (address: string): Prefix => ({ base: parseIpv6(address), length: 128 })
  const taken = [around.instances, single(around.myAddress), single(order.ownerAddress), single(order.address)]
  const specs = Object.entries(order.wiring?.networks ?? {})
  const given = new Map<string, Prefix>()
  for (const [name, { prefix }] of specs) {
    if (prefix === undefined) continue
    const parsed = parsePrefix(prefix)
    const hidden = taken.find((other) => overlap(other, parsed))
    if (hidden) {
      const field = `wiring.networks.${name}.prefix`
      throw new InvalidInput(field, `${prefix} would hide ${formatPrefix(hidden)}; choose another prefix`)
    }
    given.set(name, parsed)
  }
  taken.push(...given.values())
  const networks = specs.map(([name]) => {
    const prefix = given.get(name) ?? derivePrefix(owner, name, taken)
    taken.push(prefix)
    return { name, bridge: shortName('br-', name), prefix, members: membersOf(order, name, prefix, scope) }
  })
  return { owner, scope, networks: networks.filter((network) => network.members.length > 0) }
}

/**
 * A hosts file for one sandbox: who is on its networks, itself included. Null: it is on none, and the file that the
 * engine makes will do.
 * @param further names and addresses beside those
 */
export function hostsFile(
  plan: NetworkPlan,
  sandbox: string,
  further: readonly { readonly name: string; readonly address: string }[] = [],
): string | null {
  const mine = plan.networks.filter((network) => network.members.some((member) => member.sandbox === sandbox))
  if (mine.length + further.length === 0) return null
  const lines = mine.flatMap(({ name, members }) =>
    members.map((member) => {
      const full = member.names.filter((n) => !n.includes('.')).map((n) => `${n}.${name}.${DOMAIN}`)
      return [member.address, ...member.names, ...full].join(' ')
    }),
  )
  const loopback = ['127.0.0.1 localhost', '::1 localhost ip6-localhost ip6-loopback']
  return `${[...loopback, ...lines, ...further.map(({ name, address }) => `${address} ${name}`)].join('\n')}\n`
}

function membersOf(order: WireOrder, network: string, prefix: Prefix, scope: string): PlannedMember[] {
  const bySandbox = Map.groupBy(
    order.services.filter((service) => service.networks?.[network] !== undefined),
    sandboxOf,
  )
  const taken = new Set<Ipv6>()
  const seats = [...bySandbox].map(([sandbox, services]) => {
    const memberships = services.map((service) => service.networks?.[network])
    const address = memberships.find((membership) => membership?.address !== undefined)?.address
    const names = services.flatMap((service, at) => [service.name, ...(memberships[at]?.aliases ?? [])])
    if (address !== undefined) taken.add(parseIpv6(address))
    return { sandbox, address, names: [...new Set(names)] }
  })
  return seats.map(({ sandbox, address, names }) => {
    const identity = digest(['member', order.instance, network, sandbox])
    const own =
      address === undefined ? deriveAddress(order.instance, network, sandbox, prefix, taken) : parseIpv6(address)
    taken.add(own)
    return {
      sandbox,
      port: `${scope}${identity.slice(0, 7)}`,
      interface: shortName('net-', network),
      // Locally administered, of one station (IEEE 802).
      mac: ['02', ...(identity.slice(7, 17).match(/../g) ?? [])].join(':'),
      address: own,
      names,
    }
  })
}

/** A /64 of unique local addresses (RFC 4193, 3.2): global id and subnet follow from owner and name. */
function derivePrefix(owner: string, name: string, taken: readonly Prefix[]): Prefix {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const bits = BigInt(`0xfd${digest(['prefix', owner, name, String(attempt)]).slice(0, 14)}`)
    const base = join({ base: parseIpv6('::'), length: 0 }, bits << 64n)
    const prefix: Prefix = { base, length: 64 }
    if (!taken.some((other) => overlap(other, prefix))) return prefix
  }
  throw new InvalidInput(`wiring.networks.${name}`, 'no free prefix was found; give one')
}

function deriveAddress(
  instance: string,
  network: string,
  sandbox: string,
  prefix: Prefix,
  taken: ReadonlySet<Ipv6>,
): Ipv6 {
  for (let attempt = 0; attempt < ATTEMPTS * 16; attempt++) {
    const host = BigInt(`0x${digest(['address', instance, network, sandbox, String(attempt)]).slice(0, 32)}`)
    const address = join(prefix, host)
    // The first address of a prefix is every router's (RFC 4291, 2.6.1).
    if (address !== prefix.base && !taken.has(address)) return address
  }
  throw new InvalidInput(`wiring.networks.${network}.prefix`, 'no free address was found; give a shorter prefix')
}

/** `prefix` and a name, in the 15 characters of an interface's name; a long one keeps its beginning and gets a digest. */
function shortName(prefix: string, name: string): string {
  const whole = `${prefix}${name}`
  return whole.length <= 15 ? whole : `${whole.slice(0, 9)}-${digest(['name', name]).slice(0, 5)}`
}

/** Hexadecimal digits that follow from these texts, whatever characters they hold. */
function digest(texts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(texts)).digest('hex')
}
