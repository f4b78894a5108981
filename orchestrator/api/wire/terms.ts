import { z } from 'zod'

/** What the shapes of the API share. Times are ISO 8601 texts in UTC. */
export const time = z.iso.datetime()
export const owner = z.object({ duid: z.string(), iaid: z.number() })
/** Money by the hour; the currency as ISO 4217 has it. */
export const price = z.object({ perHour: z.number(), currency: z.string() })

/** A fault or note at one place of a file that was sent. */
export const faultShape = z.object({
  file: z.string(),
  line: z.number().nullable(),
  key: z.string(),
  message: z.string(),
})
export type FaultShape = z.infer<typeof faultShape>

/** A value of a parameter or output; that of a secret is never told: `{"secret": true}`. */
export const valueShape = z.union([z.string(), z.number(), z.boolean(), z.object({ secret: z.literal(true) })])

/** Every refusal: `code` is stable, `field` names what is wrong in the request, `faults` what is wrong in files that it sent. */
export const problemShape = z.object({
  code: z.string(),
  message: z.string(),
  field: z.string().optional(),
  faults: z.array(faultShape).optional(),
})
export type ProblemShape = z.infer<typeof problemShape>
