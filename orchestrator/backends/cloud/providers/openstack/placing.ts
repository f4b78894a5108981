import { InvalidInput } from '../../../../../common/errors.ts'
import { Refused } from '../../http.ts'
import type { Sharing } from '../sharing.ts'
import type { Neutron, Port } from './neutron.ts'
import type { OpenStackSettings } from './settings.ts'

/** The network side of our machines: network, security groups and ports. */
export interface Placing {
  /** The port of an instance: its address is fixed before there is a machine. Made with all that it needs. */
  port(instance: string, admit: string, signal: AbortSignal): Promise<Port>
  /** Removes a port. */
  remove(port: string, signal: AbortSignal): Promise<void>
  /** The ports that machines have, by the machines' ids. */
  portsOf(machine: string, signal: AbortSignal): Promise<readonly Port[]>
  /** Removes what none of our machines uses any more. @param spared instances whose machines are being made */
  tidy(spared: ReadonlySet<string>, signal: AbortSignal): Promise<void>
  /** Null: all is well; else what is wrong with the network of the settings. */
  fault(signal: AbortSignal): Promise<string | null>
}

/** Of the body of a port. */
interface Place {
  readonly network_id: string
  readonly fixed_ips?: readonly { readonly subnet_id: string }[]
}

export function createPlacing(
  neutron: Neutron,
  settings: OpenStackSettings,
  installation: string,
  turns: Sharing,
): Placing {
  const ours = { description: `orchestrator-installation=${installation}` }
  const prefix = `orchestrator-${installation}`
  /** The network and the groups by the addresses that they admit, as long as nobody removes them. */
  let place: Place | null = null
  const groups = new Map<string, string>()
  const forget = () => {
    place = null
    groups.clear()
  }
  const portName = (instance: string) => `${prefix}-${instance}`
  const first = <T extends { readonly id: string }>(things: readonly T[]): T | undefined =>
    things.toSorted((a, b) => (a.id < b.id ? -1 : 1))[0]

  /** By name or id. @throws InvalidInput naming the setting */
  const named = async <T extends { readonly id: string }>(
    field: 'network' | 'router' | 'subnetPool',
    look: (filter: Readonly<Record<string, string>>, signal: AbortSignal) => Promise<readonly T[]>,
    signal: AbortSignal,
  ): Promise<T> => {
    const wanted = settings[field] ?? ''
    const found = await look({ name: wanted }, signal)
    if (found.length > 1) {
      throw new InvalidInput(
        `settings.provider.${field}`,
        `the cloud has ${found.length} named ${wanted}: write the id`,
      )
    }
    const [one = first(await look({ id: wanted }, signal))] = found
    if (one !== undefined) return one
    throw new InvalidInput(`settings.provider.${field}`, `the cloud shows this project none of name or id ${wanted}`)
  }

  const given = async (signal: AbortSignal): Promise<Place> => {
    const { id } = await named('network', neutron.networks, signal)
    if ((await neutron.subnets({ network_id: id, ip_version: '6' }, signal)).length > 0) return { network_id: id }
    throw new InvalidInput(
      'settings.provider.network',
      `${settings.network} has no IPv6 subnet, and the path of clients is IPv6`,
    )
  }

  /** The one of before, as far as it got, is gone on with. */
  const made = async (signal: AbortSignal): Promise<Place> => {
    const router = await named('router', neutron.routers, signal)
    const known = first(await neutron.subnets(ours, signal))
    const network =
      known?.network_id ??
      first(await neutron.networks(ours, signal))?.id ??
      (await neutron.createNetwork(prefix, ours.description, signal))
    const subnet = known?.id ?? (await neutron.createSubnet(await subnetOf(network, signal), signal))
    await neutron.attach(router.id, subnet, signal)
    // An address of this subnet, and no other: it is the one that the router leads to.
    return { network_id: network, fixed_ips: [{ subnet_id: subnet }] }
  }

  const subnetOf = async (network: string, signal: AbortSignal): Promise<Readonly<Record<string, unknown>>> => {
    const { prefix: cidr, addressing } = settings
    const pool = cidr === undefined ? (await named('subnetPool', neutron.subnetPools, signal)).id : undefined
    return {
      ...{ network_id: network, name: prefix, ...ours, ip_version: 6 },
      ...{ ipv6_address_mode: addressing, ipv6_ra_mode: addressing },
      ...(cidr === undefined ? { subnetpool_id: pool, prefixlen: 64 } : { cidr }),
    }
  }

  const group = async (admit: string, signal: AbortSignal): Promise<string> => {
    const name = `${prefix}-${admit}`
    const found = first(await neutron.groups({ ...ours, name }, signal))
    const id = found?.id ?? (await neutron.createGroup(name, ours.description, signal))
    // Whoever made it may have crashed before this.
    const admitted = found?.security_group_rules.some((rule) => rule.remote_ip_prefix === `${admit}/128`)
    if (!admitted) await neutron.admit(id, admit, signal)
    return id
  }

  const makePort = async (instance: string, admit: string, signal: AbortSignal): Promise<Port> => {
    const name = portName(instance)
    const known = first(await neutron.ports({ ...ours, name }, signal))
    if (known !== undefined) return known
    const found = groups.get(admit) ?? (await group(admit, signal))
    groups.set(admit, found)
    place ??= await (settings.network === undefined ? made(signal) : given(signal))
    try {
      return await neutron.createPort({ name, ...ours, ...place, security_groups: [found] }, signal)
    } catch (error) {
      // Somebody may have removed what we remember.
      if (error instanceof Refused) forget()
      throw error
    }
  }

  const removeNetwork = async (signal: AbortSignal): Promise<void> => {
    for (const { id } of await neutron.subnets(ours, signal)) {
      const inside = await neutron.ports({ fixed_ips: `subnet_id=${id}` }, signal)
      // Somebody else's machine is on it: without its router it would be cut off.
      if (inside.some(({ device_owner }) => !device_owner.startsWith('network:'))) return
      for (const { device_id: router } of inside.filter(isOfRouter)) await neutron.detach(router, id, signal)
      await neutron.delete('subnets', id, signal)
    }
    for (const { id } of await neutron.networks(ours, signal)) await neutron.delete('networks', id, signal)
  }

  return {
    port: (instance, admit, signal) => turns.alone(() => makePort(instance, admit, signal), signal),
    async remove(port, signal) {
      await neutron.delete('ports', port, signal)
    },
    portsOf: (machine, signal) => neutron.ports({ ...ours, device_id: machine }, signal),
    tidy: (spared, signal) =>
      turns.alone(async () => {
        const used = new Set([...spared].map(portName))
        const all = await neutron.ports(ours, signal)
        const idle = all.filter(({ name, device_id }) => device_id === '' && !used.has(name))
        for (const { id } of idle) await neutron.delete('ports', id, signal)
        const left = all.filter((port) => !idle.includes(port))
        const inUse = new Set(left.flatMap((port) => port.security_groups))
        forget()
        for (const { id } of await neutron.groups(ours, signal)) {
          if (!inUse.has(id)) await neutron.delete('security-groups', id, signal)
        }
        if (left.length === 0 && settings.network === undefined) await removeNetwork(signal)
      }, signal),
    async fault(signal) {
      try {
        if (settings.network !== undefined) await given(signal)
        else {
          await named('router', neutron.routers, signal)
          if (settings.subnetPool !== undefined) await named('subnetPool', neutron.subnetPools, signal)
        }
        return null
      } catch (error) {
        if (error instanceof InvalidInput) return error.message
        throw error
      }
    },
  }
}

function isOfRouter({ device_owner }: Port): boolean {
  return device_owner.startsWith('network:router_interface')
}
