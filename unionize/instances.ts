import { OrchestratorError, wording } from '../common/errors.ts'
import type { Log } from '../common/log.ts'
import type { Assembled, Assembly } from './assembly.ts'
import type { Engine, ListedContainer } from './containers.ts'
import { LABEL, type WireMarks, type WireObserved, type WireOrder } from './contract.ts'
import { ContainerFailure } from './engine-error.ts'
import { hasNetworks, ownerKey } from './networks/plan.ts'
import type { Orders } from './orders.ts'
import { answers } from './probe.ts'
import { createSequence } from './sequence.ts'
import { serviceContainerName } from './service.ts'

/** What we know of an instance beyond what the engine tells. */
interface Known {
  /** The order that was last carried out. */
  readonly order: WireOrder
  /** Ids of its sandboxes: the first is that of the instance, others are those of single services. */
  readonly sandboxes: readonly string[]
  readonly marks: WireMarks
  /** Ends the probing of its entry port. */
  readonly probing: AbortController
}

/** The instances of this host: what `ensure`, `remove` and `list` mean here. One instance is worked on by one at a time. */
export interface Instances {
  /** Resolves when it runs and is wired. @throws StaleGeneration, or what wiring and engine refuse */
  ensure(order: WireOrder, signal: AbortSignal): Promise<WireObserved>
  /** Resolves when nothing of it is left. @throws StaleGeneration */
  remove(instance: string, generation: number, signal: AbortSignal): Promise<void>
  /** Removes what is left of an instance that cannot run, without a word from the orchestrator: an order may make it anew. */
  clear(instance: string): Promise<void>
  /** All that bears our labels, in one call to the engine. */
  list(signal: AbortSignal): Promise<readonly WireObserved[]>
  /** Starts again what died, without making anything new; tells what it looks like afterwards. */
  repair(instance: string): Promise<void>
  /** Tells at once that a part died. */
  reportPartial(instance: string, detail: string): void
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
  /** Waits for the work under way. */
  settled(): Promise<void>
  stopProbing(): void
}

/** Milliseconds after which an entry port that does not answer is reported. */
const REACHABLE_LIMIT_MS = 30_000

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
  const known = new Map<string, Known>()
  /** Those that were told to be partial since they were last told to run. */
  const partial = new Set<string>()
  const sequence = createSequence()

  const containersOf = (instance: string, signal?: AbortSignal) =>
    engine.list({ [LABEL.host]: host, [LABEL.instance]: instance }, signal)

  const probe = async (order: WireOrder, entry: Known): Promise<void> => {
    if (order.entryPort === null) return
    const { signal } = entry.probing
    const answered = await answers(order.address, order.entryPort, REACHABLE_LIMIT_MS, signal)
    const latest = known.get(order.instance)
    if (latest?.probing !== entry.probing) return
    if (answered) {
      const reached: Known = { ...latest, marks: { ...latest.marks, reachableAt: now() } }
      known.set(order.instance, reached)
      tell(describe(latest.order, reached, 'running'))
    } else {
      const detail = `port ${order.entryPort} has not answered within ${REACHABLE_LIMIT_MS / 1000} s`
      tell({ ...describe(order, entry, 'running'), detail })
    }
  }

  /** Keeps what came of an order and begins to probe what was started. */
  const keep = (order: WireOrder, assembled: Assembled, receivedAt: number): Known => {
    const former = known.get(order.instance)
    const { sandboxAt, startedAt, restarted } = assembled
    const place = { order, sandboxes: assembled.sandboxes }
    if (former && !restarted) {
      const same = { ...former, ...place }
      known.set(order.instance, same)
      return same
    }
    former?.probing.abort()
    const entry: Known = {
      ...place,
      marks: restarted ? { receivedAt, sandboxAt, startedAt } : { receivedAt },
      probing: new AbortController(),
    }
    known.set(order.instance, entry)
    probe(order, entry).catch((error) => {
      if (!entry.probing.signal.aborted) {
        log.warn('instance.probe-failed', 'the entry port could not be probed', {
          instance: order.instance,
          error: wording(error),
        })
      }
    })
    return entry
  }

  const assemble = async (order: WireOrder, signal: AbortSignal): Promise<Assembled> => {
    const previous = known.get(order.instance)?.order ?? null
    if (previous === null) {
      try {
        return await assembly.build(order, signal)
      } catch (error) {
        if (!(error instanceof ContainerFailure && error.code === 'name-conflict')) throw error
        log.info('instance.found', 'parts of the instance exist already; finishing them', { instance: order.instance })
      }
    }
    const found = await containersOf(order.instance, signal)
    return assembly.mend(order, found, { previous, environment: true }, signal)
  }

  const demolish = async (instance: string, accepted: WireOrder | null, signal?: AbortSignal): Promise<void> => {
    const entry = known.get(instance)
    if (accepted) await assembly.cutOff(accepted, entry?.sandboxes[0] ?? null)
    if (entry) await assembly.cutOff(entry.order, entry.sandboxes[0] ?? null)
    entry?.probing.abort()
    const found = await containersOf(instance, signal)
    await assembly.dismantle(instance, found, signal)
    known.delete(instance)
    partial.delete(instance)
  }

  return {
    async ensure(order, signal) {
      const receivedAt = now()
      await orders.accept(order)
      return sequence.run(order.instance, signal, async () => {
        orders.assertCurrent(order)
        const entry = keep(order, await assemble(order, signal), receivedAt)
        return describe(order, entry, 'running')
      })
    },
    async remove(instance, generation, signal) {
      const accepted = orders.current(instance)
      await orders.retire(instance, generation)
      known.get(instance)?.probing.abort()
      await sequence.run(instance, signal, () => demolish(instance, accepted, signal))
    },
    clear: (instance) =>
      sequence.run(instance, undefined, async () => {
        await demolish(instance, orders.current(instance))
        if (!orders.isRetired(instance)) await orders.forget(instance)
      }),
    async list(signal) {
      const all = await engine.list({ [LABEL.host]: host }, signal)
      return summarize(all, orders, known)
    },
    repair: (instance) =>
      sequence.run(instance, undefined, async () => {
        const order = orders.current(instance)
        if (!order) return
        const found = await containersOf(instance)
        const assembled = await assembly.mend(order, found, { previous: null, environment: false })
        if (assembled.restarted || partial.delete(instance)) {
          partial.delete(instance)
          tell(describe(order, keep(order, assembled, now()), 'running'))
        }
      }),
    reportPartial(instance, detail) {
      const order = orders.current(instance)
      if (!order) return
      partial.add(instance)
      tell({ ...describe(order, known.get(instance), 'partial'), detail })
    },
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
    instanceIn: (sandbox) => [...known].find(([, entry]) => entry.sandboxes.includes(sandbox))?.[0],
    isWanted: (instance) => orders.current(instance) !== null,
    onNetworksOf: (owner) =>
      orders
        .wanted()
        .filter((order) => ownerKey(order) === owner && hasNetworks(order))
        .map((order) => order.instance),
    remember(order, sandboxes) {
      if (known.has(order.instance)) return
      known.set(order.instance, { order, sandboxes, marks: {}, probing: new AbortController() })
    },
    settled: () => sequence.settled(),
    stopProbing() {
      for (const entry of known.values()) entry.probing.abort()
    },
  }
}

function describe(order: WireOrder, entry: Known | undefined, state: WireObserved['state']): WireObserved {
  return {
    instance: order.instance,
    generation: entry?.order.generation ?? 0,
    state,
    address: order.address,
    marks: entry?.marks ?? {},
  }
}

/** The engine's containers as instances. */
function summarize(
  all: readonly ListedContainer[],
  orders: Orders,
  known: ReadonlyMap<string, Known>,
): readonly WireObserved[] {
  const running = new Set(all.filter((c) => c.running).map((c) => c.id))
  const byInstance = Map.groupBy(
    all.filter((c) => c.labels[LABEL.role] === 'service'),
    (c) => c.labels[LABEL.instance] ?? '',
  )
  return [...byInstance].map(([instance, services]) => {
    const order = orders.current(instance)
    const alive = services.filter((c) => c.running && c.namespaceOf !== null && running.has(c.namespaceOf))
    const complete = order !== null && alive.length === order.services.length && alive.length === services.length
    const dead = services.filter((c) => !alive.includes(c)).map((c) => c.labels[LABEL.service])
    return {
      instance,
      // The highest ever seen, so that whoever wants it removed knows which generation is high enough.
      generation: orders.generation(instance),
      state: complete ? 'running' : alive.length > 0 ? 'partial' : 'stopped',
      address: order?.address ?? null,
      ...(dead.length > 0 ? { detail: `not running: ${dead.join(', ')}` } : {}),
      marks: known.get(instance)?.marks ?? {},
    }
  })
}
