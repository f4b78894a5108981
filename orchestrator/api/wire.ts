import { z } from 'zod'

/**
 * The shapes of the REST API, version 1: what the server sends and the clients rely on. Times are ISO 8601 texts in UTC,
 * durations carry their unit in the name.
 */
const time = z.iso.datetime()
const owner = z.object({ duid: z.string(), iaid: z.number() })

export const leaseShape = z.object({
  owner,
  address: z.string(),
  state: z.enum(['active', 'ended']),
  source: z.string(),
  hostname: z.string().nullable(),
  mac: z.string().nullable(),
  tags: z.array(z.string()),
  expiresAt: time.nullable(),
  grantedAt: time,
  updatedAt: time,
  endedAt: time.nullable(),
  /** Id of the living instance; null: none. */
  instance: z.string().nullable(),
  /** Why it has no instance although it should; null: nothing is wrong. */
  refusal: z.string().nullable(),
})
export type LeaseShape = z.infer<typeof leaseShape>

/** Milliseconds since the hook wrote the lease event, for each stage that was reached. */
export const timelineShape = z.object({
  hook: z.literal(0).optional(),
  stored: z.number().optional(),
  decided: z.number().optional(),
  sandbox: z.number().optional(),
  started: z.number().optional(),
  reachable: z.number().optional(),
})

export const instanceShape = z.object({
  id: z.string(),
  name: z.string(),
  owner,
  template: z.object({ name: z.string(), version: z.string() }),
  backend: z.string(),
  host: z.string().nullable(),
  wanted: z.enum(['running', 'gone']),
  state: z.enum(['pending', 'running', 'gone']),
  /** One word for people: starting, running, stopping, gone, failing, waiting. */
  status: z.string(),
  generation: z.number(),
  settled: z.number(),
  address: z.string(),
  ownerAddress: z.string(),
  failures: z.number(),
  lastError: z.string().nullable(),
  nextAttemptAt: time.nullable(),
  timelineMs: timelineShape,
  createdAt: time,
  updatedAt: time,
})
export type InstanceShape = z.infer<typeof instanceShape>

export const hostShape = z.object({
  name: z.string(),
  connected: z.boolean(),
  epoch: z.number(),
  joinedAt: time,
  seenAt: time.nullable(),
  engine: z.string().nullable(),
  kernel: z.string().nullable(),
  version: z.string().nullable(),
  instances: z.number(),
})
export type HostShape = z.infer<typeof hostShape>

export const templateShape = z.object({
  name: z.string(),
  version: z.string(),
  summary: z.string(),
  backend: z.string(),
  images: z.array(z.string()),
  entryPort: z.number().nullable(),
  graceSeconds: z.number(),
  instances: z.number(),
})
export type TemplateShape = z.infer<typeof templateShape>

export const eventShape = z.object({
  id: z.number(),
  at: time,
  level: z.enum(['info', 'warning', 'error']),
  kind: z.string(),
  message: z.string(),
  instance: z.string().nullable(),
  owner: owner.nullable(),
  host: z.string().nullable(),
})
export type EventShape = z.infer<typeof eventShape>

/** `GET /v1/instances/:idOrName`: the instance with its lease and its last events. */
export const instanceDetailShape = instanceShape.extend({ lease: leaseShape.nullable(), events: z.array(eventShape) })
export type InstanceDetailShape = z.infer<typeof instanceDetailShape>

/** Every refusal: `code` is stable, `field` names what is wrong in the request. */
export const problemShape = z.object({ code: z.string(), message: z.string(), field: z.string().optional() })
export type ProblemShape = z.infer<typeof problemShape>

/** `POST /v1/join-tokens`: `command` is the line to paste on the new host. The token is shown this once. */
export const joinTokenRequest = z.object({
  // A host's name, as a join takes it: it becomes part of a line for a shell.
  host: z
    .string()
    .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/)
    .optional(),
  validSeconds: z
    .number()
    .int()
    .min(60)
    .max(7 * 86400)
    .default(3600),
})
export const joinTokenShape = z.object({ token: z.string(), command: z.string(), expiresAt: time })
export type JoinTokenShape = z.infer<typeof joinTokenShape>

/** A list. `GET` of leases, instances, hosts, templates, events. */
export const listOf = <T extends z.ZodType>(item: T) => z.object({ items: z.array(item) })

/**
 * Routes: GET /v1/leases, /v1/instances[?all=true], /v1/instances/:id, /v1/hosts, /v1/templates, /v1/events?after=&limit=&instance=
 * (with `Accept: text/event-stream`: a stream, resumed by Last-Event-ID), /v1/instances/:id/logs?tail=&follow=&service= (text/plain),
 * DELETE /v1/instances/:id (202: wanted gone; 404), POST /v1/join-tokens, POST /v1/hosts/join (no token but the one-time one),
 * GET /healthz, /readyz, /metrics (no token).
 */
export const API_PREFIX = '/v1'
/** TCP port of the API and of the hosts' socket. */
export const DEFAULT_PORT = 8998
