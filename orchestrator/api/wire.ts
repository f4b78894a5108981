import { z } from 'zod'

/*
 * The shapes of the REST API, version 1: what the server sends and the clients rely on. Times are ISO 8601 texts in UTC,
 * durations carry their unit in the name.
 */
export * from './wire/backends.ts'
export * from './wire/builds.ts'
export * from './wire/catalog.ts'
export * from './wire/hosts.ts'
export * from './wire/instances.ts'
export * from './wire/machines.ts'
export { type FaultShape, faultShape, type ProblemShape, problemShape, valueShape } from './wire/terms.ts'

/** A list. `GET` of leases, instances, hosts, templates, events. */
export const listOf = <T extends z.ZodType>(item: T) => z.object({ items: z.array(item) })

/**
 * Routes: GET /v1/leases, /v1/instances[?all=true], /v1/instances/:id, /v1/hosts, /v1/templates, /v1/events?after=&limit=&instance=
 * (with `Accept: text/event-stream`: a stream, resumed by Last-Event-ID), /v1/instances/:id/logs?tail=&follow=&service= (text/plain),
 * DELETE /v1/instances/:id (202: wanted gone; 404), DELETE /v1/templates/:name (204; 409 `template-in-use` says by whom), POST /v1/join-tokens, POST /v1/hosts/join (no token but the one-time one),
 * GET /healthz, /readyz, /metrics (no token).
 */
export const API_PREFIX = '/v1'
/** TCP port of the API and of the hosts' socket. */
export const DEFAULT_PORT = 8998
