import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { errorCode, HostUnreachable, InvalidInput, OrchestratorError, wording } from '../../common/errors.ts'

describe('errors', () => {
  it('have their class as name, a code, and say whether a retry may help', () => {
    const invalid = new InvalidInput('server.port', 'expected a number')
    assert.deepEqual(
      [invalid.name, invalid.code, invalid.retryable, invalid.field, invalid.message],
      ['InvalidInput', 'invalid-input', false, 'server.port', 'server.port: expected a number'],
    )
    const away = new HostUnreachable('h1', 'no answer', { cause: new Error('cut') })
    assert.deepEqual(
      [away.code, away.retryable, away.message],
      ['host-unreachable', true, 'host h1 cannot be reached: no answer'],
    )
    assert.equal(wording(away), 'host h1 cannot be reached: no answer: cut')
    assert.equal('cause' in new OrchestratorError('x', 'y'), false)
  })

  it('that nobody foresaw are internal', () => {
    assert.equal(errorCode(new OrchestratorError('store-failed', 'x')), 'store-failed')
    for (const thrown of [new TypeError('x'), 'text', null, undefined, { code: 'EFAKE' }]) {
      assert.equal(errorCode(thrown), 'internal')
    }
  })
})

describe('wording', () => {
  it('is one line within the limit, whatever was thrown', () => {
    fc.assert(
      fc.property(fc.anything({ withNullPrototype: true }), fc.integer({ min: 1, max: 200 }), (thrown, limit) => {
        for (const value of [thrown, new Error('outer', { cause: thrown })]) {
          const text = wording(value, limit)
          assert.ok(text.length <= limit, `${text.length} > ${limit}`)
          assert.doesNotMatch(text, /[\r\n\t]/)
        }
      }),
    )
  })

  it('tells the causes, each once, and ends although they go in a circle', () => {
    const inner = new Error('disk full')
    const outer = new Error('cannot write', { cause: new Error('cannot write', { cause: inner }) })
    assert.equal(wording(outer), 'cannot write: disk full')
    inner.cause = outer
    assert.equal(wording(outer), 'cannot write: disk full')
  })

  it('tells what refused when a name has several addresses and none answers', () => {
    const parts = [new Error('connect ECONNREFUSED ::1:5432'), new Error('connect ECONNREFUSED 127.0.0.1:5432')]
    assert.equal(
      wording(new AggregateError(parts)),
      'connect ECONNREFUSED ::1:5432, connect ECONNREFUSED 127.0.0.1:5432',
    )
    assert.equal(wording(new AggregateError([], 'said')), 'said')
  })

  it('names what has no message', () => {
    assert.equal(wording(new TypeError()), 'TypeError')
    assert.equal(wording(null), 'null')
    assert.equal(wording({ code: 7 }), '{ code: 7 }')
  })
})
