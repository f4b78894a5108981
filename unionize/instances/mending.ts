import { OrchestratorError } from '../../common/errors.ts'
import type { WireOrder } from '../contract.ts'
import type { ListedContainer } from '../engine/answers.ts'
import { hasCode } from '../engine/failure.ts'
import type { Assembled, AssemblyParts, MendOptions } from './assembly.ts'
import type { Belongings } from './belongings.ts'
import type { Build } from './building.ts'
import type { Extras } from './extras.ts'
import { homesIn, homesOf, idsOf, inside, ordersOf, type Sandboxes, sortServices } from './homes.ts'
import type { Sandbox } from './sandbox.ts'
import { fresh, type Services } from './services.ts'
import type { Taking } from './taking.ts'
import type { Ways } from './ways.ts'

/** Finishes, repairs or changes what was found of an instance. @throws code incomplete when that takes a new order */
export type Mend = (
  order: WireOrder,
  found: readonly ListedContainer[],
  options: MendOptions,
  signal?: AbortSignal,
) => Promise<Assembled>

/** The sandboxes of an order that live, still or again, and the names of those that had to be started. */
interface Revived {
  readonly sandboxes: Sandboxes
  readonly restarted: ReadonlySet<string>
}

export function createMend(
  parts: AssemblyParts,
  own: {
    readonly belongings: Belongings
    readonly build: Build
    readonly extras: Extras
    readonly services: Services
    readonly taking: Taking
    readonly ways: Ways
  },
): Mend {
  const { engine, networks, pool, slots, names, orders, now } = parts
  const { belongings, build, extras, services, taking, ways } = own

  /** No sandbox to go on with: it is gone, or can never be started again and goes now. @throws anything else */
  const abandon = async (error: unknown, sandbox: string): Promise<null> => {
    if (hasCode(error, 'not-startable')) await pool.discard(sandbox)
    else if (!hasCode(error, 'not-found')) throw error
    return null
  }

  const revive = async (
    order: WireOrder,
    found: readonly ListedContainer[],
    signal?: AbortSignal,
  ): Promise<Revived> => {
    const former = homesIn(found)
    const sandboxes = new Map<string, Sandbox>()
    const restarted = new Set<string>()
    for (const home of homesOf(order)) {
      const id = former.get(home)
      if (id === undefined) continue
      // Once it runs, nothing tells any more that they still see its former namespace.
      const endThoseInside = async () => {
        const those = found.filter((c) => c.namespaceOf === id && c.running)
        await Promise.all(those.map((c) => engine.stop(c.id, 0, signal)))
      }
      const reviving =
        home === '' ? pool.revive(id, endThoseInside, signal) : pool.reviveAlone(id, endThoseInside, signal)
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
    { previous, sandbox }: MendOptions,
    signal?: AbortSignal,
  ) => {
    const homes = homesIn(found)
    // Where all its containers are gone, only memory tells.
    const home = homes.get('') ?? sandbox
    // What the firewall still lets the lost link send would make its address look taken for good.
    if (home !== null) await ways.cutOff(previous ?? order, home)
    await extras.undo([order, ...ordersOf(found)], home, signal)
    await services.remove(order.instance, found, signal)
    const sandboxes = new Set([...homes.values(), ...(home === null ? [] : [home])])
    for (const id of sandboxes) await slots.run('remove', () => pool.discard(id, signal), signal)
    await ways.closeFormer(order, previous, null)
  }

  /** Makes the containers that are missing, and removes those that do not fit, with their sandboxes. */
  const renew = async (
    order: WireOrder,
    found: readonly ListedContainer[],
    sorted: ReturnType<typeof sortServices>,
    sandboxes: Sandboxes,
    signal?: AbortSignal,
  ): Promise<ReadonlyMap<string, string>> => {
    const { unfit, missing } = sorted
    if (unfit.length + missing.length === 0) return new Map()
    await services.stop(unfit, signal)
    // Before the containers that refer to them: a free sandbox is a clean one.
    const surplus = [...homesIn(found).values()].filter((id) => !idsOf(sandboxes).includes(id))
    for (const id of surplus) await pool.discard(id, signal)
    await services.remove(order.instance, unfit, signal)
    const create = () =>
      Promise.all(
        missing.map(async (one) => [one.name, await belongings.create(order, one, sandboxes, signal)] as const),
      )
    orders.assertCurrent(order)
    return new Map(missing.length === 0 ? [] : await slots.run('ensure', create, signal))
  }

  const mendIn = async (
    order: WireOrder,
    found: readonly ListedContainer[],
    { sandboxes, restarted }: Revived,
    { previous, environment, eager }: MendOptions,
    signal?: AbortSignal,
  ): Promise<Assembled> => {
    const sandbox = inside(sandboxes, '')
    await ways.closeFormer(order, previous, sandbox)
    await Promise.all([ways.open(order, previous, sandbox), names.put(order.instance, order.name, order.address)])
    const sandboxAt = now()
    const sorted = sortServices(order, found, sandboxes)
    if (sorted.missing.length > 0 && !environment) throw incomplete(order, 'a container of it is gone')
    if (environment) await belongings.prepare(order)
    else if (!(await belongings.complete(order))) throw incomplete(order, 'its files were in memory and are gone')
    else await networks.name(order)
    const former = [...(previous ? [previous] : []), ...ordersOf(found)]
    const made = await renew(order, found, sorted, sandboxes, signal)
    await extras.change(order, former, sandboxes, signal)
    const states = new Map(await services.look(order, sorted.fit, sandboxes, restarted, signal))
    for (const [name, id] of made) states.set(name, fresh(id))
    const started = await services.start(order, states, { eager, slot: 'none' }, signal)
    return { sandbox, sandboxes: idsOf(sandboxes), sandboxAt, startedAt: now(), ...started }
  }

  return async (order, found, options, signal) => {
    const { sandboxes, restarted } = await revive(order, found, signal)
    const lost = homesOf(order).filter((home) => !sandboxes.has(home))
    if (lost.length > 0 && !options.environment) throw incomplete(order, 'a sandbox of it is gone')
    if (lost.includes('')) {
      await clearAway(order, found, options, signal)
      return build(order, signal)
    }
    const take = () => slots.run('ensure', () => pool.takeAlone(signal), signal)
    const go = (taken: Sandboxes) => {
      const all = new Map([...sandboxes, ...taken])
      return mendIn(order, found, { sandboxes: all, restarted }, options, signal)
    }
    return taking.withFresh(lost, take, go)
  }
}

function incomplete(order: WireOrder, why: string): OrchestratorError {
  return new OrchestratorError('incomplete', `instance ${order.instance} cannot be mended without a new order: ${why}`)
}
