import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import fc from 'fast-check'
import { z } from 'zod'
import {
  flagName,
  InvalidSettings,
  loadSettings,
  printable,
  type SettingsTable,
  suggestion,
  variableName,
} from '../../common/config.ts'
import { settingsTable as orchestrator } from '../../orchestrator/settings.ts'
import { settingsTable as unionize } from '../../unionize/settings.ts'

const table = {
  'server.port': { schema: z.number().int().min(1).max(65535), default: 8998, summary: 'Port' },
  'server.names': { schema: z.array(z.string()), default: ['localhost'], summary: 'Names' },
  'store.url': {
    schema: z.string().regex(/^(sqlite|postgres):/, 'expected a store'),
    default: 'sqlite:',
    secret: true,
    summary: 'Store',
  },
  'log.level': { schema: z.enum(['debug', 'info']), default: 'info', summary: 'Level' },
  'leases.file': { schema: z.string().startsWith('/').nullable(), default: '/leases', summary: 'File or none' },
  'must.say': { schema: z.string(), summary: 'Somebody must say' },
} satisfies SettingsTable

describe('settings', () => {
  let directory = ''
  before(() => {
    directory = mkdtempSync('/tmp/orchestrator-config-')
  })
  after(() => rmSync(directory, { recursive: true }))

  const load = (from: { file?: string; environment?: Record<string, string>; flags?: Record<string, string> }) => {
    const file = join(directory, 'config.yaml')
    if (from.file !== undefined) writeFileSync(file, from.file)
    return loadSettings(table, {
      file: from.file === undefined ? undefined : file,
      environment: { UNIT_MUST_SAY: 'said', ...from.environment },
      prefix: 'UNIT',
      flags: from.flags ?? {},
    })
  }
  const faults = (from: Parameters<typeof load>[0]): readonly string[] => {
    try {
      load(from)
    } catch (error) {
      assert.ok(error instanceof InvalidSettings)
      return error.faults
    }
    return assert.fail('the settings were taken')
  }

  it('come from flags over environment over file over default', () => {
    const file = 'server: { port: 1 }'
    const environment = { UNIT_SERVER_PORT: '2' }
    assert.equal(load({ file, environment, flags: { 'server.port': '3' } })['server.port'], 3)
    assert.equal(load({ file, environment })['server.port'], 2)
    assert.equal(load({ file })['server.port'], 1)
    assert.equal(load({})['server.port'], 8998)
    assert.deepEqual(load({ environment: { UNIT_SERVER_NAMES: '[a, b]' } })['server.names'], ['a', 'b'])
  })

  it('may be none where they are nullable, from every source', () => {
    assert.equal(load({ file: 'leases: { file: null }' })['leases.file'], null)
    assert.equal(load({ environment: { UNIT_LEASES_FILE: 'null' } })['leases.file'], null)
    assert.equal(load({ flags: { 'leases.file': '~' } })['leases.file'], null)
  })

  it('tell all their faults at once, each with where it stands', () => {
    const told = faults({
      file: 'server: { port: many, prot: 2 }\nnonsense: 1\nlog: 7',
      environment: { UNIT_LOG_LEVEL: 'loud', UNIT_SERVER_PROT: '1', UNIT_STORE_URL: 'mysql://u:hunter2@h/d' },
      flags: { 'leases.file': 'relative' },
    })
    const said = told.join('\n')
    assert.equal(told.length, 8, said)
    for (const expected of [
      /server\.port: .*got "many" \(.*config\.yaml\)/,
      /server\.prot is not a setting \(did you mean server\.port\?\) \(.*config\.yaml\)/,
      /nonsense is not a setting \(.*config\.yaml\)/,
      /log: expected keys below it/,
      /environment variable UNIT_SERVER_PROT is not a setting \(did you mean UNIT_SERVER_PORT\?\)/,
      /log\.level: .*got "loud" \(environment variable UNIT_LOG_LEVEL\)/,
      /leases\.file: .*got "relative" \(flag --leases-file\)/,
      /store\.url: expected a store, got a secret value \(environment variable UNIT_STORE_URL\)/,
    ]) {
      assert.match(said, expected)
    }
    assert.doesNotMatch(said, /hunter2/)
  })

  it('say what must be set and how', () => {
    const attempt = () => loadSettings(table, { environment: {}, prefix: 'UNIT', flags: {} })
    assert.throws(
      attempt,
      /must\.say is not set: Somebody must say \(key must\.say in the file, UNIT_MUST_SAY, or --must-say\)/,
    )
  })

  it('say when a default is what is wrong', () => {
    const wrong = { 'host.name': { schema: z.string().min(1), default: '', summary: 'Name' } }
    assert.throws(() => loadSettings(wrong, { environment: {}, prefix: 'UNIT', flags: {} }), /got "" \(the default\)/)
  })

  it('take no key that only every object has', () => {
    for (const key of ['constructor', 'toString', '__proto__', 'hasOwnProperty']) {
      assert.match(faults({ file: `${key}: x` }).join(), new RegExp(`${key} is not a setting`))
    }
  })

  it('never quote a file that cannot be parsed: it may hold a secret', () => {
    for (const file of [
      'store:\n  url: "postgres://u:hunter2@h/d',
      'store: { url: hunter2',
      'a: b: hunter2',
      'x: !hunter2 y\n\t- z',
    ]) {
      const said = faults({ file }).join('\n')
      assert.match(said, /config\.yaml: .*line \d/)
      assert.doesNotMatch(said, /hunter2/)
    }
    assert.match(faults({ file: '- a\n- b' }).join(), /expected keys and values at the top/)
  })

  it('tell that a file cannot be read', () => {
    const sources = {
      file: join(directory, 'none.yaml'),
      environment: { UNIT_MUST_SAY: 'x' },
      prefix: 'UNIT',
      flags: {},
    }
    assert.throws(() => loadSettings(table, sources), /none\.yaml: ENOENT/)
  })

  it('are read from an empty file as from none', () => {
    assert.deepEqual(load({ file: '' }), load({}))
    assert.deepEqual(load({ file: '# nothing\nserver:\n' }), load({}))
  })

  it('are printed nested with secrets masked, and can be read again', () => {
    const settings = load({ environment: { UNIT_STORE_URL: 'postgres://u:hunter2@h/d' } })
    const printed = printable(table, settings)
    assert.doesNotMatch(JSON.stringify(printed), /hunter2/)
    assert.deepEqual(printed['server'], { port: 8998, names: ['localhost'] })
    assert.deepEqual(printed['store'], { url: '***' })
    const again = load({ file: JSON.stringify({ ...printed, store: {} }), environment: {} })
    assert.deepEqual(again, { ...settings, 'store.url': 'sqlite:' })
  })

  for (const [name, prefix, real] of [
    ['orchestrator', 'ORCHESTRATOR', orchestrator],
    ['unionize', 'UNIONIZE', unionize],
  ] as [string, string, SettingsTable][]) {
    it(`of ${name} all have one sentence of summary and a default that they would take themselves`, () => {
      for (const [key, setting] of Object.entries(real)) {
        assert.match(setting.summary, /^[\p{L}].{5,200}[^.]$/u, key)
        assert.equal(setting.schema.safeParse(setting.default).success, true, `${key}: ${setting.default}`)
        // A section whose keys are names that the operator chooses is one setting.
        if (key !== 'backends') assert.match(key, /^[a-z]+(\.[a-z]+(-[a-z]+)*)+$/)
      }
      const loaded = loadSettings(real, { environment: {}, prefix, flags: {} })
      assert.deepEqual(Object.keys(loaded), Object.keys(real))
    })

    it(`of ${name} have variables and flags that do not collide`, () => {
      const names = Object.keys(real)
      assert.equal(new Set(names.map((key) => variableName(prefix, key))).size, names.length)
      assert.equal(new Set(names.map(flagName)).size, names.length)
    })
  }

  it('of orchestrator keep the store URL secret and the prefix within its bounds', () => {
    const attempt = (key: string, value: string) => () =>
      loadSettings(orchestrator, { environment: {}, prefix: 'X', flags: { [key]: value } })
    assert.throws(attempt('store.url', 'mysql://u:hunter2@h/d'), (e: Error) => !e.message.includes('hunter2'))
    for (const prefix of ['fd00:1::/48', 'fd00:1::/126', 'fd00:1::5/64', '10.0.0.0/8', 'nonsense']) {
      assert.throws(attempt('instances.prefix', prefix), /instances\.prefix: /)
    }
    assert.equal(attempt('instances.prefix', 'fd00:7::/96')()['instances.prefix'], 'fd00:7::/96')
  })

  it('never fail with anything but a list of faults', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (file, value) => {
        try {
          load({ file, environment: { UNIT_SERVER_PORT: value, UNIT_SERVER_NAMES: value } })
        } catch (error) {
          assert.ok(error instanceof InvalidSettings, String(error))
        }
      }),
    )
  })
})

describe('suggestion', () => {
  it('names the nearest only when it is near', () => {
    assert.equal(suggestion('server.prot', ['store.url', 'server.port']), ' (did you mean server.port?)')
    assert.equal(suggestion('entirely.else', ['server.port']), '')
    assert.equal(suggestion('x', []), '')
  })
})
