import { STATUS_CODES } from 'node:http'
import type { NextFunction, Request, Response } from 'express'
import { z } from 'zod'
import { InvalidInput, OrchestratorError, wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import type { FaultShape, ProblemShape } from './wire.ts'

/** HTTP statuses of the error codes that come from elsewhere; whatever is not named here is an internal error. */
const STATUS_OF_CODE: Readonly<Record<string, number>> = {
  'invalid-input': 400,
  'not-found': 404,
  'host-key-changed': 409,
  'image-missing': 409,
  'login-refused': 409,
  'machine-busy': 409,
  'machine-exists': 409,
  'no-logs': 409,
  'no-roll': 404,
  'stale-generation': 409,
  'archive-too-large': 413,
  'secret-refused': 409,
  'source-refused': 422,
  'source-too-large': 413,
  'storage-full': 507,
  'kept-in-directory': 409,
  'template-in-use': 409,
  'credential-in-use': 409,
  'credential-unused': 409,
  'credential-test-failed': 422,
  'reader-too-slow': 408,
  'host-unreachable': 503,
  'engine-unreachable': 503,
  'store-failed': 503,
}

/** A refusal as the API answers it. */
export class Problem extends OrchestratorError {
  readonly status: number
  readonly field: string | undefined
  /** What is wrong in files that were sent. */
  readonly faults: readonly FaultShape[] | undefined
  readonly headers: Readonly<Record<string, string>>
  constructor(
    status: number,
    code: string,
    message: string,
    options: {
      field?: string | undefined
      faults?: readonly FaultShape[]
      headers?: Record<string, string>
      cause?: unknown
    } = {},
  ) {
    super(code, message, { retryable: status === 429 || status === 503, cause: options.cause })
    this.status = status
    this.field = options.field
    this.faults = options.faults
    this.headers = options.headers ?? {}
  }

  /** `Not Found` and the like. */
  get title(): string {
    return STATUS_CODES[this.status] ?? 'Error'
  }

  shape(): ProblemShape {
    const { code, message, field, faults } = this
    return {
      code,
      message,
      ...(field === undefined ? {} : { field }),
      ...(faults === undefined ? {} : { faults: [...faults] }),
    }
  }

  /** Any thrown value as a problem. What nobody foresaw is not told to strangers: it is in the log. */
  static from(thrown: unknown): Problem {
    if (thrown instanceof Problem) return thrown
    if (thrown instanceof InvalidInput) {
      return new Problem(400, thrown.code, thrown.message, { field: thrown.field, cause: thrown })
    }
    if (thrown instanceof OrchestratorError) {
      const status = STATUS_OF_CODE[thrown.code] ?? (thrown.retryable ? 503 : 500)
      return new Problem(status, thrown.code, thrown.message, { cause: thrown })
    }
    return (
      Problem.#fromExpress(thrown) ??
      new Problem(500, 'internal', 'something went wrong here; the log of the orchestrator says what', {
        cause: thrown,
      })
    )
  }

  /** Express and its body parser mark what the client did wrong by a 4xx `status`. */
  static #fromExpress(thrown: unknown): Problem | null {
    if (!(thrown instanceof Error) || !('status' in thrown) || typeof thrown.status !== 'number') return null
    if (thrown.status < 400 || thrown.status > 499) return null
    if (thrown.status === 413) {
      const most =
        'limit' in thrown && typeof thrown.limit === 'number' ? `${thrown.limit / 1024} KiB` : 'the server takes'
      return new Problem(413, 'body-too-large', `the request body is larger than ${most}`)
    }
    // The parser quotes the body, which may hold secrets.
    if ('type' in thrown && thrown.type === 'entity.parse.failed') {
      return new Problem(thrown.status, 'bad-request', 'the request body is not JSON')
    }
    return new Problem(thrown.status, 'bad-request', wording(thrown, 300))
  }
}

/** Parses part of a request. @throws Problem 400 naming the field */
export function accept<T extends z.ZodType>(shape: T, value: unknown): z.output<T> {
  const parsed = shape.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const field = issue?.path.map(String).join('.') || (issue?.code === 'unrecognized_keys' ? issue.keys[0] : undefined)
  const message =
    field === undefined || issue?.code === 'unrecognized_keys' ? `${issue?.message}` : `${field}: ${issue?.message}`
  throw new Problem(400, 'invalid-input', message, { field })
}

/** A query parameter that is `true` or `false`; absent: false. */
export const flagParameter = z
  .enum(['true', 'false'])
  .default('false')
  .transform((text) => text === 'true')

/** Answers with the problem that an error is; the last handler of the app. */
export function answerProblems(log: Log) {
  return (error: unknown, request: Request, response: Response, _next: NextFunction): void => {
    const problem = Problem.from(error)
    if (problem.status >= 500) {
      const fields = { method: request.method, path: request.path, code: problem.code, status: problem.status }
      log.error('api.failed', `a request failed: ${wording(error)}`, fields)
    }
    if (response.headersSent) {
      response.destroy()
      return
    }
    response
      .status(problem.status)
      .set(problem.headers)
      .type('application/problem+json')
      .send(JSON.stringify(problem.shape()))
  }
}
