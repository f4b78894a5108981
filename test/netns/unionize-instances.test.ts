import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { LabEngine } from '../../lab/engine.ts'
import { rememberIfNew, removeImages } from '../../lab/images.ts'
import { runDirectory } from '../../lab/places.ts'
import { LABEL, type WireObserved, type WireOrder } from '../../unionize/contract.ts'
import { service } from '../support/unionize-host.ts'
import { until } from '../support/until.ts'
import { type Agent, BRIEF, WiringLab } from '../support/wiring-lab.ts'
import { Remote } from '../support/wiring-remote.ts'

const PROCESS = fileURLToPath(new URL('../support/unionize-process.ts', import.meta.url))
const PREFIX = 'ut'
const HOST = `ut-${process.pid}`
const OURS = `${LABEL.host}=${HOST}`
const POOL = 2

let engine: LabEngine
let lab: WiringLab
let owner: Agent
let stranger: Agent
let state: string
let memory: string
let unionize: Remote
let lastId = 0

before(async () => {
  engine = await LabEngine.open(PREFIX, () => {})
  lab = await WiringLab.start()
  owner = await lab.client(1)
  stranger = await lab.client(2)
  state = mkdtempSync(join(tmpdir(), 'unionize-'))
  memory = mkdtempSync('/dev/shm/unionize-')
  await rememberIfNew(engine, 'orchestrator/pause:1')
  unionize = await start()
})

after(async () => {
  await unionize?.ask('stop').catch(() => {})
  await unionize?.kill()
  await engine?.removeContainers(OURS)
  if (engine) await removeImages(engine)
  await engine?.close()
  rmSync(runDirectory(PREFIX), { recursive: true })
  await lab?.[Symbol.asyncDispose]()
  if (state) rmSync(state, { recursive: true })
  if (memory) rmSync(memory, { recursive: true })
})

/** Starts unionize's part with containers in the lab's host; resolves when it has looked around and its pool is full. */
async function start(): Promise<Remote> {
  const command = [process.execPath, PROCESS, engine.socket, state, HOST, String(POOL), memory]
  const remote = new Remote(['nsenter', `--net=/run/netns/${lab.host}`, ...command])
  await remote.ask('ready')
  await until('the engine was looked through', () => remote.ask<boolean>('isReady'), { deadlineMs: 30_000 })
  await poolFull(remote)
  return remote
}
async function poolFull(remote: Remote): Promise<void> {
  await until('the pool is full', async () => (await remote.ask<number>('poolReady')) === POOL, { deadlineMs: 30_000 })
}
/** An order for the owner; every call is another instance. */
function newOrder(change: Partial<WireOrder> = {}): WireOrder {
  const n = ++lastId
  return {
    instance: `i-ut${process.pid}-${n}`,
    generation: 1,
    owner: { duid: '00:03:00:01:02:00:00:00:00:01', iaid: n },
    name: `box${n}`,
    address: `fd00:1::${(0x1000 + n).toString(16)}`,
    ownerAddress: owner.address,
    services: [service('web'), service('log')],
    outputs: false,
    entryPort: null,
    ...change,
  }
}
const ensure = (order: WireOrder) => unionize.ask<WireObserved>('ensure', order)
const remove = (order: WireOrder) => unionize.ask<void>('remove', order.instance, order.generation + 1)
const list = () => unionize.ask<WireObserved[]>('list')
const stateOf = async (order: WireOrder) => (await list()).find((o) => o.instance === order.instance)?.state
const containersOf = (order: WireOrder) => engine.containers(`${LABEL.instance}=${order.instance}`)
const sandboxes = () => engine.docker.listContainers({ filters: { label: [`${LABEL.role}=sandbox`, OURS] } })
const reaches = async (who: Agent, order: WireOrder, time?: typeof BRIEF) =>
  (await who.icmp(order.address, time)).result === 'answered'
const rules = () => lab.run('nft', 'list', 'ruleset')
async function sandboxOf(order: WireOrder): Promise<string> {
  const [service] = await containersOf(order)
  const found = await engine.docker.getContainer(service?.id ?? '').inspect()
  return found.HostConfig.NetworkMode?.replace('container:', '') ?? ''
}

test('an instance is made, wired to its owner alone, named, and taken away without a trace', async () => {
  const order = newOrder()
  const observed = await ensure(order)
  assert.equal(observed.state, 'running')
  const { receivedAt = 0, sandboxAt = 0, startedAt = 0 } = observed.marks ?? {}
  assert.ok(receivedAt > 0 && receivedAt <= sandboxAt && sandboxAt <= startedAt)
  assert.ok(await reaches(owner, order))
  assert.ok(!(await reaches(stranger, order, BRIEF)))
  assert.equal((await owner.icmp('fd00:1:0:ffff::1')).result, 'answered', 'my.instance leads there')
  assert.equal(
    readFileSync(join(state, 'hosts.d', order.instance), 'utf8'),
    `${order.address} ${order.name}.instance\n`,
  )
  assert.match(rules(), new RegExp(`${order.address}\\b`))
  await poolFull(unionize)
  const links = linkCount()

  await remove(order)
  assert.deepEqual(await containersOf(order), [])
  assert.deepEqual(readdirSync(join(state, 'hosts.d')), [])
  assert.doesNotMatch(rules(), new RegExp(`${order.address}\\b`))
  await until('its link is gone', () => linkCount() === links - 1)
  await remove(order)
  assert.equal(await stateOf(order), undefined)
})

test('a service runs with no more than its order allows', async () => {
  const order = newOrder()
  await ensure(order)
  const [service] = await containersOf(order)
  const { HostConfig: limits, Config: config } = await engine.docker.getContainer(service?.id ?? '').inspect()
  assert.deepEqual(limits.CapDrop, ['ALL'])
  assert.deepEqual(
    limits.CapAdd?.map((name: string) => name.replace('CAP_', '')),
    ['NET_BIND_SERVICE'],
  )
  assert.deepEqual(limits.SecurityOpt, ['no-new-privileges'])
  assert.equal(limits.Memory, 16 << 20)
  assert.equal(limits.PidsLimit, 8)
  assert.equal(limits.RestartPolicy?.Name, 'no')
  assert.ok(config.Env.includes('GREETING=hello'))
  assert.doesNotMatch(JSON.stringify(config.Labels), /hello/, 'values of the environment are in no label')
  await remove(order)
})

test('the same order again changes nothing; an older one is refused; after the end none but a newer one counts', async () => {
  const order = newOrder({ generation: 5 })
  await ensure(order)
  const before = (await containersOf(order)).map((c) => c.id).sort()
  await ensure(order)
  assert.deepEqual((await containersOf(order)).map((c) => c.id).sort(), before)
  await assert.rejects(ensure({ ...order, generation: 4 }), { code: 'stale-generation', retryable: false })
  await assert.rejects(unionize.ask('remove', order.instance, 4), { code: 'stale-generation' })
  await remove(order)
  await assert.rejects(ensure({ ...order, generation: 6 }), { code: 'stale-generation' })
})

test('eight orders for one instance at once make one instance', async () => {
  const order = newOrder()
  await Promise.all(Array.from({ length: 8 }, () => ensure(order)))
  assert.equal((await containersOf(order)).length, order.services.length)
  await remove(order)
})

test('an owner that moved reaches its instance from the new address and no longer from the old one', async () => {
  const order = newOrder()
  await ensure(order)
  const before = (await containersOf(order)).map((c) => c.id).sort()
  await ensure({ ...order, generation: 2, ownerAddress: stranger.address })
  assert.ok(await reaches(stranger, order))
  assert.ok(!(await reaches(owner, order, BRIEF)))
  assert.deepEqual((await containersOf(order)).map((c) => c.id).sort(), before, 'its containers were not touched')
  await unionize.ask('remove', order.instance, 3)
})

test('an image that is not there fails clearly, leaves nothing, and its sandbox serves the next', async () => {
  const order = newOrder()
  const [first] = order.services
  assert.ok(first)
  const broken = { ...order, services: [first, { ...first, name: 'bad', image: 'nowhere/nothing:1' }] }
  await assert.rejects(ensure(broken), (error: Error & { code: string; retryable: boolean }) => {
    assert.equal(error.code, 'image-missing')
    assert.match(error.message, /nowhere\/nothing:1/)
    return true
  })
  assert.deepEqual(await containersOf(order), [])
  assert.doesNotMatch(rules(), new RegExp(`${order.address}\\b`))
  await ensure({ ...order, generation: 2 })
  assert.ok(await reaches(owner, order))
  await unionize.ask('remove', order.instance, 3)
})

test('a service that died runs again by itself, and that it died is told', async () => {
  const order = newOrder()
  await ensure(order)
  await unionize.ask('told')
  const [service] = await containersOf(order)
  await engine.docker.getContainer(service?.id ?? '').kill()
  const told: WireObserved[] = []
  await until('both are told', async () => {
    told.push(...(await unionize.ask<WireObserved[]>('told')))
    return told.length >= 2
  })
  assert.deepEqual(
    told.map((o) => o.state),
    ['partial', 'running'],
  )
  assert.equal(await stateOf(order), 'running')
  await remove(order)
})

test('when the sandbox dies, the same containers run again at the same address, though they lived on without it', async () => {
  const order = newOrder()
  await ensure(order)
  await unionize.ask('told')
  const before = (await containersOf(order)).map((c) => c.id).sort()
  const sandbox = await sandboxOf(order)
  await engine.docker.getContainer(sandbox).kill()
  await until('it is told to run again', async () => {
    const told = await unionize.ask<WireObserved[]>('told')
    return told.some((o) => o.state === 'running')
  })
  assert.equal(await stateOf(order), 'running')
  assert.ok(await reaches(owner, order))
  assert.ok(!(await reaches(stranger, order, BRIEF)))
  assert.deepEqual((await containersOf(order)).map((c) => c.id).sort(), before)
  assert.equal(await sandboxOf(order), sandbox)
  const [service] = await containersOf(order)
  const { State: inside } = await engine.docker.getContainer(service?.id ?? '').inspect()
  assert.match(lab.runIn(inside.Pid, 'ip', '-6', 'address', 'show', 'eth0'), new RegExp(order.address))
  await remove(order)
})

for (const ends of [
  ['fails', 'fails', 'fails', 'fails', 'fails'],
  ['succeeds', 'fails', 'succeeds', 'fails'],
]) {
  test(`what died is started again, where a start ${ends.join(', then ')}`, async () => {
    const order = newOrder()
    await ensure(order)
    await poolFull(unionize)
    await unionize.ask('told')
    await unionize.ask('startsEnd', ...ends)
    await engine.docker.getContainer(await sandboxOf(order)).kill()
    await until('it is told to run again', async () => {
      const told = await unionize.ask<WireObserved[]>('told')
      return told.some((o) => o.state === 'running')
    })
    assert.ok(await reaches(owner, order))
    for (const one of await containersOf(order)) {
      const { State: inside } = await engine.docker.getContainer(one.id).inspect()
      assert.match(lab.runIn(inside.Pid, 'ip', '-6', 'address', 'show', 'eth0'), new RegExp(order.address))
    }
    await remove(order)
  })
}

test('a container that somebody removed is made again by the next order, a removed sandbox with all of it', async () => {
  const order = newOrder()
  await ensure(order)
  const [service] = await containersOf(order)
  await engine.docker.getContainer(service?.id ?? '').remove({ force: true })
  assert.equal((await ensure(order)).state, 'running')
  assert.equal((await containersOf(order)).length, 2)
  await engine.docker.getContainer(await sandboxOf(order)).remove({ force: true })
  assert.equal((await ensure(order)).state, 'running')
  await until('the owner reaches it', () => reaches(owner, order, BRIEF))
  assert.equal(await stateOf(order), 'running')
  await remove(order)
})

test('after kill -9 at any moment of a start or an end, repeating the order ends with exactly one instance, or none', async () => {
  for (const ms of [1, 5, 10, 20, 40, 80, 120]) {
    const order = newOrder()
    const starting = ensure(order).catch(() => null)
    await Promise.race([starting, new Promise((resolve) => setTimeout(resolve, ms))])
    await unionize.kill()
    unionize = await start()
    assert.equal((await ensure(order)).state, 'running', `killed after ${ms} ms of a start`)
    assert.ok(await reaches(owner, order))
    assert.equal((await containersOf(order)).length, 2)
    const ending = remove(order).catch(() => null)
    await Promise.race([ending, new Promise((resolve) => setTimeout(resolve, ms))])
    await unionize.kill()
    unionize = await start()
    await remove(order)
    assert.deepEqual(await containersOf(order), [])
    assert.doesNotMatch(rules(), new RegExp(`${order.address}\\b`))
  }
  await unionize.ask('collect')
  await until('only the pool is left', async () => {
    await unionize.ask('collect')
    return (await sandboxes()).length === POOL && (await engine.containers(OURS)).length === POOL
  })
})

test('a restart finds instances by their labels, keeps them untouched, and still refuses an older generation', async () => {
  const order = newOrder({ generation: 3 })
  await ensure(order)
  const before = (await containersOf(order)).map((c) => c.id).sort()
  await unionize.kill()
  lab.run('nft', 'delete', 'table', 'inet', 'unionize')
  unionize = await start()
  assert.ok(await reaches(owner, order), 'its passage is there again')
  assert.ok(!(await reaches(stranger, order, BRIEF)))
  assert.deepEqual((await containersOf(order)).map((c) => c.id).sort(), before)
  await assert.rejects(ensure({ ...order, generation: 2 }), { code: 'stale-generation' })
  await unionize.kill()
  rmSync(join(state, 'generations'), { recursive: true })
  unionize = await start()
  assert.ok(await reaches(owner, order), 'the labels alone are enough')
  await remove(order)
})

test('leftovers are collected, and nothing that is not ours', async () => {
  const create = (labels: Record<string, string>) =>
    engine.docker.createContainer({
      Image: 'orchestrator/pause:1',
      Labels: labels,
      HostConfig: { NetworkMode: 'none' },
    })
  const foreign = await create({ [LABEL.role]: 'sandbox', [LABEL.host]: `${HOST}-other` })
  const sandbox = await create({ [LABEL.role]: 'sandbox', [LABEL.host]: HOST })
  const service = await create({ [LABEL.role]: 'service', [LABEL.host]: HOST, [LABEL.instance]: 'i-nobody' })
  const living = await lab.idle()
  const stray = 'ui-0123456789ab'
  for (const link of [stray, 'foreign']) {
    lab.run('ip', 'link', 'add', link, 'type', 'veth', 'peer', 'name', link, 'netns', String(living.pid))
  }
  lab.run('ip', 'link', 'set', stray, 'master', 'br-instances')
  try {
    // A link on its way out with its namespace may be found as well.
    const collected = (await unionize.ask<string[]>('collect')).filter((id) => id === stray || !id.startsWith('ui-'))
    assert.deepEqual(collected.sort(), [sandbox.id, 'i-nobody@0', stray].sort())
    assert.doesNotMatch(lab.run('ip', '-o', 'link'), new RegExp(stray))
    assert.match(lab.run('ip', '-o', 'link'), / foreign@/)
    const left = (await engine.containers(OURS)).map((c) => c.id)
    assert.ok(!left.includes(sandbox.id) && !left.includes(service.id))
    assert.equal((await foreign.inspect()).Id, foreign.id)
  } finally {
    lab.run('ip', 'link', 'delete', 'foreign')
    await foreign.remove({ force: true })
  }
})

test('an engine that stops and starts again runs the same instances at the same addresses', async (t) => {
  if (!engine.own) return t.diagnostic('the engine belongs to the machine; it is not stopped')
  const order = newOrder()
  await ensure(order)
  const before = (await containersOf(order)).map((c) => c.id).sort()
  for (const end of ['stop', 'kill'] as const) {
    await unionize.ask('notices')
    await engine[end]()
    await until('it is told', async () => (await unionize.ask<string[]>('notices')).includes('engine-unreachable'))
    await assert.rejects(ensure(order), { code: 'engine-unreachable', retryable: true })
    await engine.start()
    await until('the owner reaches it again', () => reaches(owner, order, BRIEF), { deadlineMs: 30_000 })
    await until('all of it runs', async () => (await stateOf(order)) === 'running')
    assert.deepEqual((await containersOf(order)).map((c) => c.id).sort(), before, `after ${end}`)
    assert.ok(!(await reaches(stranger, order, BRIEF)))
  }
  await remove(order)
  await poolFull(unionize)
})

function linkCount(): number {
  return lab
    .run('ip', '-o', 'link')
    .split('\n')
    .filter((line) => line.includes(' ui-')).length
}
