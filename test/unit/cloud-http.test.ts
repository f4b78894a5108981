import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, beforeEach, describe, it } from 'node:test'
import { HostUnreachable, NoRoom, OrchestratorError, wording } from '../../common/errors.ts'
import { type Call, createHttp, type HttpOptions, Refused, retryAfter } from '../../orchestrator/backends/cloud/http.ts'
import { createPace } from '../../orchestrator/backends/cloud/pace.ts'
import { manualClock } from '../support/fixtures.ts'

type Handler = (request: IncomingMessage, response: ServerResponse) => void

const never = new AbortController().signal
let handler: Handler = (_, response) => response.end()
let seen: string[] = []
const server = createServer((request, response) => {
  seen.push(`${request.method} ${request.url}`)
  handler(request, response)
})
let base = ''

before(async () => {
  await new Promise<void>((resolve) => server.listen(0, '::1', resolve))
  base = `http://[::1]:${(server.address() as AddressInfo).port}`
})
beforeEach(() => {
  seen = []
})
after(() => {
  server.closeAllConnections()
  server.close()
})

/** Pauses pass at once; `paused` tells how long they would have been. */
function client(options: Partial<HttpOptions> = {}) {
  const paused: number[] = []
  const now = 1_800_000_000_000
  const clock = {
    now: () => now + paused.reduce((sum, ms) => sum + ms, 0),
    async wait(ms: number) {
      paused.push(ms)
    },
  }
  const http = createHttp({ target: 'paris', clock, pace: createPace(1000, clock), ...options })
  const send = (call: Partial<Call> = {}, signal = never) =>
    http.send({ method: 'GET', url: `${base}/x`, ...call }, signal)
  return { send, paused }
}

const answers = (status: number, body: unknown = '', headers: Record<string, string> = {}): Handler => {
  return (_, response) => {
    response.writeHead(status, headers).end(typeof body === 'string' ? body : JSON.stringify(body))
  }
}
const code = (expected: string) => (error: unknown) => error instanceof OrchestratorError && error.code === expected

describe('the client of clouds', () => {
  it('sends JSON and reads JSON, and gives a text where there is none', async () => {
    handler = (request, response) => {
      const type = request.headers['content-type'] ?? 'none'
      request.pipe(response.writeHead(202, { 'x-type': type }))
    }
    const { send } = client()
    const answer = await send({ method: 'POST', body: { a: [1, 'é'] } })
    assert.deepEqual(
      [answer.status, answer.body, answer.headers.get('x-type')],
      [202, { a: [1, 'é'] }, 'application/json'],
    )
    handler = answers(200, '<html>')
    assert.equal((await send()).body, '<html>')
    handler = answers(204)
    assert.equal((await send()).body, null)
  })

  it('tells apart what a refusal means', async () => {
    const { send } = client()
    handler = answers(401, { error: { message: 'no such user' } })
    await assert.rejects(send(), code('credential-refused'))
    handler = answers(403, { forbidden: { message: "Policy doesn't allow servers:create" } })
    await assert.rejects(send(), (error) => code('not-permitted')(error) && /servers:create/.test(wording(error)))
    handler = answers(404, { itemNotFound: { code: 404, message: 'no server x' } })
    await assert.rejects(
      send(),
      (error) => error instanceof Refused && error.status === 404 && error.said === 'no server x',
    )
    handler = answers(300, {}, { location: `${base}/elsewhere` })
    await assert.rejects(send(), Refused)
    assert.ok(!seen.includes('GET /elsewhere'), 'a token follows no redirect')
    const quota = client({ explain: (refused) => (refused.status === 403 ? new NoRoom(refused.said) : null) })
    handler = answers(403, { forbidden: { message: 'Quota exceeded' } })
    await assert.rejects(quota.send(), NoRoom)
  })

  it('repeats what may be repeated when nothing answers, and nothing else', async () => {
    const { send, paused } = client()
    let left = 2
    handler = (request, response) => (left-- > 0 ? request.socket.destroy() : answers(200, {})(request, response))
    await send()
    assert.deepEqual([seen.length, paused], [3, [250, 1000]])
    left = 1
    await assert.rejects(send({ method: 'POST' }), HostUnreachable)
    assert.equal(seen.length, 4)
    left = 1
    await send({ method: 'POST', repeatable: true })
    assert.equal(seen.length, 6)
    handler = answers(503, 'later')
    await assert.rejects(send(), (error) => error instanceof HostUnreachable && /503: later/.test(error.message))
    assert.equal(seen.length, 9)
  })

  it('holds all calls back as long as the provider says, in seconds, a date, or its own header', async () => {
    const date = new Date(1_800_000_000_000 + 90_000).toUTCString()
    for (const [headers, ms] of [
      [{ 'retry-after': '7' }, 7000],
      [{ 'retry-after': date }, 90_000],
      [{}, 10_000],
    ] as const) {
      const { send } = client()
      seen = []
      handler = answers(429, 'slow down', headers)
      const limited = (error: unknown) =>
        code('rate-limited')(error) && (error as OrchestratorError).retryAfterMs === ms
      await assert.rejects(send(), limited)
      await assert.rejects(send(), limited)
      assert.equal(seen.length, 1, 'the second one is not even sent')
    }
    const own = client({ hint: (headers) => (headers.get('ratelimit-remaining') === '0' ? 3000 : null) })
    handler = answers(200, {}, { 'ratelimit-remaining': '0' })
    await own.send()
    await assert.rejects(own.send(), code('rate-limited'))
    assert.equal(retryAfter(new Headers({ 'retry-after': 'soon' }), 0), null)
  })

  it('gives up on silence, on what is too long, and when it is told to', async () => {
    const { send, paused } = client({ answerMs: 50 })
    handler = () => {}
    await assert.rejects(
      send(),
      (error) => error instanceof HostUnreachable && /no answer within 50 ms/.test(error.message),
    )
    assert.equal(paused.length, 2)
    const enough = new AbortController()
    handler = () => enough.abort(new Error('enough'))
    await assert.rejects(client().send({}, enough.signal), /enough/)
    handler = (_, response) => {
      const part = Buffer.alloc(1 << 20, 'x')
      const more = () => {
        while (response.writable && response.write(part));
      }
      response.on('drain', more)
      more()
    }
    await assert.rejects(client().send({ method: 'POST' }), /more than 8388608 bytes/)
  })

  it('says nothing of a token, even when the provider does', async () => {
    const token = 'gAAAA-very-secret'
    for (const status of [400, 401, 403, 500]) {
      handler = answers(status, { error: { message: `token ${token} is bad` } })
      for (const headers of [{ 'x-auth-token': token }, { authorization: `Bearer ${token}` }]) {
        await assert.rejects(client().send({ method: 'POST', headers }), (error) => {
          assert.ok(!wording(error).includes(token) && wording(error).includes('***'), wording(error))
          return true
        })
      }
    }
    const password = 'correct horse battery'
    const body = { auth: { identity: { password: { user: { name: 'me', password } } } } }
    for (const told of [{ error: { message: `no user ${password}` } }, { quoted: 'x'.repeat(475) + password }]) {
      handler = answers(400, told)
      await assert.rejects(client().send({ method: 'POST', body }), (error) => !wording(error).includes('correct'))
    }
    handler = (request) => request.socket.destroy()
    const secret = `${base}/x?signature=abc`
    await assert.rejects(client().send({ method: 'POST', url: secret }), (error) => !wording(error).includes('abc'))
  })
})

describe('the pace of an account', () => {
  it('lets so many calls pass at once as come in a second, and then one after the other', async () => {
    const clock = manualClock()
    const pace = createPace(2, clock)
    const passed: number[] = []
    const start = clock.now()
    const all = [1, 2, 3, 4].map(() => pace.turn(never).then(() => void passed.push(clock.now() - start)))
    for (let step = 0; step < 4; step++) {
      await new Promise(setImmediate)
      clock.advance(250)
    }
    await Promise.all(all)
    assert.deepEqual(passed, [0, 0, 500, 1000])
    const enough = new AbortController()
    clock.advance(60_000)
    await Promise.all([pace.turn(never), pace.turn(never)])
    const waiting = pace.turn(enough.signal)
    enough.abort(new Error('enough'))
    await assert.rejects(waiting, /enough/)
  })
})
