import { z } from 'zod'
import { owner, price, time, valueShape } from './terms.ts'

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
  template: z.object({ name: z.string(), version: z.string(), number: z.number() }),
  /** The rule that gave it; null: the default. */
  rule: z.string().nullable(),
  backend: z.string(),
  /** Backends that are tried when this one is full or away before it ever ran, in order. */
  otherwise: z.array(z.string()),
  /** The host, or another target of its backend, where it was put. */
  host: z.string().nullable(),
  /** How its owner is led there; null: it is on the host of its lease, or not known yet. */
  reach: z.object({ kind: z.enum(['routed', 'translated']), address: z.string() }).nullable(),
  /** What it costs, as its backend estimates; null: nothing, or not known. */
  price: price.nullable(),
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
  /** When it ends although its lease goes on; null: never. */
  endsAt: time.nullable(),
  timelineMs: timelineShape,
  createdAt: time,
  updatedAt: time,
})
export type InstanceShape = z.infer<typeof instanceShape>

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
export const instanceDetailShape = instanceShape.extend({
  lease: leaseShape.nullable(),
  parameters: z.record(z.string(), valueShape),
  outputs: z.record(z.string(), valueShape).nullable(),
  events: z.array(eventShape),
})
export type InstanceDetailShape = z.infer<typeof instanceDetailShape>
