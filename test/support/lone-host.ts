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

/** A host that has leases and runs nothing: it agrees to all that it is asked, and comes back after each cut. */
export class LoneHost implements AsyncDisposable {
  readonly #orchestrator: LoneOrchestrator
  readonly #address: string
  readonly #key: string
  readonly #cert: string
  #socket: WebSocket | null = null
  #offset = 0
  /** What is not known to be stored, by id: it is sent again at each connection. */
  readonly #waiting = new Map<string, FromHost>()
  /** Ways that it was told to keep, by instance: where each leads. */
  readonly ways = new Map<string, string>()

  private constructor(orchestrator: LoneOrchestrator, address: string, key: string, cert: string) {
    this.#orchestrator = orchestrator
    this.#address = address
    this.#key = key
    this.#cert = cert
  }

  static async join(orchestrator: LoneOrchestrator, host: string, address = ADDRESS): Promise<LoneHost> {
    const { token } = await orchestrator.call<JoinTokenShape>('POST', '/v1/join-tokens', {})
    const { key, csr } = await keyAndRequest()
    const answer = await orchestrator.call<JoinResponse>('POST', '/v1/hosts/join', { token, host, csr })
    return new LoneHost(orchestrator, address, key, answer.certificate)
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
      const facts = { engine: 'none', kernel: 'none', instances: 0, address: this.#address }
      this.#send({ type: 'hello', protocol: PROTOCOL_VERSION, version: 'test', facts })
    })
    socket.on('message', (data) => {
      const message = JSON.parse(String(data)) as ToHost
      if (message.type === 'welcome') {
        welcome = true
        for (const waiting of this.#waiting.values()) this.#send(waiting)
      } else if (message.type === 'stored') this.#waiting.delete(message.id)
      else if (message.type !== 'cancel') this.#agree(message)
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

  #agree(message: Exclude<ToHost, { type: 'welcome' | 'stored' | 'cancel' }>): void {
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
