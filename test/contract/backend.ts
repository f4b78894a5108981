import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { HostUnreachable, OrchestratorError } from '../../common/errors.ts'
import type { Backend } from '../../orchestrator/backends/backend.ts'
import type { Host } from '../../orchestrator/domain/host.ts'
import type { InstanceId, Order } from '../../orchestrator/domain/instance.ts'

/** What the suite needs of a backend under test. */
export interface Subject {
  readonly backend: Backend
  /** A host that answers. */
  readonly host: Host
  /** A host that does not. */
  readonly absent: Host
  /** An order that this backend can carry out; the n-th is another instance with another address. */
  order(n: number, generation?: number): Order
}

/** The promises of `Backend`. Every backend passes the same suite; a plugin's author is done when it does. */
export function backendContract(name: string, subject: () => Promise<Subject>): void {
  const never = new AbortController().signal
  const code = (expected: string) => (error: unknown) => error instanceof OrchestratorError && error.code === expected

  describe(`backend contract: ${name}`, () => {
    const mine = async (s: Subject, id: InstanceId) =>
      (await s.backend.list(s.host, never)).filter((observed) => observed.instance === id)

    it('ensure makes it, again changes nothing, list shows it once', async () => {
      const s = await subject()
      const order = s.order(1)
      const first = await s.backend.ensure(order, s.host, never)
      const second = await s.backend.ensure(order, s.host, never)
      assert.deepEqual([first.state, second.state], ['running', 'running'])
      const found = await mine(s, order.instance)
      assert.equal(found.length, 1)
      assert.deepEqual([found[0]?.state, found[0]?.address], ['running', order.address])
      await s.backend.remove({ id: order.instance, generation: 1 }, s.host, never)
    })

    it('remove takes it away, and gone already is success', async () => {
      const s = await subject()
      const order = s.order(2)
      await s.backend.ensure(order, s.host, never)
      await s.backend.remove({ id: order.instance, generation: 2 }, s.host, never)
      assert.deepEqual(await mine(s, order.instance), [])
      await s.backend.remove({ id: order.instance, generation: 2 }, s.host, never)
      await s.backend.remove({ id: s.order(3).instance, generation: 1 }, s.host, never)
    })

    it('refuses an older generation, for ensure and for remove, and leaves things as they are', async () => {
      const s = await subject()
      const order = s.order(4, 5)
      await s.backend.ensure(order, s.host, never)
      await assert.rejects(s.backend.ensure(s.order(4, 4), s.host, never), code('stale-generation'))
      await assert.rejects(
        s.backend.remove({ id: order.instance, generation: 4 }, s.host, never),
        code('stale-generation'),
      )
      assert.equal((await mine(s, order.instance))[0]?.state, 'running')
      await s.backend.remove({ id: order.instance, generation: 6 }, s.host, never)
      await assert.rejects(s.backend.ensure(order, s.host, never), code('stale-generation'))
      assert.deepEqual(await mine(s, order.instance), [])
    })

    it('comes back after it was removed, with a newer generation', async () => {
      const s = await subject()
      await s.backend.ensure(s.order(5, 1), s.host, never)
      await s.backend.remove({ id: s.order(5).instance, generation: 2 }, s.host, never)
      assert.equal((await s.backend.ensure(s.order(5, 3), s.host, never)).state, 'running')
      await s.backend.remove({ id: s.order(5).instance, generation: 4 }, s.host, never)
    })

    it('ends with one when the same order races with itself', async () => {
      const s = await subject()
      const order = s.order(6)
      await Promise.all(Array.from({ length: 4 }, () => s.backend.ensure(order, s.host, never)))
      assert.equal((await mine(s, order.instance)).length, 1)
      await s.backend.remove({ id: order.instance, generation: 1 }, s.host, never)
    })

    it('says that a host cannot be asked, never that nothing runs there', async () => {
      const s = await subject()
      await assert.rejects(s.backend.list(s.absent, never), HostUnreachable)
      await assert.rejects(s.backend.ensure(s.order(7), s.absent, never), HostUnreachable)
      await assert.rejects(
        s.backend.remove({ id: s.order(7).instance, generation: 1 }, s.absent, never),
        HostUnreachable,
      )
    })

    it('ends at once when its signal is aborted, and finishes its own half-done work when asked again', async () => {
      const s = await subject()
      const order = s.order(8)
      const aborted = AbortSignal.abort(new Error('enough'))
      await assert.rejects(s.backend.ensure(order, s.host, aborted))
      const soon = new AbortController()
      const half = s.backend.ensure(order, s.host, soon.signal)
      soon.abort(new Error('enough'))
      await half.catch(() => {})
      assert.equal((await s.backend.ensure(order, s.host, never)).state, 'running')
      assert.equal((await mine(s, order.instance)).length, 1)
      await s.backend.remove({ id: order.instance, generation: 1 }, s.host, never)
      assert.deepEqual(await mine(s, order.instance), [])
    })
  })
}
