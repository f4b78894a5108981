import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'

/** What became of a call, as seen by whoever made it. */
export type Fault =
  /** Never reaches the server: the connection ends. */
  | { readonly kind: 'refused' }
  /** Takes effect; its answer is lost. */
  | { readonly kind: 'lost' }
  /** Takes effect; nothing ever comes back, and the connection stays. */
  | { readonly kind: 'silent' }
  /** Reaches the server twice, as a network or a proxy may repeat it; the second answer is told. */
  | { readonly kind: 'twice' }
  /** Never reaches the server: this is answered instead. */
  | {
      readonly kind: 'answered'
      readonly status: number
      readonly body: string
      readonly headers?: Readonly<Record<string, string>>
    }

export interface Seen {
  readonly method: string
  /** With its query. */
  readonly path: string
  readonly body: string
}

/** A proxy before one HTTP server, whose calls go wrong on demand. */
export interface FaultProxy {
  /** `http://127.0.0.1:PORT` */
  readonly url: string
  /** Every call since the last {@link FaultProxy.reset}, in order. */
  readonly seen: readonly Seen[]
  /** The first call from now on that matches, and only that one unless `always`, goes wrong. */
  next(fault: Fault, match?: (call: Seen) => boolean, options?: { always: boolean }): void
  /** The n-th call from now on (1 is the next) goes wrong. */
  nth(n: number, fault: Fault): void
  /** All is well from now on, and nothing was seen. */
  reset(): void
  close(): Promise<void>
}

interface Rule {
  readonly fault: Fault
  readonly match: (call: Seen) => boolean
  readonly always: boolean
}

/** @param upstream `http://HOST:PORT` */
export async function faultProxy(upstream: string): Promise<FaultProxy> {
  let rules: Rule[] = []
  let seen: Seen[] = []
  const server = createServer((request, response) => {
    void handle(request, response).catch(() => response.destroy())
  })

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await buffer(request)
    const call = { method: request.method ?? 'GET', path: request.url ?? '/', body: body.toString() }
    seen.push(call)
    const rule = rules.find(({ match }) => match(call))
    if (rule !== undefined && !rule.always) rules = rules.filter((other) => other !== rule)
    const fault = rule?.fault
    if (fault?.kind === 'refused') return void request.socket.destroy()
    if (fault?.kind === 'answered') {
      return void response.writeHead(fault.status, { ...fault.headers }).end(fault.body)
    }
    if (fault?.kind === 'twice') await forwarded(upstream, request, body)
    const answer = await forwarded(upstream, request, body)
    if (fault?.kind === 'lost') return void request.socket.destroy()
    if (fault?.kind === 'silent') return
    response.writeHead(answer.status, answer.headers).end(answer.body)
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get seen() {
      return seen
    },
    next(fault, match = () => true, { always } = { always: false }) {
      rules.push({ fault, match, always })
    },
    nth(n, fault) {
      let left = n
      rules.push({ fault, match: () => --left === 0, always: false })
    },
    reset() {
      rules = []
      seen = []
    },
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function forwarded(upstream: string, from: IncomingMessage, body: Buffer) {
  return new Promise<{ status: number; headers: Record<string, string | string[] | undefined>; body: Buffer }>(
    (resolve, reject) => {
      const { host: _, connection: __, ...headers } = from.headers
      const call = httpRequest(`${upstream}${from.url}`, { method: from.method ?? 'GET', headers }, (answer) => {
        buffer(answer).then((body) => {
          const { 'transfer-encoding': ___, connection: ____, ...rest } = answer.headers
          resolve({ status: answer.statusCode ?? 502, headers: rest, body })
        }, reject)
      })
      call.once('error', reject)
      call.end(body)
    },
  )
}
