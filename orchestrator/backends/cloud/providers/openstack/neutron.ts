import { z } from 'zod'
import { type Services, unless } from './answers.ts'

const portShape = z.looseObject({
  id: z.string(),
  name: z.string(),
  network_id: z.string(),
  device_id: z.string(),
  device_owner: z.string(),
  security_groups: z.array(z.string()),
  fixed_ips: z.array(z.looseObject({ subnet_id: z.string(), ip_address: z.string() })),
})
export type Port = z.infer<typeof portShape>
const named = z.looseObject({ id: z.string(), name: z.string() })
const networkShape = z.looseObject({ id: z.string(), name: z.string(), subnets: z.array(z.string()).default([]) })
const subnetShape = z.looseObject({ id: z.string(), name: z.string(), ip_version: z.number(), network_id: z.string() })
export type Subnet = z.infer<typeof subnetShape>
const ruleShape = z.looseObject({
  id: z.string(),
  direction: z.string(),
  remote_ip_prefix: z.string().nullish(),
})
const groupShape = z.looseObject({ id: z.string(), name: z.string(), security_group_rules: z.array(ruleShape) })
export type Group = z.infer<typeof groupShape>
const one = (key: string) => z.looseObject({ [key]: z.looseObject({ id: z.string() }) })

/** What stands under `?description=…` of each list: the mark of what we made. */
type Filter = Readonly<Record<string, string>>
type Kind = 'ports' | 'security-groups' | 'networks' | 'subnets'

/** Neutron (Networking API v2.0). Descriptions mark what is ours: they are set when a thing is made, unlike its tags. */
export interface Neutron {
  ports(filter: Filter, signal: AbortSignal): Promise<readonly Port[]>
  createPort(port: Readonly<Record<string, unknown>>, signal: AbortSignal): Promise<Port>
  groups(filter: Filter, signal: AbortSignal): Promise<readonly Group[]>
  /** @returns its id */
  createGroup(name: string, description: string, signal: AbortSignal): Promise<string>
  /** Lets everything in that comes from an address. */
  admit(group: string, address: string, signal: AbortSignal): Promise<void>
  networks(filter: Filter, signal: AbortSignal): Promise<readonly z.infer<typeof networkShape>[]>
  createNetwork(name: string, description: string, signal: AbortSignal): Promise<string>
  subnets(filter: Filter, signal: AbortSignal): Promise<readonly Subnet[]>
  createSubnet(subnet: Readonly<Record<string, unknown>>, signal: AbortSignal): Promise<string>
  /** By name or id. */
  routers(filter: Filter, signal: AbortSignal): Promise<readonly z.infer<typeof named>[]>
  subnetPools(filter: Filter, signal: AbortSignal): Promise<readonly z.infer<typeof named>[]>
  attach(router: string, subnet: string, signal: AbortSignal): Promise<void>
  detach(router: string, subnet: string, signal: AbortSignal): Promise<void>
  /** Gone already is success. @returns false: something still uses it */
  delete(kind: Kind, id: string, signal: AbortSignal): Promise<boolean>
}

export function createNeutron(services: Services): Neutron {
  const list = <T extends { readonly id: string }>(path: string, shape: z.ZodType<T>) => {
    const key = path.replaceAll('-', '_')
    return (filter: Filter, signal: AbortSignal) =>
      services.list('network', `/${path}?${new URLSearchParams(filter)}`, key, shape, signal)
  }
  const create = async (kind: Kind, key: string, body: object, signal: AbortSignal): Promise<string> => {
    const call = { method: 'POST', path: `/${kind}`, body: { [key]: body } } as const
    return (await services.ask('network', call, one(key), signal))[key]?.id ?? ''
  }
  const onRouter = (router: string, action: string, subnet: string, signal: AbortSignal) => {
    const path = `/routers/${router}/${action}_router_interface`
    return services.tell('network', { method: 'PUT', path, body: { subnet_id: subnet }, repeatable: false }, signal)
  }
  return {
    ports: list('ports', portShape),
    async createPort(port, signal) {
      const call = { method: 'POST', path: '/ports', body: { port } } as const
      return (await services.ask('network', call, z.looseObject({ port: portShape }), signal)).port
    },
    groups: list('security-groups', groupShape),
    createGroup: (name, description, signal) =>
      create('security-groups', 'security_group', { name, description }, signal),
    async admit(group, address, signal) {
      const security_group_rule = {
        ...{ security_group_id: group, direction: 'ingress', ethertype: 'IPv6' },
        remote_ip_prefix: `${address}/128`,
      }
      const call = { method: 'POST', path: '/security-group-rules', body: { security_group_rule } } as const
      await unless([409], services.tell('network', call, signal))
    },
    networks: list('networks', networkShape),
    createNetwork: (name, description, signal) => create('networks', 'network', { name, description }, signal),
    subnets: list('subnets', subnetShape),
    createSubnet: (subnet, signal) => create('subnets', 'subnet', subnet, signal),
    routers: list('routers', named),
    subnetPools: list('subnetpools', named),
    // Attached already: Neutron answers 400 to an address of it that the router has.
    async attach(router, subnet, signal) {
      await unless([400], onRouter(router, 'add', subnet, signal))
    },
    async detach(router, subnet, signal) {
      await unless([400, 404], onRouter(router, 'remove', subnet, signal))
    },
    async delete(kind, id, signal) {
      const call = { method: 'DELETE', path: `/${kind}/${id}` } as const
      const gone = await unless([409], unless([404], services.tell('network', call, signal)))
      return gone
    },
  }
}
