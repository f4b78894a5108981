import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { without } from '../../orchestrator/access/credentials.ts'
import { parseFields } from '../../orchestrator/cli/credential-fields.ts'
import { Usage } from '../../orchestrator/cli/exit.ts'

const SECRET = 'correct-horse-battery'
const name = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9._-]{0,20}$/)
const fields = (value: fc.Arbitrary<string>) =>
  fc.dictionary(name, value, { minKeys: 1, maxKeys: 5, noNullPrototype: true })

describe('fields of a credential as text', () => {
  it('are read as they were written, as JSON of any text and as lines of any text without line ends', () => {
    fc.assert(
      fc.property(fields(fc.string({ unit: 'grapheme' })), (given) => {
        assert.deepEqual(parseFields(JSON.stringify(given, null, 2), 'x'), given)
      }),
    )
    const oneLine = fc.string().filter((text) => !/[\r\n]/.test(text))
    fc.assert(
      fc.property(fields(oneLine), (given) => {
        const lines = Object.entries(given).map(([key, value]) => `${key}=${value}\n`)
        assert.deepEqual(parseFields(`# a comment\n\n${lines.join('')}`, 'x'), given)
      }),
    )
  })

  it('are refused with the line, and without what stands there', () => {
    const cases: [string, RegExp][] = [
      [`{"a": "${SECRET}" x`, /begins with \{ and is not JSON/],
      [`{"a": ["${SECRET}"]}`, /a is not a text/],
      [SECRET, /x, line 1: expected KEY=VALUE/],
      [`a=1\n = ${SECRET}`, /x, line 2: expected KEY=VALUE/],
      [`a=1\na=${SECRET}`, /x, line 2: a is given twice/],
      ['', /x has no fields/],
      ['# a=1\n', /x has no fields/],
    ]
    for (const [text, words] of cases) {
      assert.throws(
        () => parseFields(text, 'x'),
        (error) => error instanceof Usage && words.test(error.message) && !/horse/.test(error.message),
        text,
      )
    }
  })
})

describe('a message that quotes what it was sent', () => {
  it('keeps none of it', () => {
    const text = `password ${SECRET} of ${JSON.stringify('two\nlines of it')} is wrong`
    const clean = without({ a: SECRET, b: 'two\nlines of it', c: 'is' }, text)
    assert.equal(clean, 'password (secret) of "(secret)" is wrong')
  })
})
