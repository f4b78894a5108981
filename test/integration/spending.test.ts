import assert from 'node:assert/strict'
import { it } from 'node:test'
import { createChooser } from '../../orchestrator/catalog/choose.ts'
import type { Estimate, Price } from '../../orchestrator/domain/price.ts'
import type { Gift, Quotas, Rule } from '../../orchestrator/domain/rule.ts'
import { createIntake } from '../../orchestrator/intake.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { journal, leaseEvent, manualClock, owner, pool, rollOut } from '../support/fixtures.ts'
import { instance } from '../support/instances.ts'
import { onBothStores } from '../support/stores.ts'

const euros = (perHour: number): Price => ({ perHour, currency: 'EUR' })
const gives = (gift: Partial<Gift>, name = 'lab'): Rule => ({
  ...{ name, match: {} },
  give: { template: 'sample', parameters: {}, ...gift },
})

onBothStores('spending', (open) => {
  /** Leases that become instances of backends with these prices. */
  function orchestrator(store: Store, prices: Readonly<Record<string, Estimate>>, journalName = 'j1') {
    const clock = manualClock()
    const price = (backend: string) => prices[backend] ?? assert.fail(`nobody asks for ${backend}`)
    const seal = { seal: () => assert.fail('there are no secrets') }
    const chooser = createChooser({ fallback: () => 'sample', trusted: [], seal, price })
    const intake = createIntake({ store, clock, pool, chooser, wake: () => {} })
    const place = journal(journalName)
    const grant = (n: number) =>
      intake.applyLeases('h1', [place(leaseEvent(n, clock.now(), { expiresAt: null, facts: {} }))])
    return { clock, chooser, intake, grant }
  }
  async function setUp(rules: readonly Rule[], prices: Readonly<Record<string, Estimate>>, quotas: Quotas = {}) {
    const { store, url } = await open()
    await rollOut(store)
    await store.transaction((tx) => tx.putRuleset({ rules, quotas, origin: 'api' }, 1))
    return { store, url, ...orchestrator(store, prices) }
  }
  const living = async (store: Store) => (await store.instances({ live: true })).map(({ owner: { iaid } }) => iaid)
  const refusal = async (store: Store, n: number) => (await store.lease(owner(n)))?.refusal ?? ''
  const remove = async (store: Store, n: number) => {
    const found = (await store.instances({ live: true })).find(({ owner: { iaid } }) => iaid === n)
    assert.ok(found && (await store.settle(found, { state: 'gone' }, 1)))
  }

  it('ends where the limit of the rule does, says so once, and goes on when there is room', async () => {
    const rule = gives({ backend: 'cloud', spend: euros(0.1) })
    const { store, clock, intake, grant } = await setUp([rule], { cloud: euros(0.04) })
    for (const n of [1, 2, 3, 4]) {
      await grant(n)
      clock.advance(1000)
    }
    assert.deepEqual(await living(store), [1, 2])
    assert.match(
      await refusal(store, 3),
      /rule lab may spend 0.1 EUR\/hour \(spend\).* left for 0.04 EUR\/hour on cloud/,
    )
    await intake.retryRefused()
    const told = (await store.events({ limit: 100 })).filter(({ kind }) => kind === 'lease.refused')
    assert.equal(told.length, 2)
    await remove(store, 1)
    await intake.retryRefused()
    assert.deepEqual(await living(store), [2, 3])
    assert.equal(await refusal(store, 3), '')
  })

  it('is limited over all rules together, each limit by its own name', async () => {
    const rules = [gives({ backend: 'cloud', most: 1 }, 'one')]
    const { store, grant } = await setUp(rules, { cloud: euros(1) }, { spend: euros(1.5) })
    const other = instance(9, { rule: 'former', price: euros(0.6) })
    await store.transaction((tx) => tx.insertInstance(other))
    await grant(1)
    assert.match(await refusal(store, 1), /all together may spend 1.5 EUR\/hour \(quotas.spend\)/)
    await remove(store, 9)
    await grant(2)
    assert.deepEqual(await living(store), [2])
  })

  it('takes the backends that there is money for, and what is free when there is none', async () => {
    const rule = gives({ backend: 'large', otherwise: ['small', 'docker'], spend: euros(1) })
    const prices: Record<string, Estimate> = { large: euros(0.7), small: euros(0.3), docker: 'free' }
    const { store, grant } = await setUp([rule], prices)
    for (const n of [1, 2, 3]) await grant(n)
    const found = await store.instances({ live: true })
    assert.deepEqual(
      found.map(({ backend, otherwise, price }) => [backend, otherwise, price]),
      [
        ['large', ['small', 'docker'], euros(0.7)],
        ['small', ['docker'], euros(0.3)],
        ['docker', [], null],
      ],
    )
  })

  it('counts the dearest place where an instance may come to be', async () => {
    const rule = gives({ backend: 'small', otherwise: ['large'], spend: euros(1) })
    const { store, grant } = await setUp([rule], { small: euros(0.3), large: euros(0.7) })
    await grant(1)
    const [first] = await store.instances({ live: true })
    assert.deepEqual([first?.backend, first?.otherwise, first?.price], ['small', ['large'], euros(0.7)])
    assert.ok(first && (await store.settle(first, { price: euros(0.3) }, 1)), 'it runs there')
    await grant(2)
    assert.deepEqual((await store.instances({ live: true }))[1]?.price, euros(0.7))
    assert.deepEqual(await store.transaction((tx) => tx.spentLive({})), [euros(1)])
  })

  it('refuses what has no price that can be compared, and without a limit asks for none', async () => {
    const limited = gives({ backend: 'cloud', spend: euros(1) })
    const { store, grant, chooser, clock } = await setUp([limited], { cloud: 'unknown' })
    await grant(1)
    assert.match(await refusal(store, 1), /backend cloud does not know what this instance would cost/)
    const told = await store.transaction((tx) => chooser.explain(tx, {}, clock.now()))
    assert.deepEqual([told.backends, told.price], [[], null])
    assert.deepEqual(told.spending, [{ who: 'rule lab', most: euros(1), spent: euros(0) }])
    const unlimited = await setUp([gives({ backend: 'cloud' })], { cloud: 'unknown' })
    await unlimited.grant(1)
    assert.deepEqual(await living(unlimited.store), [1])
  })

  it('is told before a lease comes: where, for how much, and what is spent', async () => {
    const rule = gives({ backend: 'cloud', otherwise: ['docker'], spend: euros(1) })
    const { store, grant, chooser, clock } = await setUp(
      [rule],
      { cloud: euros(0.4), docker: 'free' },
      { spend: euros(9) },
    )
    await grant(1)
    const told = await store.transaction((tx) => chooser.explain(tx, {}, clock.now()))
    assert.deepEqual([told.backends, told.price, told.refusal], [['cloud', 'docker'], euros(0.4), null])
    assert.deepEqual(told.spending, [
      { who: 'all together', most: euros(9), spent: euros(0.4) },
      { who: 'rule lab', most: euros(1), spent: euros(0.4) },
    ])
  })

  it('never exceeds a limit when leases arrive at the same time, whoever takes them in', async () => {
    const prices = { cloud: euros(0.3) }
    const { store, url, ...first } = await setUp([gives({ backend: 'cloud', spend: euros(1) })], prices)
    const second = url.startsWith('sqlite:') ? store : await openStore(url)
    try {
      const other = orchestrator(second, prices, 'j2')
      await Promise.all([1, 2, 3, 4, 5, 6].map((n) => (n % 2 === 0 ? first : other).grant(n)))
      assert.equal((await living(store)).length, 3)
    } finally {
      if (second !== store) await second.close()
    }
  })
})
