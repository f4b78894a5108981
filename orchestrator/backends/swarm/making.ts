import { InvalidInput, OrchestratorError } from '../../../common/errors.ts'
import type { Records } from '../backend.ts'
import type { Service } from './answers.ts'
import { isStatus, type SwarmEngine } from './engine.ts'
import { LABEL, labelsOf, nameOf } from './names.ts'
import { lastFault } from './observing.ts'
import { type Plan, specification } from './service-spec.ts'
import type { SwarmSettings } from './settings.ts'

/** Makes what an order needs in a swarm, and takes it away. Each step may be repeated after any crash. */
export interface Making {
  /** @throws OrchestratorError `update-rolled-back` when the swarm has gone back from this very one */
  make(plan: Plan, api: string, signal: AbortSignal): Promise<void>
  /** Removes secrets of an instance that its service does not use any more. */
  tidy(plan: Plan, signal: AbortSignal): Promise<void>
  /** Removes all of an instance. Gone already is success. */
  unmake(instance: string, signal: AbortSignal): Promise<void>
}

/** Attempts at a change while somebody else changes the same service. */
const ATTEMPTS = 5

export function createMaking(parts: {
  readonly engine: SwarmEngine
  readonly installation: string
  readonly settings: SwarmSettings
  readonly records: Records
}): Making {
  const { engine, installation, settings, records } = parts
  /** Under it stands the spec that the last update of an instance was to. */
  const updateKey = (instance: string) => `update/${instance}`

  /** Ids by name of the networks and secrets of a plan, made where they are missing. */
  const belongings = async (plan: Plan, signal: AbortSignal): Promise<ReadonlyMap<string, string>> => {
    const ids = new Map<string, string>()
    const wanted = [plan.name, ...plan.networks]
    for (const { name, id } of await engine.networks({ name: wanted }, signal))
      if (wanted.includes(name)) ids.set(name, id)
    for (const name of plan.networks.filter((one) => !ids.has(one))) {
      const remedy = `make it ("docker network create --driver overlay ${name}") or take it out of the template`
      throw new InvalidInput('options.networks', `the swarm has no network ${name}: ${remedy}`)
    }
    if (!ids.has(plan.name)) {
      const create = () => engine.createNetwork(plan.name, plan.labels, signal)
      ids.set(
        plan.name,
        await madeOnce(
          create,
          async () => (await engine.networks({ name: [plan.name] }, signal)).find(({ name }) => name === plan.name)?.id,
        ),
      )
    }
    const secrets = await engine.secrets(plan.labels, signal)
    for (const { name, content } of plan.secrets) {
      const there = secrets.find((one) => one.name === name)?.id
      const look = async () => (await engine.secrets(plan.labels, signal)).find((one) => one.name === name)?.id
      ids.set(name, there ?? (await madeOnce(() => engine.createSecret(name, plan.labels, content, signal), look)))
    }
    return ids
  }

  /** @throws OrchestratorError `update-rolled-back` */
  const mustNotBeRefused = async (service: Service, plan: Plan, signal: AbortSignal): Promise<void> => {
    const { State: state = '', Message: message = '' } = service.UpdateStatus ?? {}
    if (!state.startsWith('rollback') && state !== 'paused') return
    if ((await records.all()).get(updateKey(plan.order.instance)) !== plan.spec) return
    if (state === 'rollback_started') {
      throw new OrchestratorError('update-rolling-back', 'the swarm goes back from an update', {
        retryable: true,
        retryAfterMs: 2_000,
      })
    }
    const fault = lastFault(await engine.tasks({ service: [service.ID] }, signal)) ?? message
    const text = `the swarm went back to what ran before, since the update failed: ${fault}; correct the template or its parameters`
    throw new OrchestratorError('update-rolled-back', text)
  }

  const update = async (service: Service, plan: Plan, api: string, signal: AbortSignal): Promise<void> => {
    const { Labels: labels } = service.Spec
    const generation = Number(labels[LABEL.generation] ?? 0)
    const { order } = plan
    if (generation > order.generation) {
      const message = `${order.instance}: generation ${order.generation} is older than ${generation}, which the swarm has`
      throw new OrchestratorError('stale-generation', message)
    }
    if (labels[LABEL.spec] === plan.spec) {
      if (generation === order.generation) return
      // The task stays as it is: what it is made of is left as the swarm has it.
      const { Labels } = specification(plan, settings, api, () => '')
      await engine.updateService(service, { ...service.Spec, Labels }, signal)
      return
    }
    await mustNotBeRefused(service, plan, signal)
    const ids = await belongings(plan, signal)
    await records.put(updateKey(order.instance), plan.spec)
    await engine.updateService(
      service,
      specification(plan, settings, api, (name) => ids.get(name) ?? ''),
      signal,
    )
  }

  return {
    async make(plan, api, signal) {
      for (let attempt = 1; ; attempt++) {
        const service = await engine.service(plan.name, signal)
        try {
          if (service !== null) return await update(service, plan, api, signal)
          const ids = await belongings(plan, signal)
          await engine.createService(
            specification(plan, settings, api, (name) => ids.get(name) ?? ''),
            signal,
          )
          return
        } catch (error) {
          // It is there by now, or is another one: what it is then is looked at anew.
          const overtaken = isStatus(error, 409) || /update out of sequence/i.test((error as Error).message)
          if (!overtaken || attempt === ATTEMPTS) throw error
        }
      }
    },
    async tidy(plan, signal) {
      const wanted = new Set(plan.secrets.map(({ name }) => name))
      for (const { id, name } of await engine.secrets(plan.labels, signal)) {
        if (!wanted.has(name)) await engine.remove('secrets', id, signal)
      }
    },
    async unmake(instance, signal) {
      const name = nameOf(installation, instance)
      // By name, and by what the service says: a list may lag behind.
      const service = await engine.service(name, signal)
      const used = service?.Spec.TaskTemplate.ContainerSpec.Secrets ?? []
      if (service !== null) await engine.remove('services', service.ID, signal)
      const listed = await engine.secrets(labelsOf(installation, instance), signal)
      const secrets = new Set([...used.map(({ SecretID }) => SecretID), ...listed.map(({ id }) => id)])
      for (const id of secrets) await engine.remove('secrets', id, signal)
      // Last: by it an instance is found whose end was cut off.
      await engine.remove('networks', name, signal)
      await records.put(updateKey(instance), null)
    },
  }
}

/** Makes what has a name, or finds what somebody made meanwhile: an answer may have been lost. @returns its id */
async function madeOnce(create: () => Promise<string>, look: () => Promise<string | undefined>): Promise<string> {
  try {
    return await create()
  } catch (error) {
    if (!isStatus(error, 409)) throw error
    const found = await look()
    if (found === undefined) throw error
    return found
  }
}
