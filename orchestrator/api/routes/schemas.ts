import { Router } from 'express'
import { editorSchema } from '../../compose/schema.ts'

/** `GET /v1/schemas/template.json`: the JSON Schema of template files, for editors. */
export function schemasRoutes(): Router {
  const router = Router()
  router.get('/v1/schemas/template.json', (_request, response) => {
    response.type('application/schema+json').send(JSON.stringify(editorSchema()))
  })
  return router
}
