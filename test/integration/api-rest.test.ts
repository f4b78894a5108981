import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { connect as tcpConnect } from 'node:net'
import { test } from 'node:test'
import { connect as tlsConnect } from 'node:tls'
import request from 'supertest'
import { type Clock, systemClock } from '../../common/clock.ts'
import { OrchestratorError } from '../../common/errors.ts'
import { eventMessages } from '../../orchestrator/api/event-messages.ts'
import { READ_WITHIN_MS } from '../../orchestrator/api/paced-response.ts'
import {
  hostShape,
  instanceDetailShape,
  instanceShape,
  leaseShape,
  listOf,
  templateShape,
} from '../../orchestrator/api/wire.ts'
import type { InstanceId } from '../../orchestrator/domain/instance.ts'
import { makeApiToken, tokenHash } from '../../orchestrator/pki/tokens.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { type TestApi, testApi } from '../support/api.ts'
import { leaseEvent, manualClock } from '../support/fixtures.ts'
import { type OpenStore, onBothStores } from '../support/stores.ts'
import { joinHost } from '../support/test-host.ts'
import { until } from '../support/until.ts'

function get(api: TestApi, path: string, token = api.token) {
  return request(api.url).get(path).ca(api.authority.pem).set('Authorization', `Bearer ${token}`)
}

async function granted(api: TestApi, n: number): Promise<void> {
  await api.intake.applyLeases('h1', [{ event: leaseEvent(n, Date.now()), position: { journal: 'j', offset: n } }])
}

async function numbered(store: Store, from: number, to: number, instance?: string): Promise<void> {
  for (let n = from; n <= to; n++) {
    const about = instance === undefined ? {} : { instance: instance as InstanceId }
    await store.appendEvent({ level: 'info', kind: 'test', message: `event ${n}`, ...about }, Date.now())
  }
}

/** A stream of events as a reader sees it: what has come so far. */
async function openStream(api: TestApi, headers: Record<string, string> = {}, query = '') {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const options = {
      ca: api.authority.pem,
      agent: false as const,
      headers: { Authorization: `Bearer ${api.token}`, Accept: 'text/event-stream', ...headers },
    }
    httpsRequest(`${api.url}/v1/events${query}`, options, resolve).once('error', reject).end()
  })
  const came: string[] = []
  response.setEncoding('utf8')
  const ended = (async () => {
    for await (const { event, data } of eventMessages(response)) {
      came.push(event === 'message' ? (JSON.parse(data) as { message: string }).message : `${event} ${data}`)
    }
  })().catch(() => {})
  return { response, came, ended }
}

onBothStores('the REST API', (open: OpenStore) => {
  test('shows leases, instances, hosts and templates in their fixed shapes', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await joinHost(api, 'h1')
    await granted(api, 1)
    const leases = listOf(leaseShape).parse((await get(api, '/v1/leases').expect(200)).body)
    const instances = listOf(instanceShape).parse((await get(api, '/v1/instances').expect(200)).body)
    const hosts = listOf(hostShape).parse((await get(api, '/v1/hosts').expect(200)).body)
    const templates = listOf(templateShape).parse((await get(api, '/v1/templates').expect(200)).body)
    const [instance] = instances.items
    assert.equal(leases.items[0]?.instance, instance?.id)
    assert.deepEqual([instance?.name, instance?.status, instance?.timelineMs.hook], ['device1', 'waiting', 0])
    assert.deepEqual([hosts.items[0]?.name, hosts.items[0]?.connected], ['h1', false])
    assert.deepEqual([templates.items[0]?.name, templates.items[0]?.instances], ['sample', 1])
  })

  test('finds an instance by id and by name, with its lease and its events', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await granted(api, 1)
    const byName = instanceDetailShape.parse((await get(api, '/v1/instances/device1').expect(200)).body)
    await numbered(store, 1, 2, byName.id)
    const byId = instanceDetailShape.parse((await get(api, `/v1/instances/${byName.id}`).expect(200)).body)
    assert.equal(byId.lease?.address, 'fd00:c::1001')
    assert.deepEqual(
      byId.events.slice(-2).map((event) => event.message),
      ['event 1', 'event 2'],
    )
  })

  test('removing an instance makes it wanted gone; what is not there is not found', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await granted(api, 1)
    const remove = (name: string) =>
      request(api.url).delete(`/v1/instances/${name}`).ca(api.authority.pem).set('Authorization', `Bearer ${api.token}`)
    const answer = await remove('device1').expect(202)
    assert.equal((answer.body as { wanted: string }).wanted, 'gone')
    await remove('device1').expect(202)
    for (const name of ['nobody', 'x'.repeat(300), '%00', "1'%20or%20'1", '..%2f']) await remove(name).expect(404)
  })

  test('answers problems: unknown routes, bad parameters, bad JSON, too much of it', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    const code = (answer: request.Response) => (JSON.parse(answer.text) as { code: string }).code
    assert.equal(code(await get(api, '/v1/nothing').expect(404)), 'not-found')
    assert.equal(code(await request(api.url).get('/elsewhere').ca(api.authority.pem).expect(404)), 'not-found')
    const bad = await get(api, '/v1/events?limit=-1').expect(400)
    assert.equal((JSON.parse(bad.text) as { field: string }).field, 'limit')
    assert.equal(code(await get(api, '/v1/events?limit=1&limit=2').expect(400)), 'invalid-input')
    assert.equal(code(await get(api, '/v1/instances?everything=true').expect(400)), 'invalid-input')
    assert.equal(code(await get(api, '/v1/instances/%E0%A4%A').expect(400)), 'bad-request')
    const post = (body: string) =>
      request(api.url)
        .post('/v1/join-tokens')
        .ca(api.authority.pem)
        .set('Authorization', `Bearer ${api.token}`)
        .set('Content-Type', 'application/json')
        .send(body)
    assert.equal(code(await post('{garbage').expect(400)), 'bad-request')
    assert.equal(code(await post('{"validSeconds":1}').expect(400)), 'invalid-input')
    assert.equal(code(await post(`{"host":"${'x'.repeat(70_000)}"}`).expect(413)), 'body-too-large')
    const { headers } = await get(api, '/v1/hosts')
    assert.equal(headers['x-powered-by'], undefined)
    assert.equal(headers['x-content-type-options'], 'nosniff')
  })

  test('a failure that nobody foresaw tells a stranger nothing of the inside', async () => {
    const { store } = await open()
    const broken = Object.create(store, {
      hosts: { value: () => Promise.reject(new Error('password=secret')) },
    }) as Store
    await using api = await testApi({ store: bound(store, broken) })
    const answer = await get(api, '/v1/hosts').expect(500)
    assert.doesNotMatch(answer.text, /secret/)
  })

  test('lets nobody in without a valid token', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    const expired = makeApiToken()
    await store.putToken({ hash: tokenHash(expired), kind: 'api', host: null, expiresAt: Date.now() - 1, usedAt: null })
    const join = makeApiToken()
    await store.putToken({ hash: tokenHash(join), kind: 'join', host: null, expiresAt: null, usedAt: null })
    for (const token of ['', 'x', expired, join, makeApiToken(), `${api.token}x`, tokenHash(api.token)]) {
      await get(api, '/v1/instances', token).expect(401).expect('WWW-Authenticate', 'Bearer')
    }
    await request(api.url).get('/v1/instances').ca(api.authority.pem).expect(401)
    await request(api.url).post('/v1/join-tokens').ca(api.authority.pem).send('{garbage').expect(401)
    await get(api, '/v1/instances').expect(200)
  })

  test('who fails too often has to wait, but not a neighbour whose token was good', async () => {
    const { store } = await open()
    const clock = { ...systemClock, now: manualClock(Date.now()).now }
    await using api = await testApi({ store, clock })
    await get(api, '/v1/hosts').expect(200)
    for (let n = 0; n < 20; n++) await get(api, '/v1/hosts', 'wrong').expect(401)
    await get(api, '/v1/hosts', 'wrong').expect(429).expect('Retry-After', '60')
    await get(api, '/v1/hosts').expect(200)
  })

  test('tells the truth of its health', async () => {
    const { store } = await open()
    let writable = true
    const check = async () => {
      if (!writable) throw new OrchestratorError('store-failed', 'the disk is full', { retryable: true })
      await store.check()
    }
    await using api = await testApi({ store: bound(store, Object.create(store, { check: { value: check } }) as Store) })
    const ask = (path: string) => request(api.url).get(path).ca(api.authority.pem)
    await ask('/healthz').expect(200)
    await ask('/readyz').expect(200, { status: 'ready' })
    writable = false
    const answer = await until('it is not ready', async () => {
      const got = await ask('/readyz')
      return got.status === 503 && got
    })
    assert.deepEqual(answer.body, { status: 'not-ready', code: 'store-failed', reason: 'the disk is full' })
    await ask('/healthz').expect(200)
    const metrics = await ask('/metrics').expect(200)
    assert.match(metrics.text, /orchestrator_http_requests_total\{method="GET",route="\/readyz",status="503"\} \d/)
    assert.match(metrics.text, /orchestrator_hosts_connected 0/)
  })

  test('a join token comes with the line to paste, and its secret is not stored', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    const { body } = await request(api.url)
      .post('/v1/join-tokens')
      .ca(api.authority.pem)
      .set('Authorization', `Bearer ${api.token}`)
      .send({ host: 'h1', validSeconds: 60 })
      .expect(201)
    const { token, command } = body as { token: string; command: string }
    assert.equal(command, `unionize join --server https://localhost:${api.api.port} --host-name h1 --token ${token}`)
    assert.ok(token.endsWith(api.authority.fingerprint))
    assert.equal((await store.token(tokenHash(token)))?.host, 'h1')
    assert.equal(await store.token(token), null)
  })

  test('speaks TLS 1.3 only', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    const handshake = (maxVersion: 'TLSv1.2' | 'TLSv1.3') =>
      new Promise<string | null>((resolve, reject) => {
        const socket = tlsConnect({ port: api.api.port, host: '127.0.0.1', ca: api.authority.pem, maxVersion }, () => {
          resolve(socket.getProtocol())
          socket.destroy()
        })
        socket.once('error', reject)
      })
    assert.equal(await handshake('TLSv1.3'), 'TLSv1.3')
    await assert.rejects(handshake('TLSv1.2'))
  })

  test('passes on what an instance prints, and says why it cannot', async () => {
    const { store } = await open()
    await using api = await testApi({
      store,
      async *logs(instance, options) {
        if (options.service === 'absent')
          throw new OrchestratorError('host-unreachable', 'h1 is away', { retryable: true })
        yield `${instance.name} ${options.tail}\n`
        yield 'second\n'
      },
    })
    await granted(api, 1)
    const answer = await get(api, '/v1/instances/device1/logs?tail=7')
      .expect(200)
      .expect('Content-Type', /text\/plain/)
    assert.equal(answer.text, 'device1 7\nsecond\n')
    await get(api, '/v1/instances/device1/logs?service=absent').expect(503)
    await get(api, '/v1/instances/device1/logs?service=my_db').expect(200)
    await get(api, '/v1/instances/device1/logs?service=-x').expect(400)
    await get(api, '/v1/instances/nobody/logs').expect(404)
  })
})

onBothStores('the event stream', (open: OpenStore) => {
  test('gives each event once, in order, and resumes after the last one seen', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await numbered(store, 1, 3)
    const all = await store.events({ limit: 1000, after: 0 })
    const stream = await openStream(api, {}, '?limit=2')
    await until('the last two came', () => stream.came.length === 2)
    await numbered(store, 4, 700)
    await until('all came', () => stream.came.length === 699)
    assert.deepEqual(
      stream.came,
      Array.from({ length: 699 }, (_, i) => `event ${i + 2}`),
    )
    stream.response.destroy()
    const id = (all.at(-1)?.id ?? 0) + 690
    const resumed = await openStream(api, { 'Last-Event-ID': String(id) })
    await until('the rest came', () => resumed.came.length >= 7)
    assert.deepEqual(
      resumed.came,
      Array.from({ length: 7 }, (_, i) => `event ${i + 694}`),
    )
    resumed.response.destroy()
  })

  test('tells of events that are no longer kept', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await numbered(store, 1, 30)
    const first = (await store.events({ limit: 1, after: 0 }))[0]?.id ?? 0
    await store.prune(5, Date.now())
    const stream = await openStream(api, { 'Last-Event-ID': String(first) })
    await until('the kept ones came', () => stream.came.length === 6)
    assert.match(stream.came[0] ?? '', /^gap \{"after":\d+,"oldest":\d+\}$/)
    assert.equal(stream.came[1], 'event 26')
    stream.response.destroy()
  })

  test('gives only those of one instance when asked', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await granted(api, 1)
    const [instance] = await store.instances()
    const stream = await openStream(api, {}, '?instance=device1')
    await numbered(store, 1, 1)
    await numbered(store, 2, 2, instance?.id)
    await numbered(store, 3, 3)
    await numbered(store, 4, 4, instance?.id)
    await until('both came', () => stream.came.length === 2)
    assert.deepEqual(stream.came, ['event 2', 'event 4'])
    stream.response.destroy()
  })

  test('keeps the order also when the later event is committed first', async () => {
    const { store, url } = await open()
    let looks = 0
    const events: Store['events'] = (page) => {
      if (page.after !== undefined) looks++
      return store.events(page)
    }
    await using api = await testApi({
      store: bound(store, Object.create(store, { events: { value: events } }) as Store),
    })
    await numbered(store, 1, 1)
    const stream = await openStream(api, { 'Last-Event-ID': '0' })
    await until('the first came', () => stream.came.length === 1)
    const { promise: gate, resolve: release } = Promise.withResolvers<void>()
    const { promise: written, resolve: write } = Promise.withResolvers<void>()
    const early = store.transaction(async (tx) => {
      await tx.appendEvent({ level: 'info', kind: 'test', message: 'event 2' }, Date.now())
      write()
      await gate
    })
    await written
    const late = numbered(store, 3, 3)
    try {
      if (url.startsWith('postgres')) {
        await late
        const seen = looks
        await until('the stream has looked', () => looks >= seen + 3)
      }
      assert.deepEqual(stream.came, ['event 1'])
    } finally {
      release()
      await Promise.all([early, late])
    }
    await until('both came', () => stream.came.length === 3)
    assert.deepEqual(stream.came, ['event 1', 'event 2', 'event 3'])
    stream.response.destroy()
  })

  test('ends when the orchestrator stops, whoever else is connected', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    const stream = await openStream(api)
    const mute = tcpConnect({ port: api.api.port, host: '127.0.0.1' })
    await once(mute, 'connect')
    const gone = once(mute, 'close')
    mute.on('error', () => {})
    const begun = performance.now()
    await api.api.stop()
    await Promise.all([stream.ended, gone])
    assert.ok(performance.now() - begun < 30_000)
  })

  test('disconnects a reader that does not read, and keeps the others', async () => {
    const { store } = await open()
    const patience = manualClock()
    const clock: Clock = {
      ...systemClock,
      wait: (ms, signal) => (ms === READ_WITHIN_MS ? patience : systemClock).wait(ms, signal),
    }
    await using api = await testApi({ store, clock })
    const slow = await openStream(api)
    const good = await openStream(api)
    slow.response.pause()
    slow.response.socket.pause()
    const closed = new Promise((resolve) => slow.response.socket.once('close', resolve))
    const message = 'x'.repeat(60_000)
    let sent = 0
    await until(
      'the slow reader is cut off',
      async () => {
        for (let n = 0; n < 20; n++, sent++)
          await store.appendEvent({ level: 'info', kind: 'test', message }, Date.now())
        await until('the good reader has all', () => good.came.length === sent)
        // Its own waits never last from one round to the next, so half of the time never becomes all of it.
        patience.advance(READ_WITHIN_MS / 2)
        const { text } = await request(api.url).get('/metrics').ca(api.authority.pem)
        return /orchestrator_slow_readers_total 1/.test(text)
      },
      { deadlineMs: 90_000 },
    )
    await until('the good reader has all', () => good.came.length === sent)
    slow.response.socket.resume()
    slow.response.resume()
    await closed
    good.response.destroy()
  })
})

/** A store whose methods are those of `changed` where it has its own, and work on `store`'s private parts otherwise. */
function bound(store: Store, changed: Store): Store {
  return new Proxy(store, {
    get(target, name) {
      if (Object.hasOwn(changed, name)) return Reflect.get(changed, name) as unknown
      const value: unknown = Reflect.get(target, name)
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
}
