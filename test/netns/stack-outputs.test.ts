import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { LabEngine } from '../../lab/engine.ts'
import { removeImages } from '../../lab/images.ts'
import { runDirectory } from '../../lab/places.ts'
import { LABEL, MAX_OUTPUTS_BYTES, type WireOrder } from '../../unionize/contract.ts'
import { dockerEngine, type Engine } from '../../unionize/engine/containers.ts'
import { createOutputs, type Outputs } from '../../unionize/instances/outputs.ts'
import { ensurePauseImage, PAUSE_IMAGE } from '../../unionize/instances/pause.ts'
import { serviceSpec } from '../../unionize/instances/service.ts'
import { createVolumes } from '../../unionize/instances/volumes.ts'
import { service } from '../support/fixtures.ts'
import { order as anyOrder } from '../support/orders.ts'
import { importTinyImage } from '../support/tiny-image.ts'
import { until } from '../support/until.ts'

const PREFIX = 'so'
const HOST = `so-${process.pid}`
const TINY = 'orchestrator/tiny:1'
const FILE = '/orchestrator/outputs.json'

let lab: LabEngine
let engine: Engine
let sandbox: string
let lastId = 0
const wanted = new Map<string, WireOrder>()
const told: { instance: string; text: string }[] = []
const notices: string[] = []
const stopping = new AbortController()
let outputs: Outputs
let watching: Promise<void>

before(async () => {
  lab = await LabEngine.open(PREFIX, () => {})
  engine = dockerEngine(lab.socket)
  await ensurePauseImage(engine)
  await importTinyImage(engine, { name: 'orchestrator/tiny', tag: '1' })
  sandbox = await engine.create({
    ...{ name: `${HOST}-sandbox`, image: `${PAUSE_IMAGE.name}:${PAUSE_IMAGE.tag}`, network: 'none', capabilities: [] },
    ...{ labels: { [LABEL.host]: HOST }, memoryBytes: 8 << 20, pids: 4, stopGraceMs: 0, output: null },
  })
  await engine.start(sandbox)
  outputs = createOutputs({
    ...{ engine, orders: { wanted: () => [...wanted.values()] }, now: Date.now },
    notice: (_level, _code, message) => notices.push(message),
  })
  watching = outputs.watch(stopping.signal, (instance, text) => told.push({ instance, text }))
})
after(async () => {
  stopping.abort(new Error('the test ends'))
  await watching
  await lab?.removeContainers(`${LABEL.host}=${HOST}`)
  for (const { name } of (await engine?.volumes({ [LABEL.host]: HOST })) ?? []) await engine.removeVolume(name)
  if (lab && !lab.own) await lab.docker.getImage(TINY).remove({ force: true })
  if (lab) await removeImages(lab)
  await lab?.close()
  rmSync(runDirectory(PREFIX), { recursive: true })
})

/** An instance of two services, the second of which runs a script and lives on. */
async function launch(script: string): Promise<WireOrder> {
  const instance = `i-so${process.pid}-${++lastId}` as WireOrder['instance']
  const worker = service({
    name: 'worker',
    image: TINY,
    user: 'worker',
    command: ['/bin/sh', '-c', `${script}; exec sleep infinity`],
  })
  const order = { ...anyOrder(1), instance, services: [service({ image: TINY }), worker], outputs: true } as WireOrder
  for (const one of order.services) {
    const id = await engine.create(serviceSpec(order, one, { host: HOST, sandbox, hostsFile: null, files: [] }))
    await engine.start(id)
  }
  wanted.set(instance, order)
  return order
}
async function end(order: WireOrder): Promise<void> {
  wanted.delete(order.instance)
  await lab.removeContainers(`${LABEL.instance}=${order.instance}`)
  await createVolumes({ engine }).forget(order.instance, [order])
  assert.deepEqual(await engine.volumes({ [LABEL.instance]: order.instance }), [])
}
/** Runs a script in the worker's namespaces as its user, long after it was started. */
async function inside(order: WireOrder, script: string): Promise<void> {
  const { pid } = await engine.inspect(`orc-${order.instance}-worker`)
  const enter = ['--target', String(pid), '--mount', '--root', '--setuid', '1000', '--setgid', '1000']
  const { status, stderr } = spawnSync('nsenter', [...enter, '/bin/sh', '-c', script], { encoding: 'utf8' })
  assert.equal(status, 0, stderr)
}
const toldOf = (order: WireOrder) => told.filter(({ instance }) => instance === order.instance).map(({ text }) => text)
const noticesOf = (order: WireOrder) => notices.filter((text) => text.includes(order.instance))

test('what any service writes is told, once; what it writes later is told too', async () => {
  const order = await launch(`echo '{"url":"http://x/"}' > ${FILE}`)
  await until('it is told', () => toldOf(order).length > 0, { deadlineMs: 10_000 })
  assert.deepEqual(toldOf(order), ['{"url":"http://x/"}\n'])
  await inside(order, `echo '{"url":"http://y/"}' > ${FILE}.new && mv ${FILE}.new ${FILE}`)
  await until('the change is told', () => toldOf(order).length > 1, { deadlineMs: 20_000 })
  assert.deepEqual(toldOf(order).at(-1), '{"url":"http://y/"}\n')
  assert.deepEqual(noticesOf(order), [])
  await end(order)
})

test('what was told is told again when asked to, and of a new generation: the one before may not have been heard', async () => {
  const order = await launch(`echo 1 > ${FILE}`)
  const times = (count: number) => until(`told ${count} times`, () => toldOf(order).length === count)
  await times(1)
  outputs.repeat()
  await times(2)
  wanted.set(order.instance, { ...order, generation: order.generation + 1 })
  await times(3)
  assert.deepEqual(new Set(toldOf(order)), new Set(['1\n']))
  await end(order)
})

test('what is no small JSON file is not read, and that is told once; put right it is read', async () => {
  const much = MAX_OUTPUTS_BYTES + 1
  const hostile: readonly (readonly [string, RegExp])[] = [
    [`ln -s /etc/passwd ${FILE}`, /symbolic link/],
    [`ln -s /proc/1/environ ${FILE}`, /symbolic link/],
    [`ln -s / ${FILE}`, /symbolic link/],
    [`mkdir ${FILE}; echo '{}' > ${FILE}/outputs.json`, /folder/],
    [`mkfifo ${FILE}`, /device, pipe or socket/],
    [`dd if=/dev/zero of=${FILE} bs=${much} count=1`, new RegExp(`more than ${MAX_OUTPUTS_BYTES} bytes`)],
    [`dd if=/dev/zero of=${FILE} bs=1 count=1 seek=100G`, new RegExp(`more than ${MAX_OUTPUTS_BYTES} bytes`)],
    [`echo '{"url":' > ${FILE}`, /not JSON/],
    [`printf '"\\377\\376"' > ${FILE}`, /not UTF-8/],
    [`: > ${FILE}`, /not JSON/],
  ]
  const orders = await Promise.all(hostile.map(([script]) => launch(script)))
  for (const [at, [script, words]] of hostile.entries()) {
    const order = orders[at] ?? assert.fail()
    await until(`${script} is told`, () => noticesOf(order).length > 0, { deadlineMs: 20_000 })
    assert.match(noticesOf(order)[0] ?? '', words)
  }
  for (const order of orders) {
    await inside(order, `rm -r ${FILE}; echo '{"right":1}' > ${FILE}`)
    await until('it is read', () => toldOf(order).length > 0, { deadlineMs: 20_000 })
    assert.deepEqual(toldOf(order), ['{"right":1}\n'])
    assert.equal(noticesOf(order).length, 1)
  }
  for (const order of orders) {
    wanted.delete(order.instance)
    await lab.removeContainers(`${LABEL.instance}=${order.instance}`)
    await createVolumes({ engine }).forget(order.instance, [order])
  }
})

test('a file of the most bytes that are allowed is read whole', async () => {
  const order = await launch('true')
  const { pid } = await engine.inspect(`orc-${order.instance}-worker`)
  const text = JSON.stringify('x'.repeat(MAX_OUTPUTS_BYTES - 2))
  writeFileSync(`/proc/${pid}/root${FILE}`, text)
  await until('it is told', () => toldOf(order).length > 0, { deadlineMs: 20_000 })
  assert.ok(toldOf(order)[0] === text)
  await end(order)
})

test('an instance that is gone, or whose container is, is no fault of its outputs', async () => {
  const order = await launch('true')
  await lab.removeContainers(`${LABEL.instance}=${order.instance}`)
  const other = await launch(`echo 1 > ${FILE}`)
  await until('others go on', () => toldOf(other).length > 0, { deadlineMs: 20_000 })
  assert.deepEqual([toldOf(order), noticesOf(order)], [[], []])
  wanted.delete(order.instance)
  await createVolumes({ engine }).forget(order.instance, [order])
  await end(other)
})

test('a file that became something else between the look and the reading is not read either', async () => {
  for (const [script, words] of [
    [`ln -s /etc/passwd ${FILE}`, /symlink/],
    [`mkfifo ${FILE}`, /fifo/],
    [`mkdir ${FILE}`, /directory/],
    [`dd if=/dev/zero of=${FILE} bs=1 count=1 seek=100G`, new RegExp(`more than ${MAX_OUTPUTS_BYTES} bytes`)],
  ] as const) {
    const order = await launch(`${script}; touch /orchestrator/ready`)
    wanted.delete(order.instance)
    const worker = `orc-${order.instance}-worker`
    await until('it is made', async () => (await engine.statPath(worker, '/orchestrator/ready')) !== null)
    const ending = new AbortController()
    const said: string[] = []
    const late = createOutputs({
      // As it was a moment ago.
      engine: { ...engine, statPath: async () => ({ kind: 'file', size: 9, modifiedAt: new Date().toISOString() }) },
      ...{ orders: { wanted: () => [order] }, now: Date.now, notice: (_level, _code, message) => said.push(message) },
    })
    const reading = late.watch(ending.signal, (_instance, text) => said.push(`told: ${text}`))
    await until(`${script} is told`, () => said.length > 0, { deadlineMs: 20_000 })
    ending.abort(new Error('seen'))
    await reading
    assert.match(said[0] ?? '', words)
    await end(order)
  }
})
