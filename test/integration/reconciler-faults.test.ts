import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { OrchestratorError } from '../../common/errors.ts'
import { type FakeBackend, fakeBackend } from '../../orchestrator/backends/fake/fake.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { Parameters } from '../../orchestrator/domain/parameter.ts'
import { createIntake } from '../../orchestrator/intake.ts'
import { notice } from '../../orchestrator/reconciler/act.ts'
import type { ReconcilerContext } from '../../orchestrator/reconciler/context.ts'
import { startReconciler } from '../../orchestrator/reconciler/reconciler.ts'
import { StoreFailure } from '../../orchestrator/store/failure.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { alwaysGives } from '../support/choosers.ts'
import { journal, leaseEvent, manualClock, pool, rollOut, silent } from '../support/fixtures.ts'
import { until } from '../support/until.ts'
import { keptWays } from '../support/ways.ts'

const h1 = 'h1' as HostName
const limits = { concurrency: 16, perHost: 4, resyncMs: 3_600_000 }

describe('the reconciler in trouble', () => {
  const ends: (() => Promise<void>)[] = []
  after(async () => {
    for (const end of ends.reverse()) await end()
  })

  /** One host, one lease; `broken` decides whether actions can be recorded. */
  async function world(backend: FakeBackend = fakeBackend(), actionMs = 5000) {
    const directory = mkdtempSync('/tmp/orchestrator-faults-')
    const store = await openStore(`sqlite:${join(directory, 'test.db')}`)
    ends.push(async () => {
      await store.close()
      rmSync(directory, { recursive: true })
    })
    const clock = manualClock()
    const world = { store, clock, backend, broken: false, logged: 0 }
    const failing = new Proxy(store, {
      get(target, name: keyof Store) {
        if (name !== 'settle' || !world.broken) return target[name]
        return () =>
          Promise.reject(new StoreFailure('the store failed (settle)', new Error('database or disk is full')))
      },
    })
    const context: ReconcilerContext = {
      store: failing,
      clock,
      log: { ...silent, error: () => world.logged++ },
      random: () => 0.5,
      measured: () => {},
      actionMs,
      open: (stored) => stored as Parameters,
      expire: async () => {},
      freed: () => {},
      ways: keptWays(),
      backends: new Map([[backend.name, backend]]),
    }
    await rollOut(store)
    await store.putHost({ name: h1, fingerprint: 'f', joinedAt: 0 })
    const reconciler = startReconciler(context, limits)
    ends.push(() => reconciler.stop())
    const intake = createIntake({ store, clock, pool, chooser: alwaysGives(), wake: () => reconciler.wake() })
    const place = journal()
    const grant = () => intake.applyLeases('h1', [place(leaseEvent(1, clock.now()))])
    const one = async () => (await store.instances())[0]
    const running = () =>
      until('it runs', async () => {
        const instance = await one()
        return instance?.state === 'running' && instance
      })
    return Object.assign(world, { context, reconciler, grant, one, running })
  }

  it('rests while nothing can be recorded, instead of doing the same at full speed, and goes on afterwards', async () => {
    const w = await world()
    await w.grant()
    await w.running()
    w.backend.crash((await w.one())?.id ?? assert.fail())
    await w.store.settle((await w.one()) ?? assert.fail(), { state: 'pending', dueAt: w.clock.now() }, w.clock.now())
    w.broken = true
    w.reconciler.wake()
    await until('it was told', () => w.logged === 1)
    for (let n = 0; n < 200; n++) {
      w.reconciler.wake()
      await turn()
    }
    assert.deepEqual([w.logged, w.backend.calls.ensure], [1, 2], 'wakes do not shorten the rest')
    w.broken = false
    w.clock.advance(1000)
    await until('it runs again', () => w.backend.calls.ensure === 3)
    await w.running()
  })

  it('tries what dies young again and again later and later, also when it once ran for long', async () => {
    const w = await world()
    await w.grant()
    const failures: number[] = []
    const waits: number[] = []
    for (let death = 0; death < 4; death++) {
      const { id, generation, address } = await w.running()
      // The first run lasts for ten minutes, the others for a second.
      w.clock.advance(death === 0 ? 600_000 : 1000)
      await w.reconciler.stop()
      await notice(w.context, { instance: id, generation, state: 'stopped', address })
      const instance = (await w.one()) ?? assert.fail()
      failures.push(instance.failures)
      waits.push((instance.dueAt ?? 0) - w.clock.now())
      w.clock.advance(waits.at(-1) ?? 0)
      const next = startReconciler(w.context, limits)
      w.reconciler = next
      ends.push(() => next.stop())
    }
    assert.deepEqual(failures, [0, 1, 2, 3])
    assert.deepEqual(waits, [0, 0, 1000, 2000])
  })

  it('says of what took too long what the host was waiting for', async () => {
    const said = new OrchestratorError('interrupted', 'service web waits for db to be healthy', { retryable: true })
    const backend = fakeBackend()
    backend.ensure = async (_order, _target, signal) => {
      if (!signal.aborted) await once(signal, 'abort')
      throw said
    }
    const w = await world(backend, 20)
    await w.grant()
    const failed = await until('it failed', async () => {
      const instance = await w.one()
      return instance?.failures === 1 && instance
    })
    assert.equal(failed.lastError, 'ensure took longer than 0.02 s: service web waits for db to be healthy')
  })

  it('looks at once at what was to be tried later, when its host tells that it runs', async () => {
    const w = await world()
    w.backend.failNext({ call: 'ensure', when: 'after', error: new Error('the answer was lost') })
    await w.grant()
    const failed = await until('it failed', async () => {
      const instance = await w.one()
      return instance?.failures === 1 && instance
    })
    const { id, generation, address } = failed
    assert.ok(failed.dueAt !== null && failed.dueAt > w.clock.now(), 'it is to be tried later')
    const told = { instance: id, state: 'running', address } as const
    w.reconciler.observed({ ...told, generation: generation + 1 })
    await notice(w.context, { ...told, generation: generation - 1 })
    assert.equal((await w.one())?.dueAt, failed.dueAt, 'another generation says nothing of it')
    w.reconciler.observed({ ...told, generation })
    assert.equal((await w.running()).lastError, null)
    assert.equal(w.backend.calls.ensure, 2)
    const settled = await w.one()
    await notice(w.context, { ...told, generation })
    assert.deepEqual(await w.one(), settled, 'what runs already is left alone')
  })

  it('serves what waited for a host as soon as that joins', async () => {
    const w = await world()
    const place = journal('j2')
    const intake = createIntake({ ...w.context, pool, chooser: alwaysGives(), wake: () => w.reconciler.wake() })
    await intake.applyLeases('h2', [place(leaseEvent(2, w.clock.now(), { source: 'h2' }))])
    await until('it says what it waits for', async () => (await w.one())?.lastError?.includes('h2 has not joined'))
    await w.store.putHost({ name: 'h2' as HostName, fingerprint: 'f', joinedAt: 0 })
    w.reconciler.hostConnected('h2' as HostName)
    assert.equal((await w.running()).host, 'h2')
  })
})
