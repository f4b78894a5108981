import { EventEmitter, once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { setTimeout as wait } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { z } from 'zod'
import type { DropCounts } from '../common/drop-reasons.ts'
import { OrchestratorError, wording } from '../common/errors.ts'
import type { Log } from '../common/log.ts'
import {
  type FromHost,
  fromHost,
  HOSTS_SOCKET_PATH,
  MAX_MESSAGE_BYTES,
  PROTOCOL_VERSION,
  SNAPSHOT_PART,
  type ToHost,
  toHost,
  type WireObserved,
} from './contract.ts'
import type { Identity } from './identity.ts'
import type { LeaseSink } from './leases/source.ts'

type Leases = Extract<FromHost, { type: 'leases' }>
type Notice = Omit<Extract<FromHost, { type: 'notice' }>, 'type'>
/** What asks this host for something. */
export type Request = Exclude<ToHost, { type: 'welcome' | 'stored' }>

/** How a close begins that says that another connection of this host took over (the orchestrator's own close code). */
const REPLACED = '4001 '
/** Bytes of a refusal's explanation that are read. */
const REFUSAL_BYTES = 64 * 1024

/** The one connection to the orchestrator, made again whenever it breaks. */
export interface Link extends LeaseSink {
  /** Sent now, or not at all: the orchestrator asks for the present state when it is connected again. */
  observed(observed: WireObserved): void
  /** Sent now, or not at all: the next ones hold these. */
  dropped(packets: DropCounts): void
  /** Sent now or, up to {@link KEPT_NOTICES}, with the next connection. */
  notice(notice: Notice): void
  /** One connection after another until aborted. */
  run(signal: AbortSignal): Promise<void>
  readonly isConnected: boolean
}

export interface LinkOptions {
  /** `https://…`, where the orchestrator answers. */
  readonly url: string
  readonly identity: () => Promise<Identity>
  readonly hello: () => Promise<Omit<Extract<FromHost, { type: 'hello' }>, 'type' | 'protocol'>>
  /** The address by which others know this host, given that which a connection comes from; told with the facts. */
  readonly address: (local: string | undefined) => string | undefined
  /** Called when a connection stands: what was {@link Link.observed} before may not have been heard. */
  readonly connected: () => void
  /** Takes a request; `answer` sends while that connection lasts, `signal` is aborted when it ends. */
  readonly request: (request: Request, answer: (message: FromHost) => Promise<void>, signal: AbortSignal) => void
  readonly log: Log
  /** Called at every change. */
  readonly status: (text: string) => void
}

/** Milliseconds between attempts: doubled with jitter, from the first to the most. */
const RECONNECT = { first: 100, most: 10_000 }
/** Milliseconds between pings; a server silent for `silent` is gone. */
const LIVENESS = { ping: 10_000, silent: 25_000 }
const HANDSHAKE_MS = 10_000
/** Milliseconds for the other side to take note of our leaving. */
const CLOSE_MS = 1_000
/** Notices kept while there is no connection; the oldest go first. */
const KEPT_NOTICES = 100

class ConnectionEnded extends OrchestratorError {
  constructor(why: string) {
    super('connection-ended', `the connection to the orchestrator ended: ${why}`, { retryable: true })
  }
}

export function createLink(options: LinkOptions): Link {
  return new ReconnectingLink(options)
}

class ReconnectingLink implements Link {
  readonly #options: LinkOptions
  readonly #events = new EventEmitter().setMaxListeners(0)
  /** Sent or to be sent, not yet stored, in order: sent again with each connection. */
  readonly #outbox = new Map<string, { message: Leases; stored: () => void }>()
  readonly #comparisons = new Map<string, { stored: () => void; ended: (error: Error) => void }>()
  #notices: Notice[] = []
  #socket: WebSocket | null = null

  constructor(options: LinkOptions) {
    this.#options = options
  }

  get isConnected(): boolean {
    return this.#socket !== null
  }

  deliver(id: string, items: Leases['items']): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const message: Leases = { type: 'leases', id, items: [...items] }
    this.#outbox.set(id, { message, stored: resolve })
    if (this.#socket) this.#send(message)
    return promise
  }

  async compare(id: string, readAt: number, leases: Parameters<LeaseSink['compare']>[2]): Promise<void> {
    if (!this.#socket) throw new ConnectionEnded('there is none')
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#comparisons.set(id, { stored: resolve, ended: reject })
    const parts = Math.max(1, Math.ceil(leases.length / SNAPSHOT_PART))
    for (let part = 0; part < parts; part++) {
      const some = leases.slice(part * SNAPSHOT_PART, (part + 1) * SNAPSHOT_PART)
      this.#send({ type: 'snapshot', id, readAt, part, last: part === parts - 1, leases: some })
    }
    await promise
  }

  async connected(signal: AbortSignal): Promise<void> {
    if (!this.#socket) await once(this.#events, 'connected', { signal })
  }

  observed(observed: WireObserved): void {
    if (this.#socket) this.#send({ type: 'observed', observed })
  }

  dropped(packets: DropCounts): void {
    if (this.#socket) this.#send({ type: 'dropped', packets })
  }

  notice(notice: Notice): void {
    if (this.#socket) this.#send({ type: 'notice', ...notice })
    else this.#notices = [...this.#notices, notice].slice(-KEPT_NOTICES)
  }

  async run(signal: AbortSignal): Promise<void> {
    const { log, status, url } = this.#options
    let pause = RECONNECT.first
    let fault = ''
    while (!signal.aborted) {
      try {
        status(`connecting to ${url}`)
        await this.#connection(signal, () => {
          pause = RECONNECT.first
          fault = ''
        })
      } catch (error) {
        if (signal.aborted) return
        if (fault !== wording(error))
          log.warn('link.down', 'no connection to the orchestrator', { error: wording(error) })
        fault = wording(error)
        status(`no connection to ${url}: ${fault}`)
        // Another unionize has our identity: taking the connection back at once would go on for ever.
        if (fault.includes(REPLACED)) pause = RECONNECT.most
        await wait(pause * (0.5 + Math.random()), undefined, { signal }).catch(() => {})
        pause = Math.min(pause * 2, RECONNECT.most)
      }
    }
  }

  /** One connection from its beginning to its end. @throws why it ended, unless aborted */
  async #connection(signal: AbortSignal, welcomed: () => void): Promise<void> {
    const { url, identity, hello, address } = this.#options
    const { key, certificate, authority } = await identity()
    const greeting = await hello()
    signal.throwIfAborted()
    const target = new URL(HOSTS_SOCKET_PATH, url.replace(/^https:/, 'wss:'))
    const socket = new WebSocket(target, {
      key,
      cert: certificate,
      ca: authority,
      handshakeTimeout: HANDSHAKE_MS,
      maxPayload: MAX_MESSAGE_BYTES,
      perMessageDeflate: false,
    })
    const ended = new AbortController()
    const { promise: closed, resolve: close } = Promise.withResolvers<string>()
    socket.on('error', (error) => close(wording(error)))
    socket.on('unexpected-response', (_request, response) => {
      refusal(response).then(close, (error) => close(wording(error)))
    })
    socket.on('close', (code, reason) => close(`${code} ${reason.toString()}`.trim()))
    const stop = () => {
      socket.close(1001, 'unionize stops')
      setTimeout(() => socket.terminate(), CLOSE_MS).unref()
    }
    signal.addEventListener('abort', stop, { once: true })
    const endLiveness = this.#watchLiveness(socket)
    try {
      // It is open, and sends, after that.
      socket.once('upgrade', (response) => {
        const own = address(response.socket.localAddress)
        const facts = { ...greeting.facts, ...(own === undefined ? {} : { address: own }) }
        socket.once('open', () => sendOn(socket, { type: 'hello', protocol: PROTOCOL_VERSION, ...greeting, facts }))
      })
      socket.on('message', (data) => this.#receive(socket, String(data), ended.signal, welcomed))
      throw new ConnectionEnded(await closed)
    } finally {
      endLiveness()
      signal.removeEventListener('abort', stop)
      this.#socket = null
      ended.abort(new ConnectionEnded('it broke'))
      for (const { ended: fail } of this.#comparisons.values()) fail(new ConnectionEnded('it broke'))
      this.#comparisons.clear()
      socket.terminate()
    }
  }

  #receive(socket: WebSocket, text: string, ended: AbortSignal, welcomed: () => void): void {
    const message = parse(text)
    const fault = typeof message === 'string' ? message : this.#unexpected(socket, message)
    if (fault !== null) this.#refuse(socket, fault)
    else if (typeof message === 'string') return
    else if (message.type === 'welcome') {
      welcomed()
      this.#begin(socket, message.host)
    } else if (message.type === 'stored') this.#stored(message.id)
    else this.#options.request(message, (answer) => this.#answer(socket, answer), ended)
  }

  /** What is wrong with a message at this moment; null: nothing. */
  #unexpected(socket: WebSocket, message: ToHost): string | null {
    if (message.type !== 'welcome') return this.#socket === socket ? null : `${message.type} came before welcome`
    if (message.protocol === PROTOCOL_VERSION) return null
    return `unionize speaks protocol ${PROTOCOL_VERSION}, the orchestrator ${message.protocol}`
  }

  #begin(socket: WebSocket, host: string): void {
    this.#socket = socket
    this.#options.log.info('link.up', 'connected to the orchestrator', { host, resent: this.#outbox.size })
    this.#options.status(`connected to ${this.#options.url}`)
    for (const { message } of this.#outbox.values()) this.#send(message)
    for (const notice of this.#notices.splice(0)) this.#send({ type: 'notice', ...notice })
    this.#options.connected()
    this.#events.emit('connected')
  }

  #stored(id: string): void {
    const events = this.#outbox.get(id)
    this.#outbox.delete(id)
    events?.stored()
    this.#comparisons.get(id)?.stored()
    this.#comparisons.delete(id)
  }

  #send(message: FromHost): void {
    if (this.#socket) sendOn(this.#socket, message)
  }

  /** Resolves when it was written out, so that a slow reader slows the writer. */
  async #answer(socket: WebSocket, message: FromHost): Promise<void> {
    if (socket.readyState !== WebSocket.OPEN) return
    const { promise, resolve } = Promise.withResolvers<void>()
    socket.send(encode(message), () => resolve())
    await promise
  }

  #refuse(socket: WebSocket, why: string): void {
    this.#options.log.error('link.broken-message', 'the orchestrator sent what is not understood here', { why })
    // At most 123 bytes (RFC 6455, 5.5); a character that is cut becomes one of three bytes.
    socket.close(1008, Buffer.from(why).subarray(0, 120).toString())
  }

  #watchLiveness(socket: WebSocket): () => void {
    let heard = performance.now()
    const hear = () => {
      heard = performance.now()
    }
    for (const sign of ['open', 'message', 'ping', 'pong']) socket.on(sign, hear)
    const timer = setInterval(() => {
      if (performance.now() - heard > LIVENESS.silent) socket.terminate()
      else if (socket.readyState === WebSocket.OPEN) socket.ping()
    }, LIVENESS.ping)
    return () => clearInterval(timer)
  }
}

function sendOn(socket: WebSocket, message: FromHost): void {
  socket.send(encode(message), (error) => {
    if (error) socket.terminate() // what was to be stored is sent again with the next connection
  })
}

/** @throws when we are about to send what the other side would refuse */
function encode(message: FromHost): string {
  return JSON.stringify(fromHost.parse(message))
}

/** The message, or what is wrong with it. */
function parse(text: string): ToHost | string {
  try {
    const parsed = toHost.safeParse(JSON.parse(text))
    if (parsed.success) return parsed.data
    const fault = parsed.error.issues[0]
    return `${fault?.path.map(String).join('.') || 'message'}: ${fault?.message}`
  } catch (error) {
    return wording(error)
  }
}

/** Why the orchestrator refused the connection, in its own words where it gave some. */
async function refusal(response: IncomingMessage): Promise<string> {
  let body = ''
  for await (const chunk of response.setEncoding('utf8')) {
    body += chunk
    if (body.length > REFUSAL_BYTES) break
  }
  const problem = z.object({ code: z.string(), message: z.string() }).safeParse(safeJson(body))
  return problem.success ? `${problem.data.message} (${problem.data.code})` : `refused with HTTP ${response.statusCode}`
}

function safeJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // not ours: a proxy's page, say
  }
}
