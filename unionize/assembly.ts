import { OrchestratorError, wording } from '../common/errors.ts'
import type { Log } from '../common/log.ts'
import { sandboxOf } from '../common/private-networks.ts'
import type { Engine, ListedContainer } from './containers.ts'
import { LABEL, type WireOrder, type WireService } from './contract.ts'
import { ContainerFailure } from './engine-error.ts'
import { createExtras } from './extras.ts'
import { homeOf, homesIn, homesOf, idsOf, inside, ordersOf, type Sandboxes, sortServices } from './homes.ts'
import type { Names } from './names.ts'
import type { Networks } from './networks/networks.ts'
import { type Orders, readOrder } from './orders.ts'
import { portOf, type Sandbox, type SandboxPool } from './sandbox.ts'
import { serviceSpec } from './service.ts'
import type { Slots } from './slots.ts'
import type { Interfaces } from './wiring/interfaces/interfaces.ts'
import type { Placement, Wiring } from './wiring/wiring.ts'

/** An instance as it was put together. `restarted`: a service was started, so its port has to be probed again. */
export interface Assembled {
  readonly sandbox: Sandbox
  /** Ids of all its sandboxes, those of single services too. */
  readonly sandboxes: readonly string[]
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
  readonly interfaces: Pick<Interfaces, 'wire' | 'unwire'>
  readonly networks: Networks
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
  const { engine, wiring, networks, pool, slots, names, orders, host, log, now } = parts
  const extras = createExtras(parts)
  const taken = new Set<string>()

  const create = (order: WireOrder, service: WireService, sandboxes: Sandboxes, signal?: AbortSignal) => {
    const home = sandboxOf(service)
    const place = { host, sandbox: inside(sandboxes, home).id, hostsFile: networks.hostsPath(order, home) }
    return engine.create(serviceSpec(order, service, place), signal)
  }

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

  /** Calls `work` with sandboxes of these names, which nobody else gets meanwhile though no container refers to them yet. */
  const withFresh = async <T>(
    homes: readonly string[],
    take: (home: string) => Promise<Sandbox>,
    work: (fresh: Sandboxes) => Promise<T>,
  ): Promise<T> => {
    const fresh = new Map<string, Sandbox>()
    try {
      for (const home of homes) {
        const sandbox = await take(home)
        fresh.set(home, sandbox)
        taken.add(sandbox.id)
      }
      return await work(fresh)
    } finally {
      for (const id of idsOf(fresh)) taken.delete(id)
    }
  }

  /**
   * Takes back a start that failed before anything ran. The sandbox serves someone else only when it is `sound`: wired, and
   * surely joined by no container; else two instances could come to share it, or a dead one be handed out for ever. One
   * that was given more than its place on the bridge goes, and before its containers: a free sandbox is a clean one.
   */
  const undo = async (order: WireOrder, sandboxes: Sandboxes, made: readonly string[], sound: boolean) => {
    const sandbox = inside(sandboxes, '')
    const clean = sound && !extras.wanted(order)
    try {
      await wiring.unplace(placementOf(order, sandbox))
      await extras.undo([order], sandbox.id)
      if (!clean) await Promise.all(idsOf(sandboxes).map((id) => pool.discard(id)))
      await Promise.all(made.map((id) => engine.remove(id)))
      await Promise.all([names.remove(order.instance), networks.forget(order.instance)])
      if (clean) pool.giveBack(sandbox)
    } catch (error) {
      log.warn('instance.undo-failed', 'a failed start could not be undone; its parts are collected later', {
        instance: order.instance,
        error: wording(error),
      })
    }
  }

  const buildIn = async (order: WireOrder, sandboxes: Sandboxes, signal?: AbortSignal): Promise<Assembled> => {
    const sandbox = inside(sandboxes, '')
    let sandboxAt = now()
    const place = wiring.place(placementOf(order, sandbox)).then(() => {
      sandboxAt = now()
    })
    const name = names.put(order.instance, order.name, order.address)
    const creates = order.services.map((service) => create(order, service, sandboxes, signal))
    const [wires, ...containers] = await Promise.allSettled([Promise.all([place, name]), ...creates])
    const made = containers.flatMap((c) => (c.status === 'fulfilled' ? [c.value as string] : []))
    const fault = [...containers, wires].find((outcome) => outcome.status === 'rejected')
    if (fault) {
      const sound =
        wires.status === 'fulfilled' && containers.every((c) => c.status === 'fulfilled' || isRefusal(c.reason))
      await undo(order, sandboxes, made, sound)
      throw fault.reason
    }
    try {
      // After the containers were made: a sandbox that none refers to must be clean, or the pool would adopt it as it is.
      await extras.wire(order, sandboxes, signal)
    } catch (error) {
      await undo(order, sandboxes, made, false)
      throw error
    }
    orders.assertCurrent(order)
    await Promise.all(made.map((id) => engine.start(id)))
    return { sandbox, sandboxes: idsOf(sandboxes), sandboxAt, startedAt: now(), restarted: true }
  }

  const build: Assembly['build'] = (order, signal) =>
    slots.run(
      'ensure',
      async () => {
        orders.assertCurrent(order)
        await networks.name(order)
        const take = (home: string) => (home === '' ? pool.take(signal) : pool.takeAlone(signal))
        return withFresh(homesOf(order), take, (sandboxes) => buildIn(order, sandboxes, signal))
      },
      signal,
    )

  /** The sandboxes of an order that live, still or again, and the names of those that had to be started. */
  const revive = async (order: WireOrder, found: readonly ListedContainer[], signal?: AbortSignal) => {
    const former = homesIn(found)
    const sandboxes = new Map<string, Sandbox>()
    const restarted = new Set<string>()
    for (const home of homesOf(order)) {
      const id = former.get(home)
      if (id === undefined) continue
      const reviving = home === '' ? pool.revive(id, signal) : pool.reviveAlone(id, signal)
      const revived = await reviving.catch((error) => abandon(error, id))
      if (revived === null) continue
      sandboxes.set(home, revived.sandbox)
      if (revived.restarted) restarted.add(home)
    }
    return { sandboxes, restarted }
  }

  /** Removes what is left of an instance whose sandbox is gone. */
  const clearAway = async (
    order: WireOrder,
    found: readonly ListedContainer[],
    previous: WireOrder | null,
    signal?: AbortSignal,
  ) => {
    const homes = homesIn(found)
    const home = homes.get('') ?? null
    // What the firewall still lets the lost link send would make its address look taken for good.
    if (home !== null) await cutOff(previous ?? order, home)
    await extras.undo([order, ...ordersOf(found)], home, signal)
    await removeServices(order.instance, found, signal)
    for (const id of homes.values()) await slots.run('remove', () => pool.discard(id, signal), signal)
    await closeFormer(order, previous, null)
  }

  const mend: Assembly['mend'] = async (order, found, options, signal) => {
    const { sandboxes, restarted } = await revive(order, found, signal)
    const lost = homesOf(order).filter((home) => !sandboxes.has(home))
    if (lost.length > 0 && !options.environment) throw incomplete(order, 'a sandbox of it is gone')
    if (lost.includes('')) {
      await clearAway(order, found, options.previous, signal)
      return build(order, signal)
    }
    const go = (fresh: Sandboxes) =>
      mendIn(order, found, { ...options, sandboxes: new Map([...sandboxes, ...fresh]), restarted }, signal)
    return withFresh(lost, () => slots.run('ensure', () => pool.takeAlone(signal), signal), go)
  }

  const mendIn = async (
    order: WireOrder,
    found: readonly ListedContainer[],
    state: MendOptions & { readonly sandboxes: Sandboxes; readonly restarted: ReadonlySet<string> },
    signal?: AbortSignal,
  ): Promise<Assembled> => {
    const { sandboxes, restarted, previous } = state
    const sandbox = inside(sandboxes, '')
    await closeFormer(order, previous, sandbox)
    await Promise.all([wiring.place(placementOf(order, sandbox)), names.put(order.instance, order.name, order.address)])
    const sandboxAt = now()
    const sorted = sortServices(order, found, sandboxes)
    if (sorted.missing.length > 0 && !state.environment) throw incomplete(order, 'a container of it is gone')
    await networks.name(order)
    const former = [...(previous ? [previous] : []), ...ordersOf(found)]
    const stale = sorted.fit.filter((c) => restarted.has(homeOf(c)))
    await Promise.all(stale.filter((c) => c.running).map((c) => engine.stop(c.id, 0, signal)))
    const idle = sorted.fit.filter((c) => stale.includes(c) || !c.running).map((c) => c.id)
    const assembled = { sandbox, sandboxes: idsOf(sandboxes), sandboxAt }
    if (sorted.unfit.length + sorted.missing.length + idle.length === 0) {
      await extras.change(order, former, sandboxes, signal)
      return { ...assembled, startedAt: now(), restarted: false }
    }
    await stopServices(sorted.unfit, signal)
    // Before the containers that refer to them: a free sandbox is a clean one.
    const surplus = [...homesIn(found).values()].filter((id) => !assembled.sandboxes.includes(id))
    for (const id of surplus) await pool.discard(id, signal)
    await removeServices(order.instance, sorted.unfit, signal)
    await slots.run(
      'ensure',
      async () => {
        orders.assertCurrent(order)
        const made = await Promise.all(sorted.missing.map((service) => create(order, service, sandboxes, signal)))
        await extras.change(order, former, sandboxes, signal)
        await Promise.all([...idle, ...made].map((id) => start(id)))
      },
      signal,
    )
    return { ...assembled, startedAt: now(), restarted: true }
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

  const stopServices = async (found: readonly ListedContainer[], signal?: AbortSignal) => {
    const polite = found.filter((container) => container.running && stopGrace(container) > 0)
    await Promise.all(polite.map((container) => engine.stop(container.id, stopGrace(container), signal)))
  }

  const removeServices = async (instance: string, found: readonly ListedContainer[], signal?: AbortSignal) => {
    await Promise.all(
      found.map(async (container) => {
        await stopServices([container], signal)
        await slots.run('remove', () => engine.remove(container.id, signal), signal)
      }),
    )
    if (found.length > 0) log.debug('instance.services-removed', 'containers removed', { instance, n: found.length })
  }

  return {
    build,
    mend,
    cutOff,
    async dismantle(instance, found, signal) {
      const homes = new Map(found.flatMap((c) => (c.namespaceOf ? [[c.namespaceOf, c] as const] : [])))
      for (const [sandbox, container] of homes) {
        const order = homeOf(container) === '' ? readOrder(container.labels[LABEL.order]) : null
        if (order) await cutOff(order, sandbox)
      }
      const former = ordersOf(found)
      if (former.some(extras.wanted)) {
        // While their containers are there, but have ended: a sandbox that none refers to must be clean.
        await stopServices(found, signal)
        await extras.undo(former, homesIn(found).get('') ?? null, signal)
      }
      await removeServices(instance, found, signal)
      for (const id of homes.keys()) await slots.run('remove', () => pool.discard(id, signal), signal)
      await Promise.all([names.remove(instance), networks.forget(instance)])
    },
    holds: (sandbox) => taken.has(sandbox) || pool.holds(sandbox),
  }
}

function placementOf(order: WireOrder, sandbox: Sandbox): Placement {
  const { pid, link, mac } = sandbox
  const policy = order.wiring?.policy
  return { pid, link, mac, address: order.address, owner: order.ownerAddress, ...(policy ? { policy } : {}) }
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
