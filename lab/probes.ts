import { lookup } from 'node:dns/promises'
import { get } from 'node:http'
import { connect } from 'node:net'

/** What a device's user tries, from inside the device's namespace. `from` is one of the device's own addresses. */

export interface Page {
  readonly status: number
  readonly body: string
  /** Address that answered. */
  readonly address: string
}

export interface Target {
  readonly address: string
  readonly port: number
  readonly from?: string
}

const now = (): number => performance.timeOrigin + performance.now()
const source = (from: string | undefined): { localAddress?: string } =>
  from === undefined ? {} : { localAddress: from }

/** Fetches a page once, by name, with the resolver of this namespace. Rejects when no answer comes in time. */
export function page(p: { url: string; from?: string; timeoutMs: number }): Promise<Page> {
  return new Promise((resolve, reject) => {
    const request = get(p.url, { agent: false, family: 6, ...source(p.from) }, (response) => {
      let body = ''
      const address = response.socket.remoteAddress ?? ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        body += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body, address }))
      response.on('error', reject)
    })
    request.setTimeout(p.timeoutMs, () => request.destroy(new Error(`no answer in ${p.timeoutMs} ms`)))
    request.on('error', reject)
  })
}

/** One attempt to connect: `accepted`, `refused`, `silent` until the time was up, or the error's code. */
export function dial(p: Target & { timeoutMs: number }): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: p.address, port: p.port, ...source(p.from) })
    const end = (outcome: string): void => {
      clearTimeout(timer)
      socket.destroy()
      resolve(outcome)
    }
    const timer = setTimeout(() => end('silent'), p.timeoutMs)
    socket.on('connect', () => end('accepted'))
    socket.on('error', (error: NodeJS.ErrnoException) => {
      end(error.code === 'ECONNREFUSED' ? 'refused' : (error.code ?? 'error'))
    })
  })
}

/**
 * Tries to connect again and again, 25 ms each at most (a lost SYN is repeated only after 1 s, which would be measured
 * in place of the path), until it is accepted. @returns when that was, epoch ms
 */
export async function reachable(p: Target & { deadlineMs: number }): Promise<number> {
  const deadline = performance.now() + p.deadlineMs
  let last = ''
  while (performance.now() < deadline) {
    last = await dial({ ...p, timeoutMs: 25 })
    if (last === 'accepted') return now()
    if (last !== 'silent') await new Promise((resolve) => setTimeout(resolve, 2))
  }
  throw new Error(`[${p.address}]:${p.port} was not reachable in ${p.deadlineMs} ms; the last attempt: ${last}`)
}

/** IPv6 addresses of a name, asked as any program asks. */
export async function resolve(p: { name: string }): Promise<string[]> {
  return (await lookup(p.name, { all: true, family: 6 })).map((found) => found.address)
}
