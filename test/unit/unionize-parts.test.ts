import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { parseIpv6 } from '../../common/ipv6.ts'
import type { WireOrder } from '../../unionize/contract.ts'
import { engineError } from '../../unionize/engine/failure.ts'
import { hostsDirectory } from '../../unionize/instances/names.ts'
import { createOrders, StaleGeneration } from '../../unionize/instances/orders.ts'
import { pauseProgram, tarOf } from '../../unionize/instances/pause.ts'
import { createRestartDelay } from '../../unionize/instances/restarts.ts'
import { createSequence } from '../../unionize/instances/sequence.ts'
import { createSlots } from '../../unionize/instances/slots.ts'
import { service } from '../support/fixtures.ts'

function folder(t: { after: (end: () => void) => void }): string {
  const path = mkdtempSync(join(tmpdir(), 'unionize-parts-'))
  t.after(() => rmSync(path, { recursive: true }))
  return path
}
function order(generation: number): WireOrder {
  const secret = { target: '/run/secrets/key', content: Buffer.from('hush').toString('base64'), mode: 0o444 as const }
  const web = service({ environment: { SECRET: 'hush' }, files: [secret] })
  const address = parseIpv6('fd00:1::1')
  const owner = { duid: '00:01', iaid: 1 }
  return {
    instance: 'i-one',
    generation,
    owner,
    name: 'one',
    address,
    ownerAddress: address,
    services: [web],
    outputs: false,
    entryPort: null,
  }
}
/** Work that ends when told. */
function piece(started: string[], name: string) {
  const { promise, resolve } = Promise.withResolvers<void>()
  const work = () => {
    started.push(name)
    return promise
  }
  return { work, end: resolve }
}

test('an older generation is refused, also after a restart, and also after the instance is gone', async (t) => {
  const directory = folder(t)
  const open = async () => {
    const orders = createOrders({ directory, now: () => 0 })
    await orders.load()
    return orders
  }
  const first = await open()
  await first.accept(order(3))
  await first.accept(order(3))
  await assert.rejects(first.accept(order(2)), StaleGeneration)
  const second = await open()
  await assert.rejects(second.accept(order(2)), StaleGeneration)
  assert.equal(second.current('i-one')?.ownerAddress, 'fd00:1::1')
  await assert.rejects(second.retire('i-one', 2), StaleGeneration)
  await second.retire('i-one', 4)
  const third = await open()
  await assert.rejects(third.accept(order(4)), StaleGeneration)
  assert.throws(() => third.assertCurrent(order(3)), StaleGeneration)
  await third.accept(order(5))
  assert.equal(third.generation('i-one'), 5)
})

test('neither environment values nor what is in files is kept on disk, and others may not read what is', async (t) => {
  const directory = folder(t)
  const orders = createOrders({ directory, now: () => 0 })
  await orders.load()
  await orders.accept(order(1))
  const kept = readFileSync(join(directory, 'i-one'), 'utf8')
  assert.doesNotMatch(kept, /hush|aHVza/)
  assert.match(kept, /\/run\/secrets\/key/, 'but that there is a file')
  assert.equal(statSync(join(directory, 'i-one')).mode & 0o777, 0o600)
})

test('what a crash left of a record is passed over; gone instances are forgotten after an hour', async (t) => {
  const directory = folder(t)
  writeFileSync(join(directory, 'i-half'), '{"generation":')
  writeFileSync(join(directory, '.i-one.interim'), '')
  let now = 0
  const orders = createOrders({ directory, now: () => now })
  await orders.load()
  assert.deepEqual(readdirSync(directory), [])
  await orders.retire('i-one', 1)
  now = 59 * 60_000
  await orders.forgetOld()
  assert.deepEqual(readdirSync(directory), ['i-one'])
  now = 60 * 60_000
  await orders.forgetOld()
  assert.deepEqual(readdirSync(directory), [])
})

test('slots bound what is done at once; orders go first, stock is made only when nobody waits', async () => {
  const slots = createSlots(2)
  const started: string[] = []
  const [a, b, c, d, e] = ['ensure a', 'ensure b', 'remove c', 'ensure d', 'refill e'].map((name) =>
    piece(started, name),
  )
  assert.ok(a && b && c && d && e)
  const all = [
    slots.run('ensure', a.work),
    slots.run('ensure', b.work),
    slots.run('remove', c.work),
    slots.run('refill', e.work),
    slots.run('ensure', d.work),
  ]
  await turn()
  assert.deepEqual(started, ['ensure a', 'ensure b'])
  a.end()
  await turn()
  assert.deepEqual(started.slice(2), ['ensure d'])
  b.end()
  await turn()
  assert.deepEqual(started.slice(3), ['remove c'])
  c.end()
  await turn()
  assert.equal(started.length, 4, 'an order is still under way')
  d.end()
  await turn()
  assert.deepEqual(started.slice(4), ['refill e'])
  e.end()
  await Promise.all(all)
})

test('who gives up waiting for a slot leaves the queue; a failure frees the slot', async () => {
  const slots = createSlots(1)
  const held = piece([], '')
  const first = slots.run('ensure', held.work)
  const controller = new AbortController()
  const second = slots.run('ensure', async () => assert.fail('it gave up'), controller.signal)
  controller.abort(new Error('enough'))
  await assert.rejects(second, /enough/)
  held.end()
  await first
  await assert.rejects(
    slots.run('ensure', () => Promise.reject(new Error('broken'))),
    /broken/,
  )
  assert.equal(await slots.run('refill', async () => 7), 7)
})

test('work for one key happens in turn, for another beside it', async () => {
  const sequence = createSequence()
  const started: string[] = []
  const [a, b, c] = ['a1', 'a2', 'b1'].map((name) => piece(started, name))
  assert.ok(a && b && c)
  const all = [
    sequence.run('a', undefined, a.work),
    sequence.run('a', undefined, b.work),
    sequence.run('b', undefined, c.work),
  ]
  await turn()
  assert.deepEqual(started, ['a1', 'b1'])
  a.end()
  await turn()
  assert.deepEqual(started, ['a1', 'b1', 'a2'])
  b.end()
  c.end()
  await Promise.all([...all, sequence.settled()])
})

test('what comes for a key while others wait for its work does not keep them waiting', async () => {
  const sequence = createSequence()
  const ended: string[] = []
  const again = (key: string): Promise<void> =>
    sequence.run(key, undefined, async () => {
      await turn()
      ended.push(key)
      if (ended.length < 20) void again(key)
    })
  const all = [again('a'), again('b'), sequence.run('a', undefined, async () => void ended.push('waited'))]
  await sequence.settled()
  assert.ok(ended.includes('waited') && ended.length < 10, String(ended))
  await Promise.all(all)
})

test('the restart delay doubles for what dies again and again, and is forgotten afterwards', () => {
  let now = 0
  const delay = createRestartDelay(() => now)
  assert.deepEqual([delay('x'), delay('x'), delay('x'), delay('y')], [200, 400, 800, 200])
  now = 120_000
  assert.equal(delay('x'), 200)
})

test('names are files of dnsmasq, and interim files are hidden from it', async (t) => {
  const directory = join(folder(t), 'hosts.d')
  const names = hostsDirectory({ directory, domain: 'instance' })
  await names.put('i-one', 'box', 'fd00:1::5')
  await names.put('i-two', 'bag', 'fd00:1::6')
  assert.equal(readFileSync(join(directory, 'i-one'), 'utf8'), 'fd00:1::5 box.instance\n')
  assert.equal(statSync(join(directory, 'i-one')).mode & 0o777, 0o644)
  await names.keepOnly(new Set(['i-two']))
  assert.deepEqual(readdirSync(directory), ['i-two'])
  await names.remove('i-two')
  await names.remove('i-two')
  assert.deepEqual(readdirSync(directory), [])
})

test('a name that was taken away is written again when its instance comes back', async (t) => {
  const directory = folder(t)
  const names = hostsDirectory({ directory, domain: 'instance' })
  await names.put('i-one', 'one', 'fd00:1::1')
  await names.keepOnly(new Set())
  await names.put('i-one', 'one', 'fd00:1::1')
  assert.deepEqual(readdirSync(directory), ['i-one'])
})

test('an order that could not be kept on disk was not accepted', async (t) => {
  const directory = join(folder(t), 'generations')
  const orders = createOrders({ directory, now: () => 0 })
  await orders.load()
  await orders.accept(order(1))
  rmSync(directory, { recursive: true })
  await assert.rejects(orders.accept(order(2)), { code: 'ENOENT' })
  assert.equal(orders.generation('i-one'), 1)
})

test('the sandbox program is an ELF for each architecture, and its tar is one that tar reads', (t) => {
  const path = join(folder(t), 'pause.tar')
  for (const [arch, machine] of [
    ['x64', 62],
    ['arm64', 183],
  ] as const) {
    const elf = pauseProgram(arch)
    assert.equal(elf.readUInt32BE(0), 0x7f454c46)
    assert.equal(elf.readUInt16LE(18), machine)
    assert.ok(elf.length < 256)
    writeFileSync(path, tarOf('pause', elf))
    assert.match(execFileSync('tar', ['-tvf', path], { encoding: 'utf8' }), /^-rwxr-xr-x .* pause$/m)
    assert.deepEqual(execFileSync('tar', ['-xOf', path, 'pause']), elf)
  }
  assert.throws(() => pauseProgram('mips'), { code: 'unsupported-architecture' })
})

test('what the engine says becomes a code that tells what to do next', () => {
  const code = (statusCode: number, message: string) =>
    engineError('start c1', '/socket', Object.assign(new Error(message), { statusCode, json: { message } })).code
  assert.equal(code(404, 'No such image: web:1'), 'image-missing')
  assert.equal(code(404, 'No such container: c1'), 'not-found')
  assert.equal(code(409, 'Conflict. The container name "/x" is already in use by container "y"'), 'name-conflict')
  assert.equal(code(500, 'task 0cae5690: already exists'), 'not-startable')
  assert.equal(code(500, 'failed to start shim: mkdir /run/x/moby/0cae5690: file exists: unknown'), 'not-startable')
  assert.equal(code(500, 'cannot allocate memory'), 'engine-failed')
  assert.equal(code(400, 'bad parameter'), 'engine-refused')
  assert.equal(code(500, 'id already in use'), 'not-startable')
  assert.equal(code(500, 'OCI runtime start failed: cannot start an already running container'), 'start-raced')
  assert.equal(code(500, 'cannot start a stopped process: unknown'), 'start-raced')
  assert.equal(code(409, 'container is marked for removal and cannot be started'), 'not-startable')
  assert.equal(
    engineError('list', '/socket', Object.assign(new Error('x'), { code: 'ENOENT' })).code,
    'engine-unreachable',
  )
})
