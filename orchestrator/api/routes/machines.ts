import { type Request, type Response, Router } from 'express'
import { z } from 'zod'
import type { Clock } from '../../../common/clock.ts'
import type { Machine, Roll } from '../../domain/machine.ts'
import { fingerprintOf, machineToShape, rollToShape } from '../machine-shapes.ts'
import type { ApiMetrics } from '../metrics.ts'
import { sendTexts } from '../paced-response.ts'
import { accept, flagParameter, Problem } from '../problem.ts'
import { machineKeyRequest, newMachineRequest, rollRequest, secretRequest, upgradeRequest } from '../wire.ts'

/** The machines of one backend, for operators: what orchestrator/backends/coreos/machines/machines.ts makes. */
export interface MachineDesk {
  list(): readonly Machine[]
  find(name: string): Machine
  hostKey(address: string, port: number, signal: AbortSignal): Promise<string>
  add(machine: {
    readonly name: string
    readonly address: string
    readonly port: number
    readonly user: string
    readonly hostKey: string
    readonly labels: Readonly<Record<string, string>>
    readonly etcd?: { readonly member: string; readonly peer: string } | undefined
  }): Promise<Machine>
  cordon(name: string, cordoned: boolean): Promise<Machine>
  remove(name: string, options: { readonly dead: boolean }): Promise<Machine>
  upgrade(name: string, to: string | null): Promise<Machine>
  roll(): Roll | null
  beginRoll(names: readonly string[] | null, to: string | null): Promise<Roll>
  resumeRoll(): Promise<Roll>
  stopRoll(): Promise<Roll>
  pushSecret(name: string, secret: { name: string; content: Buffer }, signal: AbortSignal): Promise<Machine>
  journal(
    name: string,
    options: { readonly unit?: string | undefined; readonly tail: number; readonly follow: boolean },
    signal: AbortSignal,
  ): AsyncIterable<string>
}

export interface MachinesOptions {
  /** By the name of their backend. */
  readonly desks: ReadonlyMap<string, MachineDesk>
  readonly clock: Clock
  readonly metrics: ApiMetrics
  readonly stopping: AbortSignal
}

/** Milliseconds that a machine has while somebody waits for the answer. */
const ANSWER_MS = 25_000
const MOST_LINES = 10_000
const journalQuery = z.object({
  backend: z.string().max(63).optional(),
  unit: z
    .string()
    .regex(/^[\w:.@\\-]{1,255}$/, 'expected the name of a unit')
    .optional(),
  tail: z.coerce.number().int().min(0).max(MOST_LINES).default(100),
  follow: flagParameter,
})

/** `/v1/machines`, `/v1/machine-keys`, `/v1/machine-roll`: see wire/machines.ts. */
export function machinesRoutes(options: MachinesOptions): Router {
  const { desks, stopping } = options
  const router = Router()
  const soon = () => AbortSignal.any([stopping, AbortSignal.timeout(ANSWER_MS)])

  router.get('/v1/machines', (_request, response) => {
    const items = [...desks].flatMap(([backend, desk]) => desk.list().map((one) => machineToShape(one, backend)))
    response.json({ items })
  })
  router.get('/v1/machines/:name', (request, response) => {
    const { backend, desk } = deskOf(desks, request)
    response.json(machineToShape(desk.find(request.params.name), backend))
  })
  router.post('/v1/machine-keys', async (request, response) => {
    const { address, port } = accept(machineKeyRequest, request.body ?? {})
    const hostKey = await onlyDesk(desks, request).desk.hostKey(address, port, soon())
    response.json({ hostKey, fingerprint: fingerprintOf(hostKey) })
  })
  router.post('/v1/machines', async (request, response) => {
    const { backend, desk } = onlyDesk(desks, request)
    const { etcd, ...given } = accept(newMachineRequest, request.body ?? {})
    const member = etcd && { member: etcd.member ?? given.name, peer: etcd.peer }
    response.status(201).json(machineToShape(await desk.add({ ...given, etcd: member }), backend))
  })
  for (const verb of ['cordon', 'uncordon'] as const) {
    router.post(`/v1/machines/:name/${verb}`, async (request, response) => {
      const { backend, desk } = deskOf(desks, request)
      response.json(machineToShape(await desk.cordon(request.params.name, verb === 'cordon'), backend))
    })
  }
  router.post('/v1/machines/:name/upgrade', async (request, response) => {
    const { to } = accept(upgradeRequest, request.body ?? {})
    const { backend, desk } = deskOf(desks, request)
    response.status(202).json(machineToShape(await desk.upgrade(request.params.name, to ?? null), backend))
  })
  router.delete('/v1/machines/:name', async (request, response) => {
    const { dead } = accept(z.object({ dead: flagParameter }), request.query)
    const { backend, desk } = deskOf(desks, request)
    response.status(202).json(machineToShape(await desk.remove(request.params.name, { dead }), backend))
  })
  router.put('/v1/machines/:name/secrets/:secret', async (request, response) => {
    const { content } = accept(secretRequest, request.body ?? {})
    const { backend, desk } = deskOf(desks, request)
    const secret = { name: request.params.secret, content: Buffer.from(content, 'base64') }
    response.json(machineToShape(await desk.pushSecret(request.params.name, secret, soon()), backend))
  })
  router.get('/v1/machines/:name/journal', async (request, response) => {
    await sendJournal(options, request, response)
  })
  addRoll(router, desks)
  return router
}

function addRoll(router: Router, desks: MachinesOptions['desks']): void {
  router.get('/v1/machine-roll', (request, response) => {
    const { backend, desk } = onlyDesk(desks, request)
    const roll = desk.roll()
    if (roll === null) throw new Problem(404, 'no-roll', 'there is no rolling upgrade')
    response.json(rollToShape(roll, backend))
  })
  router.post('/v1/machine-roll', async (request, response) => {
    const { to, machines } = accept(rollRequest, request.body ?? {})
    const { backend, desk } = onlyDesk(desks, request)
    response.status(202).json(rollToShape(await desk.beginRoll(machines ?? null, to ?? null), backend))
  })
  for (const verb of ['resume', 'stop'] as const) {
    router.post(`/v1/machine-roll/${verb}`, async (request, response) => {
      const { backend, desk } = onlyDesk(desks, request)
      const roll = verb === 'resume' ? await desk.resumeRoll() : await desk.stopRoll()
      response.status(202).json(rollToShape(roll, backend))
    })
  }
}

interface Found {
  readonly backend: string
  readonly desk: MachineDesk
}

/** The desk that `?backend=` names, or the only one. @throws Problem */
function onlyDesk(desks: MachinesOptions['desks'], request: Request): Found {
  const { backend } = accept(z.object({ backend: z.string().max(63).optional() }), request.query)
  const name = backend ?? (desks.size === 1 ? [...desks.keys()][0] : undefined)
  const desk = name === undefined ? undefined : desks.get(name)
  if (name !== undefined && desk !== undefined) return { backend: name, desk }
  const known = [...desks.keys()].join(', ')
  if (desks.size === 0) {
    throw new Problem(404, 'no-machines', 'no backend of kind coreos is in the settings, so there are no machines')
  }
  if (name === undefined)
    throw new Problem(400, 'invalid-input', `name one of the backends ${known}`, { field: 'backend' })
  throw new Problem(404, 'not-found', `${JSON.stringify(name)} is no backend with machines; there is ${known}`)
}

/** The desk with the machine that the path names. @throws Problem */
function deskOf(desks: MachinesOptions['desks'], request: Request): Found {
  const name = String(request.params['name'])
  if (request.query['backend'] === undefined && desks.size > 1) {
    const found = [...desks].filter(([, desk]) => desk.list().some((machine) => machine.name === name))
    const [first] = found
    if (found.length === 1 && first !== undefined) return { backend: first[0], desk: first[1] }
    if (found.length === 0)
      throw new Problem(404, 'not-found', `there is no machine ${JSON.stringify(name.slice(0, 64))}`)
  }
  return onlyDesk(desks, request)
}

async function sendJournal(options: MachinesOptions, request: Request, response: Response): Promise<void> {
  const { backend: _backend, ...query } = accept(journalQuery, request.query)
  const { desk } = deskOf(options.desks, request)
  await sendTexts(response, options, (left) => desk.journal(String(request.params['name']), query, left))
}
