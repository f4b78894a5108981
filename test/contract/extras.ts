import assert from 'node:assert/strict'
import { it } from 'node:test'
import { HostUnreachable } from '../../common/errors.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { InstanceId } from '../../orchestrator/domain/instance.ts'
import type { Template } from '../../orchestrator/domain/template.ts'
import { ending, never, steps } from './steps.ts'
import type { Subject } from './subject.ts'

/** One page from one image: a template as plain as can be. */
const plain = (backend: string): Template => ({
  ...{ name: 'contract', version: 'v1', number: 1, summary: 'a page', backend, kind: 'standard', base: null },
  ...{ parameters: [], fixed: {}, outputs: [], entry: { service: 'web', port: null } },
  ...{ lifetime: { graceMs: 0, mostMs: null }, stack: { services: { web: { image: 'web' } } } },
  ...{ files: {}, images: ['web'], weakens: [] },
})

/** What a backend may leave out. */
export function backendExtras(subject: () => Promise<Subject>): void {
  it('keeps apart what belongs to another orchestrator on the same target', async (t) => {
    const s = await subject()
    const other = await s.another?.()
    if (other === undefined) return t.skip('the subject has no other orchestrator')
    const [mine, theirs] = [steps(s), steps({ ...without(s), backend: other })]
    const [a, b] = [s.order(20), s.order(21)]
    await mine.running(a)
    await theirs.running(b)
    assert.deepEqual(await mine.listed(0, b.instance), [])
    assert.deepEqual(await theirs.listed(0, a.instance), [])
    await mine.backend.remove({ id: b.instance, generation: 1 }, s.host, never)
    assert.equal((await theirs.listed(1, b.instance))[0]?.state, 'running', 'it is not ours to remove')
    await theirs.gone(b, 2)
    await mine.gone(a, 2)
    await other.close()
  })

  it('names its targets, and places only there', async (t) => {
    const { backend, host } = await subject()
    if (backend.targets === undefined) {
      assert.equal(backend.place, undefined, 'what has no targets of its own has nothing to choose')
      return t.skip('its instances run where their leases come from')
    }
    const targets = backend.targets()
    assert.ok(targets.includes(host.name), `${host.name} is none of ${targets.join(', ')}`)
    assert.equal(new Set(targets).size, targets.length)
    const load = new Map<HostName, number>([[host.name, 3]])
    if (backend.place) assert.ok(targets.includes(backend.place(plain(backend.name), load)))
  })

  it('estimates a price that does not depend on when it is asked', async (t) => {
    const { backend } = await subject()
    if (backend.price === undefined) return t.skip('it costs nothing')
    const price = backend.price(plain(backend.name))
    assert.deepEqual(backend.price(plain(backend.name)), price)
    if (price === null) return
    assert.ok(Number.isFinite(price.perHour) && price.perHour >= 0)
    assert.match(price.currency, /^[A-Z]{3}$/)
  })

  it('tells what a target is, and that one is away', async (t) => {
    const { backend, host, absent } = await subject()
    if (backend.check === undefined) return t.skip('it has no check')
    const { version, abilities, missing } = await backend.check(host, never)
    assert.match(version, /\S/)
    for (const text of [...abilities, ...missing]) assert.match(text, /\S/)
    await assert.rejects(backend.check(absent, never), HostUnreachable)
    await assert.rejects(backend.check(host, AbortSignal.abort(new Error('enough'))))
  })

  it('watches until it is told to stop, and says so when it cannot', async (t) => {
    const s = await subject()
    if (s.backend.watch === undefined) return t.skip('it is looked at regularly')
    const { running, gone } = steps(without(s))
    const enough = new AbortController()
    const told: InstanceId[] = []
    const watching = s.backend.watch(s.host, ({ instance }) => void told.push(instance), enough.signal)
    let ended = false
    void watching.catch(() => {}).then(() => (ended = true))
    const order = s.order(22)
    await running(order)
    await gone(order, 2)
    assert.equal(ended, false, 'it watches until it is aborted')
    assert.deepEqual(new Set([...told, order.instance]), new Set([order.instance]), 'it tells of ours alone')
    enough.abort(new Error('enough'))
    await ending(watching, enough.signal)
    const away = new AbortController()
    const blind = s.backend.watch(s.absent, () => assert.fail('it tells of a target that is away'), away.signal)
    const limit = setTimeout(() => away.abort(new Error('it goes on watching what is away')), 30_000)
    await assert.rejects(blind, (error) => error !== away.signal.reason)
    clearTimeout(limit)
  })

  it('tells the output of a service that is there, and refuses one that is not', async (t) => {
    const s = await subject()
    if (s.backend.logs === undefined) return t.skip('it has no logs')
    const { running, gone } = steps(without(s))
    const order = s.order(23)
    await running(order)
    for await (const text of s.backend.logs(order.instance, s.host, { tail: 10, follow: false }, never)) {
      assert.equal(typeof text, 'string')
    }
    const nowhere = s.backend.logs(s.order(24).instance, s.host, { tail: 10, follow: false }, never)
    await assert.rejects(async () => {
      for await (const _ of nowhere) assert.fail('something is printed by what does not exist')
    })
    await gone(order, 2)
  })
}

/** The subject as it is, its backend not made anew and its leftovers not looked at: others stand there, too. */
function without({ reopen: _, things: __, ...rest }: Subject): Subject {
  return rest
}
