import { HostUnreachable, NoRoom, OrchestratorError } from '../../../common/errors.ts'
import type { HostName, Target } from '../../domain/host.ts'
import type { InstanceId, Observed, Order } from '../../domain/instance.ts'
import { type Backend, type BackendContext, type BackendKind, CONTRACT_VERSION } from '../backend.ts'
import { createGenerations } from '../generations.ts'
import { createTurns } from '../turns.ts'
import type { Node, Task } from './answers.ts'
import { checked } from './checking.ts'
import { type SwarmEngine, swarmEngine } from './engine.ts'
import { createMaking } from './making.ts'
import { LABEL, labelsOf, nameOf } from './names.ts'
import { AGAIN_MS, mustStart, observe } from './observing.ts'
import { planOf } from './service-spec.ts'
import { parseSettings, type SwarmSettings } from './settings.ts'
import { checkOrder, checkTemplate, isBefore } from './support.ts'
import { usableTls } from './trust.ts'
import { createFollower } from './watch.ts'

/** Milliseconds that `ensure` waits for a task before it says `starting`, and between two looks at it. */
const PATIENCE = { most: 3_000, every: 300 }
/** Milliseconds that `remove` waits for the end of tasks; after `usual` no longer for those of a node that is away. */
const END = { most: 60_000, usual: 5_000, every: 500 }
/** Engine API from which on services have capabilities, ulimits and limits of processes. */
const LEAST_API = '1.41'
/** Under it stands the id of the swarm that was met first. */
const SWARM_KEY = 'swarm'

/** An existing Docker Swarm: an instance is a service of it, wired by the `unionize` of the node that runs its task. */
export const backend: BackendKind = {
  contract: CONTRACT_VERSION,
  async create(settings, context) {
    return swarmBackend(parseSettings(settings), context)
  },
}

function swarmBackend(settings: SwarmSettings, context: BackendContext): Backend {
  const { name, installation, log, clock, records } = context
  const engine = swarmEngine({
    ...{ name, managers: settings.managers, callMs: settings.callSeconds * 1000 },
    tls: () => usableTls(settings, context),
    mustBe: sameSwarm(settings, context),
  })
  const generations = createGenerations(records, clock)
  const making = createMaking({ engine, installation, settings, records })
  const turns = createTurns()
  const list = (signal: AbortSignal) => listed(engine, installation, signal)
  const follower = createFollower({ engine, list, pollMs: settings.pollSeconds * 1000, clock, log })
  let api: string | null = null

  const mustBeHere = (target: Target): void => {
    if (target.name !== name) throw new HostUnreachable(target.name, `backend ${name} has one target, of its own name`)
  }
  /** @throws OrchestratorError `swarm-too-old` */
  const apiOf = async (signal: AbortSignal): Promise<string> => {
    api ??= (await engine.version(signal)).ApiVersion
    if (!isBefore(api, LEAST_API)) return api
    const message = `the managers speak API ${api}, and ${LEAST_API} (Docker 20.10) is the least: update the engines`
    throw new OrchestratorError('swarm-too-old', message)
  }
  /** Waits a little for its task. @throws NoRoom, OrchestratorError that says why it does not start */
  const settled = async (order: Order, signal: AbortSignal): Promise<Observed> => {
    const deadline = clock.now() + PATIENCE.most
    for (;;) {
      const service = await engine.service(nameOf(installation, order.instance), signal)
      const generation = Number(service?.Spec.Labels[LABEL.generation] ?? 0)
      if (service === null || generation > order.generation) {
        throw new OrchestratorError('overtaken', `${order.instance}: somebody else changed its service`, {
          retryable: true,
        })
      }
      if (generation === order.generation) {
        const tasks = await engine.tasks({ service: [service.ID] }, signal)
        const observed = observe(service, tasks, await nodesOf(tasks, engine, signal))
        if (observed.state === 'running' || observed.state === 'partial') return observed
        mustStart(service, tasks)
        if (clock.now() >= deadline) return { ...observed, state: 'starting', againMs: AGAIN_MS }
      } else if (clock.now() >= deadline) {
        const { instance, address } = order
        const detail = 'the swarm goes back to what ran before'
        return { instance, generation: order.generation, address, state: 'starting', againMs: AGAIN_MS, detail }
      }
      await clock.wait(PATIENCE.every, signal)
    }
  }
  /** What never found a node is not left waiting for one: another backend may be tried. */
  const withdraw = (order: Order, signal: AbortSignal): Promise<void> =>
    turns.take(order.instance, signal, async () => {
      const tasks = await engine.tasks({ label: pairsOf(labelsOf(installation, order.instance)) }, signal)
      if (tasks.every(({ NodeID }) => !NodeID)) await making.unmake(order.instance, signal)
    })

  return {
    name,
    targets: () => [name as HostName],
    checkTemplate: (template) => checkTemplate(template, name),
    async list(target, signal) {
      mustBeHere(target)
      return await list(signal)
    },
    async ensure(order, target, signal) {
      mustBeHere(target)
      const plan = await turns.take(order.instance, signal, async () => {
        await engine.quiet(signal)
        const spoken = await apiOf(signal)
        checkOrder(order, { api: spoken, nodesForbidNewPrivileges: settings.nodesForbidNewPrivileges })
        await generations.accept(order.instance, order.generation)
        const planned = planOf(order, installation, settings, spoken)
        await making.make(planned, spoken, signal)
        return planned
      })
      try {
        const observed = await settled(order, signal)
        if (observed.state === 'running') await making.tidy(plan, signal)
        return observed
      } catch (error) {
        if (error instanceof NoRoom) await withdraw(order, signal)
        throw error
      }
    },
    async remove({ id, generation }, target, signal) {
      mustBeHere(target)
      await turns.take(id, signal, async () => {
        await engine.quiet(signal)
        await generations.accept(id, generation)
        const labels = labelsOf(installation, id)
        const service = await engine.service(nameOf(installation, id), signal)
        const theirs = Number(service?.Spec.Labels[LABEL.generation] ?? 0)
        if (theirs > generation) {
          const message = `${id}: generation ${generation} is older than ${theirs}, which the swarm has`
          throw new OrchestratorError('stale-generation', message)
        }
        await making.unmake(id, signal)
        await ended(engine, labels, clock, signal)
      })
    },
    async watch(target, tell, signal) {
      mustBeHere(target)
      await follower.follow(tell, signal)
    },
    async *logs(id: InstanceId, target, { service: wanted, tail, follow }, signal) {
      mustBeHere(target)
      const [service] = await engine.services(labelsOf(installation, id), signal)
      if (service === undefined) throw new OrchestratorError('not-found', `the swarm has no service of instance ${id}`)
      const [first] = (service.Spec.TaskTemplate['Networks'] as { Aliases?: string[] }[] | undefined) ?? []
      if (wanted !== undefined && first?.Aliases?.[0] !== wanted) {
        throw new OrchestratorError('not-found', `instance ${id} has no service ${wanted}`)
      }
      const terminal = service.Spec.TaskTemplate.ContainerSpec.TTY ?? false
      yield* engine.logs(service.ID, { follow, tail, terminal }, signal)
    },
    async check(target, signal) {
      mustBeHere(target)
      return await checked(engine, settings, signal)
    },
    async close() {
      await engine.quiet()
    },
  }
}

/** All services of ours, and what is left of those whose beginning or end was cut off. */
async function listed(engine: SwarmEngine, installation: string, signal: AbortSignal): Promise<readonly Observed[]> {
  const labels = { [LABEL.installation]: installation }
  // First: a service is made after its network.
  const networks = await engine.networks({ label: pairsOf(labels) }, signal)
  const services = await engine.services(labels, signal)
  const known = new Set(services.map(({ Spec }) => Spec.Labels[LABEL.instance]))
  const halves = networks.flatMap(({ labels: { [LABEL.instance]: instance } }): Observed[] => {
    if (instance === undefined || known.has(instance)) return []
    const detail = 'of it there is a network and no service'
    return [{ instance: instance as InstanceId, generation: 0, state: 'stopped', address: null, detail }]
  })
  if (services.length === 0) return halves
  const tasks = await engine.tasks({ label: pairsOf(labels) }, signal)
  const nodes = await nodesOf(tasks, engine, signal)
  const byService = Map.groupBy(tasks, ({ ServiceID }) => ServiceID)
  return [...services.map((service) => observe(service, byService.get(service.ID) ?? [], nodes)), ...halves]
}

/** The nodes by id, if any of these tasks runs on one: else nobody looks there. */
async function nodesOf(tasks: readonly Task[], engine: SwarmEngine, signal: AbortSignal) {
  if (!tasks.some(({ Status }) => Status.State === 'running')) return new Map<string, Node>()
  return new Map((await engine.nodes(signal)).map((node) => [node.ID, node]))
}

/** Waits for the end of tasks that were told to go, on nodes that are there. @throws OrchestratorError `still-ending` */
async function ended(
  engine: SwarmEngine,
  labels: Readonly<Record<string, string>>,
  clock: BackendContext['clock'],
  signal: AbortSignal,
): Promise<void> {
  const begun = clock.now()
  for (;;) {
    const tasks = (await engine.tasks({ label: pairsOf(labels) }, signal)).filter(({ NodeID }) => NodeID)
    if (tasks.length === 0) return
    const waited = clock.now() - begun
    if (waited > END.usual) {
      const ready = (await engine.nodes(signal)).filter(({ Status }) => Status.State === 'ready').map(({ ID }) => ID)
      if (!tasks.some(({ NodeID }) => ready.includes(NodeID ?? ''))) return
    }
    if (waited > END.most) {
      const message = `a task of it has not ended within ${END.most / 1000} s`
      throw new OrchestratorError('still-ending', message, { retryable: true })
    }
    await clock.wait(END.every, signal)
  }
}

/** A manager that was made one of another swarm must not pass for ours, with nothing of ours in it. */
function sameSwarm(settings: SwarmSettings, { name, records }: BackendContext) {
  return async (swarm: string, manager: string): Promise<void> => {
    const known = settings.swarm ?? (await records.all()).get(SWARM_KEY)
    if (known === undefined) await records.put(SWARM_KEY, swarm)
    else if (known !== swarm) {
      const remedy = `take it out of settings.managers, or say settings.swarm: ${swarm} if that is meant`
      throw new HostUnreachable(name, `${manager} is of another swarm (${swarm}) than before (${known}): ${remedy}`)
    }
  }
}

function pairsOf(labels: Readonly<Record<string, string>>): string[] {
  return Object.entries(labels).map(([key, value]) => `${key}=${value}`)
}
