import { OrchestratorError, wording } from '../common/errors.ts'
import type { Log } from '../common/log.ts'
import type { Engine, ListedContainer } from './containers.ts'
import { LABEL, type WireOrder, type WireService } from './contract.ts'
import { ContainerFailure } from './engine-error.ts'
import type { Names } from './names.ts'
import { type Orders, readOrder } from './orders.ts'
import { portOf, type Sandbox, type SandboxPool } from './sandbox.ts'
import { sameService, serviceSpec } from './service.ts'
import type { Slots } from './slots.ts'
import type { Placement, Wiring } from './wiring/wiring.ts'

/** An instance as it was put together. `restarted`: a service was started, so its port has to be probed again. */
export interface Assembled {
  readonly sandbox: Sandbox
  readonly sandboxAt: number
  readonly startedAt: number
  readonly restarted: boolean
}

/** What a mend may do. `environment` false: the order came from a label or a file, without values, so nothing can be created. */
export interface MendOptions {
  readonly previous: WireOrder | null
  readonly environment: boolean
}

/** Puts one instance together and takes it apart. Each verb may be repeated after a crash between any two of its steps. */
export interface Assembly {
  /** Makes an instance of which nothing exists yet. @throws code name-conflict when something does */
  build(order: WireOrder, signal?: AbortSignal): Promise<Assembled>
  /** Finishes, repairs or changes what was found. */
  mend(
    order: WireOrder,
    found: readonly ListedContainer[],
    options: MendOptions,
    signal?: AbortSignal,
  ): Promise<Assembled>
  /** Closes the way to an instance and from it, without asking the engine. `sandbox`: its id, if known. */
  cutOff(order: WireOrder, sandbox: string | null): Promise<void>
  /** Cuts off what was found, then removes it. Gone already is success. */
  dismantle(instance: string, found: readonly ListedContainer[], signal?: AbortSignal): Promise<void>
  /** Whether a sandbox is in somebody's hands though no container refers to it yet. */
  holds(sandbox: string): boolean
}

/** The parts that an assembly works with. */
export interface AssemblyParts {
  readonly engine: Engine
  readonly wiring: Wiring
  readonly pool: SandboxPool
  readonly slots: Slots
  readonly names: Names
  readonly orders: Orders
  readonly host: string
  readonly log: Log
  readonly now: () => number
}

/** A pid that no process has (PID_MAX_LIMIT in linux/threads.h is 2^22): the sandbox dies next, so nobody undoes what is inside. */
const NO_PROCESS = 0x7fff_ffff

export function createAssembly(parts: AssemblyParts): Assembly {
  const { engine, wiring, pool, slots, names, orders, host, log, now } = parts
  const taken = new Set<string>()

  const create = (order: WireOrder, service: WireService, sandbox: string, signal?: AbortSignal) =>
    engine.create(serviceSpec(order, service, host, sandbox), signal)

  /** Starts a container; one that never can be is removed, so that the next attempt makes it anew. */
  const start = async (id: string) => {
    try {
      await engine.start(id)
    } catch (error) {
      if (hasCode(error, 'not-startable')) await engine.remove(id)
      throw error
    }
  }

  /** No sandbox to go on with: it is gone, or can never be started again and goes now. @throws anything else */
  const abandon = async (error: unknown, sandbox: string): Promise<null> => {
    if (hasCode(error, 'not-startable')) await pool.discard(sandbox)
    else if (!hasCode(error, 'not-found')) throw error
    return null
  }

  /**
   * Takes back a start that failed before anything ran. The sandbox serves someone else only when it is `sound`: wired, and
   * surely joined by no container; else two instances could come to share it, or a dead one be handed out for ever.
   */
  const undo = async (
    placement: Placement,
    order: WireOrder,
    sandbox: Sandbox,
    made: readonly string[],
    sound: boolean,
  ) => {
    try {
      await wiring.unplace(placement)
      await Promise.all(made.map((id) => engine.remove(id)))
      await names.remove(order.instance)
      if (sound) pool.giveBack(sandbox)
      else await pool.discard(sandbox.id)
    } catch (error) {
      log.warn('instance.undo-failed', 'a failed start could not be undone; its parts are collected later', {
        instance: order.instance,
        error: wording(error),
      })
    }
  }

  const buildNow = async (order: WireOrder, signal?: AbortSignal): Promise<Assembled> => {
    orders.assertCurrent(order)
    const sandbox = await pool.take(signal)
    taken.add(sandbox.id)
    try {
      const placement = placementOf(order, sandbox)
      let sandboxAt = now()
      const place = wiring.place(placement).then(() => {
        sandboxAt = now()
      })
      const name = names.put(order.instance, order.name, order.address)
      const creates = order.services.map((service) => create(order, service, sandbox.id, signal))
      const [wires, ...containers] = await Promise.allSettled([Promise.all([place, name]), ...creates])
      const made = containers.flatMap((c) => (c.status === 'fulfilled' ? [c.value as string] : []))
      const fault = [...containers, wires].find((outcome) => outcome.status === 'rejected')
      if (fault) {
        const sound =
          wires.status === 'fulfilled' && containers.every((c) => c.status === 'fulfilled' || isRefusal(c.reason))
        await undo(placement, order, sandbox, made, sound)
        throw fault.reason
      }
      orders.assertCurrent(order)
      await Promise.all(made.map((id) => engine.start(id)))
      return { sandbox, sandboxAt, startedAt: now(), restarted: true }
    } finally {
      taken.delete(sandbox.id)
    }
  }

  const mend: Assembly['mend'] = async (order, found, options, signal) => {
    const home = found.find((c) => c.namespaceOf !== null)?.namespaceOf ?? null
    const revived = home === null ? null : await pool.revive(home, signal).catch((error) => abandon(error, home))
    if (revived === null) {
      if (!options.environment) throw incomplete(order, 'its sandbox is gone')
      // What the firewall still lets the lost link send would make its address look taken for good.
      if (home !== null) await cutOff(options.previous ?? order, home)
      await removeServices(order.instance, found, signal)
      await closeFormer(order, options.previous, null)
      return slots.run('ensure', () => buildNow(order, signal), signal)
    }
    const { sandbox, restarted } = revived
    await closeFormer(order, options.previous, sandbox)
    await Promise.all([wiring.place(placementOf(order, sandbox)), names.put(order.instance, order.name, order.address)])
    const sandboxAt = now()
    const sorted = sortServices(order, found, sandbox.id)
    if (sorted.missing.length > 0 && !options.environment) throw incomplete(order, 'a container of it is gone')
    if (restarted) await Promise.all(sorted.fit.filter((c) => c.running).map((c) => engine.stop(c.id, 0, signal)))
    const idle = sorted.fit.filter((c) => restarted || !c.running).map((c) => c.id)
    if (sorted.unfit.length + sorted.missing.length + idle.length === 0) {
      return { sandbox, sandboxAt, startedAt: now(), restarted: false }
    }
    await removeServices(order.instance, sorted.unfit, signal)
    await slots.run(
      'ensure',
      async () => {
        orders.assertCurrent(order)
        const made = await Promise.all(sorted.missing.map((service) => create(order, service, sandbox.id, signal)))
        await Promise.all([...idle, ...made].map((id) => start(id)))
      },
      signal,
    )
    return { sandbox, sandboxAt, startedAt: now(), restarted: true }
  }

  /** Closes the way that a former order opened, where this order differs. */
  const closeFormer = async (order: WireOrder, former: WireOrder | null, sandbox: Sandbox | null) => {
    if (!former || (former.address === order.address && former.ownerAddress === order.ownerAddress)) return
    if (sandbox && former.address !== order.address) await wiring.unplace(placementOf(former, sandbox))
    else await wiring.close({ owner: former.ownerAddress, instance: former.address })
  }

  const cutOff: Assembly['cutOff'] = async (order, sandbox) => {
    await wiring.close({ owner: order.ownerAddress, instance: order.address })
    if (sandbox) await wiring.unplace(placementOf(order, { id: sandbox, pid: NO_PROCESS, ...portOf(sandbox) }))
  }

  const removeServices = async (instance: string, found: readonly ListedContainer[], signal?: AbortSignal) => {
    await Promise.all(
      found.map(async (container) => {
        const graceMs = stopGrace(container)
        if (container.running && graceMs > 0) await engine.stop(container.id, graceMs, signal)
        await slots.run('remove', () => engine.remove(container.id, signal), signal)
      }),
    )
    if (found.length > 0) log.debug('instance.services-removed', 'containers removed', { instance, n: found.length })
  }

  return {
    build: (order, signal) => slots.run('ensure', () => buildNow(order, signal), signal),
    mend,
    cutOff,
    async dismantle(instance, found, signal) {
      const homes = new Map(found.flatMap((c) => (c.namespaceOf ? [[c.namespaceOf, c] as const] : [])))
      for (const [sandbox, container] of homes) {
        const order = readOrder(container.labels[LABEL.order])
        if (order) await cutOff(order, sandbox)
      }
      await removeServices(instance, found, signal)
      for (const id of homes.keys()) await slots.run('remove', () => pool.discard(id, signal), signal)
      await names.remove(instance)
    },
    holds: (sandbox) => taken.has(sandbox) || pool.holds(sandbox),
  }
}

/** What is there of an order's services: fit to stay, not fit, or missing. */
function sortServices(order: WireOrder, found: readonly ListedContainer[], sandbox: string) {
  const fit: ListedContainer[] = []
  const missing: WireService[] = []
  for (const service of order.services) {
    const container = found.find((c) => c.labels[LABEL.service] === service.name)
    const made = readOrder(container?.labels[LABEL.order])?.services.find((s) => s.name === service.name)
    if (container && container.namespaceOf === sandbox && sameService(made, service)) fit.push(container)
    else missing.push(service)
  }
  return { fit, missing, unfit: found.filter((c) => !fit.includes(c)) }
}

function placementOf(order: WireOrder, sandbox: Sandbox): Placement {
  const { pid, link, mac } = sandbox
  return { pid, link, mac, address: order.address, owner: order.ownerAddress }
}

function stopGrace(container: ListedContainer): number {
  const made = readOrder(container.labels[LABEL.order])
  return made?.services.find((s) => s.name === container.labels[LABEL.service])?.stopGraceMs ?? 0
}

function incomplete(order: WireOrder, why: string): OrchestratorError {
  return new OrchestratorError('incomplete', `instance ${order.instance} cannot be mended without a new order: ${why}`)
}

/** Whether the engine itself said no: after a lost connection, a cancel or a deadline it may have made the container all the same. */
function isRefusal(error: unknown): boolean {
  return error instanceof ContainerFailure && error.code !== 'engine-unreachable' && error.code !== 'engine-failed'
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof ContainerFailure && error.code === code
}
