import assert from 'node:assert/strict'
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { LABEL, type WireObserved, type WireOrder } from '../../unionize/contract.ts'
import {
  behind,
  check,
  client,
  container,
  fetched,
  inspect,
  member,
  on,
  printed,
  provideStackImage,
  runInside,
  script,
  server,
} from '../support/stack.ts'
import { POOL, UnionizeHost } from '../support/unionize-host.ts'
import { until } from '../support/until.ts'

let host: UnionizeHost

before(async () => {
  host = await UnionizeHost.open('ur')
  await provideStackImage(host)
})
after(async () => {
  await host?.close()
})

const NAMES = ['db', 'app', 'web'] as const
const file = { target: '/etc/note', content: Buffer.from('a note\n').toString('base64'), mode: 0o444 as const }
/** web needs app, app needs db; with a file, a volume and a place for outputs. `restart`: web follows app. */
function stackOrder({ restart = false }: { restart?: boolean } = {}): WireOrder {
  const answers = (port: number) => check(`busybox wget -q -O - http://127.0.0.1:${port}/who`)
  const data = { kind: 'volume' as const, volume: 'data', target: '/data', readOnly: false }
  return host.newOrder({
    services: [
      server('web', 80, 'cat /etc/note', { ...member('front'), ...on('app', 'healthy', restart), files: [file] }),
      server('app', 8080, 'busybox wget -q -O - http://db:5432/who', {
        ...{ ...behind('front', 'back'), ...on('db', 'healthy') },
        healthcheck: answers(8080),
      }),
      server('db', 5432, 'touch /data/kept', { ...behind('back'), healthcheck: answers(5432), mounts: [data] }),
    ],
    outputs: true,
    wiring: { interfaces: [], networks: { front: {}, back: {} } },
  })
}
const stands = (order: WireOrder, name: string) => inspect(host, order, name)
const all = async (order: WireOrder) => Promise.all(NAMES.map((name) => stands(order, name)))
/** Addresses of all services, as they know each other. */
const addresses = async (order: WireOrder) => {
  const text = await host.engine.docker.getContainer(container(order, 'app')).inspect()
  const mount = text.Mounts.find(({ Destination }) => Destination === '/etc/hosts')
  return (await import('node:fs')).readFileSync(mount?.Source ?? '', 'utf8')
}
const kill = async (order: WireOrder, name: string) => host.engine.docker.getContainer(container(order, name)).kill()
const serves = (order: WireOrder) => fetched(client(1), `http://[${order.address}]/who`) === 'web'
const volumes = async () =>
  (await host.engine.docker.listVolumes({ filters: JSON.stringify({ label: [host.label] }) as never })).Volumes ?? []
async function nothingLeft(order: WireOrder): Promise<void> {
  assert.deepEqual(await host.containersOf(order), [])
  assert.deepEqual(
    (await volumes()).map(({ Name }) => Name),
    [],
  )
  assert.deepEqual(readdirSync(host.memory), [])
  assert.ok(!existsSync(join(host.state, 'hosts', order.instance)))
  assert.deepEqual(await host.hubs(), [])
}

test('a service that is killed runs again, with the same addresses, and no other is touched', async () => {
  const order = stackOrder()
  await host.ensure(order)
  const known = await addresses(order)
  for (const name of NAMES) {
    const before = await all(order)
    const victim = await stands(order, name)
    await kill(order, name)
    const now = await until(`${name} runs again`, async () => {
      const state = await stands(order, name)
      return state.state === 'running' && state.startedAt > victim.startedAt && state
    })
    assert.equal(now.id, victim.id)
    await until('all is well', async () => (await host.stateOf(order)) === 'running')
    const others = (states: typeof before) => states.filter(({ id }) => id !== victim.id)
    assert.deepEqual(others(await all(order)), others(before))
    assert.equal(await addresses(order), known)
    await until('web is there', () => serves(order))
  }
  await host.remove(order)
  await nothingLeft(order)
})

test('who is to follow a restart does, once the other is healthy again; others are left alone', async () => {
  const order = stackOrder({ restart: true })
  await host.ensure(order)
  const [db, app, web] = await all(order)
  assert.ok(db && app && web)
  await kill(order, 'app')
  const after = await until('web was started again', async () => {
    const now = await stands(order, 'web')
    return now.startedAt > web.startedAt && now.state === 'running' && now
  })
  assert.ok(after.startedAt > (await stands(order, 'app')).startedAt)
  assert.deepEqual(await stands(order, 'db'), db)
  await until('all is well', async () => (await host.stateOf(order)) === 'running')
  const settled = await all(order)
  await host.ensure(order)
  assert.deepEqual(await all(order), settled)
  await host.remove(order)
})

test('restart: what ends stays ended or runs again as its policy says, and one that keeps dying holds up no other', async () => {
  const order = host.newOrder({
    services: [
      server('web', 80, 'true'),
      script('once', 'exit 3', { restart: 'no' }),
      script('done', 'exit 0', { restart: 'on-failure' }),
      script('again', 'exit 0'),
      script('retried', 'test -e /tmp/second || { touch /tmp/second; exit 1; }', { restart: 'on-failure' }),
    ],
  })
  await host.unionize.ask('told')
  await host.ensure(order)
  const [began, first] = [await stands(order, 'once'), await stands(order, 'again')]
  const told: WireObserved[] = []
  const tellings = [
    (o: WireObserved) => o.detail?.includes('once ended with exit code 3 and is not started again (restart: no)'),
    (o: WireObserved) => o.state === 'partial' && o.detail?.startsWith('again ended with exit code 0'),
  ]
  await until('both ends are told', async () => {
    told.push(...(await host.unionize.ask<WireObserved[]>('told')))
    return tellings.every((telling) => told.some(telling))
  })
  // After 200, 400 and 800 milliseconds.
  await until('what always runs was started three times more', async () => {
    return (await stands(order, 'again')).startedAt > first.startedAt + 1400
  })
  await until('what failed once succeeded', async () => (await stands(order, 'retried')).startedAt > began.startedAt)
  for (const name of ['once', 'done']) assert.equal((await stands(order, name)).state, 'exited')
  const { id, startedAt } = await stands(order, 'once')
  assert.deepEqual([id, startedAt], [began.id, began.startedAt])
  const web = await stands(order, 'web')
  await kill(order, 'web')
  await until('web runs again', async () => (await stands(order, 'web')).startedAt > web.startedAt)
  await host.remove(order)
})

test('after a restart of the engine all run again, in the order of what they depend on, with the same addresses', async (t) => {
  if (!host.engine.own) return t.diagnostic('the engine belongs to the machine; it is not stopped')
  const order = stackOrder()
  const job = script('job', 'exit 0', { restart: 'on-failure' })
  const polite = script('polite', 'trap "exit 0" TERM; while :; do sleep 0.1; done', {
    ...{ restart: 'on-failure' as const, stopGraceMs: 5000 },
  })
  const full = { ...order, services: [...order.services, job, polite] }
  await host.ensure(full)
  const known = await addresses(order)
  const done = await stands(order, 'job')
  // What ends within two seconds before its sandbox may have been ended with it.
  await until('its end is long ago', () => Date.now() - done.startedAt > 3_000)
  for (const end of ['stop', 'kill'] as const) {
    const before = await all(order)
    await host.engine[end]()
    await until('it is told', async () => (await host.unionize.ask<string[]>('notices')).includes('engine-unreachable'))
    await host.engine.start()
    const after = await until('all run again', async () => (await host.stateOf(full)) === 'running' && all(order), {
      deadlineMs: 30_000,
    })
    assert.deepEqual(
      after.map(({ id }) => id),
      before.map(({ id }) => id),
      `after ${end}`,
    )
    if (end === 'stop') {
      const [db, app, web] = after
      assert.ok(db && app && web && db.startedAt < app.startedAt && app.startedAt < web.startedAt)
    }
    assert.equal(await addresses(order), known)
    assert.equal((await stands(order, 'polite')).state, 'running', 'it was ended with the engine, not by itself')
    assert.deepEqual(await stands(order, 'job'), done, 'it had ended by itself')
    await until('web is there', () => serves(order))
  }
  await host.remove(order)
})

test('after a restart of the machine its files are gone: a new order brings them, and all run as before', async () => {
  const order = stackOrder()
  await host.ensure(order)
  const before = await all(order)
  await host.kill()
  for (const name of NAMES) await kill(order, name)
  rmSync(join(host.memory, order.instance), { recursive: true })
  await host.start()
  assert.notEqual(await host.stateOf(order), 'running')
  await host.ensure(order)
  assert.deepEqual(
    (await all(order)).map(({ id }) => id),
    before.map(({ id }) => id),
  )
  await until('web has read its file', async () => (await printed(host, order, 'web')).split('a note').length > 2)
  await host.remove(order)
  await nothingLeft(order)
})

test('what is to stay ended, but ended with its sandbox, runs again though unionize ended before it could start it', async () => {
  const order = host.newOrder({ services: [script('once', 'sleep 3600', { restart: 'no' })] })
  await host.ensure(order)
  await host.poolFull()
  const once = await stands(order, 'once')
  const sandbox = await host.sandboxOf(order)
  await host.unionize.ask('startsEnd', 'succeeds', ...Array(50).fill('fails'))
  await host.engine.docker.getContainer(sandbox).kill()
  await until('its sandbox runs again, and it does not', async () => {
    const { State: state } = await host.engine.docker.getContainer(sandbox).inspect()
    return state.Running && (await stands(order, 'once')).state === 'exited'
  })
  await until('the sandbox is wired', () => host.lab.run('ip', 'link').includes(`ui-${sandbox.slice(0, 12)}`))
  await host.kill()
  await host.start()
  const after = await until('it runs again', async () => {
    const now = await stands(order, 'once')
    return now.state === 'running' && now
  })
  assert.equal(after.id, once.id)
  await until('all is well', async () => (await host.stateOf(order)) === 'running')
  await host.remove(order)
  await nothingLeft(order)
})

test('a changed order makes anew only what differs', async () => {
  const order = stackOrder()
  await host.ensure(order)
  const [db, app, web] = await all(order)
  assert.ok(db && app && web)
  const services = order.services.map((one) => (one.name === 'app' ? { ...one, labels: { changed: 'yes' } } : one))
  await host.ensure({ ...order, generation: 2, services })
  const now = await all(order)
  assert.deepEqual([now[0], now[2]], [db, web])
  assert.notEqual(now[1]?.id, app.id)
  await host.unionize.ask('remove', order.instance, 3)
  await nothingLeft(order)
})

test('after kill -9 at each step of a build, repeating the order ends with one stack; after one amid its end, with nothing', async () => {
  const count = (states: readonly string[]) => async (order: WireOrder) =>
    (await host.containersOf(order)).filter(({ state }) => states.includes(state)).length
  const [made, running] = [count(['created', 'running']), count(['running'])]
  const steps = [
    ...[1, 2, 3].map((n) => [`${n} containers are made`, async (o: WireOrder) => (await made(o)) >= n] as const),
    ...[1, 2, 3].map((n) => [`${n} services run`, async (o: WireOrder) => (await running(o)) >= n] as const),
  ]
  for (const [step, reached] of steps) {
    const order = stackOrder()
    const starting = host.ensure(order).catch(() => null)
    await until(step, () => reached(order), { everyMs: 1 })
    await host.kill()
    await starting
    await host.start()
    assert.equal((await host.ensure(order)).state, 'running', `killed when ${step}`)
    const [db, app, web] = await all(order)
    assert.ok(db && app && web && db.startedAt < app.startedAt && app.startedAt < web.startedAt)
    assert.equal((await host.containersOf(order)).length, 3)
    assert.equal((await host.hubs()).length, 1)
    await until('web is there', () => serves(order))
    const ending = host.remove(order).catch(() => null)
    await until('its end has begun', async () => (await host.containersOf(order)).length < 3, { everyMs: 1 })
    await host.kill()
    await ending
    await host.start()
    await host.remove(order)
    await nothingLeft(order)
  }
  await host.unionize.ask('collect')
  await until('only the pool is left', async () => {
    await host.unionize.ask('collect')
    return (await host.engine.containers(host.label)).length === POOL
  })
  assert.equal((await host.engine.containers(`${LABEL.role}=hub`)).length, 0)
})

test('a service that is not healthy is not killed for it', async () => {
  const order = host.newOrder({
    services: [server('web', 80, 'true', { healthcheck: check('test ! -e /tmp/ill', 1) })],
  })
  await host.ensure(order)
  const before = await stands(order, 'web')
  await runInside(host, order, 'web', 'touch /tmp/ill')
  await until('it is unhealthy', async () =>
    (await host.list()).some((o) => o.instance === order.instance && o.detail?.includes('web is unhealthy')),
  )
  assert.deepEqual(await stands(order, 'web'), before)
  await kill(order, 'web')
  await until('it runs again', async () => (await stands(order, 'web')).startedAt > before.startedAt)
  await host.remove(order)
})
