import assert from 'node:assert/strict'

/** One call of an HTTP API and its answer, without secrets. */
export interface Exchange {
  readonly method: string
  /** With its query; the host is that of a name that exists nowhere. */
  readonly url: string
  readonly request?: unknown
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly answer: unknown
}

/** Names of headers that our clients read. */
const HEADERS = ['x-subject-token', 'retry-after']

/** What must not get into a file that everybody reads, and what stands there instead. */
export interface Veil {
  /** Texts and their stand-ins, wherever they occur. */
  readonly texts: readonly (readonly [string, string])[]
  /** Keys whose values are no part of what is promised: each becomes `<key>`. */
  readonly keys: readonly string[]
}

/** Runs `work` with a `fetch` that writes down all that passes. */
export async function recorded(veil: () => Veil, work: () => Promise<void>): Promise<readonly Exchange[]> {
  const real = globalThis.fetch
  const all: { method: string; url: string; request: string; status: number; headers: Headers; answer: string }[] = []
  globalThis.fetch = async (input, init) => {
    const response = await real(input, init)
    const answer = await response.text()
    const { status, headers } = response
    all.push({ ...described(input, init), status, headers, answer })
    return new Response(status === 204 ? null : answer, { status, headers })
  }
  try {
    await work()
  } finally {
    globalThis.fetch = real
  }
  // Tokens are known only now: one may stand in an answer before the header that names it.
  const tokens = all.flatMap(({ headers }) => headers.get('x-subject-token') ?? [])
  const { texts, keys } = veil()
  const more = tokens.map((token, at) => [token, `TOKEN-${at + 1}`] as const)
  const clean = (text: string) => [...texts, ...more].reduce((rest, [from, to]) => rest.replaceAll(from, to), text)
  return all.map(({ method, url, request, status, headers, answer }) => ({
    ...{ method, url: clean(url) },
    ...(request !== '' && { request: json(clean(request), keys) }),
    status,
    headers: Object.fromEntries(
      HEADERS.flatMap((name) => (headers.has(name) ? [[name, clean(headers.get(name) ?? '')]] : [])),
    ),
    answer: json(clean(answer), keys),
  }))
}

/**
 * Runs `work` with a `fetch` that knows these exchanges alone, in their order: a call that is another than the next one
 * fails, and all must have come in the end.
 */
export async function replayed(exchanges: readonly Exchange[], keys: readonly string[], work: () => Promise<void>) {
  const real = globalThis.fetch
  let at = 0
  let wrong: unknown
  globalThis.fetch = async (input, init) => {
    const next = exchanges[at++]
    const { request, ...called } = described(input, init)
    try {
      assert.deepEqual(
        { ...called, request: request === '' ? undefined : json(request, keys) },
        {
          ...{ method: next?.method, url: next?.url, request: next?.request },
        },
      )
    } catch (error) {
      wrong ??= error
      throw error
    }
    const { status = 500, headers = {}, answer } = next ?? {}
    const text = typeof answer === 'string' ? answer : JSON.stringify(answer)
    return new Response(status === 204 ? null : text, { status, headers })
  }
  try {
    await work().catch((error: unknown) => {
      throw wrong ?? error
    })
  } finally {
    globalThis.fetch = real
  }
  if (wrong !== undefined) throw wrong
  assert.equal(at, exchanges.length, 'not all calls came that were recorded')
}

function described(input: Parameters<typeof fetch>[0], init?: RequestInit) {
  assert.ok(typeof input === 'string')
  const body = init?.body ?? ''
  assert.ok(typeof body === 'string')
  return { method: init?.method ?? 'GET', url: input, request: body }
}

function json(text: string, keys: readonly string[]): unknown {
  if (!/^[[{]/.test(text)) return text
  return JSON.parse(text, (key, value) => (keys.includes(key) ? `<${key}>` : value))
}
