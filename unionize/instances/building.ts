import { wording } from '../../common/errors.ts'
import type { WireOrder } from '../contract.ts'
import { hasCode, isRefusal } from '../engine/failure.ts'
import type { Assembled, AssemblyParts } from './assembly.ts'
import type { Belongings } from './belongings.ts'
import type { Extras } from './extras.ts'
import { homesOf, idsOf, inside, type Sandboxes } from './homes.ts'
import { fresh, type Services } from './services.ts'
import type { Taking } from './taking.ts'
import type { Ways } from './ways.ts'

/** Makes an instance of which nothing exists yet. @throws code name-conflict when something does */
export type Build = (order: WireOrder, signal?: AbortSignal) => Promise<Assembled>

export function createBuild(
  parts: AssemblyParts,
  own: {
    readonly belongings: Belongings
    readonly extras: Extras
    readonly services: Services
    readonly taking: Taking
    readonly ways: Ways
  },
): Build {
  const { engine, pool, slots, names, orders, log, now } = parts
  const { belongings, extras, services, taking, ways } = own

  /**
   * Takes back a start that failed before anything ran. The sandbox serves someone else only when it is `sound`: wired, and
   * surely joined by no container; else two instances could come to share it, or a dead one be handed out for ever. One
   * that was given more than its place on the bridge goes, and before its containers: a free sandbox is a clean one.
   * `found`: other parts of the instance exist, and keep what belongs to it.
   */
  const undo = async (
    order: WireOrder,
    sandboxes: Sandboxes,
    made: readonly string[],
    { sound, found }: { readonly sound: boolean; readonly found: boolean },
  ) => {
    const { instance } = order
    const sandbox = inside(sandboxes, '')
    const clean = sound && !extras.wanted(order)
    try {
      await ways.leave(order, sandbox)
      await extras.undo([order], sandbox.id)
      if (!clean) await Promise.all(idsOf(sandboxes).map((id) => pool.discard(id)))
      await Promise.all(made.map((id) => engine.remove(id)))
      if (!found) await Promise.all([names.remove(instance), belongings.forget(instance, [order])])
      if (clean) pool.giveBack(sandbox)
    } catch (error) {
      log.warn('instance.undo-failed', 'a failed start could not be undone; its parts are collected later', {
        instance,
        error: wording(error),
      })
    }
  }

  const buildIn = async (order: WireOrder, sandboxes: Sandboxes, signal?: AbortSignal): Promise<Assembled> => {
    const sandbox = inside(sandboxes, '')
    let sandboxAt = now()
    const place = ways.open(order, null, sandbox).then(() => {
      sandboxAt = now()
    })
    const name = names.put(order.instance, order.name, order.address)
    const creates = order.services.map((service) => belongings.create(order, service, sandboxes, signal))
    const [wires, ...containers] = await Promise.allSettled([Promise.all([place, name]), ...creates])
    const made = containers.flatMap((c) => (c.status === 'fulfilled' ? [c.value as string] : []))
    const fault = [...containers, wires].find((outcome) => outcome.status === 'rejected')
    if (fault) {
      const sound =
        wires.status === 'fulfilled' && containers.every((c) => c.status === 'fulfilled' || isRefusal(c.reason))
      const found = containers.some((c) => c.status === 'rejected' && hasCode(c.reason, 'name-conflict'))
      await undo(order, sandboxes, made, { sound, found })
      throw fault.reason
    }
    try {
      // After the containers were made: a sandbox that none refers to must be clean, or the pool would adopt it as it is.
      await extras.wire(order, sandboxes, signal)
    } catch (error) {
      await undo(order, sandboxes, made, { sound: false, found: false })
      throw error
    }
    const states = new Map(order.services.map(({ name }, at) => [name, fresh(made[at] ?? '')]))
    const started = await services.start(order, states, { eager: true, slot: 'held' }, signal)
    return { sandbox, sandboxes: idsOf(sandboxes), sandboxAt, startedAt: now(), ...started }
  }

  return (order, signal) =>
    slots.run(
      'ensure',
      async () => {
        orders.assertCurrent(order)
        await belongings.prepare(order)
        const take = (home: string) => (home === '' ? pool.take(signal) : pool.takeAlone(signal))
        return taking.withFresh(homesOf(order), take, (sandboxes) => buildIn(order, sandboxes, signal))
      },
      signal,
    )
}
