import type { Readable } from 'node:stream'
import { type Request, type Response, Router } from 'express'
import { z } from 'zod'
import type { Clock } from '../../../common/clock.ts'
import type { Build } from '../../domain/build.ts'
import type { Store } from '../../store/store.ts'
import { withBody } from '../body-stream.ts'
import type { ApiMetrics } from '../metrics.ts'
import { sendTexts } from '../paced-response.ts'
import { accept, flagParameter, Problem } from '../problem.ts'
import { type BuildShape, gitBuildRequest } from '../wire.ts'

/** Builds as this API needs them. What it throws is a problem, or has the code of one. */
export interface BuildDesk {
  fromArchive(
    given: { template: string; source: string; format: 'tar' | 'tgz' | 'zip'; base: string | null },
    body: Readable,
    signal: AbortSignal,
  ): Promise<Build>
  fromGit(given: {
    template: string
    git: { url: string; ref?: string | undefined; directory?: string | undefined }
    base: string | null
  }): Promise<Build>
  /** @returns false: it has ended, or there is no such build */
  cancel(id: string): boolean
  log(id: string, follow: boolean, signal: AbortSignal): AsyncIterable<string>
  /** Whether it was taken by this orchestrator, and not by another one on the same database. */
  isOurs(id: string): Promise<boolean>
}

export interface BuildsOptions {
  readonly store: Pick<Store, 'builds' | 'build'>
  readonly builds: BuildDesk
  readonly clock: Clock
  readonly metrics: ApiMetrics
  readonly stopping: AbortSignal
}

const listQuery = z.strictObject({ limit: z.coerce.number().int().min(1).max(1000).default(100) })
const logQuery = z.strictObject({ follow: flagParameter })
const archiveQuery = z.strictObject({
  template: z.string().max(63),
  source: z
    .string()
    .max(300)
    .regex(/^\P{Cc}*$/u, 'expected no control characters'),
  format: z.enum(['tar', 'tgz', 'zip']).default('tar'),
  base: z.string().max(512).optional(),
})
const anId = z.string().regex(/^b-[0-9a-z]{10}$/)

/** `/v1/builds`: begin one from a source, list, detail, log, and cancel. */
export function buildsRoutes(options: BuildsOptions): Router {
  const { store, builds, stopping } = options
  const router = Router()

  router.get('/v1/builds', async (request, response) => {
    const found = await store.builds(accept(listQuery, request.query))
    response.json({ items: found.map(buildToShape) })
  })

  router.post('/v1/builds', async (request, response) => {
    const build = request.is('application/json')
      ? await fromGit(builds, request)
      : await fromArchive(builds, request, stopping)
    response.status(202).json(buildToShape(build))
  })

  router.get('/v1/builds/:id', async (request, response) => {
    response.json(buildToShape(await foundBuild(store, request.params.id)))
  })

  router.delete('/v1/builds/:id', async (request, response) => {
    const { id } = await foundBuild(store, request.params.id)
    await checkOurs(builds, id)
    if (!builds.cancel(id)) throw new Problem(409, 'build-ended', `build ${id} has ended`)
    response.status(202).json(buildToShape(await foundBuild(store, id)))
  })

  router.get('/v1/builds/:id/log', async (request, response) => {
    const { follow } = accept(logQuery, request.query)
    const { id } = await foundBuild(store, request.params.id)
    await checkOurs(builds, id)
    await sendLog(options, id, follow, response)
  })
  return router
}

async function fromGit(builds: BuildDesk, request: Request): Promise<Build> {
  const { template, git, base } = accept(gitBuildRequest, request.body)
  return await builds.fromGit({ template, git, base: base ?? null })
}

async function fromArchive(builds: BuildDesk, request: Request, stopping: AbortSignal): Promise<Build> {
  const { base, ...given } = accept(archiveQuery, request.query)
  return await withBody(request, 'the source', (body, left) =>
    builds.fromArchive({ ...given, base: base ?? null }, body, AbortSignal.any([left, stopping])),
  )
}

/** The build of that id. @throws Problem 404 */
async function foundBuild(store: Pick<Store, 'build'>, given: string): Promise<Build> {
  const build = anId.safeParse(given).success ? await store.build(given) : null
  if (build === null) throw new Problem(404, 'not-found', `there is no build ${JSON.stringify(given.slice(0, 64))}`)
  return build
}

/** @throws Problem 409 for a build of another orchestrator on the same database: queue and log are there */
async function checkOurs(builds: BuildDesk, id: string): Promise<void> {
  if (await builds.isOurs(id)) return
  throw new Problem(409, 'build-elsewhere', `build ${id} was begun through another orchestrator; ask that one`)
}

async function sendLog(options: BuildsOptions, id: string, follow: boolean, response: Response): Promise<void> {
  response.type('text/plain')
  response.flushHeaders()
  await sendTexts(response, options, (left) => options.builds.log(id, follow, left))
}

function buildToShape(build: Build): BuildShape {
  const { createdAt, updatedAt, ...rest } = build
  return { ...rest, createdAt: new Date(createdAt).toISOString(), updatedAt: new Date(updatedAt).toISOString() }
}
