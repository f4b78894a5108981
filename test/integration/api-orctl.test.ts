import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { OrchestratorError } from '../../common/errors.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { type TestApi, testApi } from '../support/api.ts'
import { leaseEvent } from '../support/fixtures.ts'
import { joinHost } from '../support/test-host.ts'
import { until } from '../support/until.ts'

const main = fileURLToPath(new URL('../../orchestrator/cli/main.ts', import.meta.url))

describe('orctl', () => {
  let directory: string
  let store: Store
  let api: TestApi
  const environment: Record<string, string> = {}

  before(async () => {
    directory = mkdtempSync('/tmp/orchestrator-orctl-')
    store = await openStore(`sqlite:${join(directory, 'test.db')}`)
    api = await testApi({
      store,
      async *logs(instance, options) {
        if (options.service !== undefined) throw new OrchestratorError('no-logs', 'it prints nothing')
        yield `output of ${instance.name}\n`
      },
    })
    await joinHost(api, 'h1')
    for (let n = 1; n <= 3; n++) await grant(n)
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

  const grant = (n: number) =>
    api.intake.applyLeases('h1', [{ event: leaseEvent(n, Date.now()), position: { journal: 'j', offset: n } }])

  function start(args: string[], env: Record<string, string> = {}) {
    const child = spawn(process.execPath, [main, ...args], {
      env: { ...environment, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
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

  async function orctl(...args: string[]) {
    const { text, code } = start(args)
    return { ...text, ...{ code: await code }, out: text.out, err: text.err }
  }

  async function stopped(child: ChildProcess, code: Promise<number | null>): Promise<void> {
    child.kill('SIGTERM')
    await code
  }

  test('lists each resource as table, JSON and names, with flags before or after the verb', async () => {
    const table = await orctl('get', 'instances')
    assert.equal(table.code, 0, table.err)
    assert.match(table.out, /^NAME +STATUS.*\ndevice1 +waiting +fd00:1::1001 +fd00:c::1001 /)
    assert.equal(table.err, '')
    const before = await orctl('-o', 'name', 'get', 'instances')
    const behind = await orctl('get', 'instances', '-o', 'name')
    assert.deepEqual([before.out, behind.out], Array(2).fill('device1\ndevice2\ndevice3\n'))
    const leases = JSON.parse((await orctl('get', 'leases', '-o', 'json')).out) as { items: { hostname: string }[] }
    assert.deepEqual(leases.items.map((lease) => lease.hostname).sort(), ['device1', 'device2', 'device3'])
    assert.match((await orctl('get', 'hosts', '-o', 'wide')).out, /\nh1 +away +0 /)
    assert.match((await orctl('get', 'templates', '-o', 'yaml')).out, /^items:\n {2}- name: sample\n/)
    const one = JSON.parse((await orctl('get', 'lease', 'device2', '-o', 'json')).out) as { address: string }
    assert.equal(one.address, 'fd00:c::1002')
  })

  test('describes an instance for people and for programs', async () => {
    const people = await orctl('describe', 'instance', 'device1')
    assert.match(people.out, /^Name: +device1\nStatus: +waiting\n/)
    assert.match(people.out, /Timeline, milliseconds:\n +hook +0 +the lease event was written\n/)
    const data = JSON.parse((await orctl('describe', 'instance', 'device1', '-o', 'json')).out) as { name: string }
    assert.equal(data.name, 'device1')
  })

  test('describes a lease, by whatever names it', async () => {
    for (const name of ['device2', 'fd00:c::1002']) {
      const people = await orctl('describe', 'lease', name)
      assert.match(people.out, /^Address: +fd00:c::1002\nState: +active\nInstance: +i-\w+\nHostname: +device2\n/)
    }
    assert.equal((await orctl('describe', 'lease', 'device2', '-o', 'name')).out, 'fd00:c::1002\n')
  })

  test('ends with the promised exit codes and says what to do, on standard error alone', async () => {
    const wrong = join(directory, 'wrong-token')
    writeFileSync(wrong, 'orc_wrong')
    const cases: [string[], Record<string, string>, number, RegExp][] = [
      [['--help'], {}, 0, /^$/],
      [['nonsense'], {}, 2, /unknown command/],
      [['get', 'instances', '--nonsense'], {}, 2, /unknown option/],
      [['get', 'nonsense'], {}, 2, /Known: leases/],
      [['events', '--limit', 'many'], {}, 2, /--limit: expected a whole number/],
      [['get', 'instances', 'nobody'], {}, 3, /there is no instance "nobody"/],
      [['get', 'lease', 'nobody'], {}, 3, /there is no lease "nobody"/],
      [['describe', 'instance', 'nobody'], {}, 3, /nobody/],
      [['rm', 'instance', 'nobody', '--yes'], {}, 3, /nobody/],
      [['rm', 'instance', 'device1'], {}, 2, /--yes/],
      [['get', 'hosts', '--token-file', wrong], {}, 4, /--token-file/],
      [['get', 'hosts', '--token-file', '/nowhere'], {}, 4, /there is no token/],
      [['get', 'hosts'], { ORCTL_SERVER: 'https://127.0.0.1:1' }, 5, /Is the orchestrator running/],
      [['get', 'hosts', '--ca', '/etc/hostname'], {}, 5, /--ca or ORCTL_CA/],
      [['get', 'hosts', '--ca', '/nowhere'], {}, 2, /cannot be read/],
      [['logs', 'device1', '-s', 'x'], {}, 6, /it prints nothing/],
    ]
    for (const [args, env, expected, words] of cases) {
      const { text, code } = start(args, env)
      assert.equal(await code, expected, `${args.join(' ')}: ${text.err}`)
      assert.match(text.err, words, args.join(' '))
      if (expected !== 0) assert.equal(text.out, '')
    }
  })

  test('shows events, and goes on with new ones', async () => {
    const past = await orctl('events', '-n', '2', '-o', 'json')
    assert.equal((JSON.parse(past.out) as { items: unknown[] }).items.length, 2)
    const { child, text, code } = start(['events', '-w', '-n', '1', '-o', 'json'])
    const lines = () => text.out.split('\n').filter((line) => line !== '')
    await until('the last one is there', () => lines().length === 1, { deadlineMs: 60_000 })
    for (let n = 1; n <= 5; n++)
      await store.appendEvent({ level: 'info', kind: 'test', message: `news ${n}` }, Date.now())
    await until('the new ones came', () => lines().length === 6)
    assert.deepEqual(
      lines()
        .slice(1)
        .map((line) => (JSON.parse(line) as { message: string }).message),
      [1, 2, 3, 4, 5].map((n) => `news ${n}`),
    )
    await stopped(child, code)
  })

  test('watches instances: one JSON line for each that is there, comes, changes', async () => {
    const { child, text, code } = start(['get', 'instances', '-w', '-o', 'json'])
    const told = () =>
      text.out
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as { type: string; item: { name: string; wanted: string } })
    await until('the first are there', () => told().length === 3, { deadlineMs: 60_000 })
    await grant(4)
    await until('the new one came', () => told().some(({ type, item }) => type === 'added' && item.name === 'device4'))
    const [instance] = (await store.instances()).filter((found) => found.name === 'device4')
    assert.ok(instance)
    await api.intake.dismiss(instance.id)
    await until('its change came', () => told().some(({ type, item }) => type === 'changed' && item.wanted === 'gone'))
    await stopped(child, code)
  })

  test('prints logs as they are', async () => {
    const { out, code } = await orctl('logs', 'device1', '--tail', '3')
    assert.deepEqual([code, out], [0, 'output of device1\n'])
  })

  test('removes what it can, and tells what it could not', async () => {
    const { code, err } = await orctl('rm', 'instance', 'device3', 'nobody', '--yes')
    assert.equal(code, 3)
    assert.match(err, /instance device3 is being removed\ninstance nobody: there is no instance/)
    assert.equal((await store.findInstance('device3'))?.wanted, 'gone')
  })

  test('rm --wait returns when it is gone, and gives up at its timeout', async () => {
    const late = await orctl('rm', 'instance', 'device2', '--yes', '--wait', '--timeout', '1')
    assert.equal(late.code, 1)
    assert.match(late.err, /not gone after 1 s/)
    const { code, text } = start(['rm', 'instance', 'device2', '--yes', '--wait'])
    const instance = await store.findInstance('device2')
    assert.ok(instance)
    await store.settle(instance, { state: 'gone', settled: instance.generation, dueAt: null }, Date.now())
    assert.equal(await code, text.err.includes('gone already') ? 3 : 0)
  })

  test('the line that create token prints is one that lets a host join', async () => {
    const { out, err, code } = await orctl('create', 'token', '--host', 'h9')
    assert.equal(code, 0)
    assert.match(out, /^unionize join --server https:\/\/localhost:\d+ --host-name h9 --token orc1\.\S+\n$/)
    assert.match(err, /works once/)
    const bare = await orctl('create', 'token', '-o', 'name')
    assert.match(bare.out, /^orc1\.[^.]{43}\.[0-9a-f]{64}\n$/)
  })

  test('completion offers verbs, resources, flags and names', async () => {
    const complete = async (...words: string[]) =>
      (await orctl('complete', '--', ...words)).out.split('\n').slice(0, -1)
    assert.deepEqual((await complete('')).slice(0, 4), ['get', 'describe', 'events', 'logs'])
    assert.deepEqual(await complete('ge'), ['get'])
    assert.deepEqual(await complete('get', ''), ['leases', 'instances', 'hosts', 'templates', 'rules', 'builds'])
    assert.ok((await complete('describe', 'instance', '')).includes('device1'))
    assert.ok((await complete('-o', 'json', 'logs', 'dev')).includes('device1'))
    assert.ok(!(await complete('rm', 'instance', 'device1', '')).includes('device1'))
    assert.deepEqual(await complete('get', 'instances', '-o', 'j'), ['json'])
    assert.ok((await complete('get', '--')).includes('--watch'))
    assert.deepEqual(await complete('create', 'token', '--host', ''), ['h1'])
    assert.deepEqual(await complete('describe', 'instance', '--token-file', '/nowhere', ''), [])
  })

  test('the bash script completes in a real bash', async () => {
    const bin = join(directory, 'orctl')
    writeFileSync(bin, `#!/bin/sh\nexec ${process.execPath} ${main} "$@"\n`, { mode: 0o755 })
    const script = `source <(orctl completion bash)
      COMP_WORDS=(orctl describe instance dev) COMP_CWORD=3; _orctl; printf '%s\\n' "\${COMPREPLY[@]}"`
    const child = spawn('bash', ['--norc', '-c', script], {
      env: { ...environment, PATH: `${directory}:${environment['PATH']}` },
    })
    let out = ''
    child.stdout.on('data', (part) => {
      out += String(part)
    })
    await new Promise((resolve) => child.once('close', resolve))
    assert.ok(out.split('\n').includes('device1'), out)
    assert.ok(readFileSync(bin, 'utf8').includes(main))
  })

  test('stops quietly when its reader has seen enough', async () => {
    const child = spawn(
      'bash',
      ['--norc', '-c', `"${process.execPath}" "${main}" get instances | true; echo "\${PIPESTATUS[0]}"`],
      {
        env: environment,
      },
    )
    let [out, err] = ['', '']
    child.stdout.on('data', (part) => {
      out += String(part)
    })
    child.stderr.on('data', (part) => {
      err += String(part)
    })
    await new Promise((resolve) => child.once('close', resolve))
    assert.deepEqual([out, err], ['0\n', ''])
  })
})
