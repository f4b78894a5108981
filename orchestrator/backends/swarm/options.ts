import { z } from 'zod'
import { InvalidInput } from '../../../common/errors.ts'
import type { Json } from '../../domain/template.ts'
import { constraint } from './settings.ts'

/** What a template says under `x-orchestrator.options.NAME`, NAME being this backend's. */
const optionsShape = z.strictObject({
  placement: z
    .strictObject({
      /** What the node must have, beside what the settings ask for. */
      constraints: z.array(constraint).max(16).default([]),
    })
    .default({ constraints: [] }),
  /** Overlay networks of the swarm, by name, that its tasks are on beside the instance's own. They must be there. */
  networks: z
    .array(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/, 'expected the name of an overlay network'))
    .max(8)
    .default([]),
})
export type SwarmOptions = z.infer<typeof optionsShape>

/** @param field path of the options in what is read, for errors @throws InvalidInput naming the option */
export function parseOptions(options: Json | undefined, field: string): SwarmOptions {
  const parsed = optionsShape.safeParse(options ?? {})
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const named = issue?.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : []
  throw new InvalidInput([field, ...(issue?.path ?? []), ...named].join('.'), issue?.message ?? 'not understood')
}
