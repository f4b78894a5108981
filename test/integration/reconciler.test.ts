import assert from 'node:assert/strict'
import { after, it } from 'node:test'
import { systemClock } from '../../common/clock.ts'
import { OrchestratorError } from '../../common/errors.ts'
import { type FakeBackend, fakeBackend } from '../../orchestrator/backends/fake/fake.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { Instance } from '../../orchestrator/domain/instance.ts'
import { createIntake, type Intake } from '../../orchestrator/intake.ts'
import { type Reconciler, startReconciler } from '../../orchestrator/reconciler/reconciler.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { journal, leaseEvent, pool, silent, template } from '../support/fixtures.ts'
import { onBothStores } from '../support/stores.ts'
import { until } from '../support/until.ts'

const h1 = 'h1' as HostName

onBothStores('reconciler', (open) => {
  const running: Reconciler[] = []
  after(() => Promise.all(running.map((r) => r.stop())))

  interface World {
    readonly store: Store
    readonly url: string
    readonly backend: FakeBackend
    readonly intake: Intake
    readonly reconciler: Reconciler
    readonly place: ReturnType<typeof journal>
  }
  function start(store: Store, backend: FakeBackend, perHost = 4): Reconciler {
    const measured = () => {}
    const context = { store, clock: systemClock, log: silent, random: Math.random, measured, actionMs: 5000 }
    const reconciler = startReconciler(
      { ...context, backends: new Map([[backend.name, backend]]) },
      { concurrency: 16, perHost, resyncMs: 60_000 },
    )
    running.push(reconciler)
    return reconciler
  }
  async function world(backend = fakeBackend(), perHost = 4): Promise<World> {
    const { store, url } = await open()
    await store.transaction((tx) => tx.putTemplate(template))
    for (const name of ['h1', 'h2'] as HostName[]) {
      await store.putHost({ name, fingerprint: 'f', joinedAt: 0 })
      await store.hostConnected(name, {}, 0)
    }
    const reconciler = start(store, backend, perHost)
    const intake = createIntake({
      store,
      clock: systemClock,
      pool,
      template: () => template,
      wake: () => reconciler.wake(),
    })
    return { store, url, backend, intake, reconciler, place: journal() }
  }
  const grant = (w: World, ...numbers: number[]) =>
    w.intake.applyLeases(
      'h1',
      numbers.map((n) => w.place(leaseEvent(n, Date.now()))),
    )
  const one = async (w: World): Promise<Instance | undefined> => (await w.store.instances())[0]
  const settled = (w: World, state: Instance['state']) =>
    until(`the instance is ${state}`, async () => {
      const instance = await one(w)
      return (
        instance?.state === state && instance.settled === instance.generation && instance.dueAt === null && instance
      )
    })
  const count = (w: World) => w.backend.running.get('h1')?.size ?? 0

  it('brings a lease to a running instance and its end to none, and then has nothing to do', async () => {
    const w = await world()
    await grant(w, 1)
    const instance = await settled(w, 'running')
    assert.equal(instance.host, 'h1')
    assert.ok(instance.marks.decidedAt)
    assert.equal(await w.store.nextDue(0), null)
    const { expiresAt } = (await w.store.lease(instance.owner)) ?? {}
    const ended = leaseEvent(1, Date.now(), { kind: 'ended', expiresAt: expiresAt ?? null })
    await w.intake.applyLeases('h1', [w.place(ended)])
    await settled(w, 'gone')
    assert.equal(count(w), 0)
    assert.equal(w.backend.calls.ensure, 1)
    assert.equal(w.backend.calls.remove, 1)
  })

  it('tries again after a failure, later and later, and says what failed', async () => {
    const w = await world()
    const error = new OrchestratorError('image-missing', 'there is no image x')
    w.backend.failNext({ call: 'ensure', when: 'before', error })
    await grant(w, 1)
    const failing = await until('the failure is told', async () => {
      const instance = await one(w)
      return instance?.lastError?.includes('no image x') && instance
    })
    assert.equal(failing.failures, 1)
    assert.ok(failing.dueAt !== null && failing.dueAt > Date.now())
    const told = await until('the failure is an event', async () => {
      const events = (await w.store.events({ limit: 50 })).filter((e) => e.kind === 'instance.failed')
      return events.length > 0 && events
    })
    assert.equal(told.length, 1)
    assert.equal((await settled(w, 'running')).lastError, null)
  })

  it('ends with one when an action took effect and its answer was lost', async () => {
    const w = await world()
    w.backend.failNext({ call: 'ensure', when: 'after', error: new Error('cut') })
    await grant(w, 1)
    await settled(w, 'running')
    assert.equal(count(w), 1)
  })

  it('waits for a host that is away without counting it as a fault, and goes on when it is back', async () => {
    const w = await world()
    w.backend.setReachable('h1', false)
    await grant(w, 1)
    await until('it says that the host is away', async () => (await one(w))?.lastError?.includes('cannot be reached'))
    assert.equal((await one(w))?.failures, 0)
    w.backend.setReachable('h1', true)
    w.reconciler.hostConnected(h1)
    await settled(w, 'running')
    w.reconciler.hostDisconnected(h1)
  })

  it('finds by comparison what died, and remakes it', async () => {
    const w = await world()
    await grant(w, 1)
    const { id } = await settled(w, 'running')
    w.backend.crash(id)
    w.reconciler.hostConnected(h1)
    await until('it was made again', () => w.backend.calls.ensure === 2)
    await settled(w, 'running')
    w.reconciler.hostDisconnected(h1)
  })

  it('concludes nothing from a list that could not be had', async () => {
    const w = await world()
    await grant(w, 1)
    await settled(w, 'running')
    w.backend.failNext({ call: 'list', when: 'before', error: new Error('no answer') })
    w.reconciler.hostConnected(h1)
    await until('the list was asked for', () => w.backend.calls.list === 1)
    assert.equal((await one(w))?.state, 'running')
    w.reconciler.hostDisconnected(h1)
  })

  it('removes what runs although no lease asks for it', async () => {
    const first = await world()
    await grant(first, 1)
    await settled(first, 'running')
    const second = await world(first.backend)
    second.reconciler.hostConnected(h1)
    await until('the stranger is gone', () => count(second) === 0)
    second.reconciler.hostDisconnected(h1)
  })

  it('finishes after a crash what was under way, exactly once', async () => {
    const stuck = fakeBackend({ latency: (signal) => systemClock.wait(60_000, signal) })
    const w = await world(stuck)
    await grant(w, 1, 2, 3)
    await until('work is under way', () => stuck.calls.ensure === 3)
    await w.reconciler.stop()
    const next = await openStore(w.url)
    const backend = fakeBackend()
    const again = start(next, backend)
    await until('all run', async () => (await next.instances()).every((i) => i.state === 'running'))
    assert.equal(backend.running.get('h1')?.size, 3)
    await again.stop()
    await next.close()
  })

  it('is fair: a host with a long queue does not keep another waiting', async () => {
    const slow = fakeBackend({ latency: (signal) => systemClock.wait(20, signal) })
    const w = await world(slow, 2)
    await w.intake.applyLeases(
      'h1',
      Array.from({ length: 30 }, (_, n) => w.place(leaseEvent(n, Date.now()))),
    )
    await w.intake.applyLeases('h2', [journal('j2')(leaseEvent(99, Date.now(), { source: 'h2' }))])
    await until('the other host is served', () => slow.running.get('h2')?.size === 1)
    assert.ok(count(w) < 20, `h1 had ${count(w)} of 30 by then`)
    await until('all are served', () => count(w) === 30)
  })

  it('lets nobody lose a change that comes while an action is under way', async () => {
    const slow = fakeBackend({ latency: (signal) => systemClock.wait(50, signal) })
    const w = await world(slow)
    await grant(w, 1)
    await until('it is being made', () => slow.calls.ensure === 1)
    const instance = await one(w)
    assert.ok(instance)
    await w.intake.dismiss(instance.id)
    await settled(w, 'gone')
    assert.equal(count(w), 0)
  })
})
