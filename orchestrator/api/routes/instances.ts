import { Router } from 'express'
import { z } from 'zod'
import type { Clock } from '../../../common/clock.ts'
import { serviceName } from '../../../common/service-spec.ts'
import type { Host } from '../../domain/host.ts'
import type { Instance } from '../../domain/instance.ts'
import type { Intake } from '../../intake.ts'
import type { Store } from '../../store/store.ts'
import type { ApiMetrics } from '../metrics.ts'
import type { OutputOptions } from '../output-options.ts'
import { sendTexts } from '../paced-response.ts'
import { accept, flagParameter, Problem } from '../problem.ts'
import { eventToShape, instanceToShape, leaseToShape } from '../shapes.ts'
import { parametersToShape } from '../template-shapes.ts'
import type { InstanceDetailShape, InstanceShape } from '../wire.ts'

/** What an instance's services print; rejects with HostUnreachable and the like. */
export type InstanceLogs = (instance: Instance, options: OutputOptions, signal: AbortSignal) => AsyncIterable<string>

export interface InstancesOptions {
  readonly store: Store
  readonly clock: Clock
  readonly intake: Pick<Intake, 'dismiss'>
  readonly logs: InstanceLogs
  readonly metrics: ApiMetrics
  readonly stopping: AbortSignal
}

/** Events shown with an instance. */
const DETAIL_EVENTS = 20
const listQuery = z.strictObject({ all: flagParameter })
const logsQuery = z.strictObject({
  tail: z.coerce.number().int().min(0).max(100_000).default(200),
  follow: flagParameter,
  service: serviceName.optional(),
})
/** An id or a name: nothing else is looked up. */
const idOrName = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/)

/** `/v1/instances`: list, detail, logs, and the wish that one be gone. An instance is named by id or by name. */
export function instancesRoutes(options: InstancesOptions): Router {
  const { store, intake } = options
  const router = Router()

  router.get('/v1/instances', async (request, response) => {
    const { all } = accept(listQuery, request.query)
    const instances = await store.instances(all ? {} : { live: true })
    const shape = await shaper(store)
    response.json({ items: instances.map(shape) })
  })

  router.get('/v1/instances/:id', async (request, response) => {
    const instance = await foundInstance(store, request.params.id)
    response.json(await detailOf(store, instance))
  })

  router.delete('/v1/instances/:id', async (request, response) => {
    const found = await foundInstance(store, request.params.id)
    const dismissed = await intake.dismiss(found.id)
    if (dismissed === null) throw new Problem(404, 'not-found', `instance ${found.name} is gone already`)
    const shape = await shaper(store)
    response.status(202).json(shape(dismissed))
  })

  router.get('/v1/instances/:id/logs', async (request, response) => {
    const query = accept(logsQuery, request.query)
    const instance = await foundInstance(store, request.params.id)
    await sendTexts(response, options, (left) => options.logs(instance, query, left))
  })
  return router
}

/** The instance of that id or name. @throws Problem 404 */
export async function foundInstance(store: Store, given: string): Promise<Instance> {
  const instance = idOrName.safeParse(given).success ? await store.findInstance(given) : null
  if (instance === null) {
    throw new Problem(404, 'not-found', `there is no instance ${JSON.stringify(given.slice(0, 64))}`)
  }
  return instance
}

/** Shows instances with the numbers of their templates' versions. */
async function shaper(store: Store): Promise<(instance: Instance) => InstanceShape> {
  const [hosts, versions] = await Promise.all([store.hosts(), store.templateNumbers()])
  const numbers = new Map(versions.map(({ name, version, number }) => [`${name}@${version}`, number]))
  return (instance) => {
    const { name, version } = instance.template
    return instanceToShape(instance, hostConnected(instance, hosts), numbers.get(`${name}@${version}`) ?? 0)
  }
}

async function detailOf(store: Store, instance: Instance): Promise<InstanceDetailShape> {
  const [lease, events, template, shape, living] = await Promise.all([
    store.lease(instance.owner),
    store.events({ limit: DETAIL_EVENTS, instance: instance.id }),
    store.template(instance.template),
    shaper(store),
    instance.state === 'gone' ? store.instances({ live: true }) : [instance],
  ])
  const { duid, iaid } = instance.owner
  const current = living.find((other) => other.owner.duid === duid && other.owner.iaid === iaid) ?? null
  return {
    ...shape(instance),
    parameters: parametersToShape(instance.parameters, template?.parameters ?? []),
    outputs: instance.outputs,
    lease: lease === null ? null : leaseToShape(lease, current),
    events: events.map(eventToShape),
  }
}

function hostConnected(instance: Instance, hosts: readonly Host[]): boolean {
  const home: string = instance.host ?? instance.source
  const host = hosts.find(({ name }) => name === home)
  // Other targets than hosts have no connection that could be away: what fails there is told as a failure.
  return host === undefined ? instance.host !== null : host.connected
}
