import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { durationOf } from '../../orchestrator/compose/stack/durations.ts'
import { booleanOf, modeOf } from '../../orchestrator/compose/stack/reading.ts'
import { sizeOf } from '../../orchestrator/compose/stack/sizes.ts'
import { wordsOf } from '../../orchestrator/compose/stack/words.ts'
import type { Json } from '../../orchestrator/domain/template.ts'
import { assertRefused, assertWeb, plainService, readWeb, refusedAt } from '../support/compose-stacks.ts'

const MIB = 1024 * 1024

describe('values of a Compose file', () => {
  it('durations are as Compose writes them, in milliseconds', () => {
    const cases: [Json, number][] = [
      ['10s', 10_000],
      ['2.5s', 2500],
      ['1m30s', 90_000],
      ['2h32m', 9_120_000],
      ['5h34m56s', 20_096_000],
      ['1h30m', 5_400_000],
      ['500ms', 500],
      ['1500us', 2],
      ['1000µs', 1],
      ['.5s', 500],
      ['1d', 86_400_000],
      ['1w', 604_800_000],
      ['0', 0],
      [0, 0],
      ['0s', 0],
    ]
    for (const [value, ms] of cases) assert.equal(durationOf(value, 'k'), ms, String(value))
    for (const value of ['', '10', 10, '10 s', '-1s', 's', '1x', '1s2', '1m 30s', '1e3s', null, ['1s'], true]) {
      refusedAt(() => durationOf(value, 'k'), 'k', /expected a/)
    }
    refusedAt(() => durationOf('100us', 'k'), 'k', /at least a millisecond/)
    refusedAt(() => durationOf('53w', 'k'), 'k', /a year/)
  })

  it('sizes are as Compose writes them, in bytes', () => {
    const cases: [Json, number][] = [
      ['2b', 2],
      ['1024kb', MIB],
      ['2048k', 2 * MIB],
      ['300m', 300 * MIB],
      ['1gb', 1024 * MIB],
      ['1.5g', 1536 * MIB],
      ['1G', 1024 * MIB],
      ['64MiB', 64 * MIB],
      ['64 MB', 64 * MIB],
      ['1t', MIB * MIB],
      ['123', 123],
      [123, 123],
      [0, 0],
    ]
    for (const [value, bytes] of cases) assert.equal(sizeOf(value, 'k'), bytes, String(value))
    for (const value of ['', 'm', '-1', -1, '1x', '1 m b', '1,5g', '99999999p', 1.5e300, null, true, []]) {
      refusedAt(() => sizeOf(value, 'k'), 'k', /expected a size/)
    }
  })

  it('booleans may be texts, as they are after interpolation', () => {
    for (const value of [true, 'true', 'True', 'TRUE', 't', '1', 'y', 'yes', 'on'])
      assert.equal(booleanOf(value, 'k'), true)
    for (const value of [false, 'false', 'F', '0', 'n', 'NO', 'off']) assert.equal(booleanOf(value, 'k'), false)
    for (const value of ['', 'maybe', 1, 0, null, 'truee']) refusedAt(() => booleanOf(value, 'k'), 'k', /true or false/)
  })

  it('permission bits are octal in texts, and numbers are what YAML has read', () => {
    const cases: [Json, number][] = [
      [0o444, 0o444],
      ['0444', 0o444],
      ['444', 0o444],
      ['0o755', 0o755],
      ['1777', 0o1777],
      [0, 0],
    ]
    for (const [value, bits] of cases) assert.equal(modeOf(value, 'k'), bits, String(value))
    for (const value of ['0999', '', 'rw', 0o10000, -1, 1.5, null]) refusedAt(() => modeOf(value, 'k'), 'k', /octal/)
  })

  it('commands are split into words as Compose does', () => {
    const cases: [string, string[]][] = [
      ['bundle exec thin -p 3000', ['bundle', 'exec', 'thin', '-p', '3000']],
      ['  a\tb\n c ', ['a', 'b', 'c']],
      [`sh -c "echo 'hi there'; ls | wc"`, ['sh', '-c', "echo 'hi there'; ls | wc"]],
      [`a 'b "c" \\d' e`, ['a', 'b "c" \\d', 'e']],
      [`a "b \\"c\\"" e`, ['a', 'b "c"', 'e']],
      [`a\\ b c`, ['a b', 'c']],
      [`--x='y z'"w"v`, ['--x=y zwv']],
      [`'' ""`, ['', '']],
      ['a\\;b', ['a;b']],
      [`"a\\nb"`, ['a\nb']],
      ['echo $HOME *', ['echo', '$HOME', '*']],
      ['# no comment', ['#', 'no', 'comment']],
      ['', []],
      ['   ', []],
    ]
    for (const [text, words] of cases) assert.deepEqual(wordsOf(text, 'k'), words, text)
    refusedAt(() => wordsOf(`a "b`, 'k'), 'k', /" that is not closed/)
    refusedAt(() => wordsOf(`a 'b\\'`.slice(0, -1), 'k'), 'k', /' that is not closed/)
    refusedAt(() => wordsOf('a \\', 'k'), 'k', /backslash/)
    for (const text of [
      'a && b',
      'a | b',
      'a > f',
      'a; b',
      'echo $(id)',
      'echo `id`',
      'a <f',
      '(a)',
      'http://x/?a&b',
    ]) {
      refusedAt(() => wordsOf(text, 'k'), 'k', /no shell runs it: .*\["sh", "-c", "…"\]/)
    }
  })

  it('words in single quotes come out as they went in', () => {
    const word = fc.string({ unit: 'grapheme' }).map((text) => text.replaceAll("'", ''))
    fc.assert(
      fc.property(fc.array(word), (words) => {
        const text = words.map((one) => `'${one}'`).join(' ')
        assert.deepEqual(wordsOf(text, 'k'), words)
      }),
    )
  })
})

describe('the process of a service', () => {
  it('of which the file says nothing but the image has the safe defaults', () => {
    assertWeb({}, {})
    assertWeb({ 'x-mine': { any: ['thing'] }, command: null, ports: null, environment: null, networks: null }, {})
  })

  it('is started as the file says', () => {
    assertWeb({ command: 'nginx -g "daemon off;"' }, { command: ['nginx', '-g', 'daemon off;'] })
    assertWeb({ command: ['nginx', '-g', 'a && b'] }, { command: ['nginx', '-g', 'a && b'] })
    assertWeb({ command: [], entrypoint: '' }, { command: [], entrypoint: [] })
    assertWeb({ entrypoint: '/start.sh -v' }, { entrypoint: ['/start.sh', '-v'] })
    assertWeb({ entrypoint: ['/start.sh'], command: 'x' }, { entrypoint: ['/start.sh'], command: ['x'] })
    assertWeb({ working_dir: '/srv/' }, { workingDirectory: '/srv' })
    assertWeb({ working_dir: '/' }, { workingDirectory: '/' })
    assertWeb({ user: '1000:1000' }, { user: '1000:1000' })
    assertWeb({ group_add: ['mail', 5] }, { groups: ['mail', '5'] })
    assertWeb(
      { init: true, tty: 'true', stdin_open: true, read_only: 'yes' },
      { init: true, tty: true, stdinOpen: true, readOnly: true },
    )
    assertWeb({ init: false, tty: 'false', stdin_open: false, read_only: 'no', privileged: false }, {})
    assertWeb({ stop_signal: 'SIGUSR1', stop_grace_period: '1m30s' }, { stopSignal: 'SIGUSR1', stopGraceMs: 90_000 })
    assertWeb({ platform: 'linux/arm64' }, { platform: 'linux/arm64' })
  })

  it('is told by a note that a signal is never sent where nothing waits for its end', () => {
    const { services, notes } = readWeb({ stop_signal: 'SIGUSR1' })
    assert.deepEqual(services, [plainService({ stopSignal: 'SIGUSR1' })])
    assert.deepEqual(
      notes.map(({ key }) => key),
      ['services.web.stop_signal'],
    )
  })

  it('is refused where it cannot be started so, at the exact key', () => {
    assertRefused({ command: ['a', 1] }, 'services.web.command[1]', /expected a text/)
    assertRefused({ command: { a: 'b' } }, 'services.web.command', /expected a text/)
    assertRefused({ command: ['a\0b'] }, 'services.web.command[0]', /NUL/)
    assertRefused({ entrypoint: 'a | b' }, 'services.web.entrypoint', /no shell/)
    assertRefused({ working_dir: 'srv' }, 'services.web.working_dir', /absolute path/)
    assertRefused({ init: 'maybe' }, 'services.web.init', /true or false/)
    assertRefused({ stop_signal: 'stop it' }, 'services.web.stop_signal', /./)
    assertRefused({ stop_grace_period: '10' }, 'services.web.stop_grace_period', /duration/)
    assertRefused({ group_add: ['a', null] }, 'services.web.group_add[1]', /expected a text/)
    assertRefused({ group_add: 'a' }, 'services.web.group_add', /expected a list/)
    assertRefused({ platform: 'x'.repeat(65) }, 'services.web.platform', /./)
    assertRefused({ command: Array(257).fill('a') }, 'services.web.command', /./)
  })

  it('runs an image with a name that engines know', () => {
    const names = [
      'nginx',
      'nginx:1.29',
      'team/app',
      'registry.example.net/a/b_c:v1.0',
      'localhost:5000/a',
      '[fd00::1]:5000/a',
    ]
    for (const image of [...names, `nginx@sha256:${'a'.repeat(64)}`, 'ghcr.io/a/b-c:latest', 'a__b'])
      assertWeb({ image }, { image })
    for (const image of ['', 'Nginx', 'a b', '-x', 'nginx:', 'a//b', '/nginx', 'nginx@sha256:abc', 'a'.repeat(513)]) {
      assertRefused({ image }, 'services.web.image', /expected the name of an image/)
    }
    assertRefused({ image: null }, 'services.web.image', /is missing/)
    assertWeb({ pull_policy: 'always' }, { pull: 'always' })
    assertWeb({ pull_policy: 'never' }, { pull: 'never' })
    for (const pull_policy of ['missing', 'if_not_present']) assertWeb({ pull_policy }, { pull: 'missing' })
    for (const pull_policy of ['build', 'daily', 'every_3d', 'refresh']) {
      assertRefused({ pull_policy }, 'services.web.pull_policy', /is not supported/)
    }
  })

  it('is restarted as the file says, else always', () => {
    assertWeb({ restart: 'always' }, { restart: 'always' })
    assertWeb({ restart: 'unless-stopped' }, { restart: 'always' })
    assertWeb({ restart: 'no' }, { restart: 'no' })
    assertWeb({ restart: 'on-failure' }, { restart: 'on-failure' })
    assertWeb({ deploy: { restart_policy: { condition: 'any' } } }, { restart: 'always' })
    assertWeb({ deploy: { restart_policy: { condition: 'none' } } }, { restart: 'no' })
    assertWeb(
      { deploy: { restart_policy: { condition: 'on-failure' } }, restart: 'on-failure' },
      { restart: 'on-failure' },
    )
    assertWeb({ deploy: { restart_policy: {} } }, { restart: 'always' })
    const { services, notes } = readWeb({ restart: 'on-failure:3' })
    assert.equal(services[0]?.restart, 'on-failure')
    assert.deepEqual(
      notes.map(({ key }) => key),
      ['services.web.restart'],
    )
    assertRefused({ restart: 'sometimes' }, 'services.web.restart', /expected "no"/)
    assertRefused({ restart: 'on-failure:x' }, 'services.web.restart', /expected "no"/)
    const policy = 'services.web.deploy.restart_policy'
    assertRefused({ deploy: { restart_policy: { condition: 'x' } } }, `${policy}.condition`, /any/)
    assertRefused({ deploy: { restart_policy: { delay: '5s' } } }, `${policy}.delay`, /not supported/)
    assertRefused({ restart: 'no', deploy: { restart_policy: {} } }, `${policy}.condition`, /something else/)
  })

  it('is asked for its health as the file says', () => {
    const check = (healthcheck: Json) => ({ healthcheck })
    assertWeb(check({ test: 'curl -f http://localhost || exit 1' }), {
      healthcheck: { test: ['CMD-SHELL', 'curl -f http://localhost || exit 1'] },
    })
    assertWeb(
      check({ test: ['CMD', 'true', '-v'], interval: '1m30s', timeout: '10s', retries: 3, start_period: '40s' }),
      {
        healthcheck: {
          test: ['CMD', 'true', '-v'],
          intervalMs: 90_000,
          timeoutMs: 10_000,
          retries: 3,
          startPeriodMs: 40_000,
        },
      },
    )
    assertWeb(check({ test: ['CMD-SHELL', 'a && b'], retries: '5' }), {
      healthcheck: { test: ['CMD-SHELL', 'a && b'], retries: 5 },
    })
    assertWeb(check({ interval: '5s' }), { healthcheck: { intervalMs: 5000 } })
    assertWeb(check({ interval: '0s', retries: 0 }), {})
    for (const off of [{ test: ['NONE'] }, { disable: true }, { disable: 'true', test: ['CMD', 'x'] }]) {
      assertWeb(check(off), { healthcheck: 'disabled' })
    }
    const at = 'services.web.healthcheck'
    assertRefused(check({ test: ['echo', 'x'] }), `${at}.test`, /"CMD"/)
    assertRefused(check({ test: ['CMD'] }), `${at}.test`, /"CMD"/)
    assertRefused(check({ test: ['CMD-SHELL', 'a', 'b'] }), `${at}.test`, /"CMD"/)
    assertRefused(check({ test: [] }), `${at}.test`, /"CMD"/)
    assertRefused(check({ test: ' ' }), `${at}.test`, /a command/)
    assertRefused(check({ test: ['CMD', 1] }), `${at}.test[1]`, /a text/)
    assertRefused(check({ interval: '5' }), `${at}.interval`, /duration/)
    assertRefused(check({ retries: 1001 }), `${at}.retries`, /0 to 1000/)
    assertRefused(check({ start_interval: '5s' }), `${at}.start_interval`, /not supported/)
    assertRefused(check('curl'), at, /expected a map/)
  })
})
