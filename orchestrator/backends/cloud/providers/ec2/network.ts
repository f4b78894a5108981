import type { Clock } from '../../../../../common/clock.ts'
import { InvalidInput, OrchestratorError } from '../../../../../common/errors.ts'
import type { Turns } from '../../../turns.ts'
import { TAG } from '../../provider.ts'
import type { Tags } from './calls/client.ts'
import type { Ec2Vpc, NetworkCalls } from './calls/network.ts'
import { saysSo } from './failures.ts'
import type { Ec2Settings } from './settings.ts'

/** Where machines go. */
export interface Place {
  readonly subnet: string
  readonly vpc: string
}

/** The network of our machines: that of the settings, or one that we make, tag with the installation, and remove. */
export interface Network {
  /** Makes what is missing. @throws InvalidInput `settings.provider.subnet`; `network-pending` while EC2 has not given it its addresses */
  place(signal: AbortSignal): Promise<Place>
  /** The same without making anything; null: it is still to be made. */
  existing(signal: AbortSignal): Promise<Place | null>
  /** Removes what we made. @returns whether all is gone: a machine that is being deleted may still be in it */
  remove(signal: AbortSignal): Promise<boolean>
  /** The next one looks anew: somebody else changed it. */
  forget(): void
}

/** How often, and how far apart in ms, a new network is asked for its addresses: they come after a second or two. */
const LOOKS = 15
const LOOK_MS = 1000
const EVERYWHERE = '::/0'

export function createNetwork(
  calls: NetworkCalls,
  settings: Pick<Ec2Settings, 'subnet' | 'ipv4Block' | 'zone'>,
  installation: string,
  clock: Clock,
  turns: Turns,
): Network {
  const tags: Tags = { [TAG.installation]: installation, Name: `orchestrator ${installation}` }
  const ours: Tags = { [TAG.installation]: installation }
  let known: Place | null = null

  const given = async (subnet: string, signal: AbortSignal): Promise<Place> => {
    const found = (await calls.subnets({}, { 'subnet-id': subnet }, signal)).find(({ id }) => id === subnet)
    if (found === undefined) throw new InvalidInput('settings.provider.subnet', `there is no ${subnet} in this region`)
    if (!found.ipv6) {
      throw new InvalidInput(
        'settings.provider.subnet',
        `${subnet} has no IPv6 block: give it one, or name a subnet that has`,
      )
    }
    return { subnet, vpc: found.vpc }
  }

  const make = async (signal: AbortSignal): Promise<Place> => {
    const vpc = await madeVpc(signal)
    const inside = { 'vpc-id': vpc.id }
    let subnet = first(await calls.subnets(ours, inside, signal))
    if (subnet === undefined) {
      const ipv6Block = vpc.ipv6Block.replace(/\/\d+$/, '/64')
      const wanted = { vpc: vpc.id, ipv4Block: settings.ipv4Block, ipv6Block, zone: settings.zone }
      await unlessThere(calls.createSubnet(wanted, tags, signal))
      subnet = first(await calls.subnets(ours, inside, signal))
    }
    const gateway = await attachedGateway(vpc.id, signal)
    const routes = await calls.mainRoutes(vpc.id, signal)
    if (!routes.destinations.includes(EVERYWHERE)) {
      await unlessThere(calls.createRoute(routes.id, EVERYWHERE, gateway, signal))
    }
    if (subnet === undefined) throw pending('subnet')
    return { subnet: subnet.id, vpc: vpc.id }
  }

  const madeVpc = async (signal: AbortSignal): Promise<Ec2Vpc & { readonly ipv6Block: string }> => {
    if ((await calls.vpcs(ours, signal)).length === 0) await calls.createVpc(settings.ipv4Block, tags, signal)
    for (let look = 1; ; look++) {
      const vpc = first(await calls.vpcs(ours, signal))
      if (vpc !== undefined && vpc.ipv6Block !== null) return { ...vpc, ipv6Block: vpc.ipv6Block }
      if (look === LOOKS) throw pending('network')
      await clock.wait(LOOK_MS, signal)
    }
  }

  const attachedGateway = async (vpc: string, signal: AbortSignal): Promise<string> => {
    const gateways = await calls.gateways(ours, signal)
    const attached = gateways.find(({ vpcs }) => vpcs.includes(vpc))
    if (attached !== undefined) return attached.id
    const id = first(gateways.filter(({ vpcs }) => vpcs.length === 0))?.id ?? (await calls.createGateway(tags, signal))
    await unlessThere(calls.attachGateway(id, vpc, signal))
    return id
  }

  /** Null also when the part that we remember is gone. */
  const existing = async (signal: AbortSignal): Promise<Place | null> => {
    if (settings.subnet !== undefined) return given(settings.subnet, signal)
    const vpc = first(await calls.vpcs(ours, signal))
    if (vpc === undefined) return null
    const subnet = first(await calls.subnets(ours, { 'vpc-id': vpc.id }, signal))
    return subnet === undefined ? null : { subnet: subnet.id, vpc: vpc.id }
  }

  return {
    existing,
    place(signal) {
      return turns.take('network', signal, async () => {
        known ??= await (settings.subnet === undefined ? make(signal) : given(settings.subnet, signal))
        return known
      })
    },
    forget() {
      known = null
    },
    async remove(signal) {
      if (settings.subnet !== undefined) return true
      known = null
      for (const { id } of await calls.subnets(ours, {}, signal)) {
        if (!(await unlessUsed(calls.deleteSubnet(id, signal)))) return false
      }
      for (const { id, vpcs } of await calls.gateways(ours, signal)) {
        for (const vpc of vpcs) await unlessUsed(calls.detachGateway(id, vpc, signal))
        if (!(await unlessUsed(calls.deleteGateway(id, signal)))) return false
      }
      for (const { id } of await calls.vpcs(ours, signal)) {
        if (!(await unlessUsed(calls.deleteVpc(id, signal)))) return false
      }
      return true
    },
  }
}

/** A request may reach EC2 twice, and its list may not show yet what was made. */
async function unlessThere(making: Promise<void>): Promise<void> {
  await making.catch((error: unknown) => {
    if (!saysSo(error, /^(InvalidSubnet\.Conflict|Resource\.AlreadyAssociated|RouteAlreadyExists)$/)) throw error
  })
}

/** What is gone already is as it should be. @returns whether it is gone: false when something still uses it */
export async function unlessUsed(removal: Promise<void>): Promise<boolean> {
  try {
    await removal
    return true
  } catch (error) {
    if (saysSo(error, /^Gateway\.NotAttached$|\.NotFound$/)) return true
    if (saysSo(error, /^(DependencyViolation|InvalidGroup\.InUse|ResourceInUse)$/)) return false
    throw error
  }
}

/** Whoever comes after a race or a crash takes the same one. */
function first<T extends { readonly id: string }>(things: readonly T[]): T | undefined {
  return things.toSorted((a, b) => (a.id < b.id ? -1 : 1))[0]
}

function pending(what: string): OrchestratorError {
  return new OrchestratorError('network-pending', `EC2 has not finished the ${what} yet`, {
    retryable: true,
    retryAfterMs: 2000,
  })
}
