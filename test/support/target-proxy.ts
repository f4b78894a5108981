import * as http from 'node:http'
import * as https from 'node:https'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import type { SecureContextOptions } from 'node:tls'
import type { Faults, PassingCall, Strike } from './faults.ts'

/** Where it listens, and where the target is. */
export interface TargetProxyOptions {
  /** Says which calls go wrong; several proxies may share it. */
  readonly faults: Faults
  /** Address of the target (`::1`, a name) and its port, or its unix socket. */
  readonly target: { readonly host: string; readonly port: number } | { readonly socketPath: string }
  /** Where it listens; unless told a free port of 127.0.0.1. */
  readonly listen?: { readonly host: string; readonly port?: number } | { readonly path: string }
  /**
   * With TLS: what it shows to those who come (`requestCert` and `ca` as node:tls has them), and what to the target; that one
   * absent: the target speaks HTTP without.
   */
  readonly tls?: { readonly server: https.ServerOptions; readonly client?: SecureContextOptions }
  /** Changes what the target answers, so that addresses which it tells lead to proxies, too. */
  readonly rewrite?: (text: string) => string
}

/** An HTTP proxy that makes calls go wrong on their way to a real target. */
export interface TargetProxy extends AsyncDisposable {
  /** 0 of a unix socket. */
  readonly port: number
}

/** Milliseconds that the end of an answer is waited for, for what goes wrong after it took effect. */
const EFFECT_MS = 2_000

export async function targetProxy(options: TargetProxyOptions): Promise<TargetProxy> {
  const { tls, listen = { host: '127.0.0.1' } } = options
  const serve = (incoming: http.IncomingMessage, response: http.ServerResponse) => {
    pass(options, incoming, response).catch(() => response.destroy())
  }
  const server = tls === undefined ? http.createServer(serve) : https.createServer(tls.server, serve)
  // Only what is armed goes wrong: no connection is closed just when somebody uses it again.
  server.keepAliveTimeout = 0
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen('path' in listen ? listen : { port: 0, ...listen }, resolve)
  })
  const address = server.address()
  return {
    port: typeof address === 'string' ? 0 : ((address as AddressInfo | null)?.port ?? 0),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

async function pass(
  options: TargetProxyOptions,
  incoming: http.IncomingMessage,
  response: http.ServerResponse,
): Promise<void> {
  const { faults, rewrite = (text) => text } = options
  const body = await buffer(incoming)
  const call: PassingCall = { method: incoming.method ?? '', path: incoming.url ?? '', body: body.toString() }
  const strike = faults.strike(call)
  if (strike?.fault === 'refuse') {
    strike.hit()
    response.writeHead(503, { 'content-type': 'text/plain', connection: 'close' })
    response.end('refused by the proxy')
    return
  }
  if (strike?.fault === 'repeat') {
    await buffer(await send(options, incoming, body))
    strike.hit()
  }
  const answer = await send(options, incoming, body)
  if (strike !== null && strike.fault !== 'repeat') return await swallow(answer, response, strike)
  if (faults.streams(call)) {
    response.once('close', () => answer.destroy())
    response.writeHead(answer.statusCode ?? 502, answer.headers)
    answer.pipe(response)
    return
  }
  // Latin-1, so that what is no text stays what it is, byte by byte.
  const text = (await buffer(answer)).toString('latin1')
  const shown = Buffer.from(faults.answered(call, rewrite(text)), 'latin1')
  const { 'transfer-encoding': _, 'content-length': length, connection: __, ...headers } = answer.headers
  // Of HEAD, and of an answer that has no body, the length is told by the target alone.
  const told = text === '' ? length : String(shown.length)
  response.writeHead(answer.statusCode ?? 502, { ...headers, ...(told !== undefined && { 'content-length': told }) })
  response.end(shown)
}

function send(
  { target, tls }: TargetProxyOptions,
  { method, url: path, headers }: http.IncomingMessage,
  body: Buffer,
): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    const shared = { ...target, method, path, headers: { ...headers, connection: 'close' }, agent: false }
    const { client } = tls ?? {}
    const outgoing = client === undefined ? http.request(shared) : https.request({ ...shared, ...client })
    outgoing.once('response', resolve)
    outgoing.once('error', reject)
    outgoing.end(body)
  })
}

/** It took effect, and nobody is told. */
async function swallow(answer: http.IncomingMessage, response: http.ServerResponse, strike: Strike): Promise<void> {
  const limit = setTimeout(() => answer.destroy(), EFFECT_MS)
  await buffer(answer).catch(() => {})
  clearTimeout(limit)
  strike.hit()
  if (strike.fault === 'hang') await strike.over
  response.destroy()
}
