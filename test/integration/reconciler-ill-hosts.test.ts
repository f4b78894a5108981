import assert from 'node:assert/strict'
import { afterEach, describe, it } from 'node:test'
import { systemClock } from '../../common/clock.ts'
import { OrchestratorError } from '../../common/errors.ts'
import { parseIpv6 } from '../../common/ipv6.ts'
import { type FakeBackend, fakeBackend } from '../../orchestrator/backends/fake/fake.ts'
import type { HostName, Target } from '../../orchestrator/domain/host.ts'
import type { Instance } from '../../orchestrator/domain/instance.ts'
import { createIntake } from '../../orchestrator/intake.ts'
import { notice, reconcile } from '../../orchestrator/reconciler/act.ts'
import type { ReconcilerContext } from '../../orchestrator/reconciler/context.ts'
import { compareTarget } from '../../orchestrator/reconciler/observe.ts'
import { startReconciler } from '../../orchestrator/reconciler/reconciler.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import { alwaysGives } from '../support/choosers.ts'
import { journal, leaseEvent, owner, pool, rollOut, silent } from '../support/fixtures.ts'
import { until } from '../support/until.ts'
import { keptWays } from '../support/ways.ts'

const [h1, h2] = ['h1', 'h2'] as [HostName, HostName]
const m1: Target = { name: 'm1' as HostName }
const never = new AbortController().signal
const ill = () => Promise.reject(new OrchestratorError('engine-unreachable', 'Docker is down', { retryable: true }))
const hangs = (signal: AbortSignal) =>
  new Promise<void>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }))

const ends: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

/** Two hosts that leases come from, and a backend beside them. */
async function world(backend: FakeBackend, { resyncMs = 3_600_000, actionMs = 5000 } = {}) {
  const store = await openStore('sqlite::memory:')
  ends.push(() => store.close())
  const logged: string[] = []
  const told = (event: string) => void logged.push(event)
  const ways = keptWays()
  const context: ReconcilerContext = {
    ...{ store, clock: systemClock, random: () => 0.5, actionMs, ways },
    log: { ...silent, warn: told, error: told },
    backends: new Map([[backend.name, backend]]),
    measured: () => {},
    open: () => ({}),
    expire: async () => {},
    freed: () => {},
  }
  await rollOut(store)
  for (const host of [h1, h2]) {
    await store.putHost({ name: host, fingerprint: 'f', joinedAt: 0 })
    await store.hostConnected(host, { address: 'fd00:9::1' }, 0)
  }
  const start = () => {
    const reconciler = startReconciler(context, { concurrency: 16, perHost: 4, resyncMs })
    ends.push(() => reconciler.stop())
    return reconciler
  }
  const reconciler = start()
  const intake = createIntake({ ...context, pool, chooser: alwaysGives(), wake: () => reconciler.wake() })
  const places = new Map([h1, h2].map((host) => [host, journal(host)]))
  const apply = async (host: HostName, n: number, change = {}) => {
    const place = places.get(host) ?? assert.fail()
    await intake.applyLeases(host, [place(leaseEvent(n, Date.now(), { source: host, ...change }))])
  }
  const one = async (n: number): Promise<Instance> =>
    (await store.instances()).find((instance) => instance.owner.duid === owner(n).duid) ?? assert.fail('there is none')
  const settled = (n: number, state: Instance['state']) =>
    until(`instance ${n} is ${state}`, async () => {
      const instance = await one(n)
      return instance.state === state && instance.settled === instance.generation && instance
    })
  return {
    ...{ store, ways, context, reconciler, backend, logged, start, one, settled },
    apply,
    async grant(host: HostName, n: number) {
      await apply(host, n)
      return await settled(n, 'running')
    },
    async end(host: HostName, n: number) {
      const { expiresAt } = (await store.lease(owner(n))) ?? assert.fail('there is no lease')
      await apply(host, n, { kind: 'ended', expiresAt })
    },
    /** Runs there by an order that nobody gave. */
    async stray(target: Target, from: Instance) {
      const { running } = backend
      const order = [...running.values()].map((orders) => orders.get(from.id)).find((found) => found !== undefined)
      const instance = 'i-stray' as Instance['id']
      await backend.ensure({ ...(order ?? assert.fail()), instance }, target, never)
      return () => backend.running.get(target.name)?.has(instance) === true
    },
    compare: (target: Target, signal = never, busy = (_: Instance['id']) => false) =>
      compareTarget(context, backend, target, busy, signal),
    /** The target goes back to an order before, as a snapshot of it would. */
    async restored(target: Target, id: Instance['id'], generation: number) {
      const place = backend.reach(target)
      const { machines } = await place.machines(0, never)
      const machine = machines.find(({ labels }) => labels.instance === id) ?? assert.fail()
      await place.relabel(machine.id, { ...machine.labels, generation }, never)
    },
  }
}

describe('a host that cannot lead its owners elsewhere', () => {
  it('keeps nobody from finding what is dead on the target, and what nothing asks for', async () => {
    const w = await world(fakeBackend({ targets: [m1.name] }))
    // The dead one lies between two others, in whatever order they are looked at.
    await w.grant(h1, 1)
    const dead = await w.grant(h2, 2)
    await w.grant(h1, 3)
    const isThere = await w.stray(m1, dead)
    await w.reconciler.stop()
    w.backend.crash(dead.id)
    w.ways.open = ill
    await w.compare(m1)
    assert.deepEqual([(await w.one(2)).state, isThere()], ['pending', false])
    for (const n of [1, 3]) assert.equal((await w.one(n)).state, 'running')
    assert.deepEqual(w.logged.sort(), ['orphan.removed', 'way.not-opened', 'way.not-opened'])
  })

  it('keeps nothing waiting but its own owners while it hangs', async () => {
    const w = await world(fakeBackend({ targets: [m1.name] }))
    await w.grant(h1, 1)
    const dead = await w.grant(h1, 2)
    const other = await w.grant(h2, 3)
    const isThere = await w.stray(m1, dead)
    await w.reconciler.stop()
    w.backend.crash(dead.id)
    await w.ways.set(h2, [], never)
    const open = w.ways.open.bind(w.ways)
    w.ways.open = (host, way, signal) => (host === h1 ? hangs(signal) : open(host, way, signal))
    const over = new AbortController()
    const comparing = w.compare(m1, over.signal)
    await until('the other host leads its owner', () => w.ways.of(h2).some((way) => way.instance === other.id))
    assert.deepEqual([(await w.one(2)).state, isThere()], ['pending', false])
    over.abort(new Error('the test is over'))
    await assert.rejects(comparing, /the test is over/)
  })

  it('is asked once in a comparison when it hangs, however many owners it has', async () => {
    const w = await world(fakeBackend({ targets: [m1.name] }), { actionMs: 1000 })
    for (const n of [1, 2, 3, 4]) await w.grant(h1, n)
    await w.reconciler.stop()
    let asked = 0
    w.ways.open = (_host, _way, signal) => {
      if (!signal.aborted) asked++
      signal.throwIfAborted()
      return hangs(signal)
    }
    await w.compare(m1)
    assert.equal(asked, 1)
    assert.deepEqual(w.logged, ['way.not-opened'])
  })

  it('keeps no news of an instance from being told and acted upon', async () => {
    const w = await world(fakeBackend({ targets: [m1.name] }))
    const { id, generation, address } = await w.grant(h1, 1)
    await w.reconciler.stop()
    const later = Date.now() + 3_600_000
    await w.store.settle(await w.one(1), { settled: generation - 1, dueAt: later }, Date.now())
    w.ways.open = ill
    const reach = (await w.one(1)).reach ?? assert.fail()
    const news = { instance: id, generation, address, reach, state: 'running', detail: 'its port is silent' } as const
    await notice(w.context, news)
    assert.ok(((await w.one(1)).dueAt ?? later) < later, 'it is looked at')
    const events = await w.store.events({ limit: 10 })
    assert.ok(events.some(({ kind, message }) => kind === 'instance.silent' && message.includes('its port is silent')))
    assert.deepEqual(w.logged, ['way.not-opened'])
  })

  it('is compared with the store all the same', async () => {
    const w = await world(fakeBackend(), { resyncMs: 50 })
    const { id } = await w.grant(h1, 1)
    w.ways.set = ill
    w.backend.crash(id)
    w.reconciler.hostConnected(h1)
    await until('it is made again', () => w.backend.calls.ensure === 2)
    await until('it is told', () => w.logged.includes('host.ways-failed'))
    assert.ok(!w.logged.includes('host.compare-failed'))
  })

  it('is compared with the store while it hangs over its ways', async () => {
    const w = await world(fakeBackend())
    const isThere = await w.stray({ name: h2 }, await w.grant(h1, 1))
    w.ways.set = (_host, _ways, signal) => hangs(signal)
    w.reconciler.hostConnected(h2)
    await until('the stray is gone', () => !isThere())
  })

  it('is told its ways although what it runs cannot be had', async () => {
    const w = await world(fakeBackend({ targets: [m1.name] }), { resyncMs: 50 })
    await w.grant(h1, 1)
    await w.ways.set(h1, [], never)
    const wakeHost = w.store.wakeHost.bind(w.store)
    w.store.wakeHost = (host, at) => (host === h1 ? ill() : wakeHost(host, at))
    w.reconciler.hostConnected(h1)
    await until('it leads its owner', () => w.ways.of(h1).length === 1)
    await until('it is told', () => w.logged.includes('host.compare-failed'))
  })

  for (const [how, close] of [
    ['is ill', ill],
    ['hangs', (_host: HostName, _id: string, _generation: number, signal: AbortSignal) => hangs(signal)],
  ] as const) {
    it(`keeps no machine that is to go, when it ${how}, and loses the way later`, async () => {
      const w = await world(fakeBackend({ targets: [m1.name] }), { resyncMs: 50, actionMs: 8000 })
      await w.grant(h1, 1)
      const set = w.ways.set
      Object.assign(w.ways, { close, set: ill })
      w.reconciler.hostConnected(h1)
      await w.end(h1, 1)
      const { failures } = await w.settled(1, 'gone')
      assert.deepEqual([failures, w.backend.standing.length, w.ways.of(h1).length], [0, 0, 1])
      assert.ok(w.logged.includes('way.not-closed'))
      w.ways.set = set
      await until('the way is gone', () => w.ways.of(h1).length === 0)
    })
  }
})

describe('owners of instances on a target', () => {
  it('are led there while the removal of what nothing asks for hangs', async () => {
    const w = await world(fakeBackend({ targets: [m1.name] }))
    const { id } = await w.grant(h1, 1)
    await w.stray(m1, await w.one(1))
    await w.reconciler.stop()
    await w.ways.set(h1, [], never)
    w.backend.remove = (_instance, _target, signal) => hangs(signal)
    const over = new AbortController()
    const comparing = w.compare(m1, over.signal)
    await until('the way is there again', () => w.ways.of(h1).some((way) => way.instance === id))
    over.abort(new Error('the test is over'))
    await assert.rejects(comparing, /the test is over/)
  })

  it('take no place of the host of their lease, once their instances are due on the target', async () => {
    const w = await world(fakeBackend({ targets: [m1.name] }))
    const { id } = await w.grant(h1, 1)
    await w.reconciler.stop()
    await w.store.settle(await w.one(1), { state: 'pending', dueAt: Date.now() }, Date.now())
    await reconcile(w.context, id, h1, never)
    assert.deepEqual([w.backend.calls.ensure, (await w.one(1)).state], [1, 'pending'])
    await reconcile(w.context, id, m1.name, never)
    assert.deepEqual([w.backend.calls.ensure, (await w.one(1)).state], [2, 'running'])
  })

  it('are not led back to where an instance ran before it was made anew, by a list from before', async () => {
    const w = await world(fakeBackend({ targets: [m1.name] }))
    await w.grant(h1, 1)
    await w.reconciler.stop()
    const list = w.backend.list.bind(w.backend)
    w.backend.list = async (target, signal) => {
      const before = await list(target, signal)
      const reach = { kind: 'routed', via: parseIpv6('fd00:77::2') } as const
      await w.store.settle(await w.one(1), { reach }, Date.now())
      return before
    }
    const opened: string[] = []
    w.ways.open = async (_host, { reach }) => void opened.push(JSON.stringify(reach))
    await w.compare(m1)
    assert.deepEqual(opened, [])
  })
})

describe('a target that has lost its newest order', () => {
  it('is given it again', async () => {
    for (const [backend, target] of [
      [fakeBackend(), { name: h1 }],
      [fakeBackend({ targets: [m1.name] }), m1],
    ] as const) {
      const w = await world(backend)
      const { id, generation } = await w.grant(h1, 1)
      await w.reconciler.stop()
      await w.restored(target, id, generation - 1)
      await w.compare(target)
      const { state, lastError } = await w.one(1)
      assert.equal(state, 'pending')
      assert.match(lastError ?? '', new RegExp(`${target.name} has lost its newest order`))
      w.start()
      await w.settled(1, 'running')
      const [machine] = backend.standing
      assert.deepEqual([machine?.labels.instance, machine?.labels.generation], [id, generation])
      assert.deepEqual([backend.standing.length, backend.calls.ensure], [1, 2])
    }
  })

  it('is told from one that a newer order is on its way to, and from late news of an older one', async () => {
    const w = await world(fakeBackend())
    const target = { name: h1 }
    const { id, generation, address } = await w.grant(h1, 1)
    await w.reconciler.stop()
    await w.compare(target)
    await notice(w.context, { instance: id, generation: generation - 1, state: 'running', address })
    await w.restored(target, id, generation - 1)
    await w.compare(target, never, (one) => one === id)
    assert.equal((await w.one(1)).state, 'running', 'it was acted upon')
    await w.apply(h1, 1, { address: parseIpv6('fd00:c::2001') })
    const before = await w.one(1)
    assert.deepEqual([before.state, before.settled, before.generation], ['running', generation, generation + 1])
    await w.compare(target)
    assert.deepEqual(await w.one(1), before, 'the newer order is yet to be settled')
  })
})
