import { Router } from 'express'
import type { BackendReport, BackendStanding } from '../../domain/standing.ts'
import type { BackendReportShape, BackendShape } from '../wire.ts'

/** Backends as this API needs them. What it throws has the code of a problem. */
export interface BackendDesk {
  all(): Promise<readonly BackendStanding[]>
  /** @throws OrchestratorError `not-found` */
  check(name: string, signal: AbortSignal): Promise<BackendReport>
}

/** `GET /v1/backends`: what is known of them; `POST /v1/backends/:name/check`: what they say now. */
export function backendsRoutes(options: { backends: BackendDesk; stopping: AbortSignal }): Router {
  const { backends, stopping } = options
  const router = Router()

  router.get('/v1/backends', async (_request, response) => {
    response.json({ items: (await backends.all()).map(backendToShape) })
  })

  router.post('/v1/backends/:name/check', async (request, response) => {
    const asking = new AbortController()
    response.once('close', () => asking.abort(new Error('whoever asked is gone')))
    const signal = AbortSignal.any([asking.signal, stopping])
    response.json(reportToShape(await backends.check(request.params.name, signal)))
  })
  return router
}

function backendToShape({ name, kind, targets, instances }: BackendStanding): BackendShape {
  return {
    ...{ name, kind, instances },
    targets: targets.map((target) => ({ ...target, since: iso(target.since), tryAt: iso(target.tryAt) })),
  }
}

export function reportToShape({ backend, targets }: BackendReport): BackendReportShape {
  return {
    backend,
    targets: targets.map(({ target, ms, found, error }) => ({
      ...{ target, ms },
      version: found?.version ?? null,
      abilities: [...(found?.abilities ?? [])],
      missing: [...(found?.missing ?? [])],
      error: error && { ...error },
    })),
  }
}

function iso(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString()
}
