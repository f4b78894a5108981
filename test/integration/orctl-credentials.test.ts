import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openStore } from '../../orchestrator/store/knex.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { type TestApi, testApi } from '../support/api.ts'
import { type LockedWorld, lockedKind } from '../support/locked-backend.ts'
import { until } from '../support/until.ts'

const main = fileURLToPath(new URL('../../orchestrator/cli/main.ts', import.meta.url))
const SECRET = 'correct-horse-battery'

describe('orctl credential and backend', () => {
  let directory: string
  let store: Store
  let api: TestApi
  const world: LockedWorld = { password: SECRET, away: new Set(), missing: [], came: [] }
  const environment: Record<string, string> = {}

  before(async () => {
    directory = mkdtempSync('/tmp/orchestrator-orctl-')
    store = await openStore(`sqlite:${join(directory, 'test.db')}`)
    api = await testApi({
      store,
      setting: { vault: { kind: 'locked', settings: { credential: 'keys', targets: ['east', 'west'] } } },
      kinds: { locked: async () => ({ backend: lockedKind(world) }) },
    })
    Object.assign(environment, {
      PATH: process.env['PATH'] ?? '',
      ORCTL_SERVER: `https://127.0.0.1:${api.api.port}`,
      ORCTL_TOKEN_FILE: join(api.directory, 'api-token'),
      ORCTL_CA: join(api.directory, 'ca.crt'),
    })
  })
  after(async () => {
    await api[Symbol.asyncDispose]()
    await store.close()
    rmSync(directory, { recursive: true, force: true })
  })

  function start(command: string, args: string[]) {
    const child = spawn(command, args, { env: environment, stdio: ['pipe', 'pipe', 'pipe'] })
    const text = { out: '', err: '' }
    child.stdout.setEncoding('utf8').on('data', (part) => {
      text.out += part
    })
    child.stderr.setEncoding('utf8').on('data', (part) => {
      text.err += part
    })
    const code = new Promise<number | null>((resolve) => child.once('close', resolve))
    return { child, text, code }
  }
  async function orctl(input: string | null, ...args: string[]) {
    const { child, text, code } = start(process.execPath, [main, ...args])
    child.stdin.end(input ?? '')
    return { code: await code, ...text }
  }
  const stored = async () => await api.access.desk.credentials.all()

  test('sets from standard input and from a file, as lines and as JSON; lists all but the values', async () => {
    const lines = await orctl(
      `# vault\nuser=me\n\npassword=${SECRET}=with=signs\n`,
      'credential',
      'set',
      'keys',
      '--stdin',
    )
    assert.deepEqual([lines.code, lines.out, lines.err], [0, '', 'credential keys is set: password, user\n'])
    world.password = `${SECRET}=with=signs`
    assert.equal((await orctl(null, 'credential', 'test', 'keys')).code, 0, 'the value is all behind the first =')
    const file = join(directory, 'keys.json')
    writeFileSync(file, JSON.stringify({ user: 'me', password: SECRET }), { mode: 0o600 })
    world.password = SECRET
    const json = await orctl(null, 'credential', 'rotate', 'keys', '--from-file', file, '--test', '-o', 'json')
    assert.equal(json.code, 0, json.err)
    assert.deepEqual((JSON.parse(json.out) as { usedBy: string[] }).usedBy, ['vault'])
    const listed = await orctl(null, 'credential', 'ls')
    assert.match(listed.out, /^NAME +FIELDS +CHANGED +USED BY\nkeys +password,user +\d+s +vault\n$/)
    const events = await orctl(null, 'events', '-o', 'json')
    assert.doesNotMatch(`${lines.err}${json.out}${json.err}${listed.out}${events.out}`, /horse/)
  })

  test('refuses values as arguments and input that is none, and quotes nothing of it', async () => {
    const before = JSON.stringify(await stored())
    const open = join(directory, 'open.env')
    writeFileSync(open, `${SECRET}\n`, { mode: 0o644 })
    const cases: [string | null, string[], number, RegExp][] = [
      [null, ['keys', `password=${SECRET}`], 2, /never given as arguments/],
      [null, ['keys'], 2, /nobody to ask: give the fields by --from-file FILE or --stdin/],
      ['x=1', ['keys', 'password', '--stdin'], 2, /names of fields are for being asked/],
      [`{"password": "${SECRET}" x`, ['keys', '--stdin'], 2, /standard input begins with \{ and is not JSON/],
      [null, ['keys', '--from-file', open], 2, /can be read by every user.*\n.*line 1: expected KEY=VALUE/],
      [null, ['keys', '--from-file', join(directory, 'nowhere')], 2, /cannot be read/],
      [`x=${SECRET}`, ['keys', '--stdin', '--from-file', open], 2, /cannot both be given/],
      [`x=${SECRET}`, ['Keys!', '--stdin'], 2, /expected a name of a-z/],
    ]
    await Promise.all(
      cases.map(async ([input, args, code, words]) => {
        const found = await orctl(input, 'credential', 'set', ...args)
        assert.equal(found.code, code, `${args}: ${found.err}`)
        assert.match(found.err, words, String(args))
        assert.doesNotMatch(found.out + found.err, /horse/, String(args))
      }),
    )
    const typo = await orctl('x=y', 'credential', 'rotate', 'kyes', '--stdin')
    assert.deepEqual([typo.code, /`orctl credential set kyes` makes one/.test(typo.err)], [3, true])
    assert.equal(JSON.stringify(await stored()), before)
  })

  test('asks on a terminal, which shows nothing of what is typed', async () => {
    const line = [process.execPath, main, 'credential', 'set', 'asked', 'user', 'password'].join(' ')
    const { child, text, code } = start('script', ['-qec', line, '/dev/null'])
    await until('it asks for the first', () => text.out.includes('user: '), { deadlineMs: 60_000 })
    child.stdin.write('typed-user\r')
    await until('it asks for the second', () => text.out.includes('password: '))
    child.stdin.write(`${SECRET}\r`)
    assert.equal(await code, 0, text.out)
    assert.match(text.out, /credential asked is set: password, user/)
    assert.doesNotMatch(text.out, /typed-user|horse/)
    const opened = await api.access.desk.credentials.all()
    assert.ok(opened.some(({ name, fields }) => name === 'asked' && fields.join() === 'password,user'))
  })

  test('a person who leaves the question sets nothing', async () => {
    const line = [process.execPath, main, 'credential', 'set', 'left', 'password'].join(' ')
    const { child, text, code } = start('script', ['-qec', line, '/dev/null'])
    await until('it asks', () => text.out.includes('password: '), { deadlineMs: 60_000 })
    child.stdin.write('half\x03')
    assert.equal(await code, 2, text.out)
    assert.match(text.out, /the question was left, so nothing was set/)
    assert.ok(!(await stored()).some(({ name }) => name === 'left'))
  })

  test('the process list shows no value while one is set', async () => {
    const { child, code } = start(process.execPath, [main, 'credential', 'set', 'listed', '--stdin'])
    child.stdin.write(`password=${SECRET}\n`)
    const seen = ['cmdline', 'environ'].map((file) => readFileSync(`/proc/${child.pid}/${file}`, 'latin1'))
    child.stdin.end()
    assert.equal(await code, 0)
    assert.doesNotMatch(seen.join(), /horse/)
  })

  test('a test that fails leaves what was there, and ends with its code', async () => {
    const refused = await orctl('password=wrong-password', 'credential', 'rotate', 'keys', '--stdin', '--test')
    assert.equal(refused.code, 6)
    assert.match(refused.err, /keys was not set, as its test failed: vault at east: \(secret\) is wrong/)
    assert.equal((await orctl(null, 'credential', 'test', 'keys')).code, 0)
    world.password = 'changed-at-the-vault'
    const failed = await orctl(null, 'credential', 'test', 'keys')
    assert.equal(failed.code, 1)
    assert.match(failed.out, /vault +east +failed +\d+ +-\n.*\n\nvault at east: \(secret\) is wrong: 401: \(secret\)\n/)
    world.password = SECRET
  })

  test('backends are listed and checked: what answers, how fast, what is missing', async () => {
    const listed = await orctl(null, 'backend', 'ls')
    assert.match(
      listed.out,
      /^BACKEND +KIND +TARGET +STATUS +INSTANCES +AWAY +NEXT TRY\nvault +locked +east +answers +0 +- +-\n/,
    )
    const good = await orctl(null, 'backend', 'check')
    assert.equal(good.code, 0, good.err)
    assert.match(good.out, /^BACKEND +TARGET +OUTCOME +MS +VERSION\nvault +east +ok +\d+ +Door 1\nvault +west +ok /)
    assert.match(good.out, /\nvault at east: opens\n/)
    world.away.add('west')
    world.missing.push('a handle: screw one on')
    const bad = await orctl(null, 'backend', 'check', 'vault')
    assert.equal(bad.code, 1)
    assert.match(bad.out, /vault +east +incomplete +\d+ +Door 1\nvault +west +failed +\d+ +-\n/)
    assert.match(
      bad.out,
      /\nvault at east lacks: a handle: screw one on\nvault at west: host west cannot be reached: nobody/,
    )
    const data = await orctl(null, 'backend', 'check', 'vault', '-o', 'json')
    const { items } = JSON.parse(data.out) as { items: { targets: { target: string; error: unknown }[] }[] }
    assert.deepEqual([data.code, items[0]?.targets.map(({ target }) => target)], [1, ['east', 'west']])
    assert.deepEqual((await orctl(null, 'backend', 'ls', '-o', 'name')).out, 'vault\n')
    const nobody = await orctl(null, 'backend', 'check', 'valt')
    assert.deepEqual([nobody.code, /there is no backend "valt"; there is vault/.test(nobody.err)], [3, true])
    world.away.clear()
    world.missing.length = 0
  })

  test('one that is used is removed by force only', async () => {
    const used = await orctl(null, 'credential', 'rm', 'keys', 'asked', '--yes')
    assert.equal(used.code, 6)
    assert.match(used.err, /credential keys is used by backend vault,/)
    assert.match(used.err, /credential asked is removed\n/)
    assert.equal((await orctl(null, 'credential', 'rm', 'keys', '--yes', '--force')).code, 0)
    assert.equal((await orctl(null, 'credential', 'rm', 'keys', '--yes')).code, 3)
    assert.equal((await orctl(null, 'credential', 'rm', 'keys')).code, 2)
  })

  test('completion offers what there is', async () => {
    await api.access.desk.credentials.set('listed', { token: SECRET }, false, new AbortController().signal)
    const complete = async (...words: string[]) =>
      (await orctl(null, 'complete', '--', ...words)).out.trim().split('\n')
    assert.deepEqual(await complete('credential', ''), ['set', 'rotate', 'ls', 'test', 'rm', 'help'])
    assert.deepEqual(await complete('credential', 'test', 'l'), ['listed'])
    assert.deepEqual(await complete('backend', 'check', ''), ['vault'])
  })
})
