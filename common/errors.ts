import { inspect } from 'node:util'

/**
 * The base of every error that we raise on purpose. It is worded once, where it arises, and logged once, at the boundary.
 *
 * `code` is a stable kebab-case word for machines (exit codes, metrics, API); `retryable` says whether trying the same
 * thing again, later, can succeed without anyone changing anything.
 */
export class OrchestratorError extends Error {
  readonly code: string
  readonly retryable: boolean
  /** Milliseconds after which trying again makes sense, where whoever refused said so. */
  readonly retryAfterMs: number | undefined
  constructor(
    code: string,
    message: string,
    options: { retryable?: boolean; retryAfterMs?: number | undefined; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = new.target.name
    this.code = code
    this.retryable = options.retryable ?? false
    this.retryAfterMs = options.retryAfterMs
  }
}

/** Input that was refused at the door. `field` is the path of what is wrong (`lease.duid`, `server.port`). */
export class InvalidInput extends OrchestratorError {
  readonly field: string
  constructor(field: string, message: string, options: { cause?: unknown } = {}) {
    super('invalid-input', `${field}: ${message}`, options)
    this.field = field
  }
}

/** The host could not be asked. Says nothing about what runs there. */
export class HostUnreachable extends OrchestratorError {
  constructor(host: string, message: string, options: { retryAfterMs?: number | undefined; cause?: unknown } = {}) {
    super('host-unreachable', `host ${host} cannot be reached: ${message}`, {
      retryable: true,
      ...options,
    })
  }
}

/** There is no room for it: a quota, a limit or a full machine. Another place may have some, or this one later. */
export class NoRoom extends OrchestratorError {
  constructor(message: string, options: { retryAfterMs?: number | undefined; cause?: unknown } = {}) {
    super('no-room', message, { retryable: true, ...options })
  }
}

/** Causes told at most: one may be its own. */
const CAUSES = 5

/** The wording of any thrown value, causes included, on one line and at most `limit` characters. */
export function wording(thrown: unknown, limit = 2000): string {
  const parts: string[] = []
  let e = thrown
  for (let depth = 0; e !== undefined && depth < CAUSES; depth++) {
    const text = e instanceof Error ? messageOf(e) : typeof e === 'string' ? e : inspect(e, { breakLength: Infinity })
    if (!parts.some((p) => p.includes(text))) parts.push(text)
    e = e instanceof Error ? e.cause : undefined
  }
  const line = parts.join(': ').replace(/\s+/g, ' ')
  return line.length > limit ? `${line.slice(0, limit - 1)}…` : line
}

/** Node leaves the message of an AggregateError empty (a name whose every address refused): its parts say what happened. */
function messageOf(error: Error): string {
  if (error.message === '' && error instanceof AggregateError) return error.errors.map((e) => wording(e)).join(', ')
  return error.message || error.name
}

/** The stable code of any thrown value; `internal` for what nobody foresaw. */
export function errorCode(thrown: unknown): string {
  return thrown instanceof OrchestratorError ? thrown.code : 'internal'
}
