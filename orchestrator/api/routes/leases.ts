import { Router } from 'express'
import { z } from 'zod'
import { ownerKey } from '../../domain/lease.ts'
import type { Store } from '../../store/store.ts'
import { accept, flagParameter } from '../problem.ts'
import { leaseToShape } from '../shapes.ts'

const listQuery = z.strictObject({ all: flagParameter })

/** `GET /v1/leases[?all=true]`: the active leases, or also those that ended. */
export function leasesRoutes(store: Store): Router {
  const router = Router()
  router.get('/v1/leases', async (request, response) => {
    const { all } = accept(listQuery, request.query)
    const [leases, instances] = await Promise.all([
      store.leases(all ? {} : { state: 'active' }),
      store.instances({ live: true }),
    ])
    const byOwner = new Map(instances.map((instance) => [ownerKey(instance.owner), instance]))
    response.json({ items: leases.map((lease) => leaseToShape(lease, byOwner.get(ownerKey(lease.owner)) ?? null)) })
  })
  return router
}
