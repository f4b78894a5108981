import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../../common/clock.ts'
import { HostUnreachable } from '../../common/errors.ts'
import { openInventory } from '../../orchestrator/backends/coreos/machines/inventory.ts'
import { createMachines, type Machines } from '../../orchestrator/backends/coreos/machines/machines.ts'
import type { Shell } from '../../orchestrator/backends/coreos/machines/shell.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { type TestApi, testApi } from '../support/api.ts'
import { silent } from '../support/fixtures.ts'
import { until } from '../support/until.ts'

/** API and orctl over machines that answer in memory; test/netns/machines-*.test.ts has real ones. */
const main = fileURLToPath(new URL('../../orchestrator/cli/main.ts', import.meta.url))
const KEY = `ssh-ed25519 ${Buffer.from('a public key of 51 bytes, more or less, of a machine').toString('base64')}`
const BOOT = '11111111-2222-4333-8444-555555555555'

/** What was run, and a machine at fd00::dead that never answers. */
class PlainShell implements Shell {
  readonly ran: { machine: string; command: readonly string[]; input: string }[] = []

  async run(...[machine, command, { input }]: Parameters<Shell['run']>) {
    if (machine.address.endsWith(':dead')) throw new HostUnreachable(machine.name, 'it is off')
    this.ran.push({ machine: machine.name, command, input: String(input ?? '') })
    const text = command.join(' ')
    if (text.includes('is-system-running')) return ok(`${BOOT}\nrunning\nFedora CoreOS 40\n40.1\n`)
    return ok(BOOT)
  }
  async *follow(...[machine, command]: Parameters<Shell['follow']>) {
    yield `${machine.name}: ${command.join(' ')}\n`
  }
  async hostKeyOf(address: string) {
    if (address.endsWith(':dead')) throw new HostUnreachable(address, 'it is off')
    return KEY
  }
  forget() {}
}
const ok = (out: string) => ({ code: 0, out, err: '' })

describe('machines by API and orctl', () => {
  let directory: string
  let store: Store
  let api: TestApi
  let machines: Machines
  const shell = new PlainShell()
  const environment: Record<string, string> = {}

  before(async () => {
    directory = mkdtempSync('/tmp/orchestrator-machines-api-')
    store = await openStore(`sqlite:${join(directory, 'test.db')}`)
    const records = {
      all: () => store.backendRecords('metal'),
      put: (key: string, value: string | null) => store.putBackendRecord('metal', key, value),
    }
    const inventory = await openInventory(records)
    const nothing = { look: async () => [], drop: async () => {}, leave: async () => {} }
    machines = createMachines({ inventory, shell, clock: systemClock, log: silent, ...nothing })
    machines.start({ residents: { moveAway: async () => 0 }, tell: async () => {} })
    api = await testApi({ store, machines: new Map([['metal', machines]]) })
    Object.assign(environment, {
      PATH: process.env['PATH'] ?? '',
      ORCTL_SERVER: api.url,
      ORCTL_TOKEN_FILE: join(api.directory, 'api-token'),
      ORCTL_CA: join(api.directory, 'ca.crt'),
    })
  })
  after(async () => {
    await api[Symbol.asyncDispose]()
    await machines.stop()
    await store.close()
    rmSync(directory, { recursive: true, force: true })
  })

  async function orctl(...args: string[]) {
    const child = spawn(process.execPath, [main, ...args], { env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
    const text = { out: '', err: '' }
    child.stdout.setEncoding('utf8').on('data', (part) => {
      text.out += part
    })
    child.stderr.setEncoding('utf8').on('data', (part) => {
      text.err += part
    })
    const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
    return { code, ...text }
  }

  test('a machine is added with the key that it shows, and is listed and described', async () => {
    const asked = await orctl('machine', 'add', 'm1', '--address', 'fd00::11')
    assert.equal(asked.code, 2)
    assert.match(asked.err, /shows the host key SHA256:\S{43}\norctl: there is nobody to ask; --yes pins it/)
    assert.deepEqual(machines.list(), [])

    const added = await orctl(
      'machine',
      'add',
      'm1',
      '--address',
      'fd00::11',
      '--yes',
      '--label',
      'rack=4',
      '-o',
      'name',
    )
    assert.deepEqual([added.code, added.out], [0, 'm1\n'], added.err)
    await until('it has answered', () => machines.find('m1').seen !== null)
    const list = await orctl('machine', 'ls', '-o', 'wide')
    assert.match(
      list.out,
      /^NAME +STATUS +ADDRESS +VERSION .*\nm1 +ready +fd00::11 +40\.1 +running .* metal +core +22 .*rack=4/,
    )
    const described = await orctl('machine', 'describe', 'm1')
    assert.match(described.out, /^Name: +m1\nStatus: +ready\n/)
    assert.match(described.out, /System: +Fedora CoreOS 40, version 40\.1\n/)
    const data = JSON.parse((await orctl('machine', 'describe', 'm1', '-o', 'json')).out) as { hostKey: string }
    assert.equal(data.hostKey, KEY)
  })

  test('a machine with a key that is known beforehand need not answer', async () => {
    const file = join(directory, 'm2.pub')
    writeFileSync(file, `${KEY} root@m2\n`)
    const added = await orctl('machine', 'add', 'm2', '--address', 'fd00::dead', '--host-key', file)
    assert.equal(added.code, 0, added.err)
    await until('it is away', () => machines.find('m2').away !== null)
    assert.match((await orctl('machine', 'ls', '-o', 'wide')).out, /\nm2 +away .*it is off/)
  })

  test('cordoned machines are shown so', async () => {
    assert.equal((await orctl('machine', 'cordon', 'm1')).err, 'machine m1 is cordoned\n')
    assert.match((await orctl('machine', 'ls')).out, /\nm1 +cordoned/)
    assert.equal((await orctl('machine', 'uncordon', 'm1', '-o', 'name')).out, 'm1\n')
    assert.equal(machines.find('m1').cordoned, false)
  })

  test('names of machines are completed where machines are meant', async () => {
    const words = async (...line: string[]) => (await orctl('complete', '--', ...line)).out
    assert.equal(await words('machine', 'describe', ''), 'm1\nm2\n')
    assert.equal(await words('machine', 'cordon', 'm1', ''), 'm2\n')
    assert.equal(await words('machine', 'add', ''), '')
  })

  test('a secret goes to the machine by standard input alone', async () => {
    const file = join(directory, 'tls.key')
    writeFileSync(file, 'very secret')
    const pushed = await orctl('machine', 'secrets', 'push', 'm1', file, `other=${file}`)
    assert.equal(pushed.code, 0, pushed.err)
    const took = shell.ran.filter(({ input }) => input === 'very secret')
    assert.deepEqual(
      took.map(({ command }) => command.at(-1)),
      ['tls.key', 'other'],
    )
    assert.ok(!shell.ran.some(({ command }) => command.join(' ').includes('very secret')))
    const records = JSON.stringify([...(await store.backendRecords('metal'))])
    assert.ok(!records.includes('very secret') && !records.includes(Buffer.from('very secret').toString('base64')))
    assert.match((await orctl('machine', 'describe', 'm1')).out, /Secret tls\.key: +11 bytes, pushed/)
  })

  test('the journal of a machine is shown', async () => {
    const shown = await orctl('machine', 'console', 'm1', '--no-follow', '--tail', '5', '--unit', 'sshd.service')
    assert.equal(shown.out, 'm1: journalctl --no-pager -n 5 -u sshd.service\n')
  })

  test('an upgrade of a machine that is of the version is over at once', async () => {
    const done = await orctl('machine', 'upgrade', 'm1', '--to', '40.1')
    assert.equal(done.code, 0, done.err)
    assert.match(done.err, /machine m1 is upgraded: Fedora CoreOS 40\n/)
  })

  test('a rolling upgrade tells its progress, what is done, where it stopped and what is left', async () => {
    const roll = await orctl('machine', 'rolling-upgrade', '--to', '40.1', '--no-wait', '-o', 'json')
    assert.equal(roll.code, 0, roll.err)
    assert.deepEqual((JSON.parse(roll.out) as { left: string[] }).left, ['m1', 'm2'])
    await until('the second one is at it', () => machines.find('m2').task?.kind === 'upgrade')
    const busy = await orctl('machine', 'upgrade', 'm2', '--to', '41')
    assert.deepEqual([busy.code, /machine m2 is being upgraded/.test(busy.err)], [6, true], busy.err)
    const again = await orctl('machine', 'rolling-upgrade')
    assert.deepEqual([again.code, /m2 are left/.test(again.err)], [6, true], again.err)
    const stopped = await orctl('machine', 'rolling-upgrade', '--stop')
    assert.match(stopped.err, /stopped at it was asked to stop; done: m1; left: m2/)
  })

  test('a dead machine is removed although it does not answer, also in the middle of something', async () => {
    const asked = await orctl('machine', 'remove', 'm2', '--dead')
    assert.equal(asked.code, 2)
    const removed = await orctl('machine', 'remove', 'm2', '--dead', '--yes')
    assert.equal(removed.code, 0, removed.err)
    assert.match(removed.err, /machine m2 is removed\n$/)
    assert.deepEqual(
      machines.list().map(({ name }) => name),
      ['m1'],
    )
  })

  test('what is wrong is refused with one reason and the promised exit code', async () => {
    const cases: [string[], number, RegExp][] = [
      [['machine', 'describe', 'nobody'], 3, /there is no machine "nobody"/],
      [['machine', 'remove', 'nobody', '--yes'], 3, /there is no machine "nobody"/],
      [['machine', 'add', 'm1', '--address', 'fd00::11', '--yes'], 6, /there is a machine m1 already/],
      [['machine', 'add', 'm3', '--address', 'fd00::11', '--yes'], 2, /fd00::11 port 22 is machine m1/],
      [['machine', 'add', 'm3', '--address', '10.0.0.1', '--yes'], 2, /address/],
      [['machine', 'add', 'M3', '--address', 'fd00::13', '--yes'], 2, /name: expected a-z/],
      [['machine', 'add', 'm3', '--address', 'fd00::dead', '--yes'], 5, /cannot be reached: it is off/],
      [
        ['machine', 'add', 'm3', '--address', 'fd00::13', '--host-key', 'ssh-dss AAAA'],
        2,
        /hostKey: expected a public/,
      ],
      [
        ['machine', 'add', 'm3', '--address', 'fd00::13', '--host-key', '/nowhere'],
        2,
        /neither a public key nor a file/,
      ],
      [['machine', 'upgrade', 'm1', '--to', '$(reboot)'], 2, /to: expected a version/],
      [['machine', 'rolling-upgrade', 'm1', 'nobody'], 3, /there is no machine "nobody"/],
      [['machine', 'rolling-upgrade', '--resume', '--stop'], 2, /exclude each other/],
      [['machine', 'ls', '--backend', 'x'], 2, /unknown option/],
      [['machine', 'describe', 'm1', '--backend', 'x'], 3, /"x" is no backend with machines; there is metal/],
      [['machine', 'secrets', 'push', 'm1', '/nowhere'], 2, /cannot be read/],
      [['machine', 'console', 'm1', '--unit', 'a b'], 2, /unit: expected/],
    ]
    for (const [args, code, words] of cases) {
      const ended = await orctl(...args)
      assert.equal(ended.code, code, `${args.join(' ')}: ${ended.err}`)
      assert.match(ended.err, words)
      assert.equal(ended.out, '')
    }
  })

  test('without a backend that has machines there are none, and adding one says what is missing', async () => {
    await using bare = await testApi({ store })
    const here = { ORCTL_SERVER: bare.url, ORCTL_TOKEN_FILE: join(bare.directory, 'api-token') }
    const before = { ...environment }
    Object.assign(environment, here, { ORCTL_CA: join(bare.directory, 'ca.crt') })
    const list = await orctl('machine', 'ls')
    assert.match(list.err, /there are no machines/)
    const add = await orctl('machine', 'add', 'm1', '--address', 'fd00::11', '--yes')
    Object.assign(environment, before)
    assert.deepEqual([add.code, /no backend of kind coreos/.test(add.err)], [3, true], add.err)
  })

  test('a machine is configured without a server', async () => {
    const file = join(directory, 'm.yaml')
    writeFileSync(file, `hostname: m9\nssh-keys: ['${KEY}']\nfiles: [{ path: /etc/k, local: tls.key }]\n`)
    const written = await orctl('machine', 'config', file)
    assert.equal(written.code, 0, written.err)
    const { ignition } = JSON.parse(written.out) as { ignition: { version: string } }
    assert.equal(ignition.version, '3.3.0')
    assert.match(
      (await orctl('machine', 'config', file, '--format', 'cloud-config')).out,
      /^#cloud-config\nhostname: m9\n/,
    )
    writeFileSync(file, `hostname: m9\nssh-keys: ['${KEY}']\nfile: []\n`)
    const faulty = await orctl('machine', 'config', file)
    assert.deepEqual([faulty.code, faulty.out], [6, ''])
    assert.match(
      faulty.err,
      new RegExp(`^${file}:3: error: file: is not known here.*\n1 fault; nothing was written\n$`),
    )
    writeFileSync(file, `hostname: m9\nssh-keys: ['${KEY}']\nfiles: [{ path: /etc/k, local: nowhere }]\n`)
    assert.match((await orctl('machine', 'config', file)).err, /nowhere cannot be read/)
  })
})
