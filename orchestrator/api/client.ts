import type { IncomingMessage } from 'node:http'
import { Agent, request as httpsRequest } from 'node:https'
import type { z } from 'zod'
import { OrchestratorError, wording } from '../../common/errors.ts'
import { eventMessages } from './event-messages.ts'
import {
  type EventShape,
  eventShape,
  hostShape,
  type InstanceDetailShape,
  type InstanceShape,
  instanceDetailShape,
  instanceShape,
  type JoinTokenShape,
  joinTokenShape,
  leaseShape,
  listOf,
  problemShape,
  templateShape,
} from './wire.ts'

/** Milliseconds without any answer after which a server counts as unreachable. */
const ANSWER_WITHIN_MS = 30_000
/** An event stream says something every 15 s; one silent for this long is dead. */
const STREAM_SILENT_MS = 45_000

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
  readonly field: string | undefined
  constructor(status: number, code: string, message: string, field?: string) {
    super(code, message, { retryable: status === 429 || status === 503 })
    this.status = status
    this.field = field
  }
}

export interface ClientOptions {
  /** `https://name:port` */
  readonly server: string
  readonly token: string
  /** PEM text of the authority that alone may vouch for the server; null: those that the system trusts. */
  readonly authority: string | null
}

/** A message of the event stream: an event, or word that events between two ids are no longer kept. */
export type StreamMessage = { readonly event: EventShape } | { readonly gap: { after: number; oldest: number } }

/** The REST API, typed. Every call rejects with ServerUnreachable, with Refused, or with the signal's reason. */
export class ApiClient {
  readonly #options: ClientOptions
  readonly #agent: Agent

  constructor(options: ClientOptions) {
    this.#options = options
    const authority = options.authority === null ? {} : { ca: options.authority }
    this.#agent = new Agent({ keepAlive: true, minVersion: 'TLSv1.3', ...authority })
  }

  leases = (options: { all: boolean }, signal: AbortSignal) =>
    this.#list('/v1/leases', { all: String(options.all) }, leaseShape, signal)
  instances = (options: { all: boolean }, signal: AbortSignal) =>
    this.#list('/v1/instances', { all: String(options.all) }, instanceShape, signal)
  hosts = (signal: AbortSignal) => this.#list('/v1/hosts', {}, hostShape, signal)
  templates = (signal: AbortSignal) => this.#list('/v1/templates', {}, templateShape, signal)
  events = (options: { limit: number; instance?: string | undefined }, signal: AbortSignal) =>
    this.#list('/v1/events', { limit: String(options.limit), instance: options.instance }, eventShape, signal)

  async instance(idOrName: string, signal: AbortSignal): Promise<InstanceDetailShape> {
    return await this.#json('GET', `/v1/instances/${encodeURIComponent(idOrName)}`, instanceDetailShape, signal)
  }

  /** Asks for the instance to be gone; it is so a little later. */
  async remove(idOrName: string, signal: AbortSignal): Promise<InstanceShape> {
    return await this.#json('DELETE', `/v1/instances/${encodeURIComponent(idOrName)}`, instanceShape, signal)
  }

  async createJoinToken(
    body: { host?: string | undefined; validSeconds?: number | undefined },
    signal: AbortSignal,
  ): Promise<JoinTokenShape> {
    return await this.#json('POST', '/v1/join-tokens', joinTokenShape, signal, JSON.stringify(body))
  }

  async *logs(
    idOrName: string,
    options: { tail: number; follow: boolean; service?: string | undefined },
    signal: AbortSignal,
  ): AsyncIterable<string> {
    const query = { tail: String(options.tail), follow: String(options.follow), service: options.service }
    const path = withQuery(`/v1/instances/${encodeURIComponent(idOrName)}/logs`, query)
    const response = await this.#ask('GET', path, signal, { silentMs: options.follow ? 0 : ANSWER_WITHIN_MS })
    response.setEncoding('utf8')
    yield* this.#body(response, signal)
  }

  /** One connection's worth of events: after `after`, or beginning with the newest `last`. Ends when the server ends it. */
  async *eventStream(
    options: { after: number | null; last: number; instance?: string | undefined },
    signal: AbortSignal,
  ): AsyncIterable<StreamMessage> {
    const headers: Record<string, string> = { Accept: 'text/event-stream' }
    if (options.after !== null) headers['Last-Event-ID'] = String(options.after)
    const path = withQuery('/v1/events', { limit: String(options.last), instance: options.instance })
    const response = await this.#ask('GET', path, signal, { headers, silentMs: STREAM_SILENT_MS })
    response.setEncoding('utf8')
    for await (const message of eventMessages(this.#body(response, signal))) {
      const data: unknown = JSON.parse(message.data)
      if (message.event === 'gap') yield { gap: data as { after: number; oldest: number } }
      else yield { event: this.#checked(eventShape, data) }
    }
  }

  close(): void {
    this.#agent.destroy()
  }

  async #list<T extends z.ZodType>(
    path: string,
    query: Record<string, string | undefined>,
    item: T,
    signal: AbortSignal,
  ): Promise<readonly z.output<T>[]> {
    const list = await this.#json('GET', withQuery(path, query), listOf(item), signal)
    return list.items
  }

  async #json<T extends z.ZodType>(method: string, path: string, shape: T, signal: AbortSignal, body?: string) {
    const response = await this.#ask(method, path, signal, { body, silentMs: ANSWER_WITHIN_MS })
    response.setEncoding('utf8')
    const text = await this.#text(response, signal)
    try {
      return this.#checked(shape, JSON.parse(text))
    } catch (error) {
      if (error instanceof OrchestratorError) throw error
      throw new OrchestratorError('answer-broken', `${this.#options.server} answered something else than JSON`)
    }
  }

  #checked<T extends z.ZodType>(shape: T, data: unknown): z.output<T> {
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
    for await (const part of this.#body(response, signal)) text += part
    return text
  }

  async *#body(response: IncomingMessage, signal: AbortSignal): AsyncIterable<string> {
    try {
      for await (const part of response) yield part as string
    } catch (error) {
      signal.throwIfAborted()
      throw new ServerUnreachable(this.#options.server, error)
    }
  }

  async #ask(
    method: string,
    path: string,
    signal: AbortSignal,
    options: { body?: string | undefined; headers?: Record<string, string>; silentMs: number },
  ): Promise<IncomingMessage> {
    const response = await this.#send(method, path, signal, options)
    const status = response.statusCode ?? 0
    if (status >= 200 && status < 300) return response
    response.setEncoding('utf8')
    const text = await this.#text(response, signal)
    throw refusalOf(status, text)
  }

  #send(
    method: string,
    path: string,
    signal: AbortSignal,
    options: { body?: string | undefined; headers?: Record<string, string>; silentMs: number },
  ): Promise<IncomingMessage> {
    const { server, token } = this.#options
    const headers: Record<string, string> = { Authorization: `Bearer ${token}`, ...options.headers }
    if (options.body !== undefined) headers['Content-Type'] = 'application/json'
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
      request.end(options.body)
    })
  }
}

function refusalOf(status: number, text: string): Refused {
  try {
    const problem = problemShape.parse(JSON.parse(text))
    return new Refused(status, problem.code, problem.message, problem.field)
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

function withQuery(path: string, query: Record<string, string | undefined>): string {
  const given = Object.entries(query).filter((entry): entry is [string, string] => entry[1] !== undefined)
  return given.length === 0 ? path : `${path}?${new URLSearchParams(given)}`
}
