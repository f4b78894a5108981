import type { Log } from '../../common/log.ts'
import { sandboxOf } from '../../common/private-networks.ts'
import { LABEL, type WireOrder, type WireService } from '../contract.ts'
import type { InspectedContainer, ListedContainer } from '../engine/answers.ts'
import type { Engine } from '../engine/containers.ts'
import { hasCode } from '../engine/failure.ts'
import { inside, type Sandboxes } from './homes.ts'
import { type Orders, readOrder } from './orders.ts'
import type { Restarts } from './restarts.ts'
import type { Slots } from './slots.ts'
import { lastWords, nextStep, type ServiceState, type ServiceStates, staysEnded, type Waiting } from './starting.ts'

/** What came of a pass over the services of an instance. */
export interface Started {
  /** Whether any was started. */
  readonly restarted: boolean
  /** Why the others are not started yet. */
  readonly waiting: readonly Waiting[]
  /** What the health checks of those that are unhealthy said, by name. */
  readonly unhealthy: ReadonlyMap<string, string>
}

/** How a pass is made. `eager`: what died is started though its time has not come. `slot` held: the caller has one. */
export interface Pass {
  readonly eager: boolean
  readonly slot: 'held' | 'none'
}

/** The containers of services: how they stand, how they start in the order of what they depend on, and how they end. */
export interface Services {
  /** How those that were found stand. `restarted`: names of sandboxes that were dead; what ran in them has been stopped. */
  look(
    order: WireOrder,
    found: readonly ListedContainer[],
    sandboxes: Sandboxes,
    restarted: ReadonlySet<string>,
    signal?: AbortSignal,
  ): Promise<ServiceStates>
  /** Starts all that can be started now, without waiting for anything. */
  start(order: WireOrder, states: ServiceStates, pass: Pass, signal?: AbortSignal): Promise<Started>
  /** Asks those to end that are to be asked. */
  stop(found: readonly ListedContainer[], signal?: AbortSignal): Promise<void>
  remove(instance: string, found: readonly ListedContainer[], signal?: AbortSignal): Promise<void>
}

/**
 * Milliseconds by which a service may end before its sandbox does and still have been ended with it: an engine that stops
 * ends all of them at once.
 */
const TOGETHER_MS = 2_000

export function createServices(parts: {
  readonly engine: Engine
  readonly slots: Slots
  readonly orders: Orders
  readonly restarts: Restarts
  readonly log: Log
  readonly now: () => number
}): Services {
  const { engine, slots, orders, restarts, log, now } = parts

  const look: Services['look'] = async (order, found, sandboxes, restarted, signal) => {
    const homes = new Map<string, Promise<InspectedContainer>>()
    const homeOf = (service: WireService) => {
      const id = inside(sandboxes, sandboxOf(service)).id
      const asked = homes.get(id) ?? engine.inspect(id, signal)
      homes.set(id, asked)
      return asked
    }
    const ordered = order.services.some(({ dependsOn }) => dependsOn.length > 0)
    const stateOf = async (container: ListedContainer, service: WireService): Promise<ServiceState> => {
      const ended = staysEnded(service, container.exitCode)
      if (restarted.has(sandboxOf(service)) && !ended) return fresh(container.id)
      if (!ordered && !ended && container.health !== 'unhealthy') return { ...fresh(container.id), ...container }
      const full = await engine.inspect(container.id, signal)
      return ended && endedWith(await homeOf(service), full) ? fresh(full.id) : full
    }
    const states = await Promise.all(
      order.services.map(async (service) => {
        const container = found.find((c) => c.labels[LABEL.service] === service.name)
        return container === undefined ? [] : [[service.name, await stateOf(container, service)] as const]
      }),
    )
    return new Map(states.flat())
  }

  /** Starts a container; one that never can be is removed, so that the next attempt makes it anew. */
  const launch = async (id: string): Promise<void> => {
    try {
      await engine.start(id)
    } catch (error) {
      if (hasCode(error, 'not-startable')) await engine.remove(id)
      throw error
    }
  }

  const start: Services['start'] = async (order, given, pass, signal) => {
    const states = new Map(given)
    const held = (name: string) => !pass.eager && restarts.held(order.instance, name)
    for (let restarted = false; ; restarted = true) {
      const steps = order.services.map((service) => ({
        service,
        step: nextStep(service, order.services, states, held),
      }))
      const wave = steps.flatMap(({ service, step }) => {
        const state = step.kind === 'start' || step.kind === 'restart' ? states.get(service.name) : undefined
        return state === undefined ? [] : [{ service, state }]
      })
      if (wave.length === 0) {
        const waiting = steps.flatMap(({ step }) => (step.kind === 'wait' ? [step] : []))
        return { restarted, waiting, unhealthy: unhealthyIn(states) }
      }
      const running = wave.filter(({ state }) => state.running)
      await all(running.map(({ service, state }) => engine.stop(state.id, service.stopGraceMs, signal)))
      orders.assertCurrent(order)
      const work = () => all(wave.map(({ state }) => launch(state.id)))
      await (pass.slot === 'held' ? work() : slots.run('ensure', work, signal))
      // How they stand is seen by the next look; until then none of them failed.
      for (const { service, state } of wave) {
        states.set(service.name, { ...fresh(state.id), running: true, health: 'starting', startedAt: now() })
      }
    }
  }

  const stop: Services['stop'] = async (found, signal) => {
    const polite = found.filter((container) => container.running && stopGrace(container) > 0)
    await all(polite.map((container) => engine.stop(container.id, stopGrace(container), signal)))
  }

  return {
    look,
    start,
    stop,
    async remove(instance, found, signal) {
      await all(
        found.map(async (container) => {
          await stop([container], signal)
          await slots.run('remove', () => engine.remove(container.id, signal), signal)
        }),
      )
      if (found.length > 0) log.debug('instance.services-removed', 'containers removed', { instance, n: found.length })
    },
  }
}

/** A container that was made or stopped to be started. */
export function fresh(id: string): ServiceState {
  return { id, running: false, exitCode: null, health: 'none', healthOutput: '', startedAt: null, finishedAt: null }
}

/**
 * Whether a service ended because its sandbox did, or what runs both: it saw the sandbox's former run, to the end. An
 * engine that was killed does not know when that was; but then nothing asked the service to end.
 */
function endedWith(sandbox: InspectedContainer, service: InspectedContainer): boolean {
  const again = (sandbox.startedAt ?? 0) > (service.startedAt ?? 0)
  return again && sandbox.finishedAt !== null && (service.finishedAt ?? 0) >= sandbox.finishedAt - TOGETHER_MS
}

function unhealthyIn(states: ServiceStates): ReadonlyMap<string, string> {
  const ill = [...states].filter(([, state]) => state.health === 'unhealthy')
  return new Map(ill.map(([name, state]) => [name, lastWords(state.healthOutput)]))
}

function stopGrace(container: ListedContainer): number {
  const made = readOrder(container.labels[LABEL.order])
  return made?.services.find((s) => s.name === container.labels[LABEL.service])?.stopGraceMs ?? 0
}

/** Waits for the end of all, so that nothing goes on behind a failure. @throws the first failure */
async function all(work: readonly Promise<void>[]): Promise<void> {
  const outcomes = await Promise.allSettled(work)
  const fault = outcomes.find((outcome) => outcome.status === 'rejected')
  if (fault) throw fault.reason
}
