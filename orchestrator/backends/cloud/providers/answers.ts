import type { z } from 'zod'
import { OrchestratorError } from '../../../../common/errors.ts'

/**
 * What a provider answered, in the shape that its reference documents.
 * @throws OrchestratorError `provider-answer` when it is something else: a proxy's page, half a document
 */
export function answered<T>(what: string, shape: z.ZodType<T>, body: unknown): T {
  const parsed = shape.safeParse(body)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw new OrchestratorError(
    'provider-answer',
    `${what} answered something else than its reference says (${issue?.path.join('.') || 'all of it'}: ${issue?.message})`,
    { retryable: true },
  )
}
