import { rmSync } from 'node:fs'
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http'
import { buffer } from 'node:stream/consumers'
import type { Faults, PassingCall } from './faults.ts'

/** A proxy between two unix sockets that speaks HTTP, whose calls go wrong on demand. */
export interface SocketFaults extends AsyncDisposable {
  readonly path: string
}

/** @param path where it listens @param upstream the socket that it passes calls on to */
export async function socketFaults(path: string, upstream: string, faults: Faults): Promise<SocketFaults> {
  const server = createServer((request, response) => {
    void handle(request, response).catch(() => response.destroy())
  })
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await buffer(request)
    const call: PassingCall = { method: request.method ?? 'GET', path: request.url ?? '/', body: body.toString() }
    const strike = faults.strike(call)
    if (faults.streams(call)) return await piped(upstream, request, response)
    if (strike?.fault === 'refuse') {
      strike.hit()
      return void request.socket.destroy()
    }
    if (strike?.fault === 'repeat') await passed(upstream, call)
    const answer = await passed(upstream, call)
    strike?.hit()
    if (strike?.fault === 'hang') await strike.over
    if (strike?.fault === 'hang' || strike?.fault === 'lose-answer') return void request.socket.destroy()
    const text = faults.answered(call, answer.body)
    response.writeHead(answer.status, { 'content-type': 'application/json' }).end(text)
  }
  rmSync(path, { force: true })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  return {
    path,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

async function passed(
  socketPath: string,
  { method, path, body }: PassingCall,
): Promise<{ status: number; body: string }> {
  const headers = body === '' ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  httpRequest({ socketPath, method, path, headers }, resolve).once('error', reject).end(body)
  const answer = await promise
  return { status: answer.statusCode ?? 502, body: (await buffer(answer)).toString() }
}

/** An answer that goes on and on is passed on as it comes. */
async function piped(
  socketPath: string,
  { url: path = '/' }: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  const asked = httpRequest({ socketPath, path }, resolve).once('error', reject)
  response.once('close', () => asked.destroy())
  asked.end()
  const answer = await promise
  response.writeHead(answer.statusCode ?? 502)
  answer.once('error', () => response.destroy()).pipe(response)
}
