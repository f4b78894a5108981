import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { test } from 'node:test'
import request from 'supertest'
import { systemClock } from '../../common/clock.ts'
import { HostUnreachable, OrchestratorError } from '../../common/errors.ts'
import { HostRequests } from '../../orchestrator/api/hosts/requests.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { openAuthority } from '../../orchestrator/pki/authority.ts'
import type { FromHost } from '../../unionize/contract.ts'
import { testApi } from '../support/api.ts'
import { silent } from '../support/fixtures.ts'
import { order } from '../support/orders.ts'
import { type OpenStore, onBothStores } from '../support/stores.ts'
import { joinHost, joinToken, keyAndRequest, TestHost } from '../support/test-host.ts'
import { until } from '../support/until.ts'

const h1 = 'h1' as HostName
const never = new AbortController().signal

function leases(id: string, n: number, change: object = {}): Extract<FromHost, { type: 'leases' }> {
  return {
    type: 'leases',
    id,
    items: [
      {
        type: 'event',
        kind: 'granted',
        lease: {
          owner: { duid: `00:03:00:01:02:00:00:00:00:${n.toString(16).padStart(2, '0')}`, iaid: n },
          address: `fd00:c::${n.toString(16)}`,
          expiresAt: Date.now() + 3_600_000,
          facts: { hostname: `device${n}` },
          ...change,
        },
        position: { journal: 'j', offset: n * 100 },
        hookAt: Date.now(),
      },
    ],
  }
}

onBothStores('the hosts join and connect', (open: OpenStore) => {
  test('a host that joined is welcomed, shown as connected, and as away when it leaves', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    const credentials = await joinHost(api, 'h1')
    {
      await using host = await TestHost.connect(api, credentials)
      assert.deepEqual(await store.host(h1).then((found) => found?.connected), true)
      assert.equal((await store.host(h1))?.facts.engine, 'test')
      host.socket.close()
    }
    await until('it is shown as away', async () => (await store.host(h1))?.connected === false)
    await until('that was told', () => api.news.at(-1) === 'h1 disconnected')
    assert.deepEqual(api.news, ['h1 connected', 'h1 disconnected'])
  })

  test('leases are stored before they are acknowledged, in the order in which they came', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await using host = await TestHost.connect(api, await joinHost(api, 'h1'))
    for (let n = 1; n <= 150; n++) host.send(leases(`m${n}`, n))
    for (let n = 1; n <= 150; n++) {
      assert.equal((await host.next('stored')).id, `m${n}`)
      if (n % 50 === 0) assert.ok((await store.leases()).length >= n)
    }
    assert.equal((await store.leases()).length, 150)
    assert.equal((await store.instances({ live: true })).length, 150)
  })

  test('an event with a bad DUID becomes a refused one, and the rest of its batch is stored', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await using host = await TestHost.connect(api, await joinHost(api, 'h1'))
    const bad = leases('m1', 1, { owner: { duid: 'zz\u0000"<script>', iaid: 1 } })
    const far = leases('m1', 2, { expiresAt: Number.MAX_SAFE_INTEGER })
    host.send({ ...bad, items: [...bad.items, ...far.items, ...leases('m1', 3).items] })
    await host.next('stored')
    assert.equal((await store.leases()).length, 1)
    const events = await store.events({ limit: 100 })
    const refused = events.filter((event) => event.kind === 'lease.event-refused')
    assert.equal(refused.length, 2)
    assert.match(refused[0]?.message ?? '', /lease\.owner\.duid/)
    assert.match(refused[1]?.message ?? '', /lease\.expiresAt/)
  })

  test('what cannot be stored is held and tried again, never dropped', async () => {
    const { store } = await open()
    let failures = 3
    await using api = await testApi({
      store,
      intake: (real) => ({
        ...real,
        async applyLeases(source, items) {
          if (failures-- > 0) throw new OrchestratorError('store-failed', 'disk full', { retryable: true })
          await real.applyLeases(source, items)
        },
      }),
    })
    await using host = await TestHost.connect(api, await joinHost(api, 'h1'))
    host.send(leases('m1', 1))
    assert.equal((await host.next('stored')).id, 'm1')
    assert.equal((await store.leases()).length, 1)
  })

  test('a table sent in parts ends the leases that it lacks', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await using host = await TestHost.connect(api, await joinHost(api, 'h1'))
    host.send(leases('m1', 1))
    host.send(leases('m2', 2))
    const readAt = Date.now() + 60_000
    const [first, second] = [3, 4].map((n) => leases('x', n).items[0])
    assert.ok(first?.type === 'event' && second?.type === 'event')
    host.send({ type: 'snapshot', id: 's', readAt, part: 0, last: false, leases: [first.lease] })
    host.send({ type: 'snapshot', id: 's', readAt, part: 1, last: true, leases: [second.lease] })
    await until('the table is acknowledged', () => host.received.some((m) => m.type === 'stored' && m.id === 's'))
    const active = await store.leases({ state: 'active' })
    assert.deepEqual(active.map((lease) => lease.address).sort(), ['fd00:c::3', 'fd00:c::4'])
  })

  test('each order goes to its host and comes back with what was observed', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await using host = await TestHost.connect(api, await joinHost(api, 'h1'))
    const wire = { ...order(1), services: [], capabilities: [] } as never
    const answer = api.hosts.ensure(h1, wire, never)
    const asked = await host.next('ensure')
    const observed = { instance: 'i-test1', generation: 1, state: 'running', address: 'fd00:1::1001' } as const
    host.send({ type: 'result', id: asked.id, observed: [observed] })
    assert.deepEqual(await answer, observed)
  })

  test('a failure on the host keeps its code and whether it can be tried again', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await using host = await TestHost.connect(api, await joinHost(api, 'h1'))
    const answer = api.hosts.remove(h1, 'i-test1', 1, never)
    const { id } = await host.next('remove')
    host.send({ type: 'result', id, failure: { code: 'stale-generation', message: 'newer\u0000', retryable: false } })
    await assert.rejects(answer, { code: 'stale-generation', retryable: false, message: 'newer\ufffd' })
  })

  test('a given-up order is cancelled on the host, whose late answer does no harm', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await using host = await TestHost.connect(api, await joinHost(api, 'h1'))
    const giveUp = new AbortController()
    const answer = api.hosts.list(h1, giveUp.signal)
    const { id } = await host.next('list')
    giveUp.abort(new Error('too long'))
    await assert.rejects(answer, /too long/)
    assert.equal((await host.next('cancel')).id, id)
    host.send({ type: 'result', id, observed: [] })
    host.send(leases('m1', 1))
    await host.next('stored')
  })

  test('a host whose time is up still tells what it was waiting for, or that it is done', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await using host = await TestHost.connect(api, await joinHost(api, 'h1'))
    /** By a host that answers at once when it is told that its time is up. */
    const late = (result: object) => {
      const requests = new HostRequests('h1', (message) => {
        if (message.type !== 'cancel') return
        queueMicrotask(() => requests.answered({ type: 'result', id: message.id, ...result }))
      })
      return requests.ask({ type: 'list' }, AbortSignal.timeout(1)).catch((error: unknown) => error)
    }
    const failure = { code: 'interrupted', message: 'service web waits for db to be healthy', retryable: true }
    const told = await late({ failure })
    assert.ok(told instanceof OrchestratorError)
    assert.deepEqual([told.code, told.message], ['interrupted', 'service web waits for db to be healthy'])
    assert.deepEqual(await late({ observed: [] }), [])
    const silent = await late({ failure: { code: 'cancelled', message: 'cancelled', retryable: true } })
    assert.ok(silent instanceof DOMException && silent.name === 'TimeoutError')
    // One that says nothing at all is given up; its later answer does no harm.
    const answer = api.hosts.list(h1, AbortSignal.timeout(1))
    await assert.rejects(answer, { name: 'TimeoutError' })
    host.send({ type: 'result', id: (await host.next('cancel')).id, observed: [] })
    host.send(leases('m1', 1))
    await host.next('stored')
  })

  test('orders are refused when the host is away, and rejected when it goes', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    const credentials = await joinHost(api, 'h1')
    await assert.rejects(api.hosts.list(h1, never), HostUnreachable)
    await using host = await TestHost.connect(api, credentials)
    const answer = api.hosts.list(h1, never)
    await host.next('list')
    host.socket.terminate()
    await assert.rejects(answer, HostUnreachable)
  })

  test('logs come in order and end; a reader that leaves cancels them', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await using host = await TestHost.connect(api, await joinHost(api, 'h1'))
    const read = async () => {
      const texts: string[] = []
      for await (const text of api.hosts.logs(h1, 'i-test1', { tail: 5, follow: false }, never)) texts.push(text)
      return texts
    }
    const all = read()
    const { id, tail } = await host.next('logs')
    assert.equal(tail, 5)
    for (const text of ['a', 'b', 'c']) host.send({ type: 'output', id, text })
    host.send({ type: 'result', id })
    assert.deepEqual(await all, ['a', 'b', 'c'])

    const iterator = api.hosts.logs(h1, 'i-test1', { tail: 5, follow: true }, never)[Symbol.asyncIterator]()
    const first = iterator.next()
    const second = await host.next('logs')
    host.send({ type: 'output', id: second.id, text: 'x' })
    assert.equal((await first).value, 'x')
    await iterator.return?.()
    assert.equal((await host.next('cancel')).id, second.id)
  })

  test('observations, notices and counts reach whoever listens', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await using host = await TestHost.connect(api, await joinHost(api, 'h1'))
    host.send({
      type: 'observed',
      observed: { instance: 'i-test1', generation: 1, state: 'partial', address: 'FD00:1:0::5', detail: 'web died' },
    })
    host.send({ type: 'notice', level: 'warning', code: 'lease-table-nearly-full', message: '90 %' })
    host.send({ type: 'dropped', packets: { mac: 7, egress: 1 } })
    await until('all came', () => api.dropped.length === 1)
    assert.equal(api.observed[0]?.address, 'fd00:1::5')
    assert.equal(api.notices[0]?.code, 'lease-table-nearly-full')
    assert.deepEqual(api.dropped, [['h1', { mac: 7, egress: 1 }]])
  })

  test('the newer connection of a host wins, the older one is told so', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    const credentials = await joinHost(api, 'h1')
    await using older = await TestHost.connect(api, credentials)
    const lost = assert.rejects(api.hosts.list(h1, never), HostUnreachable)
    await older.next('list')
    await using newer = await TestHost.connect(api, credentials)
    assert.equal((await older.closed).code, 4001)
    await lost
    assert.deepEqual([(await store.host(h1))?.connected, (await store.host(h1))?.epoch], [true, 2])
    const answer = api.hosts.list(h1, never)
    host(newer, await newer.next('list'))
    assert.deepEqual(await answer, [])
    function host(end: TestHost, asked: { id: string }) {
      end.send({ type: 'result', id: asked.id, observed: [] })
    }
  })

  test('a host that falls silent is cut off', async () => {
    const { store } = await open()
    await using api = await testApi({ store, livenessMs: 50 })
    await using host = await TestHost.connect(api, await joinHost(api, 'h1'))
    host.socket.pause()
    await until('it is shown as away', async () => (await store.host(h1))?.connected === false)
  })

  test('a stop closes every connection with its reason and leaves no host connected', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await using host = await TestHost.connect(api, await joinHost(api, 'h1'))
    await api.api.stop()
    assert.equal((await host.closed).code, 1001)
    assert.equal((await store.host(h1))?.connected, false)
  })

  test('who is not a host that joined is refused, with the reason', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    const credentials = await joinHost(api, 'h1')
    await assert.rejects(TestHost.open(api, {}), /401 certificate-missing/)

    const directory = mkdtempSync('/tmp/orchestrator-foreign-')
    try {
      const foreign = await openAuthority({ directory, clock: systemClock, log: silent })
      const { key, csr } = await keyAndRequest()
      const { certificate } = await foreign.signHost(csr, 'h1')
      await assert.rejects(TestHost.open(api, { key, cert: certificate }), /403 certificate-refused/)
    } finally {
      rmSync(directory, { recursive: true })
    }

    const { key, csr } = await keyAndRequest()
    const unknown = await api.authority.signHost(csr, 'h2')
    await assert.rejects(TestHost.open(api, { key, cert: unknown.certificate }), /403 host-unknown/)
    const sameName = await api.authority.signHost(csr, 'h1')
    await assert.rejects(TestHost.open(api, { key, cert: sameName.certificate }), /403 certificate-replaced/)
    await assert.rejects(TestHost.open(api, credentials, '/v1/elsewhere'), /404 not-found/)
    await using good = await TestHost.open(api, credentials)
    assert.ok(good)
  })

  test("a server's own certificate opens no host socket", async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await joinHost(api, 'h1')
    const { readFileSync } = await import('node:fs')
    const key = readFileSync(`${api.directory}/server.key`, 'utf8')
    const cert = readFileSync(`${api.directory}/server.crt`, 'utf8')
    await assert.rejects(TestHost.open(api, { key, cert }), /403/)
  })

  test('broken messages close the connection and say why', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    const credentials = await joinHost(api, 'h1')
    const cases: [string, (host: TestHost) => void, RegExp][] = [
      ['no JSON', (host) => host.socket.send('{nonsense'), /1008 expected JSON/],
      ['binary', (host) => host.socket.send(Buffer.from('{}')), /1008 expected text/],
      ['an unknown type', (host) => host.socket.send('{"type":"explode"}'), /1008 /],
      ['a missing field', (host) => host.socket.send('{"type":"leases","id":"x"}'), /1008 items: /],
      ['an answer that nobody asked for', (host) => host.send({ type: 'result', id: 'zzz' }), /1008 nobody asked zzz/],
      ['hello again', (host) => host.hello(), /1008 hello came twice/],
      [
        'a part out of turn',
        (host) => host.send({ type: 'snapshot', id: 's', readAt: 0, part: 1, last: true, leases: [] }),
        /1008 part 1 of snapshot s came out of turn/,
      ],
      ['5 MiB', (host) => host.socket.send('x'.repeat(5 * 1024 * 1024)), /1009|1006/],
    ]
    for (const [what, act, expected] of cases) {
      await using host = await TestHost.connect(api, credentials)
      act(host)
      const { code, reason } = await host.closed
      assert.match(`${code} ${reason}`, expected, what)
    }
  })

  test('a wrong protocol version is refused before anything else, naming both', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    const credentials = await joinHost(api, 'h1')
    await using host = await TestHost.open(api, credentials)
    host.hello(99)
    const { code, reason } = await host.closed
    assert.equal(code, 4000)
    assert.match(reason, /speaks protocol 3, unionize speaks 99/)
    assert.equal((await store.host(h1))?.connected, false)
    await using again = await TestHost.open(api, credentials)
    again.hello(99)
    await again.closed
    assert.equal(api.notices.length, 1, 'operators are told once')
    assert.match(api.notices[0]?.message ?? '', /unionize speaks 99; install the same version/)
  })

  test('leases before hello are refused', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await using host = await TestHost.open(api, await joinHost(api, 'h1'))
    host.send(leases('m1', 1))
    assert.equal((await host.closed).code, 1008)
    assert.equal((await store.leases()).length, 0)
  })
})

onBothStores('a join token', (open: OpenStore) => {
  const join = async (api: Awaited<ReturnType<typeof testApi>>, token: string, host = 'h1', csr?: string) => {
    const body = { token, host, csr: csr ?? (await keyAndRequest()).csr }
    const { status, body: answer } = await request(api.url).post('/v1/hosts/join').ca(api.authority.pem).send(body)
    return `${status} ${(answer as { code?: string }).code ?? 'ok'}`
  }

  test('works once, also when it is used twice at the same time', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    const token = await joinToken(api)
    const answers = await Promise.all([1, 2, 3, 4].map((n) => join(api, token, `h${n}`)))
    assert.deepEqual(answers.sort(), ['201 ok', '403 token-used', '403 token-used', '403 token-used'])
    assert.equal((await store.hosts()).length, 1)
    assert.equal(await join(api, token), '403 token-used')
  })

  test('is refused when it has expired, is for another host, of another orchestrator, unknown, or garbage', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    assert.equal(await join(api, await joinToken(api, { expiresAt: Date.now() - 1 })), '403 token-expired')
    const bound = await joinToken(api, { host: 'h2' })
    assert.equal(await join(api, bound, 'h1'), '403 token-for-another-host')
    assert.equal(await join(api, bound, 'h2'), '201 ok')
    const known = await joinToken(api)
    assert.equal(await join(api, known.replace(/[0-9a-f]{64}$/, '0'.repeat(64))), '401 token-of-another')
    assert.equal(await join(api, known.replace(/^orc1\..{43}/, `orc1.${'A'.repeat(43)}`)), '401 token-unknown')
    assert.equal(await join(api, 'garbage garbage garbage'), '400 invalid-input')
    assert.equal(await join(api, api.token), '400 invalid-input')
  })

  test('is not used up by a request that is refused for another reason', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    const token = await joinToken(api)
    assert.equal(await join(api, token, 'h1', 'no request'), '400 invalid-input')
    const p384 = await keyAndRequest({ name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' })
    assert.equal(await join(api, token, 'h1', p384.csr), '400 invalid-input')
    assert.equal(await join(api, token, '../h1'), '400 invalid-input')
    assert.equal(await join(api, token), '201 ok')
  })

  test('that lets a known host join again voids its old certificate and closes its connection', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    const old = await joinHost(api, 'h1')
    await using host = await TestHost.connect(api, old)
    const fresh = await joinHost(api, 'h1')
    assert.equal((await host.closed).code, 4002)
    await assert.rejects(TestHost.open(api, old), /403 certificate-replaced/)
    await using again = await TestHost.connect(api, fresh)
    assert.ok(again)
  })
})
