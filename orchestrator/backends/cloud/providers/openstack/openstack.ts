import { InvalidInput } from '../../../../../common/errors.ts'
import type { TargetCheck } from '../../../backend.ts'
import {
  type CloudMachine,
  type MachineOrder,
  type Provider,
  type ProviderContext,
  type ProviderKind,
  TAG,
} from '../../provider.ts'
import { createSharing } from '../sharing.ts'
import { createServices, isSure } from './answers.ts'
import { createCatalogue } from './catalogue.ts'
import { createNeutron, type Port } from './neutron.ts'
import { createNova, type Server } from './nova.ts'
import { createPlacing } from './placing.ts'
import { createSession, NOVA_MICROVERSION } from './session.ts'
import { type OpenStackSettings, openStackSettings } from './settings.ts'

/** Characters of user data in base64 (Compute API, "Create server"). */
const USER_DATA_CHARACTERS = 65_535
/** Lines of a console that are asked for. */
const CONSOLE_LINES = 500
/** Milliseconds between two looks at a server that is being deleted. */
const LOOK_MS = 500
/** States of Nova (Compute API, "Server status") that are neither the beginning nor the end. */
const RUNNING = new Set([
  ...['ACTIVE', 'REBOOT', 'HARD_REBOOT', 'PASSWORD', 'RESIZE', 'VERIFY_RESIZE', 'REVERT_RESIZE', 'MIGRATING'],
])

export const provider: ProviderKind = {
  bootBytes: Math.floor(USER_DATA_CHARACTERS / 4) * 3,
  create: (settings, context) => createOpenStack(openStackSettings(settings), context),
}

/** One region of an OpenStack: Keystone v3, Nova, Neutron and Glance. */
export function createOpenStack(settings: OpenStackSettings, context: ProviderContext): Provider {
  const { installation, clock, target } = context
  const session = createSession(settings, context)
  const services = createServices(session, target)
  const nova = createNova(services)
  const placing = createPlacing(createNeutron(services), settings, installation, createSharing())
  const catalogue = createCatalogue(services, nova, clock)
  const ours = tag(TAG.installation, installation)
  const making = new Set<string>()

  const create = async (order: MachineOrder, signal: AbortSignal): Promise<CloudMachine> => {
    const { instance } = order
    const [known] = await nova.servers([ours, tag(TAG.instance, instance)], signal)
    if (known !== undefined) return machineOf(known)
    const [flavor, image] = [await catalogue.flavor(order.size, signal), await catalogue.image(order.image, signal)]
    const port = await placing.port(instance, order.admit, signal)
    const held = port.device_id === '' ? null : await nova.server(port.device_id, signal)
    if (held !== null) return machineOf(held)
    if (addressOf(port) === null) {
      await placing.remove(port.id, signal)
      throw new InvalidInput('settings.provider.network', 'its port got no IPv6 address: see to its IPv6 subnet')
    }
    try {
      const tags = [ours, tag(TAG.instance, instance)]
      const { availabilityZone, keyName, configDrive } = settings
      const request = {
        ...{ name: order.name, flavor, image, port: port.id, metadata: order.tags, tags },
        ...{ userData: order.bootData, configDrive, availabilityZone, keyName },
      }
      await order.asking()
      const id = await nova.create(request, signal)
      return {
        ...{ id, instance, generation: order.generation },
        state: 'starting',
        address: addressOf(port),
        createdAt: clock.now(),
      }
    } catch (error) {
      // What may have taken effect is found by its tags or its port.
      if (!isSure(error)) throw error
      // A request that came twice is refused for the port that the first one took.
      const [made] = await nova.servers([ours, tag(TAG.instance, instance)], signal)
      if (made !== undefined) return machineOf(made)
      await placing.remove(port.id, signal)
      throw error
    }
  }

  return {
    async list(signal) {
      const all = [...(await nova.servers([ours], signal))]
      for (const [at, server] of all.entries()) {
        // Why no host was found for it is told of single servers alone.
        if (server.status !== 'ERROR' || server.fault !== undefined) continue
        all[at] = (await nova.server(server.id, signal)) ?? server
      }
      return withoutTwins(all.map(machineOf))
    },

    async create(order, signal) {
      if (order.spot) throw new InvalidInput('options.spot', 'OpenStack has no market; leave it out')
      making.add(order.instance)
      try {
        return await create(order, signal)
      } finally {
        making.delete(order.instance)
      }
    },

    async delete(id, signal) {
      const ports = await placing.portsOf(id, signal)
      await nova.delete(id, signal)
      while ((await nova.server(id, signal)) !== null) await clock.wait(LOOK_MS, signal)
      for (const port of ports) await placing.remove(port.id, signal)
    },

    tidy: (signal) => placing.tidy(making, signal),
    console: (id, signal) => nova.console(id, CONSOLE_LINES, signal),
    price: (size) => context.prices[size] ?? null,

    async check(signal): Promise<TargetCheck> {
      const { roles } = await session.scope(signal)
      const { most, least } = await nova.versions(signal)
      const network = await placing.fault(signal)
      const limits = await nova.limits(signal)
      const left = (used: number, all: number) => (all < 0 ? 'any number' : `${Math.max(0, all - used)} of ${all}`)
      const missing = [...tooOldOrNew(most, least), ...(network === null ? [] : [network])]
      if (roles.length > 0 && roles.every((role) => role === 'reader')) {
        missing.push('the credential may only read (role reader): give it the role member')
      }
      if (limits.maxTotalInstances >= 0 && limits.totalInstancesUsed >= limits.maxTotalInstances) {
        missing.push(`the quota of ${limits.maxTotalInstances} instances is used up: have it raised`)
      }
      return {
        version: `OpenStack Nova ${most} (we speak ${NOVA_MICROVERSION}) in ${settings.region}`,
        abilities: [
          `roles ${roles.toSorted().join(', ')}`,
          `${left(limits.totalInstancesUsed, limits.maxTotalInstances)} instances left`,
          `${left(limits.totalCoresUsed, limits.maxTotalCores)} cores left`,
          `${left(limits.totalRAMUsed, limits.maxTotalRAMSize)} MiB of memory left`,
        ],
        missing,
      }
    },
    async close() {},
  }
}

/** A tag of a server: Nova's lists find these, not its metadata. At most 60 characters, no `/` and `,` (Compute API). */
function tag(key: string, value: string): string {
  return `${key}=${value}`
}

function machineOf(server: Server): CloudMachine {
  const { id, metadata, fault } = server
  const addresses = Object.values(server.addresses).flat()
  const detail = fault?.message
  return {
    id,
    instance: metadata[TAG.instance] ?? '',
    generation: Number(metadata[TAG.generation] ?? 0),
    state: stateOf(server),
    address: addresses.find(({ version }) => version === 6)?.addr ?? null,
    createdAt: Date.parse(server.created),
    ...(detail !== undefined && { detail, noRoom: /no valid host/i.test(detail) }),
  }
}

/**
 * A request that was carried out twice makes two servers on one port. Whichever of them fails, or is deleted, makes Nova take
 * the port from the other (nova/network/neutron.py, deallocate_for_instance: ports that were given are unbound, whoever has
 * them), which goes on to be ACTIVE, cut off: neither is one to keep. Where there was no room for one, that is what is told.
 */
function withoutTwins(machines: readonly CloudMachine[]): readonly CloudMachine[] {
  const standing = Map.groupBy(
    machines.filter(({ state }) => state !== 'ending'),
    ({ instance }) => instance,
  )
  return machines.map((machine) => {
    if (machine.state === 'ending' || standing.get(machine.instance)?.length === 1) return machine
    const detail = machine.noRoom
      ? machine.detail
      : 'two servers were made on its port, which is one server alone to have'
    return { ...machine, state: 'failed', spoiled: true, detail }
  })
}

function stateOf(server: Server): CloudMachine['state'] {
  const { status } = server
  if (server['OS-EXT-STS:task_state'] === 'deleting' || /DELETED$/.test(status)) return 'ending'
  if (status === 'ERROR') return 'failed'
  if (status === 'BUILD' || status === 'REBUILD') return 'starting'
  return RUNNING.has(status) ? 'running' : 'stopped'
}

function addressOf({ fixed_ips }: Port): string | null {
  return fixed_ips.find(({ ip_address }) => ip_address.includes(':'))?.ip_address ?? null
}

/** Microversions are compared by their numbers: 2.9 is older than 2.52. */
function tooOldOrNew(most: string, least: string): string[] {
  const number = (version: string) => Number(version.split('.')[1] ?? 0)
  const ours = number(NOVA_MICROVERSION)
  if (number(least) <= ours && ours <= number(most)) return []
  return [
    `Nova speaks ${least} to ${most}, and we need ${NOVA_MICROVERSION}: upgrade ${ours > number(most) ? 'the cloud' : 'the orchestrator'}`,
  ]
}
