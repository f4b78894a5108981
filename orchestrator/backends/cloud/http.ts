import type { Clock } from '../../../common/clock.ts'
import { HostUnreachable, OrchestratorError, wording } from '../../../common/errors.ts'
import { type Pace, rateLimited } from './pace.ts'

/** One call of a provider's API: JSON there and back. */
export interface Call {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly url: string
  readonly headers?: Readonly<Record<string, string>>
  /** Sent as JSON; absent: no body. */
  readonly body?: unknown
  /** Whether it may be sent again when its outcome is not known; GET, PUT and DELETE unless told. */
  readonly repeatable?: boolean
}

export interface Answer {
  /** 200 to 299. */
  readonly status: number
  readonly headers: Headers
  /** Parsed JSON; a text where it is none; null without a body. */
  readonly body: unknown
}

/** An answer of 300 to 499 but 401, 403 and 429, in the provider's own words: what it means depends on the call. */
export class Refused extends OrchestratorError {
  readonly status: number
  /** What the provider said, at most 500 characters. */
  readonly said: string
  readonly body: unknown
  constructor(what: string, status: number, said: string, body: unknown) {
    super('provider-refused', `${what} was refused (${status}): ${said}`)
    this.status = status
    this.said = said
    this.body = body
  }
}

export interface Http {
  /**
   * @throws HostUnreachable when nothing answered in time, or with 5xx; `credential-refused` (401), `not-permitted` (403),
   * `rate-limited` (429) with the provider's hint; {@link Refused} for the rest; the signal's reason
   */
  send(call: Call, signal: AbortSignal): Promise<Answer>
}

export interface HttpOptions {
  /** Name of the target, for errors. */
  readonly target: string
  readonly clock: Clock
  readonly pace: Pace
  /**
   * Milliseconds until we may call again, from headers of the provider's own, asked at 429 and at any answer; null: they
   * do not say. `Retry-After` (RFC 9110, section 10.2.3) is read in any case.
   */
  hint?(headers: Headers, status: number, now: number): number | null
  /** What a refusal of 4xx means here, before the general rule; null: nothing special. */
  explain?(refused: Refused): OrchestratorError | null
  /** Milliseconds for one answer; 50,000 unless told: clouds under load take their time to make things. */
  readonly answerMs?: number
}

/** Bytes of an answer: a page of a list, or the end of a console. */
const MOST_BYTES = 8 * 1024 * 1024
const ANSWER_MS = 50_000
/** How often a repeatable call is sent at most, and the pause before each repetition, in ms. */
const PAUSES_MS = [250, 1000]
/** Milliseconds to wait after a 429 that says nothing. */
const UNHINTED_MS = 10_000
const SAID_CHARACTERS = 500
/** Headers, and keys of a body, whose values appear in no error, whatever the provider answers. */
const SECRET_HEADERS = /^(authorization|x-auth-token|x-subject-token)$/i
const SECRET_KEYS = /^(password|secret)$/

/** The one client of all providers that have no SDK of their own. Follows no redirect: a token goes where it was meant to. */
export function createHttp(options: HttpOptions): Http {
  const once = async (call: Call, signal: AbortSignal): Promise<Answer> => {
    const limit = AbortSignal.timeout(options.answerMs ?? ANSWER_MS)
    try {
      const response = await fetch(call.url, {
        method: call.method,
        redirect: 'manual',
        signal: AbortSignal.any([signal, limit]),
        headers: {
          accept: 'application/json',
          ...(call.body !== undefined && { 'content-type': 'application/json' }),
          ...call.headers,
        },
        ...(call.body !== undefined && { body: JSON.stringify(call.body) }),
      })
      return { status: response.status, headers: response.headers, body: parsed(await text(response)) }
    } catch (error) {
      signal.throwIfAborted()
      if (limit.aborted) throw unreachable(options, call, `no answer within ${options.answerMs ?? ANSWER_MS} ms`)
      throw unreachable(options, call, wording(error))
    }
  }

  return {
    async send(call, signal) {
      const repeatable = call.repeatable ?? (call.method !== 'POST' && call.method !== 'PATCH')
      for (let attempt = 0; ; attempt++) {
        await options.pace.turn(signal)
        try {
          return judged(options, call, await once(call, signal))
        } catch (error) {
          const pause = repeatable && error instanceof HostUnreachable ? PAUSES_MS[attempt] : undefined
          if (pause === undefined) throw error
          await options.clock.wait(pause, signal)
        }
      }
    },
  }
}

/** @throws what an answer that is no success means */
function judged(options: HttpOptions, call: Call, answer: Answer): Answer {
  const { status, headers } = answer
  const hint = retryAfter(headers, options.clock.now()) ?? options.hint?.(headers, status, options.clock.now()) ?? null
  if (hint !== null && (status < 300 || status === 429)) options.pace.hold(hint)
  if (status >= 200 && status < 300) return answer
  const said = withoutSecrets(wordsOf(answer.body), call).slice(0, SAID_CHARACTERS)
  const what = `${call.method} ${pathOf(call.url)}`
  const refused = new Refused(what, status, said, answer.body)
  const explained = status < 500 ? options.explain?.(refused) : null
  if (explained) throw explained
  if (status === 429) {
    if (hint === null) options.pace.hold(UNHINTED_MS)
    throw rateLimited(hint ?? UNHINTED_MS, said)
  }
  if (status === 401) {
    throw new OrchestratorError(
      'credential-refused',
      `the provider does not accept the credential (${what}: ${said}): set it anew with orctl credential`,
    )
  }
  if (status === 403) {
    throw new OrchestratorError(
      'not-permitted',
      `the credential lacks the right to ${what}: give it that right (${said})`,
    )
  }
  if (status >= 500) throw unreachable(options, call, `it answered ${status}: ${said}`)
  throw refused
}

/** Milliseconds of `Retry-After`: seconds or a date. */
export function retryAfter(headers: Headers, now: number): number | null {
  const value = headers.get('retry-after')
  if (value === null) return null
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1000
  const at = Date.parse(value)
  return Number.isNaN(at) ? null : Math.max(0, at - now)
}

async function text(response: Response): Promise<string> {
  const parts: Uint8Array[] = []
  let size = 0
  for await (const part of response.body ?? []) {
    size += part.length
    if (size > MOST_BYTES) throw new Error(`an answer of more than ${MOST_BYTES} bytes`)
    parts.push(part)
  }
  return Buffer.concat(parts).toString()
}

function parsed(body: string): unknown {
  if (body === '') return null
  try {
    return JSON.parse(body)
  } catch {
    return body // a proxy's page, say: the caller checks the shape
  }
}

/** The sentence in an answer: most APIs have `message` somewhere near the top. */
function wordsOf(body: unknown, depth = 0): string {
  if (typeof body === 'string')
    return body
      .replace(/<[^>]*>/g, ' ')
      .replace(/\s+/g, ' ')
      .trim()
  if (typeof body !== 'object' || body === null || depth > 2) return ''
  const { message, detail } = body as Record<string, unknown>
  if (typeof message === 'string') return message
  if (typeof detail === 'string') return detail
  for (const value of Object.values(body)) {
    const found = typeof value === 'object' ? wordsOf(value, depth + 1) : ''
    if (found !== '') return found
  }
  return depth === 0 ? JSON.stringify(body) : ''
}

function withoutSecrets(said: string, call: Call): string {
  const headers = Object.entries(call.headers ?? {}).flatMap(([name, value]) =>
    SECRET_HEADERS.test(name) ? [value, value.replace(/^\S+ /, '')] : [],
  )
  return [...headers, ...secretsIn(call.body)].reduce((clean, secret) => clean.replaceAll(secret, '***'), said)
}

function secretsIn(body: unknown): readonly string[] {
  if (typeof body !== 'object' || body === null) return []
  return Object.entries(body).flatMap(([key, value]) =>
    typeof value === 'string' && value !== '' && SECRET_KEYS.test(key) ? [value] : secretsIn(value),
  )
}

/** Without its query: it may be long, and a signature could be in it. */
function pathOf(url: string): string {
  return new URL(url).pathname
}

function unreachable(options: HttpOptions, call: Call, why: string): HostUnreachable {
  return new HostUnreachable(options.target, `${call.method} ${new URL(call.url).host}${pathOf(call.url)}: ${why}`)
}
