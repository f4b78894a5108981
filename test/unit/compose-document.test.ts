import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { stringify } from 'yaml'
import { readDocument } from '../../orchestrator/compose/document.ts'

const read = (text: string) => readDocument('web.yaml', text)
const treeOf = (text: string) => {
  const { document, faults } = read(text)
  assert.deepEqual(faults, [])
  return document?.tree
}
const refused = (text: string, expected: RegExp, line?: number | null) => {
  const { document, faults } = read(text)
  assert.ok(document === null, 'it was read')
  assert.match(faults[0]?.message ?? '', expected)
  if (line !== undefined) assert.equal(faults[0]?.line, line)
}

describe('a Compose file as YAML', () => {
  it('means what it means to Go: octal numbers, and yes, on and 22:22 as texts', () => {
    const text =
      'a: 0444\nb: 0o17\nc: 0x1f\nd: 1_000\ne: yes\nf: 22:22\ng: ~\nh: TRUE\ni: 1.50\nj: "0444"\nk: 08\nl: !!str 12\nm: -0b11\n'
    assert.deepEqual(treeOf(text), {
      ...{ a: 0o444, b: 15, c: 31, d: 1000, e: 'yes', f: '22:22', g: null },
      ...{ h: true, i: 1.5, j: '0444', k: 8, l: '12', m: -3 },
    })
  })

  it('is the tree that the YAML library reads, whatever it says', () => {
    const json = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 4 },
        fc.string({ maxLength: 12 }),
        fc.integer(),
        fc.boolean(),
        fc.constant(null),
        fc.array(tie('value'), { maxLength: 4 }),
        fc.dictionary(fc.stringMatching(/^[a-z.]{1,8}$/), tie('value'), { maxKeys: 4, noNullPrototype: true }),
      ),
    })).value
    const isText = (text: string) => !/(?![\t\n\r])\p{Cc}|\ufffd/v.test(text)
    fc.assert(
      fc.property(json, (value) => {
        const text = stringify({ value })
        fc.pre(isText(text))
        assert.deepEqual(treeOf(text), { value })
      }),
      { numRuns: 200 },
    )
  })

  it('has anchors, aliases and merge keys put in, and its own keys win', () => {
    const text = 'x: &x {a: 1, b: {c: 2}}\ny:\n  <<: *x\n  a: 3\nz: {<<: [{a: 5}, *x]}\nl: [*x]\n'
    const x = { a: 1, b: { c: 2 } }
    assert.deepEqual(treeOf(text), { x, y: { a: 3, b: { c: 2 } }, z: { a: 5, b: { c: 2 } }, l: [x] })
  })

  it('knows the line of every key, of merged ones where they are written', () => {
    const text = 'x: &x\n  a: 1\n  b:\n    c: 2\ny:\n  <<: *x\n  a: 3\nz: [p,\n  q]\nnet.core: 1\n'
    const { document } = read(text)
    const lines = ['x.a', 'y.a', 'y.b.c', 'z[0]', 'z[1]', 'net.core', 'y.missing', 'nothing'].map((key) =>
      document?.places.lineOfKey(key),
    )
    assert.deepEqual(lines, [2, 7, 4, 8, 9, 10, 5, null])
  })

  it('is refused with a line when it is not YAML, twice the same key, or several documents', () => {
    refused('a: "b\n', /^is not YAML: /)
    refused('a: 1\nb: 2\na: 3\n', /^stands here twice: first on line 1$/, 3)
    refused('a: 1\n---\nb: 2\n', /^has several YAML documents/, 2)
    refused('', /^is empty/)
    refused('- a\n', /^is not a Compose file/)
    refused('a: *b\n', /^has an alias without an anchor before it/, 1)
  })

  it('is refused with the name of a tag that Compose knows only in merged files, or not at all', () => {
    refused('a: 1\nports: !reset []\n', /the tag !reset has a meaning only where several/, 2)
    refused('ports: !override []\n', /the tag !override /, 1)
    refused('a: !!binary aGVsbG8=\n', /!!binary/, 1)
    refused('a: !include x\n', /^has a tag, which is not known/, 1)
  })

  it('is refused without quoting it: what is wrong may be a secret that begins with a character of YAML', () => {
    const written = [
      '*S',
      '!S x',
      '!<S> x',
      '|S',
      '>S',
      '@S',
      '%S',
      '&S',
      '"\\US"',
      "'x'S",
      '[S',
      '{S',
      '9'.repeat(400),
    ]
    for (const value of written.map((text) => text.replace('S', 'pomegranate'))) {
      for (const text of [`a: ${value}\n`, `a: [${value}]\n`, `a:\n  - ${value}\n  - b\n`, `${value}\n`]) {
        const faults = read(text).faults.map(({ message }) => message)
        assert.doesNotMatch(faults.join(), /pomegranate|9999/)
      }
    }
  })

  it('is refused when it would grow without bounds: alias bombs, depth, size', () => {
    const bomb = ['a: &a [x,x,x,x,x,x,x,x,x]']
    for (const [from, to] of ['ab', 'bc', 'cd', 'de', 'ef', 'fg', 'gh', 'hi'])
      bomb.push(`${to}: &${to} [${Array(9).fill(`*${from}`)}]`)
    refused(bomb.join('\n'), /more than 20000 values/)
    refused(`a: &a {b: 1, <<: *a}\n`, /inside of what it stands for/)
    refused('a: &a [*a]\n', /inside of what it stands for/)
    for (const one of ['[', '{a: ', '- ', '? ']) refused(one.repeat(50_000), /nested more than 64 levels deep/)
    refused(`a: ${'x'.repeat(256 * 1024)}`, /larger than 262144 bytes/)
    refused(Array.from({ length: 21_000 }, (_, n) => `k${n}: v`).join('\n'), /more than 20000 values/)
  })

  it('is refused when it is binary, or a number in it would become another one', () => {
    refused('a: b\nc: \0\n', /is not text/, 2)
    refused('a: \u{fffd}\n', /is not text/, 1)
    refused('a: 99999999999999999999\n', /too large for a number: put it in quotes/, 1)
    refused('a: .inf\n', /finite/, 1)
  })

  it('cannot reach the prototypes of objects', () => {
    refused('services:\n  __proto__: {polluted: 1}\n', /"__proto__"/, 2)
    refused('a: {<<: {__proto__: {polluted: 1}}}\n', /"__proto__"/)
    assert.deepEqual(Object.keys(treeOf('constructor: 1\nprototype: 2\n') ?? {}), ['constructor', 'prototype'])
    assert.equal(({} as { polluted?: number }).polluted, undefined)
  })
})
