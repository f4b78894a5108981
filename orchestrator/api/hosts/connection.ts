import type { RawData, WebSocket } from 'ws'
import type { Clock } from '../../../common/clock.ts'
import type { DropCounts } from '../../../common/drop-reasons.ts'
import { errorCode, wording } from '../../../common/errors.ts'
import { parseIpv6 } from '../../../common/ipv6.ts'
import type { Log } from '../../../common/log.ts'
import {
  type FromHost,
  fromHost,
  HOSTS_SOCKET_PATH,
  PROTOCOL_VERSION,
  type ToHost,
} from '../../../unionize/contract.ts'
import type { HostName } from '../../domain/host.ts'
import type { Observed } from '../../domain/instance.ts'
import type { Intake } from '../../intake.ts'
import type { Store } from '../../store/store.ts'
import { observedOf, printable } from './from-wire.ts'
import { Inbox } from './inbox.ts'
import { LeaseReception, type Reception } from './lease-reception.ts'
import { HostRequests } from './requests.ts'

/** What a host says beside leases and answers. Rejections are logged; the connection goes on. */
export interface HostNews {
  /** The host is there and can be asked. */
  connected(host: HostName): void | Promise<void>
  disconnected(host: HostName): void | Promise<void>
  observed(host: HostName, observed: Observed): void | Promise<void>
  notice(host: HostName, notice: HostNotice): void | Promise<void>
  /** What the host's firewall has dropped, all in all. */
  dropped(host: HostName, packets: DropCounts): void | Promise<void>
}
export type HostNotice = Pick<Extract<FromHost, { type: 'notice' }>, 'level' | 'code' | 'message'>

export interface ConnectionOptions {
  readonly store: Store
  readonly intake: Pick<Intake, 'applyLeases' | 'applySnapshot'>
  readonly clock: Clock
  readonly log: Log
  readonly news: HostNews
  /** Of this program, told to the host. */
  readonly version: string
  /** Milliseconds between two pings; a host silent for two of them is gone. */
  readonly livenessMs: number
}

/** WebSocket close codes: 1000s by RFC 6455, section 7.4.1; 4000s are ours. */
export const CLOSE = {
  goingAway: 1001,
  refused: 1008,
  tryLater: 1013,
  protocol: 4000,
  replaced: 4001,
  rejoined: 4002,
} as const
const HELLO_WITHIN_MS = 10_000
/** Milliseconds that a host has to answer a close before it is cut off. */
const CLOSE_WITHIN_MS = 2_000
/** Messages that wait for the store before the host is no longer read, and how few before it is again. */
const INBOX = { high: 64, low: 16 } as const
/** Bytes that may wait to be sent before a host that does not read is given up. */
const MOST_UNSENT_BYTES = 64 * 1024 * 1024
/** Bytes of a close reason (RFC 6455, section 5.5: 125 with the code). */
const REASON_BYTES = 123

type Hello = Extract<FromHost, { type: 'hello' }>
type Ordered = Exclude<FromHost, { type: 'result' | 'output' }>

/** One connection of one host, from its hello to its end. */
export class HostConnection {
  readonly host: HostName
  readonly requests: HostRequests
  readonly #socket: WebSocket
  readonly #options: ConnectionOptions
  readonly #inbox: Inbox<Ordered>
  readonly #reception: LeaseReception
  readonly #ended = new AbortController()
  /** Resolves when the socket is closed. */
  readonly closed: Promise<void>
  #heard = true
  #paused = false
  #greeted = false

  constructor(host: HostName, socket: WebSocket, options: ConnectionOptions) {
    this.host = host
    this.#socket = socket
    this.#options = options
    this.#reception = new LeaseReception(host, options)
    this.requests = new HostRequests(host, (message) => this.#send(message))
    this.#inbox = new Inbox({ ...INBOX, full: () => this.#pause(true), spare: () => this.#pause(false) })
    const heard = () => {
      this.#heard = true
    }
    socket.on('message', (data, binary) => this.#receive(data, binary))
    socket.on('pong', heard).on('ping', heard)
    socket.on('error', (error) => options.log.warn('host.socket-error', wording(error), { host }))
    this.closed = new Promise((resolve) => {
      socket.on('close', (code, reason) => {
        this.#end(code, printable(reason.toString()))
        resolve()
      })
    })
  }

  /**
   * Serves the host until the connection ends and all that it began is finished. Never rejects.
   * @param turn `comes` resolves when no older connection of this host has work under way; `ready` is called when it may
   * be asked, `refused` when it never will be, with the reason
   */
  async serve(turn: { comes(): Promise<void>; ready(): void; refused(why: string): void }): Promise<void> {
    const { log } = this.#options
    try {
      void this.#watchHello()
      const hello = await this.#inbox.take()
      if (hello === null) return
      if (hello.type !== 'hello') return this.close(CLOSE.refused, 'expected hello first')
      if (hello.protocol !== PROTOCOL_VERSION) return turn.refused(this.#refuseProtocol(hello))
      await turn.comes()
      if (!this.#ended.signal.aborted) await this.#serveGreeted(hello, turn.ready)
    } catch (error) {
      log.error('host.failed', `the connection of host ${this.host} failed: ${wording(error)}`, {
        code: errorCode(error),
      })
      this.close(CLOSE.tryLater, `try again later: ${wording(error)}`)
    }
  }

  /** Says why and closes; a host that does not answer the close is cut off. */
  close(code: number, reason: string): void {
    if (this.#ended.signal.aborted) return
    this.#socket.close(code, clipped(reason))
    const cut = setTimeout(() => this.cut(), CLOSE_WITHIN_MS)
    void this.closed.then(() => clearTimeout(cut))
    this.#end(code, reason)
  }

  cut(): void {
    this.#socket.terminate()
  }

  async #serveGreeted(hello: Hello, ready: () => void): Promise<void> {
    const { store, clock, log, news, version } = this.#options
    const facts = {
      engine: printable(hello.facts.engine),
      kernel: printable(hello.facts.kernel),
      version: printable(hello.version),
      ...(hello.facts.address === undefined ? {} : { address: parseIpv6(hello.facts.address) }),
    }
    const epoch = await store.hostConnected(this.host, facts, clock.now())
    const fields = { host: this.host, epoch }
    log.info('host.connected', `host ${this.host} is connected`, { ...fields, ...facts })
    try {
      this.#send({ type: 'welcome', protocol: PROTOCOL_VERSION, version, host: this.host })
      ready()
      void this.#watchLiveness()
      void this.#tell('connected', () => news.connected(this.host))
      for (let message = await this.#inbox.take(); message !== null; message = await this.#inbox.take()) {
        await this.#handle(message)
      }
    } finally {
      this.requests.end('the connection ended')
      log.info('host.disconnected', `host ${this.host} is no longer connected`, fields)
      await store.hostDisconnected(this.host, epoch, clock.now())
      await this.#tell('disconnected', () => news.disconnected(this.host))
    }
  }

  #receive(data: RawData, binary: boolean): void {
    this.#heard = true
    if (this.#ended.signal.aborted) return
    const fault = this.#take(decoded(data, binary))
    if (fault !== null) this.#broken(fault)
  }

  /** Puts a message where it belongs. @returns what is wrong with it; null: nothing */
  #take(message: FromHost | string): string | null {
    if (typeof message === 'string') return message
    switch (message.type) {
      case 'result':
        return this.requests.answered(message) ? null : `nobody asked ${message.id}`
      case 'output':
        return this.requests.printed(message.id, message.text) ? null : `nobody asked ${message.id}`
      case 'hello':
        if (this.#greeted) return 'hello came twice'
        this.#greeted = true
        break
      case 'leases':
      case 'snapshot':
      case 'observed':
      case 'notice':
      case 'dropped':
        break
    }
    this.#inbox.push(message)
    return null
  }

  async #handle(message: Ordered): Promise<void> {
    const { news } = this.#options
    switch (message.type) {
      case 'hello':
        return
      case 'leases':
        return this.#answer(message.id, await this.#reception.leases(message, this.#ended.signal))
      case 'snapshot':
        return this.#answer(message.id, await this.#reception.snapshot(message, this.#ended.signal))
      case 'observed':
        return await this.#tell('observed', () => news.observed(this.host, observedOf(message.observed)))
      case 'notice':
        return await this.#tell('notice', () => {
          const { level, code, message: text } = message
          return news.notice(this.host, { level, code: printable(code), message: printable(text) })
        })
      case 'dropped':
        return await this.#tell('dropped', () => news.dropped(this.host, message.packets))
    }
  }

  #answer(id: string, reception: Reception): void {
    if (reception === 'stored') this.#send({ type: 'stored', id })
    else if (typeof reception === 'object') this.#broken(reception.broken)
  }

  async #tell(what: string, work: () => void | Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      const { log } = this.#options
      log.error('host.news-failed', `"${what}" of host ${this.host} could not be handled: ${wording(error)}`)
    }
  }

  async #watchHello(): Promise<void> {
    if ((await this.#wait(HELLO_WITHIN_MS)) && !this.#greeted) this.close(CLOSE.refused, 'no hello came')
  }

  async #watchLiveness(): Promise<void> {
    const { livenessMs, log } = this.#options
    while (await this.#wait(livenessMs)) {
      if (!this.#heard && !this.#paused) {
        log.warn('host.silent', `host ${this.host} has been silent for ${2 * livenessMs} ms`, { host: this.host })
        this.cut()
        return
      }
      this.#heard = false
      this.#socket.ping()
    }
  }

  /** @returns false: the connection ended first */
  async #wait(ms: number): Promise<boolean> {
    const { signal } = this.#ended
    if (signal.aborted) return false
    try {
      await this.#options.clock.wait(ms, signal)
      return true
    } catch (error) {
      if (signal.aborted) return false
      throw error
    }
  }

  #refuseProtocol(hello: Hello): string {
    const { log, version } = this.#options
    const reason = `orchestrator ${version} speaks protocol ${PROTOCOL_VERSION}, unionize speaks ${hello.protocol}; install the same version`
    log.warn('host.protocol', `host ${this.host} was refused: ${reason}`, { host: this.host, path: HOSTS_SOCKET_PATH })
    this.close(CLOSE.protocol, reason)
    return reason
  }

  #broken(reason: string): void {
    const text = `a message of host ${this.host} is broken: ${reason}`
    this.#options.log.error('host.message-broken', printable(text), { host: this.host })
    this.close(CLOSE.refused, reason)
  }

  #pause(on: boolean): void {
    this.#paused = on
    this.#heard = true
    if (on) this.#socket.pause()
    else this.#socket.resume()
  }

  #send(message: ToHost): void {
    if (this.#ended.signal.aborted) return
    this.#socket.send(JSON.stringify(message), (error) => {
      if (error) this.#options.log.debug('host.unsent', wording(error), { host: this.host })
    })
    if (this.#socket.bufferedAmount <= MOST_UNSENT_BYTES) return
    this.#options.log.error('host.deaf', `host ${this.host} does not read; cutting it off`, { host: this.host })
    this.cut()
  }

  #end(code: number, reason: string): void {
    if (this.#ended.signal.aborted) return
    this.#ended.abort()
    this.#inbox.end()
    this.requests.end(`the connection ended (${code}${reason === '' ? '' : `, ${reason}`})`)
    if (this.#paused) this.#pause(false)
  }
}

/** The message, or what is wrong with it. */
function decoded(data: RawData, binary: boolean): FromHost | string {
  if (binary) return 'expected text'
  try {
    const parsed = fromHost.safeParse(JSON.parse(data.toString()))
    if (parsed.success) return parsed.data
    const issue = parsed.error.issues[0]
    return `${issue?.path.map(String).join('.') || 'message'}: ${issue?.message}`
  } catch {
    return 'expected JSON'
  }
}

/** A close reason cut to what a close frame can hold. */
function clipped(reason: string): string {
  const text = printable(reason)
  if (Buffer.byteLength(text) <= REASON_BYTES) return text
  return Buffer.from(text)
    .subarray(0, REASON_BYTES)
    .toString()
    .replace(/\ufffd+$/, '')
    .slice(0, -1)
}
