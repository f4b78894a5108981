import assert from 'node:assert/strict'
import { afterEach, it } from 'node:test'
import { Registry } from '@prometheus-io/client'
import { type Clock, systemClock } from '../../common/clock.ts'
import { NoRoom } from '../../common/errors.ts'
import type { Backend } from '../../orchestrator/backends/backend.ts'
import { callMetrics } from '../../orchestrator/backends/call-metrics.ts'
import { type FakeBackend, fakeBackend } from '../../orchestrator/backends/fake/fake.ts'
import { createFakeWorld } from '../../orchestrator/backends/fake/world.ts'
import { createGuards } from '../../orchestrator/backends/guarded.ts'
import { createChooser } from '../../orchestrator/catalog/choose.ts'
import { CIRCUIT_LIMITS } from '../../orchestrator/domain/circuit.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { Instance } from '../../orchestrator/domain/instance.ts'
import { estimateOf, type Price } from '../../orchestrator/domain/price.ts'
import type { Gift } from '../../orchestrator/domain/rule.ts'
import { createIntake } from '../../orchestrator/intake.ts'
import { type Reconciler, startReconciler } from '../../orchestrator/reconciler/reconciler.ts'
import { journal, leaseEvent, manualClock, owner, pool, rollOut, silent } from '../support/fixtures.ts'
import { memoryRecords } from '../support/records.ts'
import { onBothStores } from '../support/stores.ts'
import { until } from '../support/until.ts'
import { keptWays } from '../support/ways.ts'

const home = 'h1' as HostName
const never = new AbortController().signal
const full = new NoRoom('the quota of 3 machines is used up')

/** A fake backend of that name with one target, `NAME-1`, whose machines start by `clock`. */
function place(
  name: string,
  options: { startsAfterMs?: number; clock?: Clock; pricePerHour?: number } = {},
): FakeBackend {
  const { startsAfterMs = 0, clock = systemClock, pricePerHour } = options
  const context = { name, installation: '0123456789abcdef', clock: systemClock, records: memoryRecords() }
  const world = createFakeWorld({ clock, startsAfterMs })
  return fakeBackend({ targets: [`${name}-1` as HostName], pricePerHour, world, context })
}

onBothStores('a second choice', (open) => {
  const running: Reconciler[] = []
  afterEach(() => Promise.all(running.splice(0).map((reconciler) => reconciler.stop())))

  /** Leases that a rule gives to the first of these backends. */
  async function world(places: readonly FakeBackend[], gift: Partial<Gift> = {}, resyncMs = 60_000) {
    const { store } = await open()
    await rollOut(store)
    await store.putHost({ name: home, fingerprint: 'f', joinedAt: 0 })
    await store.hostConnected(home, { address: 'fd00:9::1' }, 0)
    const guards = createGuards({ clock: systemClock, metrics: callMetrics(new Registry()), changed: () => {} })
    const backends = new Map<string, Backend>(places.map((one) => [one.name, guards.guard(one)]))
    const [backend, ...otherwise] = places.map(({ name }) => name)
    const give = { template: 'sample', parameters: {}, backend, otherwise, ...gift }
    await store.transaction((tx) =>
      tx.putRuleset({ rules: [{ name: 'all', match: {}, give }], quotas: {}, origin: 'api' }, 1),
    )
    const chooser = createChooser({
      ...{ fallback: () => 'sample', trusted: [], seal: { seal: () => assert.fail('there are no secrets') } },
      price: (name, template) => estimateOf(backends.get(name), template),
    })
    const intake = createIntake({ store, clock: systemClock, pool, chooser, wake: () => reconciler.wake() })
    const reconciler = startReconciler(
      {
        ...{ store, clock: systemClock, log: silent, random: Math.random, actionMs: 5000, ways: keptWays(), backends },
        ...{ measured: () => {}, open: () => ({}), expire: async () => {} },
        freed: () => void intake.retryRefused(),
      },
      { concurrency: 16, perHost: 4, resyncMs },
    )
    running.push(reconciler)
    const inOrder = journal()
    const grant = (n: number) => intake.applyLeases(home, [inOrder(leaseEvent(n, Date.now()))])
    const one = async (n = 1) =>
      (await store.instances()).find((instance) => instance.owner.duid === owner(n).duid) ?? assert.fail('none')
    const runs = (n = 1) =>
      until('it runs', async () => {
        const instance = await one(n)
        return instance.state === 'running' && instance.settled === instance.generation && instance
      })
    const told = async (kind: string) =>
      (await store.events({ limit: 100 })).filter((event) => event.kind === kind).map(({ message }) => message)
    return { store, backends, guards, grant, one, runs, told, reconciler }
  }
  const has = (backend: FakeBackend, { id }: Instance) => backend.running.get(`${backend.name}-1`)?.has(id) === true

  it('takes an instance when the first has no room, and says why', async () => {
    const [first, second] = [place('first'), place('second')]
    first.failNext({ call: 'ensure', when: 'before', error: full })
    const w = await world([first, second])
    await w.grant(1)
    const instance = await w.runs()
    assert.deepEqual([instance.backend, instance.host, instance.otherwise], ['second', 'second-1', []])
    assert.deepEqual([has(first, instance), has(second, instance)], [false, true])
    assert.deepEqual([instance.failures, instance.lastError], [0, null])
    const [said] = await w.told('instance.moved')
    assert.match(
      said ?? '',
      /is tried on backend second, as first does not take it: the quota of 3 machines is used up/,
    )
    await w.grant(2)
    assert.equal((await w.runs(2)).backend, 'first', 'the next one is tried at the first again')
  })

  it('takes it at once when the first is known to be away, without asking there', async () => {
    const [first, second] = [place('first'), place('second')]
    first.setReachable('first-1', false)
    const w = await world([first, second])
    await w.grant(1)
    assert.equal((await w.runs()).backend, 'second')
    const guarded = w.backends.get('first') ?? assert.fail()
    for (let n = 0; n < CIRCUIT_LIMITS.failures; n++) {
      await guarded.list({ name: 'first-1' as HostName }, never).catch(() => {})
    }
    assert.equal(w.guards.circuit('first', 'first-1' as HostName).state, 'open')
    const asked = first.calls.ensure
    await w.grant(2)
    assert.equal((await w.runs(2)).backend, 'second')
    assert.equal(first.calls.ensure, asked)
  })

  it('leaves nothing at the first: what took effect there all the same is removed when it answers again', async () => {
    const [first, second] = [place('first'), place('second')]
    first.failNext({ call: 'ensure', when: 'after', error: full })
    const w = await world([first, second], {}, 100)
    await w.grant(1)
    const instance = await w.runs()
    assert.equal(instance.backend, 'second')
    await until('the first has nothing of it', () => !has(first, instance))
    await until('operators are told', async () => (await w.told('orphan.removed')).length === 1)
    assert.ok(has(second, instance), 'and the second still has it')
    assert.equal((await w.one()).state, 'running')
  })

  it('is followed by further ones; the last one keeps it, and is tried again', async () => {
    const all = [place('first'), place('second'), place('third')] as const
    for (const one of all) one.failNext({ call: 'ensure', when: 'before', error: full })
    const w = await world(all)
    await w.grant(1)
    const instance = await w.runs()
    assert.deepEqual([instance.backend, instance.otherwise], ['third', []])
    assert.deepEqual(
      all.map(({ calls }) => calls.ensure),
      [1, 1, 2],
    )
  })

  it('is no matter of other faults, nor of an instance that ran before', async () => {
    const [first, second] = [place('first'), place('second')]
    first.failNext({ call: 'ensure', when: 'before', error: new Error('something broke') })
    const w = await world([first, second])
    await w.grant(1)
    const instance = await w.runs()
    assert.equal(instance.backend, 'first')
    const ensured = first.calls.ensure
    first.failNext({ call: 'ensure', when: 'before', error: full })
    assert.ok(await w.store.settle(await w.one(), { state: 'pending', dueAt: Date.now() }, Date.now()))
    w.reconciler.wake()
    await until('it was refused, and made again', () => first.calls.ensure >= ensured + 2)
    assert.equal((await w.runs()).backend, 'first')
    assert.deepEqual(await w.told('instance.moved'), [])
  })

  it('stays with a target that has taken it and is away for a moment', async () => {
    const clock = manualClock()
    const [first, second] = [place('first', { startsAfterMs: 1000, clock }), place('second')]
    const w = await world([first, second], {}, 200)
    await w.grant(1)
    await until('it was taken', async () => (await w.store.instances())[0]?.marks.acceptedAt !== undefined)
    first.setReachable('first-1', false)
    const compared = first.calls.list
    await until('that it is away was noted', async () => /set to be away/.test((await w.one()).lastError ?? ''))
    await until('the comparison noted it too', () => first.calls.list >= compared + 2)
    first.setReachable('first-1', true)
    clock.advance(1000)
    assert.equal((await w.runs()).backend, 'first')
    assert.equal(second.calls.ensure, 0)
  })

  it('frees the money that the first would have taken', async () => {
    const euros = (perHour: number): Price => ({ perHour, currency: 'EUR' })
    const [dear, cheap] = [place('dear', { pricePerHour: 0.8 }), place('cheap', { pricePerHour: 0.2 })]
    for (let n = 0; n < 3; n++) dear.failNext({ call: 'ensure', when: 'before', error: full })
    const w = await world([dear, cheap], { spend: euros(1) })
    for (const n of [1, 2, 3]) {
      await w.grant(n)
      const instance = await w.runs(n)
      assert.deepEqual([instance.backend, instance.price], ['cheap', euros(0.2)])
    }
    assert.deepEqual(await w.store.transaction((tx) => tx.spentLive({ rule: 'all' })), [euros(0.6)])
  })
})
