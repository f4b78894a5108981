import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import { PemConverter, Pkcs10CertificateRequestGenerator } from '@peculiar/x509'
import request from 'supertest'
import { WebSocket } from 'ws'
import { makeJoinToken, tokenHash } from '../../orchestrator/pki/tokens.ts'
import {
  type FromHost,
  HOSTS_SOCKET_PATH,
  type JoinResponse,
  PROTOCOL_VERSION,
  type ToHost,
} from '../../unionize/contract.ts'
import type { TestApi } from './api.ts'
import { until } from './until.ts'

/** PEM texts by which a host shows who it is. */
export interface Credentials {
  readonly key: string
  readonly cert: string
}

/** A new P-256 key and a signing request for it, PEM. */
export async function keyAndRequest(
  algorithm: { name: string; namedCurve: string; hash: string } = {
    name: 'ECDSA',
    namedCurve: 'P-256',
    hash: 'SHA-256',
  },
): Promise<{ key: string; csr: string }> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const csr = await Pkcs10CertificateRequestGenerator.create({ name: 'CN=whoever', keys, signingAlgorithm: algorithm })
  const key = PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY')
  return { key, csr: csr.toString('pem') }
}

/** A join token that the store knows. */
export async function joinToken(api: TestApi, options: { host?: string; expiresAt?: number } = {}): Promise<string> {
  const token = makeJoinToken(api.authority.fingerprint)
  const expiresAt = options.expiresAt ?? Date.now() + 60_000
  await api.store.putToken({
    hash: tokenHash(token),
    kind: 'join',
    host: options.host ?? null,
    expiresAt,
    usedAt: null,
  })
  return token
}

/** Joins as a host does, over the API. */
export async function joinHost(api: TestApi, host: string): Promise<Credentials> {
  const { key, csr } = await keyAndRequest()
  const token = await joinToken(api)
  const answer = await request(api.url)
    .post('/v1/hosts/join')
    .ca(api.authority.pem)
    .send({ token, host, csr })
    .expect(201)
  return { key, cert: (answer.body as JoinResponse).certificate }
}

/** The far end of a host's connection, as a test drives it. */
export class TestHost implements AsyncDisposable {
  readonly socket: WebSocket
  readonly received: ToHost[] = []
  #close: { code: number; reason: string } | null = null

  constructor(socket: WebSocket) {
    this.socket = socket
    socket.on('message', (data) => this.received.push(JSON.parse(String(data)) as ToHost))
    socket.on('close', (code, reason) => {
      this.#close = { code, reason: reason.toString() }
    })
  }

  /** How the connection ended, once it has. */
  get closed(): Promise<{ code: number; reason: string }> {
    return until('the connection is closed', () => this.#close)
  }

  /** Opens the socket; rejects with `<status> <code>` when it is refused. */
  static async open(api: TestApi, credentials: Partial<Credentials>, path = HOSTS_SOCKET_PATH): Promise<TestHost> {
    const socket = new WebSocket(`wss://127.0.0.1:${api.api.port}${path}`, { ca: api.authority.pem, ...credentials })
    const host = new TestHost(socket)
    await new Promise<void>((resolve, reject) => {
      socket.once('open', resolve)
      socket.once('error', reject)
      socket.once('unexpected-response', (_request, response) => {
        let body = ''
        response.on('data', (part) => {
          body += part
        })
        response.on('end', () =>
          reject(new Error(`${response.statusCode} ${(JSON.parse(body) as { code: string }).code}`)),
        )
      })
    })
    socket.on('error', () => {})
    return host
  }

  /** Opens, says hello and waits for the welcome. */
  static async connect(api: TestApi, credentials: Credentials): Promise<TestHost> {
    const host = await TestHost.open(api, credentials)
    host.hello()
    await host.next('welcome')
    return host
  }

  hello(protocol = PROTOCOL_VERSION): void {
    this.send({ type: 'hello', protocol, version: 'test', facts: { engine: 'test', kernel: 'test', instances: 0 } })
  }

  send(message: FromHost): void {
    this.socket.send(JSON.stringify(message))
  }

  /** The next message of a type; those before it are dropped. */
  async next<T extends ToHost['type']>(type: T): Promise<Extract<ToHost, { type: T }>> {
    return await until(`a message ${type} came`, () => {
      const index = this.received.findIndex((message) => message.type === type)
      if (index === -1) return null
      return this.received.splice(0, index + 1).at(-1) as Extract<ToHost, { type: T }>
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.socket.terminate()
    await this.closed
  }
}
