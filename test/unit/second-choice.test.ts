import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseIpv6 } from '../../common/ipv6.ts'
import { secondChoice } from '../../orchestrator/domain/second-choice.ts'
import { instance } from '../support/instances.ts'

describe('the second choice', () => {
  const otherwise = ['b', 'c']

  it('is the next backend, and after it those that are left', () => {
    for (const declined of ['full', 'away'] as const) {
      assert.deepEqual(secondChoice(instance(1, { otherwise }), declined), { backend: 'b', otherwise: ['c'] })
      assert.deepEqual(secondChoice(instance(1, { otherwise: ['c'] }), declined), { backend: 'c', otherwise: [] })
    }
  })

  it('is none for the last one, for what ever ran, and for what is to be gone', () => {
    assert.equal(secondChoice(instance(1, { otherwise: [] }), 'full'), null)
    assert.equal(secondChoice(instance(1, { otherwise, settled: 1, generation: 2 }), 'full'), null)
    assert.equal(secondChoice(instance(1, { otherwise, wanted: 'gone' }), 'full'), null)
  })

  it('leaves what was taken where it is while that is away, and moves it when that is full', () => {
    const accepted = instance(1, { otherwise, marks: { acceptedAt: 5 } })
    const led = instance(1, { otherwise, reach: { kind: 'routed', via: parseIpv6('fd00::1') } })
    for (const taken of [accepted, led]) {
      assert.equal(secondChoice(taken, 'away'), null)
      assert.equal(secondChoice(taken, 'full')?.backend, 'b')
    }
  })
})
