import { Router } from 'express'
import type { Applied, Catalog } from '../../catalog/catalog.ts'
import { accept, Problem } from '../problem.ts'
import { type ApplyShape, applyRequest } from '../wire.ts'

/** A path that leads nowhere else. */
const PLAIN_PATH = /^(?!\/)(?!(.*\/)?\.\.?(\/|$))(?!.*\/\/)[^\0\\]+$/

/** `POST /v1/apply`: templates and rules as files; all of them come into force, or none. */
export function applyRoutes(catalog: Catalog): Router {
  const router = Router()
  router.post('/v1/apply', async (request, response) => {
    const { files, dryRun, hold } = accept(applyRequest, request.body ?? {})
    const strange = Object.keys(files).find((path) => !PLAIN_PATH.test(path))
    if (strange !== undefined) {
      const message = `expected paths relative to what is applied, with /, got ${JSON.stringify(strange)}`
      throw new Problem(400, 'invalid-input', message, { field: 'files' })
    }
    const bytes = new Map(Object.entries(files).map(([path, base64]) => [path, Buffer.from(base64, 'base64')]))
    const applied = await catalog.apply(bytes, { origin: 'api', dryRun, hold })
    if (applied.faults.length > 0 && !dryRun) throw faulty(applied)
    response.json({
      changes: applied.changes.map((change) => ({ ...change })),
      faults: applied.faults.map((fault) => ({ ...fault })),
      notes: applied.notes.map((note) => ({ ...note })),
    } satisfies ApplyShape)
  })
  return router
}

function faulty({ faults }: Applied): Problem {
  const [first] = faults
  const count = `${faults.length} fault${faults.length === 1 ? '' : 's'}`
  const message = `nothing was applied, for ${count}; the first: ${first?.file}: ${first?.key} ${first?.message}`
  return new Problem(422, 'faulty-files', message, { faults })
}
