import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { HostUnreachable, OrchestratorError } from '../../common/errors.ts'
import { parseIpv6 } from '../../common/ipv6.ts'
import type { Observed, Order } from '../../orchestrator/domain/instance.ts'
import { backendExtras } from './extras.ts'
import { backendFaults } from './faults.ts'
import { bare, ending, never, steps } from './steps.ts'
import type { Subject } from './subject.ts'

export type { ArmedFault, Fault, FaultInjector, Subject } from './subject.ts'

/**
 * The promises of `Backend`. Every backend passes the same suite; a plugin's author is done when it does.
 * @param subject asked for before each test; it may be the same each time
 */
export function backendContract(name: string, subject: () => Promise<Subject>): void {
  describe(`backend contract: ${name}`, () => {
    callsAgain(subject)
    generations(subject)
    unreachable(subject)
    halfDone(subject)
    backendExtras(subject)
    backendFaults(subject)
  })
}

const code = (expected: string) => (error: unknown) => error instanceof OrchestratorError && error.code === expected

/** It is told where its owner reaches it: at the order's address, or wherever the backend says. */
function reachable(observed: Observed | undefined, order: Order): void {
  const { reach } = observed ?? assert.fail('it is not listed')
  if (reach?.kind === 'translated') assert.equal(parseIpv6(reach.address), reach.address)
  else assert.equal(observed?.address, order.address)
  if (reach?.kind === 'routed') assert.equal(parseIpv6(reach.via), reach.via)
}

function callsAgain(subject: () => Promise<Subject>): void {
  it('ensure makes it, again changes nothing, list shows it once', async () => {
    const s = await subject()
    const { running, listed, gone } = steps(s)
    const order = s.order(1)
    const first = await running(order)
    reachable(first, order)
    const second = await running(order)
    assert.deepEqual([second.reach, second.address], [first.reach, first.address], 'it is where it was')
    const found = await listed(1, order.instance)
    assert.equal(found.length, 1)
    assert.deepEqual([found[0]?.state, found[0]?.generation], ['running', 1])
    reachable(found[0], order)
    assert.deepEqual(found[0]?.reach, first.reach, 'list and ensure say the same')
    await gone(order, 1)
  })

  it('remove takes it away, and gone already is success', async () => {
    const s = await subject()
    const its = steps(s)
    const order = s.order(2)
    await its.running(order)
    await its.gone(order, 2)
    await its.restart()
    await its.gone(order, 2)
    await its.gone(s.order(3), 1)
  })

  it('comes back after it was removed, with a newer generation', async () => {
    const s = await subject()
    const { running, gone } = steps(s)
    await running(s.order(5, 1))
    await gone(s.order(5), 2)
    await running(s.order(5, 3))
    await gone(s.order(5), 4)
  })

  it('ends with one when the same order races with itself, and with none when it races with its end', async () => {
    const s = await subject()
    const { backend, running, listed, gone } = steps(s)
    const order = s.order(6)
    await Promise.all(Array.from({ length: 4 }, () => backend.ensure(order, s.host, never)))
    await running(order)
    assert.equal((await listed(1, order.instance)).length, 1)
    await Promise.allSettled([
      backend.ensure(order, s.host, never),
      backend.remove({ id: order.instance, generation: 2 }, s.host, never),
    ])
    await gone(order, 2)
  })

  it('lists all that there are, and each of them goes alone', async () => {
    const s = await subject()
    const { backend, running, listed } = steps(s)
    const orders = [9, 10, 11].map((n) => s.order(n))
    const ids = orders.map((order) => order.instance)
    await Promise.all(orders.map((order) => running(order)))
    const found = await listed(ids.length, ...ids)
    assert.deepEqual(found.map((observed) => observed.instance).toSorted(), ids.toSorted())
    for (const [index, { instance }] of orders.entries()) {
      await backend.remove({ id: instance, generation: 2 }, s.host, never)
      const left = await listed(ids.length - index - 1, ...ids)
      assert.deepEqual(left.map((observed) => observed.instance).toSorted(), ids.slice(index + 1).toSorted())
    }
    await bare(s)
  })
}

function generations(subject: () => Promise<Subject>): void {
  it('refuses an older generation, for ensure and for remove, and leaves things as they are', async () => {
    const s = await subject()
    const its = steps(s)
    const order = s.order(4, 5)
    const older = { id: order.instance, generation: 4 }
    await its.running(order)
    for (const again of [false, true]) {
      if (again) await its.restart()
      await assert.rejects(its.backend.ensure(s.order(4, 4), s.host, never), code('stale-generation'))
      await assert.rejects(its.backend.remove(older, s.host, never), code('stale-generation'))
    }
    assert.equal((await its.listed(1, order.instance))[0]?.state, 'running')
    await its.gone(order, 6)
    for (const again of [false, true]) {
      if (again) await its.restart()
      await assert.rejects(its.backend.ensure(order, s.host, never), code('stale-generation'))
    }
    assert.deepEqual(await its.listed(0, order.instance), [])
    await bare(s)
  })

  it('takes a newer generation of what runs, without a second one', async () => {
    const s = await subject()
    const { running, listed, gone } = steps(s)
    await running(s.order(12, 1))
    await running(s.order(12, 2))
    const found = await listed(1, s.order(12).instance)
    assert.deepEqual(
      found.map(({ generation, state }) => [generation, state]),
      [[2, 'running']],
    )
    await gone(s.order(12), 3)
  })
}

function unreachable(subject: () => Promise<Subject>): void {
  it('says that a target cannot be asked, never that nothing runs there', async () => {
    const s = await subject()
    await assert.rejects(s.backend.list(s.absent, never), HostUnreachable)
    await assert.rejects(s.backend.ensure(s.order(7), s.absent, never), HostUnreachable)
    await assert.rejects(s.backend.remove({ id: s.order(7).instance, generation: 1 }, s.absent, never), HostUnreachable)
  })
}

function halfDone(subject: () => Promise<Subject>): void {
  it('ends at once when its signal is aborted, and finishes its own half-done work when asked again', async () => {
    const s = await subject()
    const its = steps(s)
    const order = s.order(8)
    const aborted = AbortSignal.abort(new Error('enough'))
    await assert.rejects(its.backend.ensure(order, s.host, aborted))
    await assert.rejects(its.backend.list(s.host, aborted))
    // Later and later, so that another half is done each time.
    for (const ms of [0, 20, 100, 400]) {
      const soon = new AbortController()
      const half = its.backend.ensure(order, s.host, soon.signal)
      setTimeout(() => soon.abort(new Error('enough')), ms)
      await ending(half, soon.signal)
      await its.restart()
    }
    await its.running(order)
    assert.equal((await its.listed(1, order.instance)).length, 1)
    await its.gone(order, 1)
  })

  it('takes away what was left half done, without finishing it first', async () => {
    const s = await subject()
    const its = steps(s)
    for (const [index, ms] of [0, 50, 300].entries()) {
      const order = s.order(13, 2 * index + 1)
      const soon = new AbortController()
      const half = its.backend.ensure(order, s.host, soon.signal)
      setTimeout(() => soon.abort(new Error('enough')), ms)
      await ending(half, soon.signal)
      await its.restart()
      await its.gone(order, order.generation + 1)
    }
  })

  it('goes on with a removal that was cut off', async () => {
    const s = await subject()
    const its = steps(s)
    const order = s.order(14)
    await its.running(order)
    for (const ms of [0, 50, 300]) {
      const soon = new AbortController()
      const half = its.backend.remove({ id: order.instance, generation: 2 }, s.host, soon.signal)
      setTimeout(() => soon.abort(new Error('enough')), ms)
      await ending(half, soon.signal)
      await its.restart()
    }
    await its.gone(order, 2)
  })
}
