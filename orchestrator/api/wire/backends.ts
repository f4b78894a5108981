import { z } from 'zod'
import { time } from './terms.ts'

/** `GET /v1/backends`: where instances can be, as far as it is known without asking. */
export const backendShape = z.object({
  name: z.string(),
  /** `docker`, a kind, or the name of a package. */
  kind: z.string(),
  targets: z.array(
    z.object({
      name: z.string(),
      state: z.enum(['answers', 'away', 'trying']),
      /** Since when it is away; null: it is not, or not known. */
      since: time.nullable(),
      /** When it is tried again; null: with the next call, or when its host connects. */
      tryAt: time.nullable(),
      instances: z.number(),
    }),
  ),
  instances: z.number(),
})
export type BackendShape = z.infer<typeof backendShape>
/** `POST /v1/backends/:name/check`, and each item of `POST /v1/credentials/:name/test`: 200 whatever the targets say. */
export const backendReportShape = z.object({
  backend: z.string(),
  targets: z.array(
    z.object({
      target: z.string(),
      /** Milliseconds until it answered, or failed to. */
      ms: z.number(),
      /** null: it did not answer, or refused us. */
      version: z.string().nullable(),
      abilities: z.array(z.string()),
      /** Each with its remedy. */
      missing: z.array(z.string()),
      error: z.object({ code: z.string(), message: z.string() }).nullable(),
    }),
  ),
})
export type BackendReportShape = z.infer<typeof backendReportShape>

/** `GET /v1/credentials`, `PUT /v1/credentials/:name`: what lets backends in, without its values. */
export const credentialShape = z.object({
  name: z.string(),
  /** Names of its fields. */
  fields: z.array(z.string()),
  changedAt: time,
  /** Names of backends. */
  usedBy: z.array(z.string()),
})
export type CredentialShape = z.infer<typeof credentialShape>
/**
 * `PUT /v1/credentials/:name`: takes the place of what was there. `test`: only if every backend that uses it answers with it
 * (422 `credential-test-failed`, 409 `credential-unused`). `DELETE /v1/credentials/:name[?force=true]`: 204, 409 `credential-in-use`.
 */
export const credentialRequest = z.strictObject({
  fields: z.record(z.string().max(63), z.string().max(32_768)),
  test: z.boolean().default(false),
})
export type CredentialRequest = z.input<typeof credentialRequest>
