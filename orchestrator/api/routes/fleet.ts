import { Router } from 'express'
import type { Host } from '../../domain/host.ts'
import type { Store } from '../../store/store.ts'
import { hostToShape } from '../shapes.ts'

/** `GET /v1/hosts`: where instances run, with how many live there. */
export function fleetRoutes(store: Store): Router {
  const router = Router()
  router.get('/v1/hosts', async (_request, response) => {
    const [hosts, instances] = await Promise.all([store.hosts(), store.instances({ live: true })])
    const on = (host: Host) => instances.filter((instance) => instance.host === host.name).length
    response.json({ items: hosts.map((host) => hostToShape(host, on(host))) })
  })
  return router
}
