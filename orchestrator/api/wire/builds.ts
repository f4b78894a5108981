import { z } from 'zod'
import { time } from './terms.ts'

/**
 * `GET /v1/builds`, `GET /v1/builds/:id`; `GET /v1/builds/:id/log?follow=` is text/plain; `DELETE /v1/builds/:id` ends one
 * (202; 409 `build-ended`, or `build-elsewhere`: begun through another orchestrator).
 */
export const buildShape = z.object({
  id: z.string(),
  template: z.string(),
  source: z.string(),
  state: z.enum(['waiting', 'building', 'done', 'failed']),
  host: z.string().nullable(),
  image: z.string().nullable(),
  error: z.string().nullable(),
  createdAt: time,
  updatedAt: time,
})
export type BuildShape = z.infer<typeof buildShape>
/**
 * `POST /v1/builds?template=NAME&source=TEXT[&format=tar|tgz|zip][&base=TYPE]`: the body is the context (a directory is sent as
 * tar); or a JSON body for a git repository. 202 with the build; 413 too large; 422 for what is refused in an archive.
 */
export const gitBuildRequest = z.strictObject({
  template: z.string().max(63),
  git: z.strictObject({
    url: z.string().max(2048),
    ref: z.string().max(255).optional(),
    directory: z.string().max(1024).optional(),
  }),
  /** Type whose base image a generated Dockerfile begins with; absent: the source has a Dockerfile. */
  base: z.string().max(512).optional(),
})
export type GitBuildRequest = z.infer<typeof gitBuildRequest>
