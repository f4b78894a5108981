import { Router } from 'express'
import { z } from 'zod'
import type { Store } from '../../store/store.ts'
import type { EventStreams } from '../events-stream.ts'
import { accept } from '../problem.ts'
import { eventToShape } from '../shapes.ts'
import { foundInstance } from './instances.ts'

const eventId = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const eventsQuery = z.strictObject({
  after: eventId.optional(),
  limit: z.coerce.number().int().min(0).max(1000).optional(),
  instance: z.string().max(64).optional(),
})
/** Events in an answer when nobody says how many. */
const DEFAULT_LIMIT = 100

/**
 * `GET /v1/events?after=&limit=&instance=`: those after an id, oldest first, or the newest `limit` of all.
 * With `Accept: text/event-stream` a stream that goes on: after `Last-Event-ID` (or `after`), or else beginning with the newest `limit` (0).
 */
export function eventsRoutes(store: Store, streams: EventStreams): Router {
  const router = Router()
  router.get('/v1/events', async (request, response) => {
    const query = accept(eventsQuery, request.query)
    const instance = query.instance === undefined ? undefined : (await foundInstance(store, query.instance)).id
    if (request.accepts(['application/json', 'text/event-stream']) === 'text/event-stream') {
      const header = request.get('last-event-id')
      const resumed =
        header === undefined ? undefined : accept(z.object({ 'Last-Event-ID': eventId }), { 'Last-Event-ID': header })
      const after = resumed?.['Last-Event-ID'] ?? query.after ?? null
      return await streams.serve(response, { after, last: query.limit ?? 0, instance })
    }
    const events = await store.events({ limit: query.limit ?? DEFAULT_LIMIT, after: query.after, instance })
    response.json({ items: events.map(eventToShape) })
  })
  return router
}
