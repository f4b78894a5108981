import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { InvalidInput } from '../../common/errors.ts'
import type { RuleTestShape } from '../../orchestrator/api/wire.ts'
import { told } from '../../orchestrator/cli/commands/rule.ts'
import {
  dearer,
  estimateOf,
  isLess,
  type Price,
  parsePrice,
  priceText,
  sumOf,
} from '../../orchestrator/domain/price.ts'
import { overspent, spendLimitsFor } from '../../orchestrator/domain/quota.ts'
import { template } from '../support/fixtures.ts'

const euros = (perHour: number): Price => ({ perHour, currency: 'EUR' })
const amount = fc.integer({ min: 0, max: 100_000_000 }).map((micros) => euros(micros / 1e6))
const limitOf = (most: Price) => spendLimitsFor({}, { name: 'lab', spend: most })[0] ?? assert.fail()

describe('a price', () => {
  it('is read as it is written', () => {
    fc.assert(fc.property(amount, (price) => assert.deepEqual(parsePrice('x', priceText(price)), price)))
    assert.deepEqual(parsePrice('spend', '0.50 EUR/hour'), euros(0.5))
    assert.equal(priceText(euros(0.000001)), '0.000001 EUR/hour')
    for (const wrong of ['', '5', '5 EUR', 'EUR 5/hour', '-1 EUR/hour', '1e3 EUR/hour', '5 eur/hour', '5 EUR/day']) {
      assert.throws(() => parsePrice('spend', wrong), InvalidInput, wrong)
    }
  })

  it('is added up without errors of rounding, each currency for itself', () => {
    assert.deepEqual(sumOf([euros(0.1), euros(0.2), { perHour: 1, currency: 'USD' }]), [
      euros(0.3),
      { perHour: 1, currency: 'USD' },
    ])
  })

  it('is what the backend tells: nothing at all, a price, or that it is not known', () => {
    assert.equal(estimateOf({}, template), 'free')
    assert.deepEqual(estimateOf({ price: () => euros(1) }, template), euros(1))
    assert.equal(estimateOf({ price: () => null }, template), 'unknown')
    assert.equal(estimateOf(undefined, template), 'unknown')
  })
})

describe('a limit on spending', () => {
  it('is never exceeded by what it lets through, and lets through all that fits', () => {
    fc.assert(
      fc.property(fc.array(amount), amount, (asked, most) => {
        const limit = limitOf(most)
        const paid: Price[] = []
        for (const price of asked) {
          const sum = sumOf([...paid, price])[0]?.perHour ?? 0
          const refusal = overspent(limit, sumOf(paid), price, 'cloud')
          assert.equal(refusal === null, sum <= most.perHour || price.perHour === 0)
          if (refusal === null) paid.push(price)
        }
        assert.ok((sumOf(paid)[0]?.perHour ?? 0) <= most.perHour)
      }),
    )
  })

  it('names its figures, the same ones for as long as it is full', () => {
    const refusal = overspent(limitOf(euros(0.5)), [euros(0.48)], euros(0.04), 'cloud')
    assert.equal(
      refusal,
      'there is no room: rule lab may spend 0.5 EUR/hour (spend), of which too little is left for 0.04 EUR/hour on cloud; it follows when one of them is gone',
    )
    assert.equal(overspent(limitOf(euros(0.5)), [euros(0.47)], euros(0.04), 'cloud'), refusal)
    assert.equal(overspent(limitOf(euros(0.5)), [euros(0.46)], euros(0.04), 'cloud'), null)
  })

  it('refuses what cannot be compared, and says how to mend it', () => {
    const limit = limitOf(euros(1))
    assert.match(overspent(limit, [], 'unknown', 'cloud') ?? '', /cloud does not know what .* give it prices/)
    const dollars = { perHour: 0.1, currency: 'USD' }
    assert.match(overspent(limit, [], dollars, 'cloud') ?? '', /write the limit in USD/)
    assert.equal(overspent(limitOf(euros(0)), [euros(5)], 'free', 'docker'), null, 'what is free is always let in')
  })

  it('holds for all together and for the rule, the widest first', () => {
    const limits = spendLimitsFor({ spend: euros(9) }, { name: 'lab', spend: euros(1) })
    assert.deepEqual(
      limits.map(({ of, key, who }) => [of, key, who]),
      [
        [{}, 'quotas.spend', 'all together'],
        [{ rule: 'lab' }, 'spend', 'rule lab'],
      ],
    )
    assert.deepEqual(spendLimitsFor({}, null), [])
  })

  it('counts the dearest of the places where it may be', () => {
    assert.deepEqual(dearer(euros(1), euros(2)), euros(2))
    assert.deepEqual(dearer(euros(2), euros(1)), euros(2))
    assert.deepEqual(
      [isLess(euros(1), euros(2)), isLess(null, euros(2)), isLess(euros(2), euros(2))],
      [true, true, false],
    )
    assert.equal(isLess(euros(0), null), false)
    assert.deepEqual([dearer(null, euros(1)), dearer(euros(1), null), dearer(null, null)], [euros(1), euros(1), null])
  })
})

describe('what `orctl rule test` says', () => {
  const outcome: RuleTestShape = {
    rule: 'lab',
    template: { name: 'web', number: 2, version: '0123456789ab' },
    backends: ['cloud', 'docker'],
    price: { perHour: 0.04, currency: 'EUR' },
    spending: [{ who: 'rule lab', most: euros(0.5), spent: euros(0.48) }],
    refusal: null,
    considered: [{ name: 'lab', mismatch: null }],
  }

  it('is where it would be tried, for how much, and what is spent of each limit', () => {
    assert.equal(
      told(outcome),
      '#  RULE  OUTCOME\n1  lab   matches\nThe lease gets an instance of web@2 (rule lab).\n' +
        'It is tried on cloud, then docker.\nIt costs at most 0.04 EUR/hour.\nSpent: 0.48 of 0.5 EUR/hour (rule lab).\n',
    )
  })

  it('is what is spent also when there is no room', () => {
    const refused = { ...outcome, backends: [], price: null, refusal: 'there is no room: …' }
    assert.match(
      told(refused),
      /but would be refused: there is no room: … \(rule lab\)\.\nSpent: 0\.48 of 0\.5 EUR\/hour/,
    )
  })
})
