import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import type { z } from 'zod'

/** What a server that stands in for a provider's API answers. */
export interface RestAnswer {
  readonly status: number
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

/** A refusal in the words of the API. */
export class Refusal extends Error {
  readonly status: number
  readonly code: string
  constructor(status: number, code: string, message: string) {
    super(message)
    this.status = status
    this.code = code
  }
}

export interface RestCall {
  readonly method: string
  readonly path: string
  readonly query: ReadonlyMap<string, string>
  readonly headers: IncomingMessage['headers']
  readonly body: string
  /** Groups of the route's pattern. */
  readonly parts: readonly string[]
}

export interface Route {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** Of the whole path. */
  readonly path: RegExp
  /** Query parameters that the reference names; another is refused. */
  readonly query?: readonly string[]
  readonly answer: (call: RestCall) => RestAnswer
}

export interface RestServer {
  readonly url: string
  close(): Promise<void>
}

/**
 * An API of documented calls: a path, a method or a query parameter that is not named is refused, and so is a body that is
 * not JSON of `application/json`. @param before every call: authorisation, limits; @param refused how the API words a refusal
 */
export async function restServer(options: {
  readonly routes: readonly Route[]
  readonly before: (call: RestCall) => void
  readonly refused: (refusal: Refusal) => RestAnswer
  readonly headers: () => Readonly<Record<string, string>>
}): Promise<RestServer> {
  const judged = (call: RestCall): RestAnswer => {
    options.before(call)
    const here = options.routes.filter(({ path }) => path.test(call.path))
    if (here.length === 0) throw new Refusal(404, 'not_found', `no such path: ${call.path}`)
    const route = here.find(({ method }) => method === call.method)
    if (route === undefined) throw new Refusal(405, 'method_not_allowed', `${call.method} is not allowed here`)
    const strange = [...call.query.keys()].find((name) => !(route.query ?? []).includes(name))
    if (strange !== undefined) throw new Refusal(400, 'invalid_input', `there is no query parameter ${strange}`)
    const wantsBody = call.method === 'POST' || call.method === 'PUT'
    if (wantsBody && call.headers['content-type'] !== 'application/json') {
      throw new Refusal(415, 'invalid_input', 'Content-Type must be application/json')
    }
    if (!wantsBody && call.body !== '') throw new Refusal(400, 'invalid_input', 'no body is allowed here')
    const [, ...parts] = route.path.exec(call.path) ?? []
    return route.answer({ ...call, parts: parts.map(decodeURIComponent) })
  }

  const server = createServer((request, response) => {
    void (async () => {
      const url = new URL(request.url ?? '/', 'http://server')
      const call: RestCall = {
        method: request.method ?? 'GET',
        path: url.pathname,
        query: new Map(url.searchParams),
        headers: request.headers,
        body: await text(request),
        parts: [],
      }
      let answer: RestAnswer
      try {
        answer = judged(call)
      } catch (error) {
        answer = options.refused(error instanceof Refusal ? error : new Refusal(500, 'server_error', String(error)))
      }
      const json = answer.body === undefined ? '' : JSON.stringify(answer.body)
      response.writeHead(answer.status, { 'content-type': 'application/json', ...options.headers(), ...answer.headers })
      response.end(json)
    })()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** The body in the shape that the reference documents, and nothing beside it. */
export function checkedBody<T>(shape: z.ZodType<T>, body: string, refuse: (message: string) => Refusal): T {
  let given: unknown
  try {
    given = JSON.parse(body)
  } catch {
    throw new Refusal(400, 'json_error', 'the body is no JSON')
  }
  const parsed = shape.safeParse(given)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw refuse(`${issue?.path.join('.')}: ${issue?.message}`)
}

/** @param most of a page, by the reference */
export function pageOf<T>(
  all: readonly T[],
  query: ReadonlyMap<string, string>,
  usual: number,
  most: number,
): { readonly items: readonly T[]; readonly page: number; readonly perPage: number; readonly last: number } {
  const number = (name: string, otherwise: number) => {
    const given = query.get(name)
    if (given === undefined) return otherwise
    if (!/^[1-9]\d{0,6}$/.test(given))
      throw new Refusal(400, 'invalid_input', `${name}: expected a number of 1 or more`)
    return Number(given)
  }
  const page = number('page', 1)
  const perPage = number('per_page', usual)
  if (perPage > most) throw new Refusal(422, 'unprocessable_entity', `per_page: ${most} at most`)
  const last = Math.max(1, Math.ceil(all.length / perPage))
  return { items: all.slice((page - 1) * perPage, page * perPage), page, perPage, last }
}
