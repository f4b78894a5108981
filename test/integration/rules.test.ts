import assert from 'node:assert/strict'
import { it } from 'node:test'
import { parseIpv6 } from '../../common/ipv6.ts'
import { type Choice, createChooser } from '../../orchestrator/catalog/choose.ts'
import type { Parameter } from '../../orchestrator/domain/parameter.ts'
import type { Gift, Quotas, Rule, RuleMatch } from '../../orchestrator/domain/rule.ts'
import { createIntake, type Intake } from '../../orchestrator/intake.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { journal, leaseEvent, manualClock, owner, pool, rollOut, template } from '../support/fixtures.ts'
import { onBothStores } from '../support/stores.ts'

/** Shows what was sealed, so that a test can tell; real sealing is test/unit's matter. */
const seal = { seal: (parameter: string, secret: string) => ({ sealed: `${parameter}:${secret.length}` }) }

const gives = (name: string, match: RuleMatch, gift: Partial<Gift> = {}): Rule => ({
  name,
  match,
  give: { template: 'sample', parameters: {}, ...gift },
})
const parameter = (name: string, change: Partial<Parameter>): Parameter => ({
  ...{ name, type: 'string', description: null, required: false, default: null, values: null, pattern: null },
  ...{ least: null, most: null },
  ...change,
})

onBothStores('rules', (open) => {
  /** An orchestrator's part that turns leases into instances, on a store that others may share. */
  function orchestrator(store: Store, trusted: readonly string[] = []) {
    const clock = manualClock()
    const chooser = createChooser({ fallback: () => 'sample', trusted, seal, price: () => 'free' })
    const intake = createIntake({ store, clock, pool, chooser, wake: () => {} })
    return { store, clock, chooser, intake }
  }
  async function setUp(rules: readonly Rule[] | null, quotas: Quotas = {}) {
    const { store, url } = await open()
    await rollOut(store)
    if (rules !== null) await apply(store, rules, quotas)
    const place = journal()
    const parts = orchestrator(store)
    const grant = (n: number, facts = {}, change = {}) =>
      parts.intake.applyLeases('h1', [place(leaseEvent(n, parts.clock.now(), { expiresAt: null, facts, ...change }))])
    return { ...parts, url, place, grant }
  }
  const apply = (store: Store, rules: readonly Rule[], quotas: Quotas = {}) =>
    store.transaction((tx) => tx.putRuleset({ rules, quotas, origin: 'api' }, 1))
  const living = async (store: Store) =>
    (await store.instances({ live: true })).map(({ owner: { iaid } }) => iaid).sort((a, b) => a - b)
  const instanceOf = async (store: Store, n: number) =>
    (await store.instances({ live: true })).find(({ owner: { iaid } }) => iaid === n)
  const refusal = async (store: Store, n: number) => (await store.lease(owner(n)))?.refusal
  const remove = async (store: Store, n: number) => {
    const instance = await instanceOf(store, n)
    assert.ok(instance)
    assert.ok(await store.settle(instance, { state: 'gone', settled: instance.generation }, 1))
  }
  const refusals = async (store: Store) =>
    (await store.events({ limit: 100 })).filter(({ kind }) => kind === 'lease.refused')

  it('give nothing special while there are none: every lease becomes the default template', async () => {
    for (const rules of [null, []]) {
      const { store, grant } = await setUp(rules)
      await grant(1)
      const instance = await instanceOf(store, 1)
      assert.deepEqual([instance?.rule, instance?.template], [null, { name: 'sample', version: 'v1' }])
    }
  })

  it('give the first that matches: template, parameters, backend and lifetime', async () => {
    const rules = [
      gives('printers', { hostname: ['printer-*'] }, { template: 'other' }),
      gives(
        'lab',
        { mac: ['02:00:5e:*'] },
        { parameters: { COLOR: 'red' }, backend: 'special', lifetime: { graceMs: 7, mostMs: 9000 } },
      ),
      gives('rest', {}),
    ]
    const { store, clock, grant } = await setUp(rules)
    await rollOut(store, { ...template, parameters: [parameter('COLOR', { default: 'blue' })], version: 'v2' })
    await rollOut(store, { ...template, name: 'other', lifetime: { graceMs: 5, mostMs: null } })
    await grant(1, { mac: '02:00:5e:00:53:01', hostname: 'laptop' })
    await grant(2, { mac: '02:00:5e:00:53:02', hostname: 'Printer-7' })
    await grant(3)
    const [lab, printer, rest] = await Promise.all([1, 2, 3].map((n) => instanceOf(store, n)))
    assert.deepEqual([lab?.rule, lab?.backend, lab?.graceMs, lab?.endsAt], ['lab', 'special', 7, clock.now() + 9000])
    assert.deepEqual([lab?.parameters, lab?.template.version], [{ COLOR: 'red' }, 'v2'])
    assert.deepEqual([printer?.rule, printer?.template.name, printer?.graceMs], ['printers', 'other', 5])
    assert.deepEqual([rest?.rule, rest?.parameters, rest?.endsAt], ['rest', { COLOR: 'blue' }, null])
  })

  it('stay with an instance: facts, rules and versions that come later do not change it', async () => {
    const { store, clock, intake, place, grant } = await setUp([
      gives('tagged', { tags: { any: ['lab'] } }, { most: 1 }),
      gives('rest', {}),
    ])
    await grant(1)
    const before = await instanceOf(store, 1)
    assert.equal(before?.rule, 'rest')
    clock.advance(1000)
    const richer = leaseEvent(1, clock.now(), {
      kind: 'confirmed',
      expiresAt: null,
      facts: { tags: ['lab'], hostname: 'now-known' },
    })
    await intake.applyLeases('h1', [place(richer)])
    await rollOut(store, { ...template, version: 'v2' })
    await apply(store, [gives('everybody', {})])
    await intake.retryRefused()
    assert.deepEqual(await instanceOf(store, 1), before)
    assert.deepEqual((await store.lease(owner(1)))?.facts.tags, ['lab'])
    await grant(2)
    assert.deepEqual(
      [(await instanceOf(store, 2))?.rule, (await instanceOf(store, 2))?.template.version],
      ['everybody', 'v2'],
    )
  })

  it('may give nothing: the lease has no instance, no refusal, and gets none by what comes after', async () => {
    const { store, intake, clock, grant } = await setUp([
      { name: 'none', match: { tags: { any: ['guest'] } }, give: null },
      gives('rest', {}),
    ])
    await grant(1, { tags: ['guest'] })
    await apply(store, [gives('rest', {})])
    await grant(1, { hostname: 'x' }, { kind: 'confirmed' })
    await intake.applySnapshot('h1', [leaseEvent(1, clock.now(), { expiresAt: null })], clock.now() + 60_000)
    await intake.retryRefused()
    assert.deepEqual(await living(store), [])
    assert.deepEqual([await refusal(store, 1), (await refusals(store)).length], [null, 0])
    await grant(1, {}, { kind: 'ended' })
    await grant(1, {})
    assert.deepEqual(await living(store), [1], 'a new grant is decided anew')
  })

  it('tell a lease that none matches, and serve it when one does', async () => {
    const { store, intake, grant } = await setUp([gives('lab', { tags: { any: ['lab'] } })])
    await grant(1)
    await grant(1, { hostname: 'x' }, { kind: 'confirmed' })
    assert.match((await refusal(store, 1)) ?? '', /no rule matches this lease/)
    assert.equal((await refusals(store)).length, 1, 'the same is told once')
    await apply(store, [gives('lab', { tags: { any: ['lab'] } }), gives('rest', {})])
    await intake.retryRefused()
    assert.deepEqual([await living(store), await refusal(store, 1)], [[1], null])
  })

  it('pin a version by number or hash, and refuse one that is not there until it is', async () => {
    const { store, intake, grant } = await setUp([
      gives('by-number', { hostname: ['one'] }, { version: 1 }),
      gives('by-hash', { hostname: ['two'] }, { version: 'v2' }),
      gives('missing', { hostname: ['three'] }, { version: 3 }),
      gives('unknown', { hostname: ['four'] }, { template: 'nowhere' }),
    ])
    await rollOut(store, { ...template, version: 'v2', summary: 'second' })
    for (const [index, hostname] of ['one', 'two', 'three', 'four'].entries()) await grant(index + 1, { hostname })
    assert.equal((await instanceOf(store, 1))?.template.version, 'v1')
    assert.equal((await instanceOf(store, 2))?.template.version, 'v2')
    assert.equal(await refusal(store, 3), 'rule missing gives template sample@3, which is not there')
    assert.equal(await refusal(store, 4), 'rule unknown gives template nowhere, which is not there')
    await rollOut(store, { ...template, version: 'v3', summary: 'third' })
    await rollOut(store, { ...template, name: 'nowhere' })
    await intake.retryRefused()
    assert.deepEqual(await living(store), [1, 2, 3, 4])
    assert.equal((await instanceOf(store, 3))?.template.version, 'v3')
  })

  it('give a version that weakens isolation only while the operator trusts its name, and serve who waited again', async () => {
    const { store, intake, place, grant } = await setUp([
      gives('strong', { hostname: ['strong'] }, { template: 'strong' }),
      gives('pinned', { hostname: ['pinned'] }, { template: 'strong', version: 1 }),
      gives('rest', {}),
    ])
    const weakens = ['services.web.privileged', 'services.web.devices[0]']
    await rollOut(store, { ...template, name: 'strong', weakens })
    await grant(1, { hostname: 'strong' })
    await grant(2, { hostname: 'pinned' })
    await grant(3)
    assert.deepEqual(await living(store), [3])
    const why =
      'template strong@1 weakens the isolation of instances (services.web.privileged and 1 more): ' +
      'an operator allows it by the setting templates.trusted: [strong]'
    assert.equal(await refusal(store, 1), `rule strong gives what is not trusted: ${why}`)
    assert.equal(await refusal(store, 2), `rule pinned gives what is not trusted: ${why}`)
    const trusting = orchestrator(store, ['strong'])
    await trusting.intake.retryRefused()
    assert.deepEqual(await living(store), [1, 2, 3])
    const event = leaseEvent(4, trusting.clock.now(), { expiresAt: null, facts: { hostname: 'strong' } })
    await intake.applyLeases('h1', [place(event)])
    assert.match((await refusal(store, 4)) ?? '', /templates\.trusted/, 'no longer trusted')
    await rollOut(store, { ...template, name: 'strong', version: 'v2' })
    await intake.retryRefused()
    assert.deepEqual(await living(store), [1, 2, 3, 4], 'a version that weakens nothing needs no trust')
  })

  it('keep secrets sealed in what an instance gets, also defaults, and say which parameter does not fit', async () => {
    const parameters = [
      parameter('PASSWORD', { type: 'secret', required: true }),
      parameter('PIN', { type: 'secret', default: '1234' }),
      parameter('PORT', { type: 'integer', required: true }),
    ]
    const sealed = { sealed: 'as the rule has it' }
    const { store, grant } = await setUp([
      gives('good', { hostname: ['good'] }, { parameters: { PASSWORD: sealed, PORT: '8080' } }),
      gives('bad', { hostname: ['bad'] }, { parameters: { PASSWORD: sealed } }),
      gives('turned', { hostname: ['turned'] }, { parameters: { PASSWORD: sealed, PORT: sealed } }),
    ])
    await rollOut(store, { ...template, version: 'v2', parameters })
    await grant(1, { hostname: 'good' })
    await grant(2, { hostname: 'bad' })
    await grant(3, { hostname: 'turned' })
    const given = (await instanceOf(store, 1))?.parameters
    assert.deepEqual(given, { PASSWORD: sealed, PIN: { sealed: 'PIN:4' }, PORT: 8080 })
    assert.match(
      (await refusal(store, 2)) ?? '',
      /^rule bad does not fit template sample@2: parameters.PORT: is needed/,
    )
    assert.match((await refusal(store, 3)) ?? '', /parameters.PORT: is a secret in the rule/)
  })

  it('hold each quota, say which one it is, and serve who waits longest when there is room', async () => {
    const duid = owner(1).duid
    const cases: [string, Rule, Quotas, RegExp][] = [
      ['total', gives('all', {}), { total: 2 }, /all 2 instances that there may be.*quotas.total/],
      ['per owner', gives('all', {}), { perOwner: 2 }, /all 2 instances that one may have.*quotas.per-owner/],
      ['per rule', gives('all', {}, { most: 2 }), {}, /all 2 instances that rule all may have.*most/],
    ]
    for (const [name, rule, quotas, words] of cases) {
      const { store, clock, intake, grant } = await setUp([rule], quotas)
      for (const n of [1, 2, 5, 4, 3]) {
        await grant(n, {}, { owner: { duid, iaid: n } })
        clock.advance(1000)
      }
      const refusalOf = async (iaid: number) => (await store.lease({ duid, iaid }))?.refusal
      assert.deepEqual(await living(store), [1, 2], name)
      assert.match((await refusalOf(5)) ?? '', words)
      await intake.retryRefused()
      assert.equal((await refusals(store)).length, 3, 'a refusal that stays is told once')
      await remove(store, 1)
      await intake.retryRefused()
      assert.deepEqual(await living(store), [2, 5], name)
      assert.equal(await refusalOf(5), null)
      await apply(store, [{ ...rule, give: rule.give && { ...rule.give, most: undefined } }])
      await intake.retryRefused()
      assert.deepEqual(await living(store), [2, 3, 4, 5], `${name}, lifted`)
    }
  })

  it('count what is being removed until it is gone, and give a lease that ends no place', async () => {
    const { store, intake, grant } = await setUp([gives('all', {})], { total: 1 })
    await grant(1)
    await grant(2)
    await grant(3)
    await grant(1, {}, { kind: 'ended' })
    await intake.retryRefused()
    assert.deepEqual(await living(store), [1], 'it still has its containers')
    await grant(2, {}, { kind: 'ended' })
    await remove(store, 1)
    await intake.retryRefused()
    assert.deepEqual(await living(store), [3])
  })

  it('find who waits behind hundreds that stay refused, with few in each transaction', async () => {
    const { store, clock, intake, place, grant } = await setUp([
      gives('full', { hostname: ['crowd'] }, { most: 0 }),
      gives('rest', { hostname: ['late'] }, { most: 1 }),
    ])
    const crowd = Array.from({ length: 200 }, (_, n) =>
      place(leaseEvent(1000 + n, clock.now(), { expiresAt: null, facts: { hostname: 'crowd' } })),
    )
    await intake.applyLeases('h1', crowd)
    clock.advance(1000)
    await grant(1, { hostname: 'late' })
    await grant(2, { hostname: 'late' })
    await remove(store, 1)
    let most = 0
    const watched: Store = new Proxy(store, {
      get: (target, name: keyof Store) =>
        name !== 'transaction'
          ? target[name]
          : (work: Parameters<Store['transaction']>[0]) =>
              target.transaction((tx) => {
                let reads = 0
                const counted = new Proxy(tx, {
                  get(inner, method: keyof typeof tx) {
                    if (method === 'lease') most = Math.max(most, ++reads)
                    return (inner[method] as (...args: unknown[]) => unknown).bind(inner)
                  },
                })
                return work(counted)
              }),
    })
    await orchestrator(watched).intake.retryRefused()
    assert.deepEqual(await living(store), [2])
    assert.ok(most > 0 && most <= 32, `${most} leases in one transaction`)
  })

  it('never exceed a quota when leases arrive at the same time, whoever takes them in', async (t) => {
    const quotas: [Quotas, Rule][] = [
      [{ total: 3 }, gives('all', {})],
      [{ perOwner: 3 }, gives('all', {})],
      [{}, gives('all', {}, { most: 3 })],
    ]
    for (const [quota, rule] of quotas) {
      const { store, url, intake, clock } = await setUp([rule], quota)
      const intakes: Intake[] = [intake]
      if (url.startsWith('postgres:')) {
        const second = await openStore(url)
        t.after(() => second.close())
        intakes.push(orchestrator(second).intake)
      }
      const { duid } = owner(1)
      const arrival = (n: number) => ({
        event: leaseEvent(n, clock.now(), { owner: { duid, iaid: n }, expiresAt: null }),
        position: { journal: `j${n}`, offset: 1 },
      })
      const all = Array.from({ length: 12 }, (_, n) => n + 1)
      const intakeFor = (n: number) => intakes[n % intakes.length] ?? assert.fail()
      await Promise.all(all.map((n) => intakeFor(n).applyLeases(`h${n}`, [arrival(n)])))
      assert.equal((await living(store)).length, 3)
      const waiting = (await store.leases({ state: 'active' })).filter((lease) => lease.refusal !== null)
      assert.equal(waiting.length, 9)
      const [first] = await store.instances({ live: true })
      assert.ok(first && (await store.settle(first, { state: 'gone', settled: 1 }, 1)))
      await Promise.all([...intakes, ...intakes].map((one) => one.retryRefused()))
      assert.equal((await living(store)).length, 3, 'room for one is room for one')
    }
  })

  it('explain a lease that might be as they would decide it, and change nothing', async () => {
    const { store, chooser, clock, grant } = await setUp(
      [
        gives('lab', { mac: ['02:00:5e:*'] }),
        { name: 'guests', match: { tags: { any: ['guest'] } }, give: null },
        gives('rest', { tags: { none: ['odd'] } }, { most: 1 }),
      ],
      {},
    )
    const ask = (guess: Parameters<typeof chooser.explain>[1]) =>
      store.transaction((tx) => chooser.explain(tx, guess, clock.now()))
    const brief = async (guess: Parameters<typeof chooser.explain>[1]) => {
      const { rule, template: given, refusal: why, considered } = await ask(guess)
      return [rule, given === null ? null : `${given.name}@${given.number}`, why, considered.map((one) => one.mismatch)]
    }
    assert.deepEqual(await brief({ mac: '02:00:5E:00:53:01' }), ['lab', 'sample@1', null, [null]])
    const notLab = 'mac 02:00:00:00:00:01 is none of 02:00:5e:*'
    assert.deepEqual(await brief({ mac: '02:00:00:00:00:01', tags: ['guest'] }), ['guests', null, null, [notLab, null]])
    const rest = await brief({ mac: '02:00:00:00:00:01', address: 'fd00:c::1' })
    assert.deepEqual(rest, ['rest', 'sample@1', null, [notLab, 'tags is not known; the rule wants guest', null]])
    await grant(1)
    assert.match(String((await brief({}))[2]), /rule rest may have at once are taken/)
    const odd = await ask({ tags: ['odd'] })
    assert.deepEqual([odd.rule, odd.template, odd.considered.length], [null, null, 3])
    assert.match(odd.refusal ?? '', /no rule matches/)
    await assert.rejects(ask({ duid: 'zz' }), { code: 'invalid-input', field: 'duid' })
    await assert.rejects(ask({ address: 'nowhere' }), { code: 'invalid-input', field: 'address' })
    assert.equal((await store.instances()).length, 1)
  })

  it('are those of the last revision for every orchestrator on the store, from the next lease on', async () => {
    const { store, chooser } = await setUp([gives('one', {})])
    const lease = { owner: owner(1), address: parseIpv6('fd00:c::1'), source: 'h1', facts: {} } as const
    const chosen = () =>
      store.transaction((tx) =>
        chooser.choose(
          tx,
          { ...lease, expiresAt: null, state: 'active', grantedAt: 1, updatedAt: 1, endedAt: null, refusal: null },
          1,
        ),
      )
    const rule = (choice: Choice) => (choice.kind === 'instance' ? choice.rule : choice.kind)
    assert.equal(rule(await chosen()), 'one')
    await apply(store, [gives('two', {})])
    assert.equal(rule(await chosen()), 'two')
    await apply(store, [])
    assert.equal(rule(await chosen()), null)
    await apply(store, [{ name: 'none', match: {}, give: null }])
    assert.equal(rule(await chosen()), 'nothing')
  })
})
