import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { after, before, test } from 'node:test'
import type { WireObserved, WireOrder } from '../../unionize/contract.ts'
import {
  behind,
  check,
  client,
  fetched,
  inNamespaceOf,
  inspect,
  member,
  on,
  printed,
  provideStackImage,
  runInside,
  script,
  server,
} from '../support/stack.ts'
import { UnionizeHost } from '../support/unionize-host.ts'
import { until } from '../support/until.ts'

let host: UnionizeHost

before(async () => {
  host = await UnionizeHost.open('uo')
  await provideStackImage(host)
})
after(async () => {
  await host?.close()
})

const asks = (url: string) => `busybox wget -q -O - ${url} && echo it answered || echo it was silent`
/** web for all to see; behind it app, which needs db; db takes its time. */
function stackOrder(change: Partial<WireOrder> = {}): WireOrder {
  const answers = (port: number) => check(`busybox wget -q -O - http://127.0.0.1:${port}/who`)
  return host.newOrder({
    services: [
      server('web', 80, asks('http://app:8080/who'), { ...member('front'), ...on('app', 'healthy') }),
      server('app', 8080, asks('http://db:5432/who'), {
        ...behind('front', 'back'),
        ...on('db', 'healthy'),
        healthcheck: answers(8080),
      }),
      server('db', 5432, 'sleep 1', { ...behind('back'), healthcheck: answers(5432) }),
    ],
    wiring: { interfaces: [], networks: { front: {}, back: {} } },
    entryPort: 80,
    ...change,
  })
}
const stands = (order: WireOrder, name: string) => inspect(host, order, name)
const startTimes = async (order: WireOrder, ...names: string[]) =>
  Promise.all(names.map(async (name) => (await stands(order, name)).startedAt))
/** The address under which a service knows another one. */
async function known(order: WireOrder, from: string, name: string): Promise<string> {
  const hosts = execFileSync('cat', [`/proc/${(await stands(order, from)).pid}/root/etc/hosts`], { encoding: 'utf8' })
  const line = hosts.split('\n').find((one) => one.split(' ').includes(name))
  return line?.split(' ')[0] ?? assert.fail(`${from} does not know ${name}`)
}
const waits = (order: WireOrder) =>
  host.ensure(order).then(
    () => assert.fail('it did not wait'),
    (error) => error,
  )

test('a stack starts in the order of what it depends on: each finds ready what it waited for, under its name', async () => {
  const order = stackOrder()
  const observed = await host.ensure(order)
  assert.equal(observed.state, 'running')
  const [db = 0, app = 0, web = 0] = await startTimes(order, 'db', 'app', 'web')
  assert.ok(db + 1000 <= app, `app started ${app - db} ms after db, which is ready after 1000 ms`)
  assert.ok(app < web)
  for (const [name, needed] of [
    ['app', 'db'],
    ['web', 'app'],
  ] as const) {
    const said = await until(`${name} has asked`, async () => {
      const text = await printed(host, order, name)
      return /it (answered|was silent)/.test(text) ? text : null
    })
    assert.match(said, new RegExp(`${needed}\\n.*it answered`, 's'), 'with its first question')
  }
  assert.ok((observed.marks?.startedAt ?? 0) >= web)
  assert.equal(await host.stateOf(order), 'running')
  await host.remove(order)
})

test('nothing but the port of the entry is reachable for the owner, and nothing at all for anybody else', async () => {
  const [mine, theirs] = [stackOrder(), stackOrder({ ownerAddress: host.stranger.address })]
  await Promise.all([host.ensure(mine), host.ensure(theirs)])
  const db = await known(mine, 'app', 'db')
  const app = await known(mine, 'web', 'app')
  const besideApp = inNamespaceOf((await stands(mine, 'app')).pid)
  await until('db is there', () => fetched(besideApp, `http://[${db}]:5432/who`) === 'db')
  for (const [owner, { address }] of [
    [client(1), mine],
    [client(2), theirs],
  ] as const) {
    await until('web is there', () => fetched(owner, `http://[${address}]:80/who`) === 'web')
  }
  const outside = [
    ...[client(1), client(2), inNamespaceOf((await stands(theirs, 'web')).pid)],
    ...[inNamespaceOf((await stands(theirs, 'app')).pid), inNamespaceOf((await stands(theirs, 'db')).pid)],
  ]
  for (const from of outside) {
    assert.equal(fetched(from, `http://[${db}]:5432/who`), null)
    assert.equal(fetched(from, `http://[${app}]:8080/who`), null)
    assert.equal(fetched(from, `http://[${mine.address}]:8080/who`), null)
    if (from !== outside[0]) assert.equal(fetched(from, `http://[${mine.address}]:80/who`), null)
  }
  assert.equal(fetched(inNamespaceOf((await stands(mine, 'web')).pid), `http://[${db}]:5432/who`), null)
  for (const order of [mine, theirs]) await host.remove(order)
})

test('a job comes first, its end is no fault, and it is not done again when the server dies or comes anew', async () => {
  const job = script('job', 'sleep 1; echo done', { restart: 'on-failure' })
  const order = host.newOrder({ services: [server('web', 80, 'true', on('job', 'completed')), job] })
  assert.equal((await host.ensure(order)).state, 'running')
  const began = await stands(order, 'job')
  assert.equal(began.state, 'exited')
  const { startedAt } = await stands(order, 'web')
  assert.ok(startedAt >= began.startedAt + 1000)
  assert.equal(await host.stateOf(order), 'running')
  await host.engine.docker.getContainer((await stands(order, 'web')).id).kill()
  await until('the server runs again', async () => (await stands(order, 'web')).startedAt > startedAt)
  await host.ensure(order)
  await host.kill()
  await host.start()
  assert.equal(await host.stateOf(order), 'running')
  assert.deepEqual(await stands(order, 'job'), began)
  await host.remove(order)
})

test('a job that fails holds up who waits for its success, with a sentence, until it succeeds', async () => {
  const job = script('job', 'test -e /tmp/may && exit 0; touch /tmp/may; exit 3', { restart: 'on-failure' })
  const order = host.newOrder({ services: [server('web', 80, 'true', on('job', 'completed')), job] })
  const error = await waits(order)
  assert.equal(error.code, 'dependency-failed')
  assert.ok(error.retryable)
  assert.match(error.message, /service web waits for job to end with success: it ended with exit code 3/)
  await until('it succeeded, and the server runs', async () => (await host.stateOf(order)) === 'running')
  await host.remove(order)

  const never = { ...order.services[1], restart: 'no' } as WireOrder['services'][number]
  const hopeless = { ...order, generation: 3, services: [order.services[0] ?? never, never] }
  const refusal = await waits({ ...hopeless, instance: `${order.instance}x` })
  assert.ok(!refusal.retryable, 'it is not started again, so it never succeeds')
  await host.unionize.ask('remove', `${order.instance}x`, 4)
})

test('who waits for an unhealthy service says so in a sentence, and starts once that is healthy', async () => {
  const db = script('db', 'sleep infinity', { healthcheck: check('test -e /tmp/well || { echo no disk; exit 1; }', 2) })
  const order = host.newOrder({ services: [server('web', 80, 'true', on('db', 'healthy')), db] })
  const error = await waits(order)
  assert.equal(error.code, 'dependency-failed')
  assert.ok(error.retryable)
  assert.match(error.message, /service web waits for db to be healthy: it is unhealthy; its check said: no disk$/)
  assert.equal((await stands(order, 'web')).state, 'created')
  assert.equal(await host.stateOf(order), 'partial')
  const began = await stands(order, 'db')
  assert.equal((await waits(order)).code, 'dependency-failed', 'asked again, nothing changed')
  await runInside(host, order, 'db', 'touch /tmp/well')
  await until('web runs by itself', async () => (await host.stateOf(order)) === 'running')
  assert.equal((await host.ensure(order)).state, 'running')
  assert.deepEqual(await stands(order, 'db'), began, 'the unhealthy one was not started again')
  await host.remove(order)
})

test('a service that becomes unhealthy is told, and told again when it is well; nothing is restarted', async () => {
  const checked = { healthcheck: check('test ! -e /tmp/ill || { echo it hurts; exit 1; }', 2) }
  const order = host.newOrder({ services: [server('web', 80, 'true', checked)] })
  await host.ensure(order)
  const began = await stands(order, 'web')
  const told = async (what: string, look: (o: WireObserved) => boolean) =>
    until(what, async () => {
      const all = await host.unionize.ask<WireObserved[]>('told')
      return all.find((o) => o.instance === order.instance && look(o))
    })
  await runInside(host, order, 'web', 'touch /tmp/ill')
  const ill = await told('it is told', (o) => o.detail !== undefined)
  assert.equal(ill.state, 'running')
  assert.equal(ill.detail, 'service web is unhealthy: it hurts')
  assert.equal((await host.list()).find((o) => o.instance === order.instance)?.detail, ill.detail)
  await host.kill()
  await host.start()
  assert.match((await host.ensure(order)).detail ?? '', /web is unhealthy: it hurts/, 'also after a restart')
  await runInside(host, order, 'web', 'rm /tmp/ill')
  await told('that it is well is told', (o) => o.state === 'running' && o.detail === undefined)
  assert.deepEqual(await stands(order, 'web'), began)
  await host.remove(order)
})

test('a wait ends with its signal, with a removal, and with a newer order', async () => {
  const db = script('db', 'sleep infinity', { healthcheck: check('test -e /tmp/well', 1000) })
  const order = host.newOrder({ services: [server('web', 80, 'true', on('db', 'healthy')), db] })
  const timely = host.unionize.ask('ensureFor', order, 15_000)
  await assert.rejects(timely, /service web waits for db to be healthy/)
  const waiting = assert.rejects(host.ensure(order), { code: 'stale-generation' })
  await until('it waits', async () => (await stands(order, 'db')).state === 'running')
  const newer = { ...order, generation: 2, services: [server('web', 80, 'true')] }
  assert.equal((await host.ensure(newer)).state, 'running')
  await waiting
  await host.unionize.ask('remove', order.instance, 3)
  const another = host.newOrder({ services: order.services })
  const doomed = assert.rejects(host.ensure(another), { code: 'stale-generation' })
  await until('it waits', async () => (await stands(another, 'db')).state === 'running')
  await host.remove(another)
  await doomed
  assert.deepEqual(await host.containersOf(another), [])
})

test('a service without a health check is no service to wait for: that is told, and not tried again', async () => {
  const order = host.newOrder({
    services: [server('web', 80, 'true', on('db', 'healthy')), script('db', 'sleep infinity')],
  })
  const error = await waits(order)
  assert.match(error.message, /service web waits for db to be healthy: it has no health check; give it one/)
  assert.ok(!error.retryable)
  await host.remove(order)
})
