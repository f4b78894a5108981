// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these texts are of Compose, not of JavaScript
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { InvalidInput } from '../../common/errors.ts'
import {
  InterpolationFault,
  interpolate,
  interpolateTree,
  type Lookup,
  variablesIn,
} from '../../orchestrator/compose/interpolate.ts'

const VALUES: Readonly<Record<string, string>> = {
  SET: 'value',
  EMPTY: '',
  FOO: 'foo',
  _private: 'p',
  A1: 'a1',
  DOLLAR: '${FOO} $FOO $$',
  JSON: '{"a":2}',
}
const lookup: Lookup = (name) => (Object.hasOwn(VALUES, name) ? VALUES[name] : undefined)

/** The forms of docs.docker.com/reference/compose-file/interpolation, each with a variable that is set, empty and unset. */
const FORMS: readonly [string, string][] = [
  // Direct substitution
  ['$SET', 'value'],
  ['${SET}', 'value'],
  ['${EMPTY}', ''],
  // ${VAR:-default}: value if set and non-empty, otherwise default
  ['${SET:-default}', 'value'],
  ['${EMPTY:-default}', 'default'],
  ['${UNSET:-default}', 'default'],
  ['${UNSET:-}', ''],
  // ${VAR-default}: value if set, otherwise default
  ['${SET-default}', 'value'],
  ['${EMPTY-default}', ''],
  ['${UNSET-default}', 'default'],
  ['${UNSET-}', ''],
  // ${VAR:?error}, ${VAR?error}: value if set (and non-empty)
  ['${SET:?error}', 'value'],
  ['${SET?error}', 'value'],
  ['${EMPTY?error}', ''],
  // ${VAR:+replacement}: replacement if set and non-empty, otherwise empty
  ['${SET:+replacement}', 'replacement'],
  ['${EMPTY:+replacement}', ''],
  ['${UNSET:+replacement}', ''],
  // ${VAR+replacement}: replacement if set, otherwise empty
  ['${SET+replacement}', 'replacement'],
  ['${EMPTY+replacement}', 'replacement'],
  ['${UNSET+replacement}', ''],
  // Nested
  ['${UNSET:-${FOO}}', 'foo'],
  ['${SET?$FOO}', 'value'],
  ['${UNSET:-${UNSET:-default}}', 'default'],
  ['${EMPTY:-${FOO:-default}}', 'foo'],
  ['${UNSET:-${EMPTY-x}}', ''],
  ['${UNSET-$FOO}', 'foo'],
  ['${UNSET-${FOO} ${FOO}}', 'foo foo'],
  ['${SET+$FOO ${FOO:+second}}', 'foo second'],
  ['${SET:-${UNSET?never asked}}', 'value'],
  // Without a value and a default: an empty text
  ['$UNSET', ''],
  ['${UNSET}', ''],
  ['a ${SET} ${UNSET}', 'a value '],
  ['${EMPTY:-$UNSET}', ''],
  ['${EMPTY}', ''],
  // Escapes
  ['$$', '$'],
  ['$$SET', '$SET'],
  ['$${SET}', '${SET}'],
  ['$$$SET', '$value'],
  ['$$$$', '$$'],
  ['${UNSET:-$$SET}', '$SET'],
  ['${UNSET:-$${SET}}', '${SET}'],
  ['^/(sys|proc)($$|/)', '^/(sys|proc)($|/)'],
  // A $ before anything else is preserved
  ['$', '$'],
  ['a $ string', 'a $ string'],
  ['^REGEX$', '^REGEX$'],
  ['$}', '$}'],
  ['$1', '$1'],
  ['$-', '$-'],
  ['$(SET)', '$(SET)'],
  // Names
  ['$SET-bar', 'value-bar'],
  ['$SET.bar', 'value.bar'],
  ['$_private', 'p'],
  ['$A1', 'a1'],
  ['${A1}2', 'a12'],
  ['$FOO$FOO', 'foofoo'],
  ['$FOOé', 'fooé'],
  // The first operator counts, and the rest is text
  ['${UNSET-a?b}', 'a?b'],
  ['${UNSET-va:-lu:?e}', 'va:-lu:?e'],
  ['${UNSET:-/non:-alphanumeric}', '/non:-alphanumeric'],
  ['${FOO?bar-baz}', 'foo'],
  ['${SET+va:?lu:-e}', 'va:?lu:-e'],
  // Text outside has no part in it
  [':?ok ${UNSET-default}', ':?ok default'],
  ['+ok ${UNSET:-${EMPTY-default}}', '+ok '],
  // Braces pair up
  ['${UNSET:-{"a":1}}', '{"a":1}'],
  ['${JSON-{"a":1}}', '{"a":2}'],
  ['${SET}}', 'value}'],
  // A value is not looked at again
  ['$DOLLAR', '${FOO} $FOO $$'],
  ['${UNSET:-$DOLLAR}', '${FOO} $FOO $$'],
  // White space and lines belong to what they stand in
  ['${UNSET:- a b }', ' a b '],
  ['${UNSET:-a\nb}', 'a\nb'],
  ['', ''],
  ['no variables', 'no variables'],
]

const INVALID = [
  '${',
  '${}',
  '${ }',
  '${ SET}',
  '${SET }',
  '${SET!}',
  '${1}',
  '${SET',
  '${UNSET:-${SET}',
  '${SET/foo/bar}',
]

describe('variables in texts', () => {
  for (const [text, expected] of FORMS) {
    it(`${JSON.stringify(text)} is ${JSON.stringify(expected)}`, () =>
      assert.equal(interpolate(text, lookup), expected))
  }

  for (const text of [...INVALID, '${SET:=x}', '${SET:}', '${UNSET:-${}}', '${SET:-${ }}']) {
    it(`${JSON.stringify(text)} is refused, with the remedy`, () => {
      const message = /^invalid interpolation format: "\$\{.*"\. You may need to escape any \$ with another \$$/
      assert.throws(() => interpolate(`before ${text}`, lookup), fault('invalid', null, message))
      assert.throws(() => variablesIn(`before ${text}`), fault('invalid', null, message))
    })
  }

  it('that are missing are faults, in the words of the author if there are any', () => {
    const cases: [string, string][] = [
      ['${UNSET:?say it}', 'required variable UNSET is missing a value: say it'],
      ['${EMPTY:?say it}', 'required variable EMPTY is missing a value: say it'],
      ['${UNSET?say it}', 'required variable UNSET is missing a value: say it'],
      ['${UNSET:?}', 'required variable UNSET is missing a value'],
      ['${UNSET?}', 'required variable UNSET is missing a value'],
      ['${UNSET?bar-baz}', 'required variable UNSET is missing a value: bar-baz'],
      ['${UNSET:?for ${FOO}}', 'required variable UNSET is missing a value: for foo'],
      ['${UNSET:?for ${OTHER}}', 'required variable UNSET is missing a value: for '],
    ]
    for (const [text, message] of cases) {
      const variable = text.includes('EMPTY') ? 'EMPTY' : 'UNSET'
      assert.throws(() => interpolate(text, lookup), fault('required', variable, message))
    }
    assert.throws(() => interpolate('${SET:+${UNSET?nested}}', lookup), fault('required', 'UNSET', /nested$/))
    assert.throws(() => interpolate('${EMPTY:-${UNSET:?x}}', lookup), fault('required', 'UNSET', /: x$/))
  })

  it('are not shown in faults if they are secrets', () => {
    const shown: Lookup = () => '***'
    assert.throws(() => interpolate('${UNSET:?not $SET}', lookup, shown), { message: /missing a value: not \*\*\*$/ })
  })

  it('are listed with their operators, also within others', () => {
    assert.deepEqual(variablesIn('$A ${B:-${C?$D}} $$E ${F+}'), [
      { name: 'A', operator: '' },
      { name: 'B', operator: ':-' },
      { name: 'C', operator: '?' },
      { name: 'D', operator: '' },
      { name: 'F', operator: '+' },
    ])
  })

  it('nested without end are refused, not followed', () => {
    const deep = '${A:-'.repeat(50_000) + '}'.repeat(50_000)
    assert.throws(() => interpolate(deep, lookup), { message: /nested more than 32 deep/ })
  })

  it('of any text are either replaced or refused, and escaped texts come out as they were', () => {
    const piece = fc.constantFrom(
      '$',
      '{',
      '}',
      ':',
      '-',
      '?',
      '+',
      'SET',
      'UNSET',
      'EMPTY',
      ' ',
      '\n',
      'é',
      '$$',
      '${SET}',
    )
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(piece, { maxLength: 30 }).map((all) => all.join('')),
        ),
        (text) => {
          assert.equal(interpolate(text.replaceAll('$', '$$$$'), lookup), text)
          try {
            const references = variablesIn(text)
            const result = interpolate(text, () => 'v')
            if (references.length === 0) assert.equal(result, text.replaceAll('$$', '$'))
          } catch (error) {
            assert.ok(error instanceof InterpolationFault, String(error))
          }
        },
      ),
      { numRuns: 2000 },
    )
  })

  it('agree with a shell on every form but escapes, whatever the values are', () => {
    const operand = fc.stringMatching(/^[a-z.,/ ]{0,8}$/)
    const value = fc.option(fc.stringMatching(/^[a-z$ {}]{0,6}$/), { nil: undefined })
    fc.assert(
      fc.property(fc.constantFrom(':-', '-', ':+', '+'), operand, value, (operator, text, given) => {
        const there = operator.startsWith(':') ? given !== undefined && given !== '' : given !== undefined
        const expected = operator.endsWith('+') ? (there ? text : '') : there ? given : text
        assert.equal(
          interpolate(`\${V${operator}${text}}`, () => given),
          expected,
        )
      }),
    )
  })
})

describe('variables in a tree', () => {
  it('are replaced in values at every depth, never in keys; other types stay', () => {
    const tree = { a: '$SET', $SET: ['${FOO}', 1, null, { b: true, c: '$$' }] }
    const expected = { a: 'value', $SET: ['foo', 1, null, { b: true, c: '$' }] }
    assert.deepEqual(interpolateTree(tree, '', { value: lookup }), expected)
  })

  it('are looked up with the key at which they stand, and faults name it', () => {
    const keys: string[] = []
    const value = (name: string, key: string) => {
      keys.push(key)
      return lookup(name)
    }
    const tree = { web: { ports: ['80', '${SET}'], labels: { 'a.b': '$FOO' } } }
    interpolateTree(tree, 'services', { value })
    assert.deepEqual(keys, ['services.web.ports[1]', 'services.web.labels.a.b'])
    assert.throws(
      () => interpolateTree({ web: { image: 'x', command: ['a', '${'] } }, 'services', { value }),
      (error) => error instanceof InvalidInput && error.field === 'services.web.command[1]',
    )
  })

  it('that are wrong are all told to whoever takes the faults', () => {
    const faults: string[] = []
    const fault = (one: InvalidInput) => faults.push(one.message)
    const tree = { a: '${', b: '${UNSET?}', c: '$SET' }
    assert.deepEqual(interpolateTree(tree, '', { value: lookup, fault }), { a: '${', b: '${UNSET?}', c: 'value' })
    assert.deepEqual(
      faults.map((message) => message.slice(0, 24)),
      ['a: invalid interpolation', 'b: required variable UNS'],
    )
  })
})

function fault(kind: string, variable: string | null, message: string | RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof InterpolationFault, String(error))
    assert.deepEqual([error.kind, error.variable], [kind, variable])
    if (typeof message === 'string') assert.equal(error.message, message)
    else assert.match(error.message, message)
    return true
  }
}
