import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Host, HostName } from '../../orchestrator/domain/host.ts'
import type { Instance } from '../../orchestrator/domain/instance.ts'
import { type Action, backoff, nextLook, nextTry, plan } from '../../orchestrator/domain/plan.ts'
import { instance } from '../support/instances.ts'
import { fakeHost } from '../support/orders.ts'

const now = 1_800_000_000_000
const hosts: fc.Arbitrary<Host | null> = fc.constantFrom(null, fakeHost('h1'))
const instances: fc.Arbitrary<Instance> = fc
  .record({
    host: fc.constantFrom(null, 'h1' as HostName),
    wanted: fc.constantFrom('running' as const, 'gone' as const),
    state: fc.constantFrom('pending' as const, 'running' as const, 'gone' as const),
    generation: fc.integer({ min: 1, max: 3 }),
    settled: fc.integer({ min: 0, max: 3 }),
    dueAt: fc.constantFrom(null, now - 1, now, now + 1),
    endsAt: fc.constantFrom(null, now - 1, now, now + 1),
  })
  // What runs has a host, and nothing is settled that was never wanted.
  .filter(({ host, state, generation, settled }) => settled <= generation && (state !== 'running' || host !== null))
  .map((fields) => instance(1, fields))

/** What the reconciler records when an action succeeds, or for `expire` intake. */
function carriedOut(before: Instance, action: Action): Instance {
  switch (action.kind) {
    case 'none':
      return before
    case 'wait':
      return { ...before, dueAt: now + 15_000 }
    case 'place':
      return { ...before, host: action.home.name }
    case 'expire':
      return { ...before, wanted: 'gone', generation: before.generation + 1, dueAt: now }
    case 'ensure':
      return { ...before, state: 'running', settled: before.generation, dueAt: nextLook(before) }
    case 'remove':
    case 'retire':
      return { ...before, state: 'gone', settled: before.generation, dueAt: null }
  }
}

describe('plan', () => {
  it('reaches none in at most two actions, from anywhere, when its actions are carried out', () => {
    fc.assert(
      fc.property(instances, hosts, (start, home) => {
        let current = start
        for (let step = 0; step < 2; step++) current = carriedOut(current, plan(current, home, now))
        assert.equal(plan(current, home, now).kind, 'none')
      }),
      { numRuns: 2000 },
    )
  })

  it('ends where intent says, once it was due', () => {
    fc.assert(
      fc.property(instances, (start) => {
        let current: Instance = {
          ...start,
          dueAt: now,
          state: start.wanted === 'running' && start.state === 'gone' ? 'pending' : start.state,
        }
        for (let step = 0; step < 3; step++) current = carriedOut(current, plan(current, fakeHost('h1'), now))
        assert.equal(current.state, current.wanted)
        if (start.endsAt !== null && start.endsAt <= now) assert.equal(current.wanted, 'gone')
        else assert.equal(current.wanted, start.wanted, 'nothing else changes what is wanted')
        if (current.state === 'running') assert.deepEqual([current.settled, current.host], [current.generation, 'h1'])
      }),
    )
  })

  it('decides nothing before its time, and nothing without one', () => {
    fc.assert(
      fc.property(instances, hosts, (start, home) => {
        assert.equal(plan({ ...start, dueAt: null }, home, now).kind, 'none')
        assert.equal(plan({ ...start, dueAt: now + 1 }, home, now).kind, 'none')
      }),
    )
  })

  it('gives the same answer to the same question and changes nothing', () => {
    fc.assert(
      fc.property(instances, hosts, (start, home) => {
        const frozen = Object.freeze({ ...start })
        assert.deepEqual(plan(frozen, home, now), plan(frozen, home, now))
      }),
    )
  })

  it('never touches a backend for what never had a host, and says whose host is missing', () => {
    const nowhere = { host: null, dueAt: now } as const
    assert.equal(plan(instance(1, { ...nowhere, wanted: 'gone' }), null, now).kind, 'retire')
    assert.deepEqual(plan(instance(1, nowhere), null, now), { kind: 'wait', why: 'host h1 has not joined' })
    assert.deepEqual(plan(instance(1, nowhere), fakeHost('h1'), now), { kind: 'place', home: fakeHost('h1') })
  })

  it('makes again what a newer generation wants although it runs', () => {
    const running = instance(1, { host: 'h1' as HostName, state: 'running', settled: 1, generation: 2, dueAt: now })
    assert.equal(plan(running, fakeHost('h1'), now).kind, 'ensure')
    assert.equal(plan({ ...running, settled: 2 }, fakeHost('h1'), now).kind, 'none')
  })
})

describe('the end of an instance', () => {
  const runs = { host: 'h1' as HostName, state: 'running', settled: 1, dueAt: now } as const

  it('comes at its time to the millisecond, whatever it is doing, and never when it has none', () => {
    const home = fakeHost('h1')
    for (const change of [runs, { dueAt: now }, { ...runs, state: 'pending', failures: 9 } as const]) {
      assert.equal(plan(instance(1, { ...change, endsAt: now }), home, now).kind, 'expire')
      assert.notEqual(plan(instance(1, { ...change, endsAt: now + 1 }), home, now).kind, 'expire')
      assert.notEqual(plan(instance(1, { ...change, endsAt: null }), home, now).kind, 'expire')
    }
    assert.equal(plan(instance(1, { ...runs, wanted: 'gone', generation: 2, endsAt: now }), home, now).kind, 'remove')
  })

  it('is when an instance that needs nothing is looked at next, and no retry goes past it', () => {
    assert.equal(nextLook(instance(1, { ...runs, endsAt: now + 5 })), now + 5)
    assert.equal(nextLook(instance(1, runs)), null)
    assert.equal(nextLook(instance(1, { wanted: 'gone', endsAt: now + 5 })), null)
    assert.equal(nextTry(instance(1, { endsAt: now + 5 }), now + 60, now), now + 5)
    assert.equal(nextTry(instance(1, { endsAt: now + 90 }), now + 60, now), now + 60)
    assert.equal(nextTry(instance(1, { endsAt: now }), now + 60, now), now + 60, 'an end that could not be reached')
    assert.equal(nextTry(instance(1), now + 60, now), now + 60)
  })
})

describe('backoff', () => {
  const chance = fc.double({ min: 0, max: 1, noNaN: true })

  it('lies within a fifth around half a second, doubled with each failure, to a minute', () => {
    fc.assert(
      fc.property(fc.nat(10_000), chance, (failures, c) => {
        const base = Math.min(500 * 2 ** Math.max(0, failures - 1), 60_000)
        const ms = backoff(failures, c)
        assert.ok(Number.isInteger(ms) && ms >= base * 0.8 - 1 && ms <= base * 1.2 + 1, `${ms}`)
      }),
    )
    assert.deepEqual(
      [0, 1, 2, 3, 8, 1e9].map((n) => backoff(n, 0.5)),
      [500, 500, 1000, 2000, 60_000, 60_000],
    )
  })

  it('never shrinks with more failures', () => {
    fc.assert(fc.property(fc.nat(2000), chance, (n, c) => assert.ok(backoff(n + 1, c) >= backoff(n, c))))
  })
})
