import type { IncomingMessage } from 'node:http'
import { Agent, request as httpsRequest } from 'node:https'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { z } from 'zod'
import { OrchestratorError, wording } from '../../common/errors.ts'
import { type FaultShape, listOf, problemShape } from './wire.ts'

/** Milliseconds without any answer after which a server counts as unreachable. */
export const ANSWER_WITHIN_MS = 30_000
/** An event stream says something every 15 s; one silent for this long is dead. */
export const STREAM_SILENT_MS = 45_000

/** The server could not be asked. */
export class ServerUnreachable extends OrchestratorError {
  constructor(server: string, cause: unknown, remedy = '') {
    super('server-unreachable', `${server} cannot be reached: ${wording(cause, 300)}${remedy}`, {
      retryable: true,
      cause,
    })
  }
}

/** The server answered with a problem. */
export class Refused extends OrchestratorError {
  readonly status: number
  /** What is wrong in the files that were sent. */
  readonly faults: readonly FaultShape[]
  constructor(status: number, code: string, message: string, faults: readonly FaultShape[] = []) {
    super(code, message, { retryable: status === 429 || status === 503 })
    this.status = status
    this.faults = faults
  }
}

export interface ClientOptions {
  /** `https://name:port` */
  readonly server: string
  readonly token: string
  /** PEM text of the authority that alone may vouch for the server; null: those that the system trusts. */
  readonly authority: string | null
}

/** How one request is made. */
export interface RequestOptions {
  /** A text is JSON; a stream is sent as it is. */
  readonly body?: string | Readable | undefined
  readonly headers?: Readonly<Record<string, string>>
  /** Milliseconds without a byte after which the server counts as unreachable; 0: it may be silent. */
  readonly silentMs: number
}

/** HTTPS to one orchestrator, with a token. Every call rejects with ServerUnreachable, with Refused, or with the signal's reason. */
export class Transport {
  readonly #options: ClientOptions
  readonly #agent: Agent

  constructor(options: ClientOptions) {
    this.#options = options
    const authority = options.authority === null ? {} : { ca: options.authority }
    this.#agent = new Agent({ keepAlive: true, minVersion: 'TLSv1.3', ...authority })
  }

  close(): void {
    this.#agent.destroy()
  }

  /** A list of things of that shape. */
  async list<T extends z.ZodType>(
    path: string,
    query: Record<string, string | undefined>,
    item: T,
    signal: AbortSignal,
  ): Promise<readonly z.output<T>[]> {
    const list = await this.json('GET', withQuery(path, query), listOf(item), signal)
    return list.items
  }

  /** A request whose answer is JSON of that shape. `body` is sent as JSON. */
  async json<T extends z.ZodType>(method: string, path: string, shape: T, signal: AbortSignal, body?: unknown) {
    const text = body === undefined ? undefined : JSON.stringify(body)
    return await this.answer(method, path, shape, signal, { body: text, silentMs: ANSWER_WITHIN_MS })
  }

  /** The same, with all options of a request. */
  async answer<T extends z.ZodType>(
    method: string,
    path: string,
    shape: T,
    signal: AbortSignal,
    options: RequestOptions,
  ) {
    const response = await this.ask(method, path, signal, options)
    response.setEncoding('utf8')
    const text = await this.#text(response, signal)
    try {
      return this.checked(shape, JSON.parse(text))
    } catch (error) {
      if (error instanceof OrchestratorError) throw error
      throw new OrchestratorError('answer-broken', `${this.#options.server} answered something else than JSON`)
    }
  }

  /** Data that is what the shape says. @throws OrchestratorError `answer-broken` */
  checked<T extends z.ZodType>(shape: T, data: unknown): z.output<T> {
    const parsed = shape.safeParse(data)
    if (parsed.success) return parsed.data
    const issue = parsed.error.issues[0]
    throw new OrchestratorError(
      'answer-broken',
      `the answer of ${this.#options.server} is not understood (${issue?.path.join('.')}: ${issue?.message}); is orctl of another version?`,
    )
  }

  async #text(response: IncomingMessage, signal: AbortSignal): Promise<string> {
    let text = ''
    for await (const part of this.body(response, signal)) text += part
    return text
  }

  /** An answer's body as text, as it comes. */
  async *body(response: IncomingMessage, signal: AbortSignal): AsyncIterable<string> {
    try {
      for await (const part of response) yield part as string
    } catch (error) {
      signal.throwIfAborted()
      throw new ServerUnreachable(this.#options.server, error)
    }
  }

  /** The answer to one request, headers read. @throws Refused, ServerUnreachable */
  async ask(method: string, path: string, signal: AbortSignal, options: RequestOptions): Promise<IncomingMessage> {
    const response = await this.#send(method, path, signal, options)
    const status = response.statusCode ?? 0
    if (status >= 200 && status < 300) return response
    response.setEncoding('utf8')
    const text = await this.#text(response, signal)
    throw refusalOf(status, text)
  }

  #send(method: string, path: string, signal: AbortSignal, options: RequestOptions): Promise<IncomingMessage> {
    const { server, token } = this.#options
    const headers: Record<string, string> = { Authorization: `Bearer ${token}`, ...options.headers }
    if (typeof options.body === 'string') headers['Content-Type'] = 'application/json'
    return new Promise((resolve, reject) => {
      const request = httpsRequest(new URL(path, server), { method, headers, agent: this.#agent, signal }, resolve)
      request.once('error', (error) => {
        reject(signal.aborted ? signal.reason : new ServerUnreachable(server, error, remedyOf(error)))
      })
      if (options.silentMs > 0) {
        request.setTimeout(options.silentMs, () =>
          request.destroy(new Error(`no answer within ${options.silentMs / 1000} s`)),
        )
      }
      if (!(options.body instanceof Readable)) request.end(options.body)
      else pipeline(options.body, request).catch((error) => request.destroy(error as Error))
    })
  }
}

function refusalOf(status: number, text: string): Refused {
  try {
    const problem = problemShape.parse(JSON.parse(text))
    return new Refused(status, problem.code, problem.message, problem.faults)
  } catch {
    return new Refused(status, 'refused', `the server answered ${status} without saying why`)
  }
}

/** What a person can do about it. */
function remedyOf(error: Error): string {
  const code = 'code' in error ? error.code : undefined
  switch (code) {
    case 'ECONNREFUSED':
      return '. Is the orchestrator running? Another address is given by --server or ORCTL_SERVER'
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return '. Check the name in --server or ORCTL_SERVER'
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return '. Use one of those names, or add this one to server.names of the orchestrator'
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
    case 'CERT_SIGNATURE_FAILURE':
      return ". Give the orchestrator's ca.crt by --ca or ORCTL_CA"
    default:
      return ''
  }
}

/** A path with those parameters that are not undefined. */
export function withQuery(path: string, query: Record<string, string | undefined>): string {
  const given = Object.entries(query).filter((entry): entry is [string, string] => entry[1] !== undefined)
  return given.length === 0 ? path : `${path}?${new URLSearchParams(given)}`
}
