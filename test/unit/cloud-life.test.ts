import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { HostUnreachable, InvalidInput, NoRoom, OrchestratorError } from '../../common/errors.ts'
import { cloudBackend } from '../../orchestrator/backends/cloud/cloud.ts'
import { parseSettings } from '../../orchestrator/backends/cloud/settings.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { InstanceId } from '../../orchestrator/domain/instance.ts'
import { backendContract } from '../contract/backend.ts'
import { cloudContext, cloudOrder, memoryRecords } from '../support/cloud-backend.ts'
import { manualClock, template } from '../support/fixtures.ts'
import { type MemoryCloud, memoryCloud } from '../support/memory-cloud.ts'

const never = new AbortController().signal
const one = { name: 'one' as HostName }
const price = (perHour: number) => ({ perHour, currency: 'EUR' })
const basic = {
  provider: { kind: 'openstack' },
  regions: { one: null },
  credential: 'lab',
  size: 'small',
  image: 'debian',
  boot: 'cloud-init',
  machines: 3,
  callsPerSecond: 1000,
  prices: { small: price(0.5) },
}

/** A backend on a cloud in memory; `again` is the same after a restart. */
function site(settings: object = {}, cloud: MemoryCloud = memoryCloud()) {
  const clock = manualClock()
  const records = memoryRecords()
  const context = cloudContext(() => ({}), { clock, records })
  const again = () => cloudBackend(parseSettings({ ...basic, ...settings }), context, cloud.kind)
  const backend = again()
  const run = async (n: number, generation = 1, given = {}) => {
    for (let look = 0; ; look++) {
      const observed = await backend.ensure(cloudOrder(n, generation, given), one, never)
      if (observed.state === 'running') return observed
      assert.ok(look < 5, `it does not come up: ${observed.detail}`)
    }
  }
  const remembered = async () => JSON.parse((await records.all()).get('machine/one/i-test1') ?? '{}')
  return { backend, cloud, clock, remembered, again, run, list: () => backend.list(one, never) }
}

const machinesOf = (cloud: MemoryCloud, n: number) =>
  [...cloud.machines.values()].filter(({ order }) => order.instance === cloudOrder(n).instance)

/** The machine of the first instance was made twice, and neither works. */
function spoilFirst(cloud: MemoryCloud): void {
  const [made = assert.fail('it has no machine')] = machinesOf(cloud, 1)
  Object.assign(made, { state: 'failed', spoiled: true })
  const id = `${made.id}0`
  cloud.machines.set(id, { ...made, id })
}

backendContract('cloud, in memory', async () => {
  const cloud = memoryCloud({ instant: true })
  const away = memoryCloud()
  away.trouble = () => {
    throw new HostUnreachable('away', 'the test has it so')
  }
  const kind = {
    bootBytes: cloud.kind.bootBytes,
    create: (settings: unknown, context: Parameters<typeof cloud.kind.create>[1]) =>
      (context.target === 'away' ? away : cloud).kind.create(settings, context),
  }
  const settings = parseSettings({ ...basic, regions: { one: null, away: null }, machines: 20 })
  const open = (context: ReturnType<typeof cloudContext>) => cloudBackend(settings, context, kind)
  const context = cloudContext(() => ({}))
  return {
    backend: open(context),
    host: one,
    absent: { name: 'away' as HostName },
    order: cloudOrder,
    reopen: async () => open(context),
    another: async () => open(cloudContext(() => ({}), { installation: 'fedcba9876543210' })),
    startsWithinMs: 20_000,
    things: async () => [...cloud.machines.keys()],
  }
})

describe('the life of a cloud machine', () => {
  it('is made once, is starting until it has an address, and is reached at that', async () => {
    const { backend, cloud, list } = site()
    const first = await backend.ensure(cloudOrder(1), one, never)
    assert.deepEqual([first.state, first.againMs, first.reach], ['starting', 2000, undefined])
    await backend.ensure(cloudOrder(1), one, never)
    const running = await backend.ensure(cloudOrder(1), one, never)
    assert.deepEqual(running.reach, { kind: 'translated', address: 'fd00:99::1' })
    assert.equal(cloud.machines.size, 1)
    assert.deepEqual(await list(), [running])
  })

  it('is ordered with its tags, its size, and the home host alone admitted', async () => {
    const { cloud, run } = site()
    await run(1, 4, { options: { size: 'large', spot: true } })
    const [{ order } = assert.fail()] = machinesOf(cloud, 1)
    const { tags, bootData, asking: _, ...rest } = order
    const plain = { instance: 'i-test1', generation: 4, name: 'test1', size: 'large', image: 'debian', spot: true }
    assert.deepEqual(rest, { ...plain, admit: 'fd00:feed::1' })
    const { 'orchestrator-installation': installation, ...others } = tags
    assert.match(installation ?? '', /^[0-9a-f]{16}$/)
    const owner = '00-03-00-01-02-00-00-00-00-01-1'
    assert.deepEqual(others, {
      ...{ 'orchestrator-instance': 'i-test1', 'orchestrator-generation': '4', 'orchestrator-owner': owner },
    })
    assert.match(bootData, /^#cloud-config\n/)
  })

  it('keeps its machine when it is asked for again with a newer generation, also after a restart', async () => {
    const { cloud, run, again } = site()
    await run(1, 1)
    assert.equal((await run(1, 3)).generation, 3)
    assert.equal(cloud.machines.size, 1)
    assert.deepEqual(
      (await again().list(one, never)).map(({ generation }) => generation),
      [3],
    )
  })

  it('is made at once after a failure that came before it was asked for', async () => {
    const { backend, cloud, again } = site()
    cloud.trouble = (call, when) => {
      if (call === 'create' && when === 'before') throw new HostUnreachable('one', 'no port could be had')
    }
    await assert.rejects(backend.ensure(cloudOrder(1), one, never), HostUnreachable)
    cloud.trouble = () => {}
    assert.equal(cloud.machines.size, 0)
    await again().ensure(cloudOrder(1), one, never)
    assert.equal(cloud.machines.size, 1)
  })

  it('waits for a machine whose making was never answered, instead of making a second one', async () => {
    const { backend, cloud, clock, again } = site()
    cloud.trouble = (call, when) => {
      if (call === 'create' && when === 'after') throw new HostUnreachable('one', 'its answer was lost')
    }
    await assert.rejects(backend.ensure(cloudOrder(1), one, never), HostUnreachable)
    cloud.trouble = () => {}
    cloud.hidden.add('m1')
    assert.equal((await again().ensure(cloudOrder(1), one, never)).state, 'starting')
    assert.equal(cloud.machines.size, 1)
    cloud.hidden.clear()
    assert.equal((await again().ensure(cloudOrder(1), one, never)).state, 'running')
    assert.equal(cloud.machines.size, 1)
    // And where none was made, one is made in the end.
    cloud.trouble = (call, when) => {
      if (call === 'create' && when === 'before') throw new HostUnreachable('one', 'refused')
    }
    await assert.rejects(backend.ensure(cloudOrder(2), one, never), HostUnreachable)
    cloud.trouble = () => {}
    clock.advance(30_000)
    await again().ensure(cloudOrder(2), one, never)
    assert.equal(machinesOf(cloud, 2).length, 1)
  })

  it('removes also the machine that shows only later', async () => {
    const { backend, cloud, clock } = site()
    cloud.trouble = (call, when) => {
      if (call === 'create' && when === 'after') throw new HostUnreachable('one', 'its answer was lost')
    }
    await assert.rejects(backend.ensure(cloudOrder(1), one, never), HostUnreachable)
    cloud.hidden.add('m1')
    let lists = 0
    cloud.trouble = (call, when) => {
      if (call === 'list' && when === 'after' && ++lists === 3) cloud.hidden.clear()
      setImmediate(() => clock.advance(1000))
    }
    await backend.remove({ id: cloudOrder(1).instance, generation: 2 }, one, never)
    assert.equal(cloud.machines.size, 0)
  })

  it('keeps one of two, and deletes the other whoever looks first', async () => {
    for (const look of ['list', 'ensure'] as const) {
      const { backend, cloud, run, list } = site()
      await run(1)
      const [first = assert.fail()] = machinesOf(cloud, 1)
      cloud.machines.set('m9', { ...first, id: 'm9', createdAt: first.createdAt + 1 })
      const [found] = look === 'list' ? await list() : [await backend.ensure(cloudOrder(1), one, never)]
      assert.equal(found?.reach?.kind === 'translated' && found.reach.address, 'fd00:99::1')
      assert.deepEqual([...cloud.machines.keys()], [first.id], look)
    }
  })

  it('is made anew without a failure when two spoiled each other, whoever looks first', async () => {
    const { backend, cloud, run, list } = site()
    await run(1)
    spoilFirst(cloud)
    assert.deepEqual(
      (await list()).map(({ state }) => state),
      ['stopped'],
    )
    assert.equal(cloud.machines.size, 2, 'they are left to whoever wants the instance')
    cloud.calls.length = 0
    const observed = await backend.ensure(cloudOrder(1), one, never)
    assert.deepEqual([observed.state, observed.againMs], ['starting', 2000])
    assert.deepEqual(cloud.calls, ['list', 'delete', 'delete', 'tidy'])
    await run(1)
    assert.deepEqual([...cloud.machines.keys()], ['m2'])
  })

  it('is made anew though only one of two that spoiled each other could be deleted, and the other seems to run', async () => {
    const { backend, cloud, again, run } = site()
    await run(1)
    spoilFirst(cloud)
    cloud.trouble = (call, when) => {
      if (call === 'delete' && when === 'after') throw new HostUnreachable('one', 'its answer was lost')
    }
    await assert.rejects(backend.ensure(cloudOrder(1), one, never), HostUnreachable)
    cloud.trouble = () => {}
    const [other = assert.fail()] = machinesOf(cloud, 1)
    Object.assign(other, { state: 'running', spoiled: false })
    const after = again()
    assert.deepEqual(
      (await after.list(one, never)).map(({ state }) => state),
      ['stopped'],
    )
    assert.equal((await after.ensure(cloudOrder(1), one, never)).state, 'starting')
    assert.equal(cloud.machines.size, 0)
    await run(1)
    assert.deepEqual([...cloud.machines.keys()], ['m2'])
  })

  it('fails, so that it is tried ever later, where each request is carried out twice', async () => {
    const { backend, cloud, remembered } = site()
    const twice = async () => {
      await backend.ensure(cloudOrder(1), one, never)
      spoilFirst(cloud)
      return await backend.ensure(cloudOrder(1), one, never)
    }
    assert.equal((await twice()).state, 'starting')
    for (let time = 0; time < 3; time++) await assert.rejects(twice(), { code: 'machine-failed', retryable: true })
    assert.equal(cloud.machines.size, 0)
    assert.deepEqual((await remembered()).spoiled, ['m4', 'm40'], 'the last ones alone are remembered')
  })

  it('is made anew without a failure whenever one of them worked in between', async () => {
    const { backend, cloud, run, remembered } = site()
    for (let time = 0; time < 3; time++) {
      await run(1)
      assert.deepEqual((await remembered()).spoiled, [])
      spoilFirst(cloud)
      assert.equal((await backend.ensure(cloudOrder(1), one, never)).state, 'starting')
    }
  })

  it('is told as without room where two failed for that, whether they spoil each other or not', async () => {
    for (const spoiled of [true, false]) {
      const { backend, cloud, run } = site()
      await run(1)
      spoilFirst(cloud)
      const noRoom = { spoiled, detail: 'no host is left', noRoom: true }
      for (const machine of cloud.machines.values()) Object.assign(machine, noRoom)
      await assert.rejects(backend.ensure(cloudOrder(1), one, never), (error) => {
        return error instanceof NoRoom && /no host is left/.test(error.message)
      })
      assert.equal(cloud.machines.size, 0)
    }
  })

  it('is deleted and its reason told when the provider could not make it; no room is no room', async () => {
    for (const [noRoom, kind] of [
      [false, 'machine-failed'],
      [true, 'no-room'],
    ] as const) {
      const { backend, cloud } = site()
      cloud.newState = 'failed'
      await backend.ensure(cloudOrder(1), one, never)
      for (const machine of cloud.machines.values()) Object.assign(machine, { detail: 'no host is left', noRoom })
      await assert.rejects(backend.ensure(cloudOrder(1), one, never), (error) => {
        assert.ok(error instanceof OrchestratorError && error.code === kind && error.retryable)
        assert.match(error.message, /no host is left/)
        return true
      })
      assert.equal(cloud.machines.size, 0)
    }
  })

  it('is made anew when it was stopped, or does not come up for very long', async () => {
    const { backend, cloud, clock, run, list } = site()
    await run(1)
    for (const machine of cloud.machines.values()) machine.state = 'stopped'
    assert.deepEqual(
      (await list()).map(({ state }) => state),
      ['stopped'],
    )
    assert.equal((await backend.ensure(cloudOrder(1), one, never)).state, 'starting')
    assert.deepEqual([...cloud.machines.keys()], ['m2'])
    clock.advance(3_600_000)
    await assert.rejects(backend.ensure(cloudOrder(1), one, never), /does not come up/)
    assert.equal(cloud.machines.size, 0)
  })

  it('is kept where it can be reached, and made anew when it never can', async () => {
    const { backend, cloud, clock, run } = site()
    await run(1)
    const [first = assert.fail()] = machinesOf(cloud, 1)
    // Made by the same request, which came twice: only one of them got the port.
    cloud.machines.set('m0', { ...first, id: 'm0', address: null, createdAt: first.createdAt - 1 })
    assert.equal((await backend.ensure(cloudOrder(1), one, never)).state, 'running')
    assert.deepEqual([...cloud.machines.keys()], [first.id])
    first.address = null
    assert.equal((await backend.ensure(cloudOrder(1), one, never)).state, 'starting')
    clock.advance(61_000)
    await assert.rejects(backend.ensure(cloudOrder(1), one, never), /does not come up/)
    assert.equal(cloud.machines.size, 0)
  })

  it('is no more than the settings allow, also when many are asked for at once', async () => {
    const { backend, cloud } = site({ machines: 3 })
    const outcomes = await Promise.allSettled([1, 2, 3, 4, 5, 6].map((n) => backend.ensure(cloudOrder(n), one, never)))
    const refused = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []))
    assert.equal(cloud.machines.size, 3)
    assert.ok(refused.length === 3 && refused.every((error) => error instanceof NoRoom))
  })

  it('is not made while its home has told no address to admit', async () => {
    const { backend, cloud } = site()
    const home = { name: 'h1' as HostName, address: null }
    await assert.rejects(backend.ensure(cloudOrder(1, 1, { home }), one, never), (error) => {
      return error instanceof OrchestratorError && error.code === 'home-address-unknown' && error.retryable
    })
    assert.equal(cloud.machines.size, 0)
  })

  it('tells the outputs that it printed, of those machines alone that have some', async () => {
    const { cloud, run, list } = site()
    await run(1, 1, { outputs: true })
    await run(2, 1)
    const text = Buffer.from('{"url":"x"}').toString('base64')
    for (const machine of cloud.machines.values()) machine.console = `boot\norchestrator-outputs: ${text}\n`
    cloud.calls.length = 0
    const told = new Map((await list()).map(({ instance, outputs }) => [instance, outputs]))
    assert.deepEqual(Object.fromEntries(told), { 'i-test1': '{"url":"x"}', 'i-test2': undefined })
    assert.equal(cloud.calls.filter((call) => call === 'console').length, 1)
    cloud.trouble = (call) => {
      if (call === 'console') throw new HostUnreachable('one', 'no console today')
    }
    assert.equal((await list()).length, 2, 'a console that cannot be read hides no machine')
  })

  it('shares one list among those who ask at once, and never one from before they asked', async () => {
    const { cloud, run, list } = site()
    await run(1)
    cloud.calls.length = 0
    const lists = Promise.all([list(), list(), list(), list(), list()])
    assert.ok((await lists).every((found) => found.length === 1))
    assert.ok(cloud.calls.filter((call) => call === 'list').length <= 2)
    let release = () => {}
    cloud.trouble = (call, when) =>
      call === 'list' && when === 'after' ? new Promise<void>((resolve) => (release = resolve)) : undefined
    const early = list()
    await new Promise(setImmediate)
    const second = machinesOf(cloud, 1)[0] ?? assert.fail()
    cloud.machines.set('m9', { ...second, id: 'm9', order: { ...second.order, instance: 'i-late' } })
    const late = list()
    cloud.trouble = () => {}
    release()
    assert.equal((await early).length, 1)
    assert.equal((await late).length, 2)
  })
})

describe('where a cloud puts instances, and what they cost', () => {
  const two = { regions: { one: null, two: { zone: 'b' } }, machines: 2, prices: { small: price(0.5), big: price(2) } }
  const options = (given: object) => ({ ...template, options: { cloud: given as never } })

  it('places on the emptiest region, on the one that a template names, and on none that is full', () => {
    const { backend } = site(two)
    const place = (given: object, load: object) =>
      backend.place?.(options(given), new Map(Object.entries(load)) as Map<HostName, number>)
    assert.equal(place({}, { one: 1 }), 'two')
    assert.equal(place({ region: 'one' }, { one: 1 }), 'one')
    assert.throws(() => place({ region: 'one' }, { one: 2 }), NoRoom)
    assert.throws(() => place({}, { one: 2, two: 2 }), NoRoom)
  })

  it('tells the price of the size that a template takes, and none that it does not know', () => {
    const { backend } = site(two)
    assert.deepEqual(backend.price?.(template), price(0.5))
    assert.deepEqual(backend.price?.(options({ size: 'big' })), price(2))
    assert.equal(backend.price?.(options({ size: 'other' })), null)
  })

  it('refuses templates that no cloud can run, naming the field', () => {
    const { backend } = site(two)
    const field = (expected: string) => (error: unknown) => error instanceof InvalidInput && error.field === expected
    const check = (change: object) => () => backend.checkTemplate({ ...template, ...change } as never)
    assert.throws(check(options({ region: 'tow' })), field('x-orchestrator.options.cloud.region'))
    assert.throws(check(options({ sise: 'x' })), field('x-orchestrator.options.cloud.sise'))
    const wiring = { interfaces: [], networks: {} }
    assert.throws(check({ wiring: { ...wiring, networks: { lan: {} } } }), field('networks.lan'))
    assert.throws(check({ wiring: { ...wiring, interfaces: [{}] } }), field('x-orchestrator.interfaces'))
    assert.throws(check({ stack: { services: {}, networks: { lan: null } } }), field('networks.lan'))
    assert.doesNotThrow(check({}))
  })

  it('names what is wrong with its settings', () => {
    const field = (expected: string) => (error: unknown) => error instanceof InvalidInput && error.field === expected
    const parse = (change: object) => () => parseSettings({ ...basic, ...change })
    assert.throws(parse({ machines: 0 }), field('settings.machines'))
    assert.throws(parse({ regions: {} }), field('settings.regions'))
    assert.throws(parse({ sise: 'x' }), field('settings.sise'))
    assert.throws(
      parse({ prices: { small: { perHour: -1, currency: 'EUR' } } }),
      field('settings.prices.small.perHour'),
    )
    assert.throws(parse({ boot: 'ignition', packages: ['docker.io'] }), field('settings.packages'))
    assert.throws(() => site({ regions: { one: { color: 'red' } } }), field('settings.provider.color'))
  })

  it('keeps apart two backends and two regions of the same account', async () => {
    const cloud = memoryCloud()
    const { backend } = site({ regions: { one: null, two: null } }, cloud)
    await backend.ensure(cloudOrder(1), one, never)
    const other = cloudBackend(
      parseSettings(basic),
      cloudContext(() => ({}), { name: 'other' }),
      cloud.kind,
    )
    assert.deepEqual(await other.list(one, never), [])
    assert.deepEqual(await backend.list({ name: 'two' as HostName }, never), [])
    await assert.rejects(backend.list({ name: 'three' as HostName }, never), HostUnreachable)
    await backend.remove({ id: 'i-test1' as InstanceId, generation: 2 }, one, never)
    assert.equal(cloud.machines.size, 0)
  })
})
