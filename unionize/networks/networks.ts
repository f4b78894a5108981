import { createHash } from 'node:crypto'
import { OrchestratorError } from '../../common/errors.ts'
import { sandboxOf } from '../../common/private-networks.ts'
import { LABEL, type WireOrder, type WireService } from '../contract.ts'
import type { Engine, ListedContainer } from '../engine/containers.ts'
import { ContainerFailure } from '../engine/failure.ts'
import { hubSpec } from '../instances/sandbox.ts'
import { createSequence } from '../instances/sequence.ts'
import type { Wiring } from '../wiring/wiring.ts'
import type { HostFiles } from './host-files.ts'
import {
  hasNetworks,
  hostsFile,
  isMember,
  type NetworkPlan,
  ownerKey,
  planNetworks,
  type Surroundings,
  scopeOf,
} from './plan.ts'

/** One sandbox of an instance: a process in it, by the sandbox's name ('' is that of the instance). */
export type Processes = ReadonlyMap<string, number>

/**
 * The private networks of clients. Each client that has any gets a hub: a tiny container whose network namespace holds
 * the client's bridges and nothing else, so that no packet of one client can come where another's are, and none to the
 * host. Every verb may be repeated after a crash between any two of its steps.
 */
export interface Networks {
  /** Writes the hosts files of an order's services. To be done before their containers are made. @throws InvalidInput */
  name(order: WireOrder): Promise<void>
  /** Where the hosts file of a service is; null: the one that the engine makes will do. */
  hostsPath(order: WireOrder, service: WireService): string | null
  /** Puts the sandboxes of an order on its networks, and takes them off all others. @throws WiringError, InvalidInput */
  join(order: WireOrder, processes: Processes, signal?: AbortSignal): Promise<void>
  /** Takes an instance off its networks; the hub goes with the last of its client. Gone already is success. */
  leave(order: WireOrder, signal?: AbortSignal): Promise<void>
  /** Removes the names of an instance, when none of its containers is left. */
  forget(instance: string): Promise<void>
  /** Removes the names of all instances but these. */
  keepOnly(instances: ReadonlySet<string>): Promise<void>
}

export function createNetworks(options: {
  engine: Engine
  wiring: Wiring
  files: HostFiles
  host: string
  around: Surroundings
}): Networks {
  const { engine, wiring, files, host, around } = options
  /** Two instances of one client never make or remove its hub at the same time. */
  const sequence = createSequence()

  const find = async (owner: string, signal?: AbortSignal): Promise<ListedContainer | undefined> =>
    (await engine.list({ [LABEL.host]: host, [LABEL.role]: 'hub', [LABEL.owner]: owner }, signal))[0]

  const create = async (owner: string, signal?: AbortSignal): Promise<string> => {
    try {
      return await engine.create(hubSpec(hubName(host, owner), host, owner), signal)
    } catch (error) {
      // Made by a call whose answer was lost, after we had looked.
      if (!(error instanceof ContainerFailure && error.code === 'name-conflict')) throw error
      const found = await find(owner, signal)
      if (found) return found.id
      throw new OrchestratorError('hub-not-ours', `${error.message}; remove it`, { cause: error })
    }
  }
  const running = async (owner: string, signal?: AbortSignal): Promise<number> => {
    const found = await find(owner, signal)
    const id = found?.id ?? (await create(owner, signal))
    try {
      if (!found?.running) await engine.start(id)
    } catch (error) {
      // One that the engine lost track of can never be started; the next attempt makes it anew.
      if (error instanceof ContainerFailure && error.code === 'not-startable') await engine.remove(id)
      throw error
    }
    return (await engine.inspect(id, signal)).pid
  }

  return {
    async name(order) {
      const named = order.services.filter((service) => service.hosts.length > 0)
      if (!hasNetworks(order) && named.length === 0) return
      const plan = planNetworks(order, around)
      for (const sandbox of sandboxesOf(plan)) {
        await files.put(order.instance, sandbox, hostsFile(plan, sandbox) ?? '')
      }
      for (const service of named) {
        await files.put(order.instance, ownFile(service), hostsFile(plan, sandboxOf(service), service.hosts) ?? '')
      }
    },
    hostsPath(order, service) {
      if (service.hosts.length > 0) return files.path(order.instance, ownFile(service))
      const sandbox = sandboxOf(service)
      return isMember(order, sandbox) ? files.path(order.instance, sandbox) : null
    },
    join: (order, processes, signal) =>
      sequence.run(ownerKey(order), signal, async () => {
        const plan = planNetworks(order, around)
        const pid = await running(plan.owner, signal)
        await wiring.connect({ pid, scope: plan.scope, networks: networksFor(plan, processes) })
      }),
    leave: (order, signal) =>
      sequence.run(ownerKey(order), signal, async () => {
        const hub = await find(ownerKey(order), signal)
        if (!hub) return
        const { pid, running: alive } = await engine.inspect(hub.id, signal)
        const rest = alive ? await wiring.connect({ pid, scope: scopeOf(order.instance), networks: [] }) : { others: 0 }
        if (rest.others === 0) await engine.remove(hub.id, signal)
      }),
    forget: (instance) => files.remove(instance),
    keepOnly: (instances) => files.keepOnly(instances),
  }
}

function networksFor(plan: NetworkPlan, processes: Processes) {
  return plan.networks.map(({ bridge, prefix, members }) => ({
    bridge,
    prefixLength: prefix.length,
    members: members.map(({ sandbox, port, interface: name, mac, address }) => {
      const pid = processes.get(sandbox)
      if (pid === undefined) throw new OrchestratorError('incomplete', `sandbox "${sandbox}" is missing`)
      return { pid, port, interface: name, mac, address }
    }),
  }))
}

function sandboxesOf(plan: NetworkPlan): Set<string> {
  return new Set(plan.networks.flatMap((network) => network.members.map((member) => member.sandbox)))
}

/** A hosts file of one service alone, beside those of sandboxes: no name of a sandbox has a dot. */
function ownFile(service: WireService): string {
  return `${service.name}.own`
}

/** Name of a client's hub: the engine lets it exist once, so it is the key that makes a repeated create harmless. */
function hubName(host: string, owner: string): string {
  return `orc-hub-${createHash('sha256').update(`${host}\n${owner}`).digest('hex').slice(0, 16)}`
}
