import assert from 'node:assert/strict'
import { afterEach, it } from 'node:test'
import { systemClock } from '../../common/clock.ts'
import { NoRoom, OrchestratorError } from '../../common/errors.ts'
import { parseIpv6 } from '../../common/ipv6.ts'
import type { Backend } from '../../orchestrator/backends/backend.ts'
import { type FakeBackend, fakeBackend } from '../../orchestrator/backends/fake/fake.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { Instance, Observed, Reach } from '../../orchestrator/domain/instance.ts'
import { createIntake } from '../../orchestrator/intake.ts'
import { type Reconciler, startReconciler } from '../../orchestrator/reconciler/reconciler.ts'
import { alwaysGives } from '../support/choosers.ts'
import { journal, leaseEvent, owner, pool, rollOut, silent, template } from '../support/fixtures.ts'
import { onBothStores } from '../support/stores.ts'
import { until } from '../support/until.ts'
import { type KeptWays, keptWays } from '../support/ways.ts'

const home = 'h1' as HostName
const routed = (via: string): Reach => ({ kind: 'routed', via: parseIpv6(via) })

/** A backend with targets of its own, on top of the fake one. */
interface Far extends Backend {
  readonly fake: FakeBackend
  names: HostName[]
  reach: Reach | null
  /** How often ensure answers `starting` before it runs. */
  starting: number
  /** Tells of itself. */
  tell(observed: Observed): void
}

function farBackend(...names: string[]): Far {
  const fake = fakeBackend()
  let told: (observed: Observed) => void = () => {}
  const placed = (observed: Observed): Observed => (far.reach === null ? observed : { ...observed, reach: far.reach })
  const far: Far = {
    fake,
    name: 'far',
    names: names as HostName[],
    reach: routed('fd00:2::7'),
    starting: 0,
    targets: () => far.names,
    checkTemplate: () => {},
    list: async (target, signal) => (await fake.list(target, signal)).map(placed),
    async ensure(order, target, signal) {
      if (far.starting > 0) {
        far.starting--
        const { instance, generation, address } = order
        return { instance, generation, address, state: 'starting', againMs: 20, detail: 'the machine boots' }
      }
      return placed(await fake.ensure(order, target, signal))
    },
    remove: (instance, target, signal) => fake.remove(instance, target, signal),
    async watch(_target, tell, signal) {
      told = tell
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    },
    tell: (observed) => told(observed),
    async close() {},
  }
  return far
}

const ended = (signal: AbortSignal) => new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))

onBothStores('the reconciler with targets that are no hosts', (open) => {
  const running: Reconciler[] = []
  afterEach(() => Promise.all(running.splice(0).map((reconciler) => reconciler.stop())))

  async function world(far: Far, resyncMs = 60_000) {
    const { store } = await open()
    const outputs = [{ name: 'page', type: 'url' as const, description: null }]
    const far1 = { ...template, backend: 'far', outputs }
    await rollOut(store, far1)
    await store.putHost({ name: home, fingerprint: 'f', joinedAt: 0 })
    await store.hostConnected(home, { address: 'fd00:9::1' }, 0)
    const ways: KeptWays = keptWays()
    const reconciler = startReconciler(
      {
        ...{ store, clock: systemClock, log: silent, random: Math.random, actionMs: 60_000, ways },
        backends: new Map<string, Backend>([[far.name, far]]),
        measured: () => {},
        open: () => ({}),
        expire: async () => {},
        freed: () => {},
      },
      { concurrency: 16, perHost: 4, resyncMs },
    )
    running.push(reconciler)
    const chooser = alwaysGives(far1)
    const intake = createIntake({ store, clock: systemClock, pool, chooser, wake: () => reconciler.wake() })
    const place = journal()
    const grant = (...numbers: number[]) =>
      intake.applyLeases(
        home,
        numbers.map((n) => place(leaseEvent(n, Date.now()))),
      )
    const end = async (n: number) => {
      const { expiresAt } = (await store.lease(owner(n))) ?? assert.fail('there is no lease')
      await intake.applyLeases(home, [place(leaseEvent(n, Date.now(), { kind: 'ended', expiresAt }))])
    }
    const one = async (n = 1) =>
      (await store.instances()).find((instance) => instance.owner.duid === owner(n).duid) ??
      assert.fail('there is none')
    const settled = (state: Instance['state'], n = 1) =>
      until(`the instance is ${state}`, async () => {
        const instance = await one(n)
        return instance.state === state && instance.settled === instance.generation && instance
      })
    return { store, ways, reconciler, grant, end, one, settled, far }
  }

  it('puts each instance on the target with the fewest, and leads its owner there', async () => {
    const w = await world(farBackend('m1', 'm2'))
    await w.grant(1)
    const first = await w.settled('running')
    await w.grant(2)
    const second = await w.settled('running', 2)
    assert.deepEqual([first.host, second.host].sort(), ['m1', 'm2'])
    const { id, generation, ownerAddress, address, reach } = first
    assert.deepEqual(reach, routed('fd00:2::7'))
    const kept = w.ways.of(home).find((way) => way.instance === id)
    assert.deepEqual(kept, { instance: id, generation, owner: ownerAddress, address, reach })
    const order = w.far.fake.running.get(first.host ?? '')?.get(id)
    assert.deepEqual(order?.home, { name: home, address: 'fd00:9::1' })
  })

  it('cuts the owner off and removes it when the lease ends, also while the host of the lease is away', async () => {
    const w = await world(farBackend('m1'))
    await w.grant(1, 2)
    await w.settled('running')
    await w.settled('running', 2)
    await w.end(1)
    await w.settled('gone')
    assert.equal(w.ways.of(home).length, 1)
    w.ways.setReachable(home, false)
    await w.end(2)
    await w.settled('gone', 2)
    assert.equal(w.far.fake.running.get('m1')?.size, 0)
    w.ways.setReachable(home, true)
    w.reconciler.hostConnected(home)
    await until('the host is told that there are no ways', () => w.ways.of(home).length === 0)
  })

  it('asks again for what starts slowly, without calling it a failure', async () => {
    const far = farBackend('m1')
    far.starting = Number.POSITIVE_INFINITY
    const w = await world(far)
    await w.grant(1)
    const slow = await until('it is told why it waits', async () => {
      const instance = (await w.store.instances())[0]
      return instance?.lastError === 'the machine boots' && instance
    })
    assert.deepEqual([slow.failures, slow.state], [0, 'pending'])
    far.starting = 0
    const there = await w.settled('running')
    assert.deepEqual([there.failures, there.lastError], [0, null])
    const events = await w.store.events({ limit: 100 })
    assert.deepEqual(
      events.filter(({ kind }) => kind === 'instance.failed'),
      [],
    )
  })

  it('tries what fails after its start later and later', async () => {
    const far = farBackend('m1')
    const ensure = far.ensure.bind(far)
    far.ensure = async (order, target, signal) => {
      if (far.starting === 0) {
        far.starting = 1
        throw new OrchestratorError('machine-failed', 'the machine does not boot', { retryable: true })
      }
      return await ensure(order, target, signal)
    }
    far.starting = 1
    const w = await world(far)
    await w.grant(1)
    await until('it has failed three times', async () => (await w.store.instances())[0]?.failures === 3)
  })

  it('does not take what was told of the start, while it waited for it, for the end of what runs', async () => {
    const far = farBackend('m1')
    const ensure = far.ensure.bind(far)
    far.ensure = async (order, target, signal) => {
      const { instance, generation, address } = order
      far.tell({ instance, generation, address, state: 'starting', detail: 'the machine boots' })
      return await ensure(order, target, signal)
    }
    const w = await world(far)
    await w.grant(1)
    await w.settled('running')
    await w.grant(2)
    await w.settled('running', 2)
    const events = await w.store.events({ limit: 100 })
    assert.deepEqual(
      events.filter(({ kind }) => kind === 'instance.lost'),
      [],
    )
    assert.equal((await w.one()).failures, 0)
  })

  it('keeps the outputs that are told once only, while it still starts', async () => {
    for (const way of ['ensure', 'watch'] as const) {
      const far = farBackend('m1')
      const ensure = far.ensure.bind(far)
      far.starting = 1
      far.ensure = async (order, target, signal) => {
        const observed = await ensure(order, target, signal)
        if (observed.state !== 'starting') return observed
        const early = { ...observed, outputs: `{"page": "http://${way}/"}` }
        if (way === 'ensure') return early
        far.tell(early)
        return observed
      }
      const w = await world(far)
      await w.grant(1)
      await w.settled('running')
      assert.deepEqual((await w.one()).outputs, { page: `http://${way}/` })
    }
  })

  it('follows an instance that moves: to another machine, and to the host of its lease', async () => {
    const w = await world(farBackend('m1'), 100)
    await w.grant(1)
    const { id, generation, address } = await w.settled('running')
    const moved = { instance: id, generation, state: 'running', address, reach: routed('fd00:2::8') } as const
    w.far.reach = moved.reach
    w.far.tell(moved)
    await until('the way leads to the other machine', () => {
      const [way] = w.ways.of(home)
      return JSON.stringify(way?.reach) === JSON.stringify(moved.reach)
    })
    w.far.reach = null
    await until('the comparison finds that no way is needed', () => w.ways.of(home).length === 0)
    assert.equal((await w.one()).reach, null)
    assert.equal((await w.one()).state, 'running')
  })

  it('finds what is gone, and removes what nothing asks for, by comparing each target', async () => {
    const w = await world(farBackend('m1'), 50)
    await w.grant(1)
    const { id } = await w.settled('running')
    w.far.fake.crash(id)
    const ensured = w.far.fake.calls.ensure
    await until('it is made again', () => w.far.fake.calls.ensure > ensured)
    const order = w.far.fake.running.get('m1')?.get(id) ?? assert.fail()
    const stray = { ...order, instance: 'i-stray' as Instance['id'] }
    await w.far.fake.ensure(stray, { name: 'm1' as HostName }, new AbortController().signal)
    await until('the stray is gone', () => w.far.fake.running.get('m1')?.has(stray.instance) === false)
    assert.ok(w.far.fake.running.get('m1')?.has(id))
  })

  it('puts instances elsewhere when their target is gone for good', async () => {
    const w = await world(farBackend('m1', 'm2'))
    await w.grant(1)
    const before = await w.settled('running')
    w.far.names = w.far.names.filter((name) => name !== before.host)
    const after = await until('it runs elsewhere', async () => {
      const instance = await w.one()
      return instance.state === 'running' && instance.host !== before.host && instance
    })
    assert.equal(after.generation, before.generation)
    await w.end(1)
    await w.settled('gone')
  })

  it('waits as long as a full target says', async () => {
    const w = await world(farBackend('m1'))
    const error = new NoRoom('the quota is used up', { retryAfterMs: 3_600_000 })
    w.far.fake.failNext({ call: 'ensure', when: 'before', error })
    await w.grant(1)
    const full = await until('it is told', async () => {
      const instance = (await w.store.instances())[0]
      return instance?.lastError?.includes('quota') && instance
    })
    assert.ok((full.dueAt ?? 0) > Date.now() + 3_500_000)
    w.reconciler.targetReturned('m1' as HostName)
    await w.settled('running')
  })

  it('leaves half of all places to hosts, however many targets hang', async () => {
    const names = Array.from({ length: 8 }, (_, n) => `m${n}`)
    const far = farBackend(...names)
    const held = Promise.withResolvers<void>()
    let hanging = 0
    let most = 0
    const ensure = far.ensure.bind(far)
    far.ensure = async (order, target, signal) => {
      most = Math.max(most, ++hanging)
      await Promise.race([held.promise, ended(signal)])
      hanging--
      return ensure(order, target, signal)
    }
    const w = await world(far)
    await w.grant(...Array.from({ length: 24 }, (_, n) => n + 1))
    await until('eight of sixteen places are taken', () => hanging === 8)
    await until('all others have their target', async () =>
      (await w.store.instances()).every(({ host }) => host !== null),
    )
    held.resolve()
    await until('all run', async () => (await w.store.instances()).every(({ state }) => state === 'running'))
    assert.equal(most, 8)
  })

  it('keeps the places of the host of the lease free from a target that hangs', async () => {
    const far = farBackend('m1')
    const hanging = new Set<string>()
    const ensure = far.ensure.bind(far)
    const held = Promise.withResolvers<void>()
    far.ensure = async (order, target, signal) => {
      hanging.add(order.instance)
      await Promise.race([held.promise, ended(signal)])
      return ensure(order, target, signal)
    }
    const w = await world(far)
    await w.grant(1, 2, 3, 4, 5, 6)
    await until('its four places are taken', () => hanging.size === 4)
    await until('nothing waits at the host of the lease', async () =>
      (await w.store.instances()).every(({ host }) => host === 'm1'),
    )
    assert.deepEqual(await w.store.dueHosts(Date.now()), ['m1'])
    held.resolve()
    await until('all run', async () => (await w.store.instances()).every(({ state }) => state === 'running'))
  })
})
