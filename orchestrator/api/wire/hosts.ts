import { z } from 'zod'
import { time } from './terms.ts'

export const hostShape = z.object({
  name: z.string(),
  connected: z.boolean(),
  epoch: z.number(),
  joinedAt: time,
  seenAt: time.nullable(),
  /** At which other hosts and machines reach it; null: it has told none. */
  address: z.string().nullable(),
  engine: z.string().nullable(),
  kernel: z.string().nullable(),
  version: z.string().nullable(),
  instances: z.number(),
})
export type HostShape = z.infer<typeof hostShape>

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
