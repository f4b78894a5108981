import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { after, before, it } from 'node:test'
import { type Clock, systemClock } from '../../common/clock.ts'
import { OrchestratorError } from '../../common/errors.ts'
import { unlessAborted } from '../../common/unless-aborted.ts'
import { type FakeBackend, fakeBackend } from '../../orchestrator/backends/fake/fake.ts'
import type { Chooser } from '../../orchestrator/catalog/choose.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { Instance } from '../../orchestrator/domain/instance.ts'
import type { StoredParameters } from '../../orchestrator/domain/parameter.ts'
import type { Template } from '../../orchestrator/domain/template.ts'
import { createIntake, type Intake } from '../../orchestrator/intake.ts'
import { openSeal, type Seal } from '../../orchestrator/pki/seal.ts'
import { type Reconciler, startReconciler } from '../../orchestrator/reconciler/reconciler.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { alwaysGives } from '../support/choosers.ts'
import { journal, leaseEvent, manualClock, pool, rollOut, silent, template } from '../support/fixtures.ts'
import { onBothStores } from '../support/stores.ts'
import { until } from '../support/until.ts'
import { keptWays } from '../support/ways.ts'

const h1 = 'h1' as HostName

onBothStores('reconciler', (open) => {
  const directory = mkdtempSync('/tmp/orchestrator-reconciler-')
  after(() => rmSync(directory, { recursive: true }))
  let seal: Seal
  before(async () => {
    seal = await openSeal(directory)
  })
  const running: Reconciler[] = []
  after(() => Promise.all(running.map((r) => r.stop())))

  interface World {
    readonly store: Store
    readonly url: string
    readonly clock: Clock
    readonly backend: FakeBackend
    readonly intake: Intake
    readonly reconciler: Reconciler
    readonly place: ReturnType<typeof journal>
  }
  function start(
    store: Store,
    backend: FakeBackend,
    perHost = 4,
    clock = systemClock,
    intake?: () => Intake,
  ): Reconciler {
    const measured = () => {}
    const context = { store, clock, log: silent, random: Math.random, measured, actionMs: 60_000 }
    const reconciler = startReconciler(
      {
        ...context,
        ways: keptWays(),
        backends: new Map([[backend.name, backend]]),
        open: (stored) => seal.openAll(stored),
        expire: async (id) => intake?.().expire(id),
        freed: () => void intake?.().retryRefused(),
      },
      { concurrency: 16, perHost, resyncMs: 60_000 },
    )
    running.push(reconciler)
    return reconciler
  }
  async function world(
    backend = fakeBackend(),
    perHost = 4,
    chooser: Chooser = alwaysGives(),
    clock = systemClock,
  ): Promise<World> {
    const { store, url } = await open()
    await rollOut(store)
    for (const name of ['h1', 'h2'] as HostName[]) {
      await store.putHost({ name, fingerprint: 'f', joinedAt: 0 })
      await store.hostConnected(name, {}, 0)
    }
    const reconciler = start(store, backend, perHost, clock, () => intake)
    const intake: Intake = createIntake({ store, clock, pool, chooser, wake: () => reconciler.wake() })
    return { store, url, clock, backend, intake, reconciler, place: journal() }
  }
  const grant = (w: World, ...numbers: number[]) =>
    w.intake.applyLeases(
      'h1',
      numbers.map((n) => w.place(leaseEvent(n, w.clock.now()))),
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
    const clock = manualClock(Date.now())
    const w = await world(fakeBackend(), 4, alwaysGives(), clock)
    const error = new OrchestratorError('image-missing', 'there is no image x')
    for (let n = 0; n < 2; n++) w.backend.failNext({ call: 'ensure', when: 'before', error })
    await grant(w, 1)
    for (const [failures, least, most] of [
      [1, 400, 600],
      [2, 800, 1200],
    ] as const) {
      const failing = await until(`failure ${failures} is told`, async () => {
        const instance = await one(w)
        return instance?.failures === failures && instance
      })
      assert.match(failing.lastError ?? '', /no image x/)
      const restMs = (failing.dueAt ?? 0) - clock.now()
      assert.ok(restMs >= least && restMs <= most, `it rests for ${restMs} ms`)
      clock.advance(restMs)
      w.reconciler.wake()
    }
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
    // What is still being recorded of its start is left alone by a comparison: the next one finds it.
    const compared = () => {
      w.reconciler.hostConnected(h1)
      return until('it was made again', () => w.backend.calls.ensure >= 2, { deadlineMs: 1000 }).then(() => true)
    }
    await until('a comparison found it', compared)
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
    const backend = fakeBackend()
    const held = Promise.withResolvers<void>()
    const ensure = backend.ensure.bind(backend)
    backend.ensure = async (order, target, signal) => {
      if (target.name === h1) await unlessAborted(held.promise, signal)
      return await ensure(order, target, signal)
    }
    const w = await world(backend, 2)
    await w.intake.applyLeases(
      'h1',
      Array.from({ length: 30 }, (_, n) => w.place(leaseEvent(n, Date.now()))),
    )
    await w.intake.applyLeases('h2', [journal('j2')(leaseEvent(99, Date.now(), { source: 'h2' }))])
    await until('the other host is served', () => backend.running.get('h2')?.size === 1)
    held.resolve()
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

  /** A lease that becomes this, and what its instance tells. */
  async function telling(given: Template, parameters: StoredParameters = {}, clock = systemClock) {
    const chooser: Chooser = {
      ...alwaysGives(given),
      choose: async () => ({
        kind: 'instance',
        rule: 'r',
        template: given,
        parameters,
        backend: 'fake',
        otherwise: [],
        price: null,
        ...given.lifetime,
      }),
    }
    const w = await world(fakeBackend(), 4, chooser, clock)
    await rollOut(w.store, given)
    await grant(w, 1)
    return w
  }
  const outputs: Template = {
    ...{ ...template, version: 'outputs' },
    outputs: [
      { name: 'page', type: 'url', description: null },
      { name: 'users', type: 'integer', description: null },
    ],
  }
  const eventsOf = async (w: World, kind: string) =>
    (await w.store.events({ limit: 100 })).filter((event) => event.kind === kind).map((event) => event.message)

  it('keeps the outputs that the template declares, and tells what it does not', async () => {
    const w = await telling(outputs)
    const { id, generation, address } = await settled(w, 'running')
    const told = (text: string, of = generation) =>
      w.reconciler.observed({ instance: id, generation: of, state: 'running', address, outputs: text })
    told('{"page": "http://[fd00:1::1]/", "users": 3}')
    await until('they are kept', async () => (await one(w))?.outputs?.['users'] === 3)
    await until('it is told', async () => (await eventsOf(w, 'instance.outputs')).length === 1)
    told('{"users": 4, "page": "javascript:alert(1)", "secret": "x"}')
    await until('the good one is kept', async () => (await one(w))?.outputs?.['users'] === 4)
    assert.deepEqual((await one(w))?.outputs, { users: 4 })
    const refused = await until('the others are told', async () => (await eventsOf(w, 'instance.outputs-refused'))[0])
    assert.match(refused, /"page" is not a URL of http or https; "secret" is not declared/)
    told('{"users": 9}', generation - 1)
    for (let n = 0; n < 5; n++) told(`nonsense ${n}`)
    await until('nonsense leaves nothing', async () => Object.keys((await one(w))?.outputs ?? { x: 1 }).length === 0)
    assert.equal((await eventsOf(w, 'instance.outputs-refused')).length, 1, 'a flood of them is told once')
  })

  it('opens secrets for the order alone', async () => {
    const stack = {
      services: { web: { image: 'a', configs: [{ source: 'pin', target: '/pin' }] } },
      configs: { pin: { content: variable('PIN') } },
    }
    const parameter = {
      description: null,
      required: true,
      default: null,
      values: null,
      pattern: null,
      least: null,
      most: null,
    }
    const given: Template = {
      ...template,
      version: 'secret',
      stack,
      parameters: [{ ...parameter, name: 'PIN', type: 'secret' }],
    }
    const w = await telling(given, { PIN: seal.seal('PIN', 'hunter2') })
    const { id } = await settled(w, 'running')
    const order = w.backend.running.get('h1')?.get(id)
    const pin = order?.services[0]?.files.find(({ target }) => target === '/pin')
    assert.equal(Buffer.from(pin?.content ?? '', 'base64').toString(), 'hunter2')
    assert.doesNotMatch(JSON.stringify([await w.store.instances(), await w.store.events({ limit: 100 })]), /hunter2/)
  })

  it('says what hinders the making of an order, and does not try it all the time', async () => {
    const w = await telling({ ...template, version: 'x' }, { PIN: { sealed: 'v1.00000000.AAAA' } })
    const stuck = await until('it is told', async () => {
      const instance = await one(w)
      return instance?.lastError?.includes('was sealed with another key') && instance
    })
    assert.ok((stuck.dueAt ?? 0) - Date.now() > 500_000, 'it rests for minutes')
    assert.equal(w.backend.calls.ensure, 0)
    await until('it is an event', async () => (await eventsOf(w, 'instance.failed')).length === 1)
  })

  it('ends what may live no longer although its lease goes on', async () => {
    const clock = manualClock(Date.now())
    const w = await telling({ ...template, version: 'short', lifetime: { graceMs: 0, mostMs: 300 } }, {}, clock)
    await until('it runs', async () => (await one(w))?.state === 'running')
    clock.advance(300)
    w.reconciler.wake()
    await settled(w, 'gone')
    assert.equal((await eventsOf(w, 'instance.expired')).length, 1)
    assert.equal((await w.store.leases({ state: 'active' })).length, 1)
  })
})

/** `${NAME}`, as a template has it. */
function variable(name: string): string {
  return `\${${name}}`
}
