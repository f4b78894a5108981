import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { Build } from '../../orchestrator/domain/build.ts'
import type { Lease } from '../../orchestrator/domain/lease.ts'
import type { Rule } from '../../orchestrator/domain/rule.ts'
import type { TemplateHead } from '../../orchestrator/domain/template.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { content, leaseEvent, owner, rollOut, template } from '../support/fixtures.ts'
import { instance } from '../support/instances.ts'
import { onBothStores } from '../support/stores.ts'

const DAY = 86_400_000
const rule = (name: string, give: Rule['give'] = null): Rule => ({ name, match: {}, give })
const gift = (version?: string | number) => ({ template: 'sample', version, parameters: {} })

onBothStores('the catalog in the store', (open) => {
  const put = (store: Store, version: string, at = 1, change: Partial<typeof content> = {}) =>
    store.transaction((tx) => tx.putTemplate({ name: 'sample', version }, { ...content, ...change }, at))
  const numbers = async (store: Store) => (await store.templates()).map((t) => `${t.version} ${t.number}`)

  it('numbers versions in the order in which they came, and the same content again is the same version', async () => {
    const { store } = await open()
    assert.deepEqual(await put(store, 'v1'), template)
    assert.equal((await put(store, 'v2')).number, 2)
    assert.deepEqual(await put(store, 'v1', 9, { summary: 'changed' }), template, 'a version never changes')
    assert.equal(
      (await store.transaction((tx) => tx.putTemplate({ name: 'other', version: 'v1' }, content, 1))).number,
      1,
    )
    assert.deepEqual(await store.template({ name: 'sample', version: 'v1' }), template)
    assert.equal(await store.template({ name: 'sample', version: 'v3' }), null)
    const versions = await store.transaction((tx) => tx.templateVersions('sample'))
    assert.deepEqual(
      versions.map((t) => [t.version, t.number]),
      [
        ['v1', 1],
        ['v2', 2],
      ],
    )
    assert.deepEqual((await store.templateNumbers()).length, 3)
  })

  it('gives versions that come at once distinct numbers without a gap', async () => {
    const { store, url } = await open()
    const second = url.startsWith('sqlite:') ? store : await openStore(url)
    try {
      await Promise.all(Array.from({ length: 8 }, (_, n) => put(n % 2 === 0 ? store : second, `v${n}`)))
      const found = (await store.templates()).map((t) => t.number)
      assert.deepEqual(found, [1, 2, 3, 4, 5, 6, 7, 8])
    } finally {
      if (second !== store) await second.close()
    }
  })

  it('gives rules that come at once distinct revisions, and the last one is in force', async () => {
    const { store, url } = await open()
    assert.deepEqual([await store.ruleset(), await store.transaction((tx) => tx.rulesRevision())], [null, 0])
    const second = url.startsWith('sqlite:') ? store : await openStore(url)
    try {
      const revisions = await Promise.all(
        Array.from({ length: 6 }, (_, n) =>
          (n % 2 === 0 ? store : second).transaction(
            async (tx) =>
              (await tx.putRuleset({ rules: [rule(`r${n}`)], quotas: { total: n }, origin: 'api' }, n)).revision,
          ),
        ),
      )
      assert.deepEqual(revisions.toSorted(), [1, 2, 3, 4, 5, 6])
      const last = revisions.indexOf(6)
      const inForce = { revision: 6, rules: [rule(`r${last}`)], quotas: { total: last }, origin: 'api' }
      assert.deepEqual(await store.ruleset(), inForce)
      assert.equal(await store.transaction((tx) => tx.rulesRevision()), 6)
    } finally {
      if (second !== store) await second.close()
    }
  })

  it('keeps the head of each template, and forgets of a removed one all that no instance was made from', async () => {
    const { store } = await open()
    for (const version of ['v1', 'v2', 'v3']) await rollOut(store, { ...template, version })
    const head: TemplateHead = { name: 'sample', version: 'v3', previous: 'v2', origin: 'api' }
    assert.deepEqual(await store.heads(), [head])
    await store.transaction(async (tx) => {
      assert.deepEqual(await tx.head('sample'), head)
      await tx.insertInstance(instance(1, { template: { name: 'sample', version: 'v2' } }))
      await tx.putHead({ ...head, origin: 'directory' }, 2)
      assert.equal((await tx.heads())[0]?.origin, 'directory')
      await tx.removeTemplate('sample')
      await tx.removeTemplate('none')
    })
    assert.deepEqual([await store.heads(), await numbers(store)], [[], ['v2 2']])
    assert.equal((await put(store, 'v4')).number, 3, 'a number that is in use is not given again')
  })

  it('counts the living: all, of a rule, of a DUID', async () => {
    const { store } = await open()
    const count = (of: { rule?: string; duid?: string }) => store.transaction((tx) => tx.countLive(of))
    await store.transaction(async (tx) => {
      await tx.insertInstance(instance(1, { rule: 'a' }))
      await tx.insertInstance(instance(2, { rule: 'a', owner: { duid: owner(1).duid, iaid: 77 } }))
      await tx.insertInstance(instance(3, { rule: 'b', wanted: 'gone' }))
      await tx.insertInstance(instance(4, { rule: 'a', state: 'gone', owner: { duid: owner(1).duid, iaid: 78 } }))
      await tx.insertInstance(instance(5))
    })
    assert.deepEqual(
      await Promise.all([count({}), count({ rule: 'a' }), count({ rule: 'b' }), count({ duid: owner(1).duid })]),
      [4, 2, 1, 2],
    )
    assert.equal(await count({ rule: 'b', duid: owner(1).duid }), 0)
  })

  it('finds refused leases that are active, longest waiting first', async () => {
    const { store } = await open()
    await store.transaction(async (tx) => {
      for (const [n, grantedAt, state, refusal] of [
        [1, 300, 'active', 'full'],
        [2, 100, 'active', 'full'],
        [3, 50, 'active', null],
        [4, 10, 'ended', 'full'],
        [5, 200, 'active', 'full'],
      ] as const) {
        const { owner: o, source, address, facts } = leaseEvent(n, 1)
        const times = { expiresAt: null, grantedAt, updatedAt: 1, endedAt: null }
        await tx.putLease({ owner: o, source, address, facts, state, refusal, ...times })
      }
    })
    const found = (limit: number, after?: Lease) => store.transaction((tx) => tx.refusedLeases(limit, after))
    const waiting = async (limit: number) => (await found(limit)).map((l) => l.owner.iaid)
    const [first] = await found(1)
    assert.deepEqual(
      (await found(9, first)).map((l) => l.owner.iaid),
      [5, 1],
    )
    assert.deepEqual(
      [await waiting(9), await waiting(2)],
      [
        [2, 5, 1],
        [2, 5],
      ],
    )
  })

  it('records outputs of an instance and nothing else of it, so that an action under way still settles', async () => {
    const { store } = await open()
    await store.transaction((tx) => tx.insertInstance(instance(1)))
    const seen = (await store.instance(instance(1).id)) ?? assert.fail()
    await store.setOutputs(seen.id, { url: 'http://[fd00::1]/', users: 3, open: true })
    assert.equal(await store.settle(seen, { state: 'running' }, 5000), true)
    const after = await store.instance(seen.id)
    assert.deepEqual(after?.outputs, { url: 'http://[fd00::1]/', users: 3, open: true })
    assert.deepEqual([after?.state, after?.name], ['running', 'name1'])
  })

  it('keeps builds, newest first, and changes one as it goes on', async () => {
    const { store } = await open()
    const build = (n: number, change: Partial<Build> = {}): Build => ({
      ...{ id: `b-${n}`, template: 'web', source: 'directory site', state: 'waiting', host: null, image: null },
      ...{ error: null, createdAt: n, updatedAt: n, ...change },
    })
    for (const n of [1, 3, 2]) await store.transaction((tx) => tx.putBuild(build(n)))
    const done = build(2, { state: 'done', host: 'h1' as Build['host'], image: 'orchestrator/web:1', updatedAt: 9 })
    await store.transaction((tx) => tx.putBuild(done))
    assert.deepEqual(await store.builds({ limit: 2 }), [build(3), done])
    assert.deepEqual([await store.build('b-2'), await store.build('b-9')], [done, null])
  })

  it('forgets old versions that nothing refers to, and keeps what a head, a rule, an instance or a heir needs', async () => {
    const now = 200 * DAY
    const old = now - 91 * DAY
    const { store } = await open()
    for (const version of ['unused', 'made', 'pinned', 'hashed', 'base', 'previous', 'head'])
      await put(store, version, old)
    await put(store, 'young', now - 89 * DAY)
    await put(store, 'newest', old)
    await store.transaction(async (tx) => {
      const base = { name: 'sample', version: 'base' }
      await tx.putTemplate({ name: 'heir', version: 'h1' }, { ...content, base }, old)
      await tx.putHead({ name: 'heir', version: 'h1', previous: null, origin: 'api' }, old)
      await tx.putHead({ name: 'sample', version: 'head', previous: 'previous', origin: 'api' }, old)
      await tx.insertInstance(
        instance(1, { template: { name: 'sample', version: 'made' }, state: 'gone', updatedAt: now }),
      )
      await tx.putRuleset({ rules: [rule('a', gift('unused'))], quotas: {}, origin: 'api' }, old)
      const rules = [rule('a', gift(3)), rule('b', gift('hashed')), rule('c', gift()), rule('d')]
      await tx.putRuleset({ rules, quotas: {}, origin: 'api' }, old)
      const build = { id: 'b-1', template: 'web', source: 's', host: null, image: null, error: null, createdAt: old }
      await tx.putBuild({ ...build, state: 'failed', updatedAt: old })
      await tx.putBuild({ ...build, id: 'b-2', state: 'building', updatedAt: old })
    })
    await store.prune(5, now)
    const kept = ['made 2', 'pinned 3', 'hashed 4', 'base 5', 'previous 6', 'head 7', 'young 8', 'newest 9']
    assert.deepEqual(await numbers(store), ['h1 1', ...kept])
    assert.deepEqual(
      [(await store.ruleset())?.revision, (await store.builds({ limit: 9 })).map((b) => b.id)],
      [2, ['b-2']],
    )
  })
})
