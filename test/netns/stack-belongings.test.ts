import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { LABEL, type WireObserved, type WireOrder } from '../../unionize/contract.ts'
import { dockerEngine, type Engine } from '../../unionize/engine/containers.ts'
import { importTinyImage } from '../support/tiny-image.ts'
import { service, UnionizeHost } from '../support/unionize-host.ts'
import { until } from '../support/until.ts'

const TINY = 'orchestrator/tiny:1'
const SECRET = `hush-${process.pid}-${Date.now()}`

let host: UnionizeHost
let engine: Engine

before(async () => {
  host = await UnionizeHost.open('sb')
  engine = dockerEngine(host.engine.socket)
  await importTinyImage(engine, { name: 'orchestrator/tiny', tag: '1' })
})
after(async () => {
  if (host && !host.engine.own) await host.engine.docker.getImage(TINY).remove({ force: true })
  await host?.close()
})

/** Two services with a volume and a secret each, and a place for outputs. */
function belongingOrder(change: Partial<WireOrder> = {}): WireOrder {
  const mounts = [{ kind: 'volume' as const, volume: 'data', target: '/data', readOnly: false }]
  const files = [{ target: '/run/secrets/key', content: Buffer.from(SECRET).toString('base64'), mode: 0o444 as const }]
  const script = 'touch /data/$0; echo \'{"from":"inside"}\' > /orchestrator/outputs.json; exec sleep infinity'
  const one = (name: string) =>
    service(name, {
      ...{ image: TINY, mounts, files, environment: { PASSWORD: `${SECRET}-in-environment` } },
      ...{ command: ['/bin/sh', '-c', script, name], memoryBytes: 32 << 20, pids: 16 },
    })
  return host.newOrder({ services: [one('web'), one('db')], outputs: true, ...change })
}
const volumesOf = async (order: WireOrder) => {
  const found = await engine.volumes({ [LABEL.host]: host.name, [LABEL.instance]: order.instance })
  return found.map(({ name }) => name).sort()
}
const filesOf = (order: WireOrder) => existsSync(join(host.memory, order.instance))
const seenIn = async (order: WireOrder, name: string, path: string) =>
  readFileSync(`/proc/${await host.pidOf(`orc-${order.instance}-${name}`)}/root${path}`, 'utf8')
const allUnder = (folder: string) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))

test('volumes and files come with an instance and go with it; its outputs are told', async () => {
  const order = belongingOrder()
  await host.unionize.ask('told')
  await host.ensure(order)
  assert.deepEqual(await volumesOf(order), [`orc-${order.instance}._outputs`, `orc-${order.instance}.data`])
  for (const name of ['web', 'db']) assert.equal(await seenIn(order, name, '/run/secrets/key'), SECRET)
  const told: WireObserved[] = []
  await until(
    'its outputs are told',
    async () => {
      told.push(...(await host.unionize.ask<WireObserved[]>('told')))
      return told.some((one) => one.outputs !== undefined)
    },
    { deadlineMs: 20_000 },
  )
  const { instance, outputs, state } = told.find((one) => one.outputs !== undefined) ?? assert.fail()
  assert.deepEqual([instance, outputs, state], [order.instance, '{"from":"inside"}\n', 'running'])
  await host.remove(order)
  assert.deepEqual([await volumesOf(order), filesOf(order)], [[], false])
})

test('a secret is in memory and inside, and nowhere else: no label, no state file, no docker inspect', async () => {
  const order = belongingOrder()
  await host.ensure(order)
  for (const { id } of await host.containersOf(order)) {
    const seen = await host.engine.docker.getContainer(id).inspect()
    assert.doesNotMatch(JSON.stringify(seen.Config.Labels), new RegExp(SECRET))
    const { Env: _, ...config } = seen.Config
    const told = JSON.stringify({ ...seen, Config: config })
    for (const text of [SECRET, Buffer.from(SECRET).toString('base64')]) assert.ok(!told.includes(text))
  }
  const kept = allUnder(host.state)
  assert.ok(kept.some((path) => path.includes(order.instance)))
  for (const path of kept) {
    const text = readFileSync(path, 'utf8')
    assert.ok(!text.includes(SECRET) && !text.includes(Buffer.from(SECRET).toString('base64')), path)
  }
  assert.equal(allUnder(join(host.memory, order.instance)).length, 2)
  await host.remove(order)
})

test('a service that dies, and one that is made anew, find their volume and their files', async () => {
  const order = belongingOrder()
  await host.ensure(order)
  const [web] = await host.containersOf(order)
  await host.engine.docker.getContainer(web?.id ?? '').kill()
  await until('it runs again', async () => (await host.stateOf(order)) === 'running', { deadlineMs: 20_000 })
  const [one] = await host.containersOf(order)
  await host.engine.docker.getContainer(one?.id ?? '').remove({ force: true })
  await host.ensure(order)
  for (const name of ['web', 'db']) {
    assert.equal(await seenIn(order, name, '/run/secrets/key'), SECRET)
    await until('its file is there', async () => (await seenIn(order, name, `/data/${name}`)) === '')
  }
  await host.remove(order)
})

test('files that are gone, as after a restart of the machine, take a new order, which brings them again', async () => {
  const order = belongingOrder()
  await host.ensure(order)
  await host.kill()
  for (const { id } of await host.containersOf(order)) await host.engine.docker.getContainer(id).kill()
  rmSync(join(host.memory, order.instance), { recursive: true })
  await host.start()
  await until('it is seen to be down', async () => (await host.stateOf(order)) === 'stopped')
  await host.ensure(order)
  assert.equal(await host.stateOf(order), 'running')
  for (const name of ['web', 'db']) assert.equal(await seenIn(order, name, '/run/secrets/key'), SECRET)
  await host.remove(order)
})

test('after kill -9 at any moment of a start or an end nothing is left: no volume, no file', async () => {
  for (const ms of [5, 20, 40, 80, 160, 320, 640]) {
    const order = belongingOrder()
    const starting = host.ensure(order).catch(() => null)
    await Promise.race([starting, new Promise((resolve) => setTimeout(resolve, ms))])
    await host.kill()
    await host.start()
    assert.equal((await host.ensure(order)).state, 'running', `killed after ${ms} ms of a start`)
    assert.equal(await seenIn(order, 'db', '/run/secrets/key'), SECRET)
    const ending = host.remove(order).catch(() => null)
    await Promise.race([ending, new Promise((resolve) => setTimeout(resolve, ms))])
    await host.kill()
    await host.start()
    await until(
      `nothing is left after ${ms} ms`,
      async () => {
        await host.remove(order)
        await host.unionize.ask('collect')
        return (await volumesOf(order)).length === 0 && !filesOf(order)
      },
      { deadlineMs: 20_000 },
    )
    assert.deepEqual(await host.containersOf(order), [])
  }
})

test("leftovers of an instance that nobody knows are collected, and nobody else's", async () => {
  const { docker } = host.engine
  const labels = { [LABEL.role]: 'volume', [LABEL.instance]: 'i-nobody' }
  await docker.createVolume({ Name: 'orc-i-nobody.data', Labels: { ...labels, [LABEL.host]: host.name } })
  await docker.createVolume({ Name: 'orc-i-foreign.data', Labels: { ...labels, [LABEL.host]: `${host.name}-other` } })
  mkdirSync(join(host.memory, 'i-nobody'))
  const order = belongingOrder()
  await host.ensure(order)
  try {
    const collected = await host.unionize.ask<string[]>('collect')
    assert.ok(collected.includes('orc-i-nobody.data') && collected.includes('files of i-nobody'), collected.join())
    assert.deepEqual(readdirSync(host.memory), [order.instance])
    assert.equal((await volumesOf(order)).length, 2)
    assert.equal((await engine.volumes({ [LABEL.host]: `${host.name}-other` })).length, 1)
  } finally {
    await engine.removeVolume('orc-i-foreign.data')
    await host.remove(order)
  }
})

test('a start that failed for an image that cannot be had leaves nothing once it is taken back', async () => {
  const order = belongingOrder()
  const [web, db] = order.services
  assert.ok(web && db)
  await assert.rejects(host.ensure({ ...order, services: [web, { ...db, image: 'nowhere/nothing:1' }] }), {
    code: 'image-missing',
  })
  assert.deepEqual(await host.containersOf(order), [])
  await host.remove(order)
  assert.equal(filesOf(order), false)
  await until('its volumes are collected', async () => {
    await host.unionize.ask('collect')
    return (await volumesOf(order)).length === 0
  })
})
