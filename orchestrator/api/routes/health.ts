import { Router } from 'express'
import { errorCode, wording } from '../../../common/errors.ts'
import type { Log } from '../../../common/log.ts'
import type { Store } from '../../store/store.ts'
import type { ApiMetrics } from '../metrics.ts'

/** Milliseconds for which an answer of /readyz is given again: asking often costs no more writes. */
const READY_FOR_MS = 500

/** `/healthz`: the process answers. `/readyz`: the store can be written, 503 with the reason otherwise. `/metrics`. No token. */
export function healthRoutes(options: { store: Store; log: Log; metrics: ApiMetrics; stopping: AbortSignal }): Router {
  const { store, log, metrics, stopping } = options
  const router = Router()
  let last: { readonly at: number; readonly answer: Promise<Readiness> } | null = null

  router.get('/healthz', (_request, response) => {
    response.json({ status: 'ok' })
  })
  router.get('/readyz', async (_request, response) => {
    const now = performance.now()
    if (last === null || now - last.at > READY_FOR_MS) last = { at: now, answer: readiness(store, log, stopping) }
    const answer = await last.answer
    response.status(answer.status === 'ready' ? 200 : 503).json(answer)
  })
  router.get('/metrics', async (_request, response) => {
    response.type(metrics.registry.contentType).send(await metrics.registry.metrics())
  })
  return router
}

interface Readiness {
  readonly status: 'ready' | 'not-ready'
  readonly code?: string
  readonly reason?: string
}

async function readiness(store: Store, log: Log, stopping: AbortSignal): Promise<Readiness> {
  if (stopping.aborted) return { status: 'not-ready', code: 'stopping', reason: 'the orchestrator stops' }
  try {
    await store.check()
    return { status: 'ready' }
  } catch (error) {
    log.error('store.not-writable', wording(error), { code: errorCode(error) })
    return { status: 'not-ready', code: errorCode(error), reason: wording(error, 300) }
  }
}
