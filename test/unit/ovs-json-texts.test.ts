import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { JsonTexts } from '../../unionize/wiring/ovs/json-texts.ts'

const value = fc.oneof(fc.array(fc.jsonValue()), fc.dictionary(fc.string({ unit: 'grapheme' }), fc.jsonValue()))
const written = fc.tuple(value, fc.constantFrom('', ' ', '\n')).map(([one, space]) => JSON.stringify(one) + space)

describe('JSON values that follow one another', () => {
  it('are found whole, wherever the stream is cut', () => {
    fc.assert(
      fc.property(fc.array(written), fc.array(fc.nat(40), { minLength: 1 }), (texts, cuts) => {
        const bytes = Buffer.from(texts.join(''))
        const reader = new JsonTexts()
        const found: unknown[] = []
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const end = at + 1 + (cuts[i % cuts.length] ?? 0)
          found.push(...reader.take(bytes.subarray(at, end)))
          at = end
        }
        assert.deepEqual(
          found,
          texts.map((text) => JSON.parse(text)),
        )
      }),
    )
  })

  it('that are none are an error', () => {
    assert.throws(() => new JsonTexts().take(Buffer.from('{oops}')), SyntaxError)
  })
})
