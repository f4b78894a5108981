import { Router } from 'express'
import { z } from 'zod'
import type { Catalog } from '../../catalog/catalog.ts'
import type { Instance } from '../../domain/instance.ts'
import type { Template } from '../../domain/template.ts'
import type { Store } from '../../store/store.ts'
import { accept, flagParameter } from '../problem.ts'
import { type TemplateStanding, templateToDetail, templateToShape } from '../template-shapes.ts'
import { rolloutRequest } from '../wire.ts'

const listQuery = z.strictObject({ all: flagParameter })
const version = z.string().min(1).max(64)
const diffQuery = z.strictObject({ from: version.optional(), to: version.optional() })

/** `/v1/templates`: what leases become, its versions, what changed between two, and which is rolled out. */
export function templatesRoutes(options: { store: Store; catalog: Catalog }): Router {
  const { store, catalog } = options
  const router = Router()

  router.get('/v1/templates', async (request, response) => {
    const { all } = accept(listQuery, request.query)
    const [templates, standing] = await Promise.all([store.templates(), standings(store)])
    const shown = templates.filter((one) => all || standing(one).head?.version === one.version)
    response.json({ items: shown.map((one) => templateToShape(one, standing(one))) })
  })

  router.get('/v1/templates/:name', async (request, response) => {
    const [name = '', wanted] = request.params.name.split('@', 2)
    const [template, standing] = await Promise.all([catalog.find(name, wanted), standings(store)])
    response.json(templateToDetail(template, standing(template), await catalog.uses(template)))
  })

  router.get('/v1/templates/:name/versions', async (request, response) => {
    const [versions, standing] = await Promise.all([catalog.versions(request.params.name), standings(store)])
    response.json({ items: versions.map((one) => templateToShape(one, standing(one))) })
  })

  router.get('/v1/templates/:name/diff', async (request, response) => {
    response.json(await catalog.diff(request.params.name, accept(diffQuery, request.query)))
  })

  router.post('/v1/templates/:name/rollout', async (request, response) => {
    const { to } = accept(rolloutRequest, request.body ?? {})
    const template = await catalog.rollOut(request.params.name, to)
    const standing = await standings(store)
    response.json(templateToShape(template, standing(template)))
  })

  router.delete('/v1/templates/:name', async (request, response) => {
    await catalog.remove(request.params.name)
    response.status(204).end()
  })
  return router
}

/** How each version stands: whether it is rolled out, and how many instances of it live. */
async function standings(store: Store): Promise<(template: Template) => TemplateStanding> {
  const [heads, numbers, instances] = await Promise.all([
    store.heads(),
    store.templateNumbers(),
    store.instances({ live: true }),
  ])
  const counts = counted(instances)
  return ({ name, version: hash, base }) => ({
    head: heads.find((head) => head.name === name) ?? null,
    instances: counts.get(`${name}@${hash}`) ?? 0,
    baseNumber: numbers.find((one) => one.name === base?.name && one.version === base.version)?.number ?? null,
  })
}

function counted(instances: readonly Instance[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const { template } of instances) {
    const key = `${template.name}@${template.version}`
    counts.set(key, (counts.get(key) ?? 0) + 1)
  }
  return counts
}
