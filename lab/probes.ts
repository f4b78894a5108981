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

/**
 * One conversation over TCP: sends bytes, and reads until the answer holds the text `until` or the other side ends it.
 * @param p.send base64
 * @returns what came, base64
 */
export function exchange(p: Target & { send: string; until?: string; timeoutMs: number }): Promise<string> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = []
    const socket = connect({ host: p.address, port: p.port, ...source(p.from) })
    const end = (error?: Error): void => {
      clearTimeout(timer)
      socket.destroy()
      if (error === undefined) resolve(Buffer.concat(parts).toString('base64'))
      else reject(error)
    }
    const heard = () => Buffer.concat(parts).toString('latin1')
    const timer = setTimeout(
      () => end(new Error(`nothing more in ${p.timeoutMs} ms after ${JSON.stringify(heard().slice(0, 500))}`)),
      p.timeoutMs,
    )
    socket.on('connect', () => socket.write(Buffer.from(p.send, 'base64')))
    socket.on('data', (part: Buffer) => {
      parts.push(part)
      if (p.until !== undefined && heard().includes(p.until)) end()
    })
    socket.on('end', () => end())
    socket.on('error', end)
  })
}
