// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these texts are of Compose, not of JavaScript
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { MAX_FILES_BYTES } from '../../common/service-spec.ts'
import { assertRefused, assertWeb, readWeb } from '../support/compose-stacks.ts'

describe('the environment of a service', () => {
  it('is a map or a list, and a name alone takes the value of the variable of that name', () => {
    const environment = { A: 'x', B: '1', C: 'true', D: '', E: 'a=b', F: '1.5' }
    assertWeb({ environment: { A: 'x', B: 1, C: true, D: '', E: 'a=b', F: 1.5 } }, { environment })
    assertWeb({ environment: ['A=x', 'B=1', 'C=true', 'D=', 'E=a=b', 'F=1.5'] }, { environment })
    const variables = { OWN: 'v' }
    assertWeb({ environment: { OWN: null, B: 'b' } }, { environment: { OWN: 'v', B: 'b' } }, {}, { variables })
    assertWeb({ environment: ['OWN', 'OWN=w', 'OWN'] }, { environment: { OWN: 'v' } }, {}, { variables })
  })

  it('is refused at the exact key', () => {
    assertRefused(
      { environment: { NONE: null } },
      'services.web.environment.NONE',
      /no value, .*x-orchestrator.parameters/,
    )
    assertRefused({ environment: ['A=1', 'NONE'] }, 'services.web.environment[1]', /NONE has no value/)
    assertRefused({ environment: ['=1'] }, 'services.web.environment[0]', /NAME=VALUE/)
    assertRefused({ environment: { A: ['x'] } }, 'services.web.environment.A', /expected a text/)
    assertRefused({ environment: { A: 2 ** 60 } }, 'services.web.environment.A', /in quotes/)
    assertRefused({ environment: { A: 'a\0b' } }, 'services.web.environment.A', /NUL/)
    assertRefused({ environment: 'A=1' }, 'services.web.environment', /expected a map/)
    assertRefused({ environment: ['__proto__=1'] }, 'services.web.environment[0]', /cannot be used/)
    assertRefused(
      { environment: { ORCHESTRATOR_NAME: 'x' } },
      'services.web.environment.ORCHESTRATOR_NAME',
      /is set by/,
    )
    assertRefused({ environment: { A: 'x'.repeat(300_000) } }, 'services.web.environment', /262144 bytes/)
  })

  it('begins with the env files, in order, and the file says more', () => {
    const files = { 'a.env': 'A=1\nB=1\nC=1\n', './b.env': 'B=2\nC=$A$B\n', 'raw.env': 'D="$A" # x\n' }
    assertWeb({ env_file: 'a.env', environment: ['A=0'] }, { environment: { A: '0', B: '1', C: '1' } }, {}, { files })
    assertWeb({ env_file: ['a.env', './b.env'] }, { environment: { A: '1', B: '2', C: '12' } }, {}, { files })
    const long = [
      { path: 'a.env', required: true },
      { path: 'none.env', required: false },
      { path: 'raw.env', format: 'raw' },
    ]
    assertWeb({ env_file: long }, { environment: { A: '1', B: '1', C: '1', D: '"$A" # x' } }, {}, { files })
  })

  it('cannot begin with env files that are not there or not understood', () => {
    const refused = (env_file: Parameters<typeof assertRefused>[0]['x'], key: string, words: RegExp, text = 'A=1') =>
      assertRefused(
        { env_file: env_file ?? null },
        `services.web.env_file${key}`,
        words,
        {},
        { files: { 'a.env': text } },
      )
    refused('b.env', '', /there is no file b.env/)
    refused(['a.env', 'b.env'], '[1]', /there is no file b.env/)
    refused([{ path: 'b.env' }], '[0].path', /there is no file b.env/)
    refused([{ path: 'a.env', format: 'json' }], '[0].format', /raw/)
    refused([{ path: 'a.env', other: 1 }], '[0].other', /not supported/)
    refused([{ required: true }], '[0].path', /expected a text/)
    refused('a.env', '', /a.env:2: expected NAME=VALUE/, 'A=1\n!x=1')
    refused('a.env', '', /a.env:3: has a quote that is not closed/, '\n\nA="1\n\nB=2')
    refused('a.env', '', /a.env:1: expected nothing but a comment/, 'A="1" 2')
    refused('a.env', '', /a.env:1: expected NAME=VALUE/, 'A B=1')
    refused('a.env', '', /a.env:2: B: required variable NONE is missing/, 'A=1\nB=${NONE?}')
    refused('a.env', '', /a.env:1: A: invalid interpolation format/, 'A=${')
    refused('a.env', '', /a.env:2: NONE has no value/, 'A=1\nNONE\n')
    refused('a.env', '', /NUL/, 'A=\0')
    refused('a.env', '', /ORCHESTRATOR_ADDRESS is set by/, 'ORCHESTRATOR_ADDRESS=x')
    refused([{ path: 'a.env', format: 'raw' }], '[0].path', /a.env:1: expected NAME=VALUE/, 'A B=1')
    const files = { 'a.env': new Uint8Array([0x41, 0x3d, 0xff]) }
    assertRefused({ env_file: 'a.env' }, 'services.web.env_file', /not a text in UTF-8/, {}, { files })
  })

  it('may begin with an env file of as many lines as a file can have, and a fault in the last one is told there', () => {
    const lines = Math.floor(MAX_FILES_BYTES / 3) - 1
    const text = 'A=\n'.repeat(lines)
    assertWeb({ env_file: 'a.env' }, { environment: { A: '' } }, {}, { files: { 'a.env': text } })
    const words = new RegExp(`a\\.env:${lines + 1}: expected NAME=VALUE`)
    assertRefused({ env_file: 'a.env' }, 'services.web.env_file', words, {}, { files: { 'a.env': `${text}!=` } })
  })

  /** The cases of docs.docker.com/compose/how-tos/environment-variables/variable-interpolation, "Env file syntax". */
  const SYNTAX: readonly [string, Record<string, string>][] = [
    ['# comment\n\n  # indented\nVAR=VAL\n', { VAR: 'VAL' }],
    ['VAR=VAL', { VAR: 'VAL' }],
    ['VAR="VAL"', { VAR: 'VAL' }],
    ["VAR='VAL'", { VAR: 'VAL' }],
    ['VAR=VAL # comment', { VAR: 'VAL' }],
    ['VAR=VAL# not a comment', { VAR: 'VAL# not a comment' }],
    ['VAR="VAL # not a comment"', { VAR: 'VAL # not a comment' }],
    ['VAR="VAL" # comment', { VAR: 'VAL' }],
    ["VAR='$OTHER'", { VAR: '$OTHER' }],
    ["VAR='${OTHER}'", { VAR: '${OTHER}' }],
    ["VAR='Let\\'s go!'", { VAR: "Let's go!" }],
    ['VAR="{\\"hello\\": \\"json\\"}"', { VAR: '{"hello": "json"}' }],
    ['VAR="some\\tvalue"', { VAR: 'some\tvalue' }],
    ["VAR='some\\tvalue'", { VAR: 'some\\tvalue' }],
    ['VAR=some\\tvalue', { VAR: 'some\\tvalue' }],
    ['VAR="a\\nb\\rc\\\\d"', { VAR: 'a\nb\rc\\d' }],
    ["KEY='SOME\nVALUE'", { KEY: 'SOME\nVALUE' }],
    ['KEY="SOME\nVALUE" # x\nB=2', { KEY: 'SOME\nVALUE', B: '2' }],
    // Interpolation, in unquoted and double-quoted values
    ['A=1\nB=$A\nC="${A}2"', { A: '1', B: '1', C: '12' }],
    ['A=${OWN}\nB=${NONE:-d}\nC=${NONE-d}\nD=${OWN:+r}', { A: 'own', B: 'd', C: 'd', D: 'r' }],
    ['A="\\$OWN $$OWN"', { A: '$OWN $OWN' }],
    // What Compose takes besides
    ['export A=1\n  export\tB = 2\nexported=3', { A: '1', B: '2', exported: '3' }],
    ['A: 1\nB: x=y\nC=1:B', { A: '1', B: 'x=y', C: '1:B' }],
    ['A=\nB=""\nC= # comment\nD=x=', { A: '', B: '', C: '', D: 'x=' }],
    ['OWN\nA=1', { OWN: 'own', A: '1' }],
    ['A=1\r\nB="2"\r\n', { A: '1', B: '2' }],
    ['\uFEFFA=1', { A: '1' }],
    ['FOO.BAR=1\nA-B=2', { 'FOO.BAR': '1', 'A-B': '2' }],
    ['A=  spaced out  \nB=2', { A: 'spaced out', B: '2' }],
    ['', {}],
    ['\n\n', {}],
  ]
  for (const [text, environment] of SYNTAX) {
    it(`understands ${JSON.stringify(text)}`, () => {
      assertWeb({ env_file: 'a.env' }, { environment }, {}, { files: { 'a.env': text }, variables: { OWN: 'own' } })
    })
  }

  it('takes each line of a raw env file as it is', () => {
    const text = '# c\nA="x" # y\n  B=$A\\n\n\nOWN\nC=a=b \n'
    const environment = { A: '"x" # y', B: '$A\\n', OWN: 'own', C: 'a=b ' }
    const around = { files: { 'a.env': text }, variables: { OWN: 'own' } }
    assertWeb({ env_file: [{ path: 'a.env', format: 'raw' }] }, { environment }, {}, around)
  })

  it('has every value that is in single quotes in an env file, whatever is in it', () => {
    const name = fc.stringMatching(/^[A-Z][A-Z0-9_]{0,9}$/).filter((one) => !one.startsWith('ORCHESTRATOR_'))
    const value = fc.string({ unit: 'grapheme' }).map((text) => text.replace(/[\0\\\r]/g, ''))
    fc.assert(
      fc.property(fc.dictionary(name, value, { noNullPrototype: true }), (environment) => {
        const text = Object.entries(environment).map(([key, one]) => `${key}='${one.replaceAll("'", "\\'")}'`)
        const read = readWeb({ env_file: 'a.env' }, {}, { files: { 'a.env': text.join('\n') } })
        assert.deepEqual(read.services[0]?.environment, environment)
      }),
    )
  })
})

describe('the labels of a service', () => {
  it('are a map or a list, and begin with those of its label files', () => {
    assertWeb(
      { labels: { 'com.example.a': 'x', b: 1, c: true, d: null } },
      { labels: { 'com.example.a': 'x', b: '1', c: 'true', d: '' } },
    )
    assertWeb({ labels: ['com.example.a=x', 'b'] }, { labels: { 'com.example.a': 'x', b: '' } })
    const files = { 'l.env': 'a.b=1\nc=2' }
    assertWeb({ label_file: 'l.env', labels: ['c=3'] }, { labels: { 'a.b': '1', c: '3' } }, {}, { files })
    assertWeb({ label_file: ['l.env'] }, { labels: { 'a.b': '1', c: '2' } }, {}, { files })
  })

  it('are refused at the exact key', () => {
    assertRefused(
      { labels: { 'org.orchestrator.owner': 'x' } },
      'services.web.labels.org.orchestrator.owner',
      /are ours/,
    )
    assertRefused({ labels: ['org.orchestrator=x'] }, 'services.web.labels[0]', /are ours/)
    assertRefused({ labels: { a: {} } }, 'services.web.labels.a', /expected a text/)
    assertRefused({ label_file: 'l.env' }, 'services.web.label_file', /there is no file/)
    assertRefused({ labels: { a: 'x'.repeat(4097) } }, 'services.web.labels.a', /./)
  })
})
