import { Router } from 'express'
import type { Instance } from '../../domain/instance.ts'
import type { Store } from '../../store/store.ts'
import { hostToShape, templateToShape } from '../shapes.ts'

/** `GET /v1/hosts` and `GET /v1/templates`: where instances run and what they are made from, with how many live. */
export function fleetRoutes(store: Store): Router {
  const router = Router()
  router.get('/v1/hosts', async (_request, response) => {
    const [hosts, instances] = await Promise.all([store.hosts(), store.instances({ live: true })])
    const counts = counted(instances, (instance) => instance.host ?? '')
    response.json({ items: hosts.map((host) => hostToShape(host, counts.get(host.name) ?? 0)) })
  })
  router.get('/v1/templates', async (_request, response) => {
    const [templates, instances] = await Promise.all([store.templates(), store.instances({ live: true })])
    const counts = counted(instances, (instance) => `${instance.template.name}@${instance.template.version}`)
    response.json({
      items: templates.map((template) =>
        templateToShape(template, counts.get(`${template.name}@${template.version}`) ?? 0),
      ),
    })
  })
  return router
}

function counted(instances: readonly Instance[], key: (instance: Instance) => string): Map<string, number> {
  const counts = new Map<string, number>()
  for (const instance of instances) counts.set(key(instance), (counts.get(key(instance)) ?? 0) + 1)
  return counts
}
