import { WebSocket } from 'ws'
import type { JoinTokenShape } from '../../orchestrator/api/wire.ts'
import {
  type FromHost,
  HOSTS_SOCKET_PATH,
  type JoinResponse,
  PROTOCOL_VERSION,
  type ToHost,
} from '../../unionize/contract.ts'
import type { LoneOrchestrator } from './lone-orchestrator.ts'
import { keyAndRequest } from './test-host.ts'
import { until } from './until.ts'

/** Where others would reach it, unless told; nothing listens there. */
const ADDRESS = 'fd00:feed::1'

/** What the orchestrator asks a host. */
export type HostRequest = Exclude<ToHost, { type: 'welcome' | 'stored' | 'cancel' }>
/** What a host answers. */
export type HostAnswer = Omit<Extract<FromHost, { type: 'result' }>, 'type' | 'id'>

interface HostOptions {
  /** Where others would reach it; an address that leads nowhere unless told. */
  readonly address?: string | undefined
  /** Does what it is asked; null: that is never answered. Unless told it agrees to all, and runs nothing. */
  readonly carryOut?: ((request: HostRequest) => Promise<HostAnswer | null>) | undefined
}

/** A host that has leases and runs nothing unless told how, and comes back after each cut. */
export class LoneHost implements AsyncDisposable {
  readonly #orchestrator: LoneOrchestrator
  readonly #options: HostOptions
  readonly #key: string
  readonly #cert: string
  #socket: WebSocket | null = null
  #offset = 0
  /** What is not known to be stored, by id: it is sent again at each connection. */
  readonly #waiting = new Map<string, FromHost>()
  /** Ways that it was told to keep, by instance: where each leads. */
  readonly ways = new Map<string, string>()

  private constructor(orchestrator: LoneOrchestrator, options: HostOptions, key: string, cert: string) {
    this.#orchestrator = orchestrator
    this.#options = options
    this.#key = key
    this.#cert = cert
  }

  static async join(orchestrator: LoneOrchestrator, host: string, options: HostOptions = {}): Promise<LoneHost> {
    const { token } = await orchestrator.call<JoinTokenShape>('POST', '/v1/join-tokens', {})
    const { key, csr } = await keyAndRequest()
    const answer = await orchestrator.call<JoinResponse>('POST', '/v1/hosts/join', { token, host, csr })
    return new LoneHost(orchestrator, options, key, answer.certificate)
  }

  /** Connects, in place of a former connection. */
  async connect(): Promise<void> {
    this.#socket?.terminate()
    const url = `wss://[::1]:${this.#orchestrator.port}${HOSTS_SOCKET_PATH}`
    const socket = new WebSocket(url, { ca: this.#orchestrator.authority, key: this.#key, cert: this.#cert })
    this.#socket = socket
    let welcome = false
    socket.on('error', () => {})
    socket.on('open', () => {
      const facts = { engine: 'none', kernel: 'none', instances: 0, address: this.#options.address ?? ADDRESS }
      this.#send({ type: 'hello', protocol: PROTOCOL_VERSION, version: 'test', facts })
    })
    socket.on('message', (data) => {
      const message = JSON.parse(String(data)) as ToHost
      if (message.type === 'welcome') {
        welcome = true
        for (const waiting of this.#waiting.values()) this.#send(waiting)
      } else if (message.type === 'stored') this.#waiting.delete(message.id)
      else if (message.type !== 'cancel') void this.#answer(socket, message)
    })
    await until('the host is welcome', () => welcome, { deadlineMs: 60_000 })
  }

  /** The n-th device gets or loses its lease; resolves when that is stored. */
  async lease(n: number, kind: 'granted' | 'ended'): Promise<void> {
    this.#offset += 100
    const id = `m${this.#offset}`
    const lease = {
      owner: { duid: `00:03:00:01:02:00:00:00:00:${n.toString(16).padStart(2, '0')}`, iaid: n },
      address: `fd00:c::${n.toString(16)}`,
      expiresAt: Date.now() + 3_600_000,
      facts: {},
    } as Extract<Extract<FromHost, { type: 'leases' }>['items'][number], { type: 'event' }>['lease']
    const position = { journal: 'j', offset: this.#offset }
    const items = [{ type: 'event' as const, kind, lease, position, hookAt: Date.now() }]
    this.#waiting.set(id, { type: 'leases', id, items })
    this.#send({ type: 'leases', id, items })
    await until('the lease is stored', () => !this.#waiting.has(id), { deadlineMs: 60_000 })
  }

  async #answer(asked: WebSocket, message: HostRequest): Promise<void> {
    const { carryOut } = this.#options
    if (carryOut === undefined) return this.#agree(message)
    const answer = await carryOut(message)
    // Another connection knows nothing of that question.
    if (answer !== null && this.#socket === asked) this.#send({ type: 'result', id: message.id, ...answer })
  }

  #agree(message: HostRequest): void {
    if (message.type === 'lead') this.ways.set(message.way.instance, JSON.stringify(message.way.reach))
    if (message.type === 'unlead') this.ways.delete(message.instance)
    if (message.type === 'leads') {
      this.ways.clear()
      for (const way of message.ways) this.ways.set(way.instance, JSON.stringify(way.reach))
    }
    this.#send({ type: 'result', id: message.id, observed: [] })
  }

  #send(message: FromHost): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket?.terminate()
  }
}
