import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Registry } from '@prometheus-io/client'
import { HostUnreachable, NoRoom } from '../../common/errors.ts'
import type { Backend } from '../../orchestrator/backends/backend.ts'
import { callMetrics } from '../../orchestrator/backends/call-metrics.ts'
import { createGuards } from '../../orchestrator/backends/guarded.ts'
import { CIRCUIT_LIMITS } from '../../orchestrator/domain/circuit.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { manualClock, template } from '../support/fixtures.ts'

const far = { name: 'far' as HostName }
const near = { name: 'near' as HostName }
const never = new AbortController().signal
const away = new HostUnreachable('far', 'no route')

/** A backend whose targets are away as told, with all that is optional. */
function whole(calls: string[], gone: Set<string>): Required<Backend> {
  const asked = (call: string, target: { name: string }) => {
    calls.push(`${call} ${target.name}`)
    if (gone.has(target.name)) throw away
  }
  return {
    name: 'mine',
    targets: () => [far.name, near.name],
    place: () => near.name,
    checkTemplate: () => {},
    price: () => ({ perHour: 1, currency: 'EUR' }),
    list: async (target) => {
      asked('list', target)
      return []
    },
    ensure: async () => assert.fail('not asked here'),
    remove: async (_, target) => asked('remove', target),
    watch: async (target) => asked('watch', target),
    prepare: async (target) => asked('prepare', target),
    async *logs(_, target) {
      asked('logs', target)
      yield 'one\n'
      yield 'two\n'
    },
    check: async (target) => {
      asked('check', target)
      return { version: '1', abilities: [], missing: [] }
    },
    close: async () => {},
  }
}

function guardedWorld(change: (backend: Required<Backend>) => Backend = (backend) => backend) {
  const clock = manualClock()
  const registry = new Registry()
  const calls: string[] = []
  const gone = new Set<string>()
  const changes: (string | null)[] = []
  const changed = (backend: string, target: string, why: string | null) =>
    void changes.push(`${backend}/${target} ${why === null ? 'back' : `away: ${why}`}`)
  const guards = createGuards({ clock, metrics: callMetrics(registry), changed })
  const backend = guards.guard(change(whole(calls, gone)))
  const list = async (target = far, signal = never) => {
    try {
      await backend.list(target, signal)
      return 'ok'
    } catch (error) {
      return error
    }
  }
  const fail = async (times: number) => {
    for (let n = 0; n < times; n++) await list()
  }
  return { clock, registry, calls, gone, changes, guards, backend, list, fail }
}

describe('a guarded backend', () => {
  it('has what the backend has, and not more', () => {
    const { backend } = guardedWorld()
    assert.deepEqual(Object.keys(backend).toSorted(), Object.keys(whole([], new Set())).toSorted())
    const least = guardedWorld(({ name, checkTemplate, list, ensure, remove, close }) => ({
      ...{ name, checkTemplate, list, ensure, remove, close },
    }))
    assert.deepEqual(
      Object.keys(least.backend).toSorted(),
      ['name', 'checkTemplate', 'list', 'ensure', 'remove', 'close'].toSorted(),
    )
    assert.deepEqual(backend.place?.(template, new Map()), near.name)
    assert.deepEqual(backend.price?.(template), { perHour: 1, currency: 'EUR' })
  })

  it('lets nobody wait for a target that is away, and nobody of another target be refused', async () => {
    const w = guardedWorld()
    w.gone.add('far')
    await w.fail(CIRCUIT_LIMITS.failures)
    assert.deepEqual(w.changes, ['mine/far away: host far cannot be reached: no route'])
    const before = w.calls.length
    const refused = await w.list()
    assert.ok(refused instanceof HostUnreachable)
    assert.match(refused.message, /has not answered since 2027-/)
    assert.equal(refused.retryAfterMs, CIRCUIT_LIMITS.firstMs)
    assert.equal(w.calls.length, before, 'it was not asked')
    assert.equal(await w.list(near), 'ok')
  })

  it('tries once when the time is over, and tells that the target is back', async () => {
    const w = guardedWorld()
    w.gone.add('far')
    await w.fail(CIRCUIT_LIMITS.failures)
    w.clock.advance(CIRCUIT_LIMITS.firstMs)
    assert.equal(await w.list(), away, 'the trial goes there')
    assert.notEqual(await w.list(), away, 'and nothing after it')
    w.gone.clear()
    w.clock.advance(CIRCUIT_LIMITS.firstMs * 2)
    assert.equal(await w.list(), 'ok')
    assert.equal(await w.list(), 'ok')
    assert.equal(w.changes.at(-1), 'mine/far back')
  })

  it('always lets a check through, which closes the circuit when it is answered', async () => {
    const w = guardedWorld()
    w.gone.add('far')
    await w.fail(CIRCUIT_LIMITS.failures)
    await assert.rejects(async () => await w.backend.check?.(far, never), HostUnreachable)
    assert.equal(w.guards.circuit('mine', far.name).state, 'open')
    w.gone.clear()
    assert.equal((await w.backend.check?.(far, never))?.version, '1')
    assert.equal(w.guards.circuit('mine', far.name).state, 'closed')
  })

  it('takes a refusal for an answer, a call that took too long for none, and an end by whoever asked for nothing', async () => {
    const errors: unknown[] = []
    const w = guardedWorld((backend) => ({
      ...backend,
      list: async (_, signal) => {
        signal.throwIfAborted()
        throw errors.shift()
      },
    }))
    const late = AbortSignal.abort(new DOMException('too late', 'TimeoutError'))
    const many = CIRCUIT_LIMITS.failures - 1
    for (let n = 0; n < many; n++) await w.list(far, late)
    for (let n = 0; n < many; n++) await w.list(far, AbortSignal.abort(new Error('we stop')))
    assert.deepEqual(w.guards.circuit('mine', far.name), { state: 'closed', failures: many })
    errors.push(new NoRoom('the quota is used up'))
    await w.list()
    assert.deepEqual(w.guards.circuit('mine', far.name), { state: 'closed', failures: 0 })
    for (let n = 0; n <= many; n++) await w.list(far, late)
    assert.equal(w.guards.circuit('mine', far.name).state, 'open')
  })

  it('takes what is no price for one that is not known, and counts it', async () => {
    for (const strange of [
      { perHour: -1, currency: 'EUR' },
      { perHour: Number.NaN, currency: 'EUR' },
      new Error('no'),
    ]) {
      const w = guardedWorld((backend) => ({
        ...backend,
        price: () => {
          if (strange instanceof Error) throw strange
          return strange
        },
      }))
      assert.equal(w.backend.price?.(template), null)
      assert.match(await w.registry.metrics(), /call="price",outcome="failed"\} 1\n/)
    }
  })

  it('has no circuits for hosts, whose connections tell whether they are there', async () => {
    const w = guardedWorld(({ targets: _, place: __, ...backend }) => backend)
    w.gone.add('far')
    await w.fail(CIRCUIT_LIMITS.failures * 2)
    w.gone.clear()
    assert.equal(await w.list(), 'ok')
  })

  it('hands output on as it comes, also to a reader that has seen enough', async () => {
    const w = guardedWorld()
    const parts: string[] = []
    const read = async (most: number) => {
      for await (const part of w.backend.logs?.('i-1' as never, far, { tail: 1, follow: false }, never) ?? []) {
        parts.push(part)
        if (parts.length === most) break
      }
    }
    await read(2)
    assert.deepEqual(parts, ['one\n', 'two\n'])
    await read(3)
    assert.equal(parts.length, 3)
    w.gone.add('far')
    await assert.rejects(read(9), HostUnreachable)
  })

  it('counts calls by backend, target, call and outcome', async () => {
    const w = guardedWorld()
    await w.list(near)
    w.gone.add('far')
    await w.fail(CIRCUIT_LIMITS.failures + 1)
    const text = await w.registry.metrics()
    const label = (target: string, outcome: string) =>
      `orchestrator_backend_calls_total{backend="mine",target="${target}",call="list",outcome="${outcome}"}`
    assert.ok(text.includes(`${label('near', 'ok')} 1\n`), text)
    assert.ok(text.includes(`${label('far', 'unreachable')} ${CIRCUIT_LIMITS.failures}\n`), text)
    assert.ok(text.includes(`${label('far', 'refused')} 1\n`), text)
    assert.ok(text.includes('orchestrator_backend_target_away{backend="mine",target="far"} 1'), text)
    assert.match(text, /orchestrator_backend_call_seconds_count\{backend="mine",target="near",call="list"\} 1\n/)
  })
})
