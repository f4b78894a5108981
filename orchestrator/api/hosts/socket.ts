import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { type WebSocket, WebSocketServer } from 'ws'
import { HostUnreachable, wording } from '../../../common/errors.ts'
import { HOSTS_SOCKET_PATH, MAX_MESSAGE_BYTES, type ToHost, type WireOrder } from '../../../unionize/contract.ts'
import type { WantedImage } from '../../domain/build.ts'
import type { HostName } from '../../domain/host.ts'
import type { Observed } from '../../domain/instance.ts'
import { sameHash } from '../../pki/tokens.ts'
import type { Store } from '../../store/store.ts'
import type { ApiMetrics } from '../metrics.ts'
import type { OutputOptions } from '../output-options.ts'
import { Problem } from '../problem.ts'
import { CLOSE, type ConnectionOptions, HostConnection } from './connection.ts'
import { observedOf } from './from-wire.ts'
import type { Question } from './requests.ts'
import { type HostWays, hostWays } from './ways.ts'

export interface HostsSocketOptions extends ConnectionOptions {
  readonly metrics: ApiMetrics
}

/** What a host is asked to build; its context is fetched by the host. */
export type BuildQuestion = Omit<Extract<ToHost, { type: 'build' }>, 'type' | 'id'>

/**
 * Where the hosts' daemons connect, and by which they are asked. What is asked rejects with HostUnreachable when the host
 * is not connected or the connection ends before the answer, with the host's own OrchestratorError when it refused, and
 * with the signal's reason when that is aborted.
 */
export interface HostsSocket {
  ensure(host: HostName, order: WireOrder, signal: AbortSignal): Promise<Observed>
  remove(host: HostName, instance: string, generation: number, signal: AbortSignal): Promise<void>
  list(host: HostName, signal: AbortSignal): Promise<readonly Observed[]>
  /** Resolves when the host has all of these images; what it has of ours beside them may go. */
  images(host: HostName, wanted: readonly WantedImage[], signal: AbortSignal): Promise<void>
  /** The log of a build as it comes; ends when it is done, throws when it failed. */
  build(host: HostName, question: BuildQuestion, signal: AbortSignal): AsyncIterable<string>
  logs(host: HostName, instance: string, options: OutputOptions, signal: AbortSignal): AsyncIterable<string>
  /** How hosts lead their owners to instances that are elsewhere. */
  readonly ways: HostWays
  /** Names of the hosts that may be asked now. */
  connected(): readonly HostName[]
  /** Takes over an HTTP upgrade request of the TLS server, or refuses it with a problem. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void
  /** Ends a host's connection because it joined anew: its old certificate is void. */
  rejoined(host: HostName): void
  /** Ends all connections; resolves when everything they began is finished. */
  stop(): Promise<void>
}

export function hostsSocket(options: HostsSocketOptions): HostsSocket {
  return new Hosts(options)
}

class Hosts implements HostsSocket {
  readonly #options: HostsSocketOptions
  readonly #server = new WebSocketServer({ noServer: true, maxPayload: MAX_MESSAGE_BYTES, perMessageDeflate: false })
  /** The one connection of each host that may be asked. */
  readonly #current = new Map<HostName, HostConnection>()
  /** Every connection, oldest first, with the end of its work. */
  readonly #all = new Map<HostConnection, Promise<void>>()
  /** Why a host was refused last: it tries again and again, operators are told once. */
  readonly #told = new Map<HostName, string>()
  readonly ways = hostWays((...question) => this.#ask(...question))
  #stopped = false

  constructor(options: HostsSocketOptions) {
    this.#options = options
    options.metrics.countHosts(() => this.#current.size)
  }

  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const { log, metrics } = this.#options
    socket.on('error', (error) => log.debug('host.socket-error', wording(error)))
    this.#admit(request).then(
      (host) => {
        if (socket.destroyed) return
        this.#server.handleUpgrade(request, socket, head, (webSocket) => this.#begin(host, webSocket))
      },
      (error: unknown) => {
        const problem = Problem.from(error)
        metrics.hostRefusals.inc({ reason: problem.code })
        log.warn('host.refused', problem.message, { address: request.socket.remoteAddress, code: problem.code })
        refuse(socket, problem)
      },
    )
  }

  rejoined(host: HostName): void {
    for (const connection of this.#all.keys()) {
      if (connection.host === host) connection.close(CLOSE.rejoined, 'the host joined anew')
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    for (const connection of this.#all.keys()) connection.close(CLOSE.goingAway, 'the orchestrator stops')
    await Promise.all([...this.#all].flatMap(([connection, served]) => [served, connection.closed]))
    this.#server.close()
  }

  async ensure(...[host, order, signal]: Parameters<HostsSocket['ensure']>) {
    return observedOf(only(host, await this.#ask(host, { type: 'ensure', order }, signal)))
  }

  async remove(...[host, instance, generation, signal]: Parameters<HostsSocket['remove']>) {
    await this.#ask(host, { type: 'remove', instance, generation }, signal)
  }

  async list(...[host, signal]: Parameters<HostsSocket['list']>) {
    return (await this.#ask(host, { type: 'list' }, signal)).map(observedOf)
  }

  async images(...[host, wanted, signal]: Parameters<HostsSocket['images']>) {
    await this.#ask(host, { type: 'images', wanted: [...wanted] }, signal)
  }

  async *build(...[host, question, signal]: Parameters<HostsSocket['build']>) {
    yield* this.#connectionOf(host).requests.stream({ type: 'build', ...question }, signal)
  }

  connected(): readonly HostName[] {
    return [...this.#current.keys()]
  }

  async *logs(...[host, instance, logOptions, signal]: Parameters<HostsSocket['logs']>) {
    const { service, tail, follow } = logOptions
    const question = { type: 'logs', instance, tail, follow, ...(service === undefined ? {} : { service }) } as const
    yield* this.#connectionOf(host).requests.stream(question, signal)
  }

  async #ask(host: HostName, question: Question, signal: AbortSignal) {
    const done = this.#options.metrics.hostRequestSeconds.startTimer({ type: question.type })
    try {
      const answer = await this.#connectionOf(host).requests.ask(question, signal)
      done({ outcome: 'ok' })
      return answer
    } catch (error) {
      done({ outcome: signal.aborted ? 'cancelled' : 'failed' })
      throw error
    }
  }

  #connectionOf(host: HostName): HostConnection {
    const connection = this.#current.get(host)
    if (connection === undefined) throw new HostUnreachable(host, 'it is not connected')
    return connection
  }

  async #admit(request: IncomingMessage): Promise<HostName> {
    if (this.#stopped) throw new Problem(503, 'stopping', 'the orchestrator stops')
    const path = new URL(request.url ?? '/', 'https://localhost').pathname
    if (path !== HOSTS_SOCKET_PATH) throw new Problem(404, 'not-found', 'there is no socket here')
    return await admittedHost(request, this.#options.store)
  }

  #begin(host: HostName, webSocket: WebSocket): void {
    const connection = new HostConnection(host, webSocket, this.#options)
    if (this.#stopped) connection.close(CLOSE.goingAway, 'the orchestrator stops')
    const served = connection.serve({
      comes: () => this.#closeOlder(connection),
      ready: () => {
        this.#current.set(host, connection)
        this.#told.delete(host)
      },
      refused: (why) => this.#tellRefusal(host, why),
    })
    this.#all.set(connection, served)
    void Promise.all([served, connection.closed]).then(() => {
      this.#all.delete(connection)
      if (this.#current.get(host) === connection) this.#current.delete(host)
    })
  }

  #tellRefusal(host: HostName, why: string): void {
    const { log, metrics, news } = this.#options
    metrics.hostRefusals.inc({ reason: 'protocol' })
    if (this.#told.get(host) === why) return
    this.#told.set(host, why)
    const message = `host ${host} was refused: ${why}`
    Promise.resolve(news.notice(host, { level: 'error', code: 'refused', message })).catch((error: unknown) => {
      log.error('host.news-failed', wording(error), { host })
    })
  }

  /** The newer connection of a host wins; it begins when all that an older one had under way is finished. */
  async #closeOlder(connection: HostConnection): Promise<void> {
    const { host } = connection
    const finished: Promise<void>[] = []
    for (const [older, served] of this.#all) {
      if (older === connection) break
      if (older.host !== host) continue
      older.close(CLOSE.replaced, 'the host connected again')
      finished.push(served)
    }
    await Promise.all(finished)
  }
}

/**
 * The host that a certificate speaks for: signed by our authority and the one that the host joined with last.
 * @throws Problem otherwise
 */
export async function admittedHost(request: IncomingMessage, store: Store): Promise<HostName> {
  const { socket } = request
  if (!(socket instanceof TLSSocket)) throw new Problem(403, 'certificate-missing', 'a host must come by TLS')
  const certificate = socket.getPeerCertificate()
  if (!certificate?.fingerprint256) {
    throw new Problem(401, 'certificate-missing', 'a host must show the certificate that it got when it joined')
  }
  const name: unknown = certificate.subject?.CN
  if (!socket.authorized || typeof name !== 'string') {
    const why = String(socket.authorizationError ?? 'it names no host')
    throw new Problem(403, 'certificate-refused', `the certificate is not one of ours (${why}); join the host again`)
  }
  const host = name as HostName
  const joined = await store.hostFingerprint(host)
  const shown = certificate.fingerprint256.replaceAll(':', '').toLowerCase()
  if (joined === null) throw new Problem(403, 'host-unknown', `host ${host} has not joined`)
  if (!sameHash(joined, shown)) {
    throw new Problem(403, 'certificate-replaced', `host ${host} has joined with another certificate since`)
  }
  return host
}

function refuse(socket: Duplex, problem: Problem): void {
  const body = JSON.stringify(problem.shape())
  socket.end(
    `HTTP/1.1 ${problem.status} ${problem.title}\r\nContent-Type: application/problem+json\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  )
  socket.once('finish', () => socket.destroy())
}

function only<T>(host: HostName, items: readonly T[]): T {
  const [item] = items
  if (items.length !== 1 || item === undefined) {
    throw new HostUnreachable(host, `expected one observation in its answer, got ${items.length}`)
  }
  return item
}
