import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, request } from 'node:http'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { LabEngine } from '../../lab/engine.ts'
import { removeImages } from '../../lab/images.ts'
import { runDirectory } from '../../lab/places.ts'
import { LABEL, MAX_OUTPUTS_BYTES, type WireObserved, type WireOrder } from '../../unionize/contract.ts'
import { dockerEngine, type Engine } from '../../unionize/engine/containers.ts'
import { ContainerFailure } from '../../unionize/engine/failure.ts'
import type { Assembled, Assembly } from '../../unionize/instances/assembly.ts'
import { createInstances } from '../../unionize/instances/instances.ts'
import { createOrders } from '../../unionize/instances/orders.ts'
import { createOutputs, type Outputs } from '../../unionize/instances/outputs.ts'
import { ensurePauseImage, PAUSE_IMAGE } from '../../unionize/instances/pause.ts'
import { serviceSpec } from '../../unionize/instances/service.ts'
import { createVolumes } from '../../unionize/instances/volumes.ts'
import { service, silent } from '../support/fixtures.ts'
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
/** A script that writes a whole text at once. */
const write = (text: string) => `echo '${text}' > ${FILE}.new && mv ${FILE}.new ${FILE}`
/** Reads beside the one of all tests while `work` lasts, and then ends. */
async function reading(
  parts: Partial<Parameters<typeof createOutputs>[0]> & { readonly orders: { wanted(): readonly WireOrder[] } },
  report: (instance: string, text: string) => void,
  work: () => Promise<unknown>,
): Promise<void> {
  const ending = new AbortController()
  const notice = (_level: string, _code: string, message: string) => assert.fail(message)
  let ended = false
  const watch = createOutputs({ engine, now: Date.now, notice, ...parts }).watch(ending.signal, report)
  const watched = watch.finally(() => {
    ended = true
  })
  watched.catch(() => {}) // told at the end
  try {
    await work()
  } finally {
    ending.abort(new Error('seen'))
    await until('the watch ends', () => ended, { deadlineMs: 5_000 })
  }
  await watched
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
    const said: string[] = []
    const late = {
      // As it was a moment ago.
      engine: {
        ...engine,
        statPath: async () => ({ kind: 'file', size: 9, modifiedAt: new Date().toISOString() }) as const,
      },
      ...{ orders: { wanted: () => [order] }, notice: (...news: readonly string[]) => said.push(news[2] ?? '') },
    }
    await reading(
      late,
      (_instance, text) => said.push(`told: ${text}`),
      () => until(`${script} is told`, () => said.length > 0, { deadlineMs: 20_000 }),
    )
    assert.match(said[0] ?? '', words)
    await end(order)
  }
})

test('outputs are told as those of the order in force, though it is not carried out yet', async () => {
  const directory = mkdtempSync(join(runDirectory(PREFIX), 'orders-'))
  const orders = createOrders({ directory, now: Date.now })
  const observed: WireObserved[] = []
  const first = await launch(write('1'))
  wanted.delete(first.instance)
  // Its containers are there, and the work on it goes on until it is let go.
  let held = Promise.withResolvers<void>()
  const underWay = async (): Promise<Assembled> => {
    await held.promise
    const at = { sandbox: { id: sandbox }, sandboxes: [sandbox], sandboxAt: 1, startedAt: 1 } as unknown as Assembled
    return { ...at, restarted: true, waiting: [], unhealthy: new Map() }
  }
  const instances = createInstances({
    ...{ engine, orders, host: HOST, log: silent, now: Date.now, tell: (one) => observed.push(one) },
    assembly: { build: underWay, mend: underWay } as unknown as Assembly,
  })
  await reading({ orders }, instances.tellOutputs, async () => {
    for (const generation of [1, 2]) {
      held = Promise.withResolvers<void>()
      const ensured = instances.ensure({ ...first, generation }, stopping.signal)
      await until('it is told', () => observed.length === generation, { deadlineMs: 20_000 })
      held.resolve()
      const done = await ensured
      const { outputs, generation: of, marks } = observed.at(-1) ?? assert.fail()
      assert.deepEqual([outputs, of, marks], ['1\n', generation, {}])
      assert.deepEqual([done.generation, done.marks?.startedAt], [generation, 1])
    }
  })
  await end(first)
})

test('what was read before another order came is not told as that of the new one', async () => {
  const order = await launch(write('1'))
  wanted.delete(order.instance)
  let inForce = order
  const archive: Engine['archive'] = async (...which) => {
    const tar = await engine.archive(...which)
    if (inForce === order) {
      inForce = { ...order, generation: order.generation + 1 }
      await inside(order, write('2'))
    }
    return tar
  }
  const said: string[] = []
  await reading(
    { engine: { ...engine, archive }, orders: { wanted: () => [inForce] } },
    (_instance, text) => said.push(text),
    () => until('it is told', () => said.length > 0, { deadlineMs: 20_000 }),
  )
  assert.deepEqual(said, ['2\n'])
  await end(order)
})

test('an engine that fails once is asked again; what cannot be read for what it is, is not', async () => {
  // Old enough that its time tells it.
  const now = () => Date.now() + 60_000
  const order = await launch(write('1'))
  const broken = await launch(write('{'))
  for (const { instance } of [order, broken]) wanted.delete(instance)
  const calls = { looks: 0, reads: 0, failures: 0 }
  const flaky: Pick<Engine, 'statPath' | 'archive'> = {
    statPath(container, ...which) {
      if (container.includes(broken.instance)) calls.looks++
      return engine.statPath(container, ...which)
    },
    async archive(container, ...which) {
      if (container.includes(broken.instance)) calls.reads++
      else if (calls.failures++ === 0) throw new ContainerFailure('engine-failed', 'it is busy', { retryable: true })
      return engine.archive(container, ...which)
    },
  }
  const said: string[] = []
  await reading(
    { ...{ engine: flaky, now, orders: { wanted: () => [order, broken] } }, notice: (_level, code) => said.push(code) },
    (_instance, text) => said.push(text),
    async () => {
      await until('it is told', () => said.includes('1\n'), { deadlineMs: 20_000 })
      await until('the other is looked at again', () => calls.looks > 2, { deadlineMs: 20_000 })
    },
  )
  assert.deepEqual([said.toSorted(), calls.reads], [['1\n', 'outputs-unreadable'], 1])
  for (const one of [order, broken]) await end(one)
})

/** The engine behind a socket, whose answer to the first reading of each of these breaks off after so many bytes. */
async function stalling(places: Map<string, number>) {
  const directory = mkdtempSync(join(runDirectory(PREFIX), 'relay-'))
  const stalled: string[] = []
  const relay = createServer((asked, answered) => {
    const { url = '', method, headers } = asked
    const onward = request({ socketPath: lab.socket, path: url, method, headers }, (answer) => {
      answered.writeHead(answer.statusCode ?? 500, answer.headers).flushHeaders()
      const [instance, bytes = 0] = [...places].find(([one]) => method === 'GET' && url.includes(one)) ?? []
      if (instance === undefined) return answer.pipe(answered)
      places.delete(instance)
      let left = bytes
      answer.on('data', (chunk: Buffer) => {
        answered.write(chunk.subarray(0, left))
        left -= Math.min(left, chunk.length)
      })
      return answer.on('end', () => stalled.push(instance))
    })
    asked.pipe(onward)
  })
  const socket = join(directory, 'docker.sock')
  await new Promise<void>((resolve) => {
    relay.listen(socket, resolve)
  })
  return {
    engine: dockerEngine(socket),
    stalled,
    [Symbol.dispose]() {
      relay.close()
      relay.closeAllConnections()
    },
  }
}
/** Two instances, and where reading them stalls: before anything comes, and in the middle of the text. */
async function stallingOrders() {
  const text = JSON.stringify('x'.repeat(400))
  const orders = [await launch(write(text)), await launch(write(text))]
  for (const { instance } of orders) wanted.delete(instance)
  const places = new Map(orders.map(({ instance }, at) => [instance as string, at * 700]))
  return { text: `${text}\n`, orders, places }
}

test('an engine that stalls amid an answer is given up, and asked again', async () => {
  const { text, orders, places } = await stallingOrders()
  using engine = await stalling(places)
  const said = new Map<string, string>()
  await reading(
    { engine: engine.engine, orders: { wanted: () => orders } },
    (instance, told) => said.set(instance, told),
    () => until('both are told', () => said.size === 2, { deadlineMs: 30_000 }),
  )
  assert.deepEqual(new Set(engine.stalled), new Set(said.keys()))
  assert.deepEqual(new Set(said.values()), new Set([text]))
  for (const order of orders) await end(order)
})

test('an engine that stalls amid an answer does not keep the watch from its end', async () => {
  const { orders, places } = await stallingOrders()
  using engine = await stalling(places)
  const bothStall = () => engine.stalled.length === 2
  await reading({ engine: engine.engine, orders: { wanted: () => orders } }, assert.fail, () =>
    until('both stall', bothStall, { deadlineMs: 20_000 }),
  )
  for (const order of orders) await end(order)
})
