import { errorCode, OrchestratorError, wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import { LABEL, type WireObserved, type WireOrder } from '../contract.ts'
import type { Engine } from '../engine/containers.ts'
import { hasCode } from '../engine/failure.ts'
import { hasNetworks, ownerKey } from '../networks/plan.ts'
import type { Assembled, Assembly } from './assembly.ts'
import { createHealthBook } from './health.ts'
import { createKnown, type Known } from './known.ts'
import { describe, summarize } from './observing.ts'
import type { Orders } from './orders.ts'
import { createRetries } from './retries.ts'
import { createSequence } from './sequence.ts'
import { serviceContainerName } from './service.ts'
import { lastWords, staysEnded, type Waiting } from './starting.ts'
import { createWakes } from './wakes.ts'

/** The instances of this host: what `ensure`, `remove` and `list` mean here. One instance is worked on by one at a time. */
export interface Instances {
  /**
   * Resolves when it runs and is wired, with all its services that are to run. Repeated, it goes on from where it was.
   * @param aside in which it waits for one service on behalf of another
   * @throws StaleGeneration, what wiring and engine refuse, code dependency-failed, or code interrupted by its signal with what
   *   it waited for
   */
  ensure(order: WireOrder, signal: AbortSignal, aside?: Aside): Promise<WireObserved>
  /** Resolves when nothing of it is left. @throws StaleGeneration */
  remove(instance: string, generation: number, signal: AbortSignal): Promise<void>
  /**
   * Removes what is left of an instance that cannot run, without a word from the orchestrator: an order may make it anew.
   * @param still asked when its turn has come; false: it was made anew since somebody looked, and nothing is removed
   */
  clear(instance: string, still: () => Promise<boolean>): Promise<void>
  /** All that bears our labels, in one call to the engine. */
  list(signal: AbortSignal): Promise<readonly WireObserved[]>
  /**
   * Starts what died or has waited long enough, without making anything new; tells what it looks like afterwards. Where that
   * fails, it is tried again by itself until it succeeds, or nobody wants the instance.
   * @throws why it failed; code incomplete, when it takes a new order, is not tried again
   */
  repair(instance: string): Promise<void>
  /** Tells at once that a part died. */
  reportPartial(instance: string, detail: string): void
  /** Tells, where that is no success, that a service ended and is to stay so. @returns whether it is */
  ended(instance: string, service: string, exitCode: number): boolean
  /** Notes what a health check says of a service, and tells the news. `container`: its id. */
  healthChanged(instance: string, service: string, container: string): Promise<void>
  /** Tells what an instance wrote to its outputs file. */
  tellOutputs(instance: string, text: string): void
  /** Lets those look again who wait for a service. @returns whether a repair has to, since nobody else does */
  happened(instance: string): boolean
  logs(
    instance: string,
    options: { service?: string | undefined; follow: boolean; tail: number },
    signal: AbortSignal,
  ): AsyncIterable<string>
  /** The instance whose sandbox this is; undefined: none's. */
  instanceIn(sandbox: string): string | undefined
  /** Whether the last word was to have it. */
  isWanted(instance: string): boolean
  /** The instances that have private networks in the hub of this owner. */
  onNetworksOf(owner: string): readonly string[]
  /** Notes what a former run of unionize had carried out. `sandboxes`: ids, that of the instance first. */
  remember(order: WireOrder, sandboxes: readonly string[]): void
  /** Waits for the work under way, not for what comes meanwhile: repairs that fail come again and again. */
  settled(): Promise<void>
  /** Ends the probing, and repairs to come. */
  stop(): void
}

/** How {@link Instances.ensure} waits: what must not come amid its work may come now. @throws why it cannot go on */
export type Aside = <T>(wait: () => Promise<T>) => Promise<T>

/** Milliseconds between two looks at what is waited for, when no event tells of it. */
const LOOK = { first: 250, most: 5_000 }

export function createInstances(options: {
  engine: Engine
  assembly: Assembly
  orders: Orders
  host: string
  log: Log
  now: () => number
  /** Told whenever something changed by itself. */
  tell: (observed: WireObserved) => void
}): Instances {
  const { engine, assembly, orders, host, log, now, tell } = options
  const health = createHealthBook()
  const wakes = createWakes()
  const sequence = createSequence()
  /** What was last told of those that were told to be partial since they were last told to run. */
  const partial = new Map<string, string>()
  const known = createKnown({
    log,
    now,
    probed: (entry, silence) => {
      const { instance } = entry.order
      tell(describe(entry.order, entry, 'running', [silence ?? undefined, health.detail(instance)]))
    },
  })

  const retries = createRetries((instance) => {
    repair(instance).catch((error) => {
      const fields = { instance, error: wording(error) }
      log.warn('instance.repair-failed', 'an instance could not be repaired, again', fields)
    })
  })

  const containersOf = (instance: string, signal?: AbortSignal) =>
    engine.list({ [LABEL.host]: host, [LABEL.instance]: instance }, signal)

  const assemble = async (order: WireOrder, eager: boolean, signal: AbortSignal): Promise<Assembled> => {
    const former = known.get(order.instance)
    const previous = former?.order ?? null
    if (previous === null) {
      try {
        return await assembly.build(order, signal)
      } catch (error) {
        if (!hasCode(error, 'name-conflict')) throw error
        log.info('instance.found', 'parts of the instance exist already; finishing them', { instance: order.instance })
      }
    }
    const found = await containersOf(order.instance, signal)
    return assembly.mend(
      order,
      found,
      { previous, sandbox: former?.sandboxes[0] ?? null, environment: true, eager },
      signal,
    )
  }

  /** What came of an order, after one pass over its services. */
  const keep = (order: WireOrder, assembled: Assembled, receivedAt: number): Known => {
    health.replace(order.instance, assembled.unhealthy)
    if (assembled.waiting.length === 0) retries.done(order.instance)
    return known.keep(order, assembled, receivedAt)
  }

  const demolish = async (instance: string, accepted: WireOrder | null, signal?: AbortSignal): Promise<void> => {
    const entry = known.get(instance)
    if (accepted) await assembly.cutOff(accepted, entry?.sandboxes[0] ?? null)
    if (entry) await assembly.cutOff(entry.order, entry.sandboxes[0] ?? null)
    entry?.probing.abort()
    const found = await containersOf(instance, signal)
    await assembly.dismantle(instance, found, signal)
    retries.done(instance)
    known.forget(instance)
    health.forget(instance)
    partial.delete(instance)
  }

  const tellPartial = (order: WireOrder, detail: string) => {
    if (partial.get(order.instance) === detail) return
    partial.set(order.instance, detail)
    tell(describe(order, known.get(order.instance), 'partial', [detail, health.detail(order.instance)]))
  }

  /** Tells an instance as it was told last, and what is new. */
  const tellNow = (order: WireOrder, news: readonly string[] = [], more: Pick<WireObserved, 'outputs'> = {}) => {
    const detail = partial.get(order.instance)
    const state = detail === undefined ? 'running' : 'partial'
    const details = [detail, ...news, health.detail(order.instance)]
    tell({ ...describe(order, known.get(order.instance), state, details), ...more })
  }

  const repairOnce = async (instance: string): Promise<void> => {
    const order = orders.current(instance)
    if (!order) return retries.done(instance)
    const found = await containersOf(instance)
    const assembled = await assembly.mend(order, found, {
      previous: known.get(instance)?.order ?? null,
      sandbox: null,
      environment: false,
      eager: false,
    })
    const entry = keep(order, assembled, now())
    if (assembled.waiting.length > 0) {
      // What it waits for may have come amid this, when nobody listened.
      retries.later(instance)
      tellPartial(order, assembled.waiting.map(({ why }) => why).join('; '))
    } else if (partial.delete(instance) || assembled.restarted) {
      tell(describe(order, entry, 'running', [health.detail(instance)]))
    }
  }

  const repair = (instance: string): Promise<void> =>
    sequence.run(instance, undefined, () =>
      repairOnce(instance).catch((error) => {
        if (errorCode(error) === 'incomplete') retries.done(instance)
        else retries.later(instance)
        throw error
      }),
    )

  return {
    async ensure(order, signal, aside = (wait) => wait()) {
      const receivedAt = now()
      await orders.accept(order)
      // Whoever waits on behalf of an older order finds out.
      wakes.wake(order.instance)
      let waiting: readonly Waiting[] = []
      for (let pause = LOOK.first; ; pause = Math.min(pause * 2, LOOK.most)) {
        const listener = wakes.listen(order.instance)
        try {
          const { assembled, entry } = await sequence.run(order.instance, signal, async () => {
            // Once more: what a `clear` forgot before this turn is in force again.
            await orders.accept(order)
            const done = await assemble(order, pause === LOOK.first, signal)
            return { assembled: done, entry: keep(order, done, receivedAt) }
          })
          waiting = assembled.waiting
          if (waiting.length === 0) return describe(order, entry, 'running', [health.detail(order.instance)])
          throwFailed(order, waiting)
          await aside(() => listener.wait(pause, signal))
        } catch (error) {
          throw signal.aborted && waiting.length > 0 ? interrupted(waiting) : error
        } finally {
          listener.leave()
        }
      }
    },
    async remove(instance, generation, signal) {
      const accepted = orders.current(instance)
      await orders.retire(instance, generation)
      wakes.wake(instance)
      known.get(instance)?.probing.abort()
      await sequence.run(instance, signal, () => demolish(instance, accepted, signal))
    },
    clear: (instance, still) =>
      sequence.run(instance, undefined, async () => {
        const generation = orders.generation(instance)
        if (!(await still())) return
        await demolish(instance, orders.current(instance))
        // An order that came meanwhile waits for its turn.
        if (!orders.isRetired(instance) && orders.generation(instance) === generation) await orders.forget(instance)
      }),
    async list(signal) {
      const all = await engine.list({ [LABEL.host]: host }, signal)
      return summarize(all, orders, (instance) => ({
        marks: known.get(instance)?.marks ?? {},
        unhealthy: health.detail(instance),
      }))
    },
    repair,
    reportPartial(instance, detail) {
      const order = orders.current(instance)
      if (!order) return
      partial.delete(instance)
      tellPartial(order, detail)
    },
    ended(instance, service, exitCode) {
      health.note(instance, service, null)
      const order = orders.current(instance)
      const spec = order?.services.find(({ name }) => name === service)
      if (!order || !spec || !staysEnded(spec, exitCode)) return false
      if (exitCode !== 0) {
        const detail = `service ${service} ended with exit code ${exitCode} and is not started again (restart: ${spec.restart})`
        tellNow(order, [detail])
      }
      return true
    },
    async healthChanged(instance, service, container) {
      const { health: state, healthOutput } = await engine.inspect(container)
      const order = orders.current(instance)
      const news = health.note(instance, service, state === 'unhealthy' ? lastWords(healthOutput) : null)
      if (order && news) tellNow(order)
    },
    tellOutputs(instance, outputs) {
      const order = orders.current(instance)
      if (order) tellNow(order, [], { outputs })
    },
    happened: (instance) => !wakes.wake(instance) && known.get(instance)?.unfinished === true,
    async *logs(instance, { service, follow, tail }, signal) {
      const found = await containersOf(instance, signal)
      const order = orders.current(instance)
      const name = service ?? order?.services[0]?.name ?? found[0]?.labels[LABEL.service]
      const container = found.find((c) => c.labels[LABEL.service] === name)
      if (!container) {
        const wanted = name === undefined ? instance : serviceContainerName(instance, name)
        throw new OrchestratorError('not-found', `there is no container ${wanted} on host ${host}`)
      }
      yield* engine.logs(container.id, { follow, tail }, signal)
    },
    instanceIn: known.instanceIn,
    isWanted: (instance) => orders.current(instance) !== null,
    onNetworksOf: (owner) =>
      orders
        .wanted()
        .filter((order) => ownerKey(order) === owner && hasNetworks(order))
        .map((order) => order.instance),
    remember: known.remember,
    settled: () => sequence.settled(),
    stop() {
      retries.stop()
      known.stopProbing()
    },
  }
}

/** @throws code dependency-failed when waiting on is of no use */
function throwFailed(order: WireOrder, waiting: readonly Waiting[]): void {
  const failed = waiting.filter(({ state }) => state !== 'patience')
  if (failed.length === 0) return
  const retryable = failed.every(({ state }) => state === 'failed')
  throw new OrchestratorError('dependency-failed', `instance ${order.instance}: ${sentences(failed)}`, { retryable })
}

/** The end of a wait by its signal: its reason says less than what was waited for. */
function interrupted(waiting: readonly Waiting[]): OrchestratorError {
  return new OrchestratorError('interrupted', sentences(waiting), { retryable: true })
}

function sentences(waiting: readonly Waiting[]): string {
  return waiting.map(({ why }) => why).join('; ')
}
