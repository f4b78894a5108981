import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { until } from '../support/until.ts'

const run = promisify(execFile)
/** Most points that `systemd-analyze security` may give (10 is the worst): what was reached, so that it stays reached. */
const EXPOSURE = { orchestrator: 1.3, unionize: 1.5, 'unionize-wiring': 3.3, 'dnsmasq@': 3.0 }
/** Installed by a package or by hand, so not there in a source tree. */
const NOT_INSTALLED = /Command \/usr\/(bin\/(orchestrator|unionize)|sbin\/dnsmasq) is not executable/

describe('systemd units', () => {
  const folder = mkdtempSync('/tmp/orchestrator-units-')
  after(() => rmSync(folder, { recursive: true, force: true }))

  for (const [unit, most] of Object.entries(EXPOSURE)) {
    it(`${unit}.service is valid and exposes no more than ${most}`, async () => {
      const file = `systemd/${unit}.service`
      const told = await run('systemd-analyze', ['verify', '--man=no', file]).catch((e: { stderr: string }) => e)
      const faults = told.stderr.split('\n').filter((line) => line.trim() !== '' && !NOT_INSTALLED.test(line))
      assert.deepEqual(faults, [])
      const { stdout } = await run('systemd-analyze', ['security', '--offline=true', file])
      const score = /exposure level for \S+: ([\d.]+)/.exec(stdout)?.[1]
      assert.ok(Number(score) <= most, `exposure ${score}`)
    })
  }

  it('start in an order that works, and come back after a fault', () => {
    const setting = (unit: string, key: string) =>
      [...readFileSync(`systemd/${unit}.service`, 'utf8').matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))]
        .map((match) => match[1])
        .join(' ')
    assert.match(setting('unionize', 'After'), /docker\.service.*unionize-wiring\.service.*orchestrator\.service/)
    assert.match(setting('unionize', 'Wants'), /unionize-wiring\.service/)
    assert.equal(setting('unionize', 'Before'), '', 'leases are given whether or not instances can be made')
    assert.equal(
      setting('unionize', 'Requires'),
      '',
      'a host goes on without engine, wiring process or orchestrator on the same machine',
    )
    for (const unit of Object.keys(EXPOSURE)) assert.equal(setting(unit, 'Restart'), 'always')
    assert.equal(setting('orchestrator', 'CapabilityBoundingSet'), '')
    assert.equal(setting('unionize', 'CapabilityBoundingSet'), '', 'the wiring process alone has capabilities')
    const capabilities = setting('unionize-wiring', 'CapabilityBoundingSet')
    assert.equal(setting('unionize-wiring', 'AmbientCapabilities'), capabilities)
    const least = 'CAP_NET_ADMIN CAP_SYS_ADMIN CAP_SYS_PTRACE'
    assert.equal(capabilities, `${least} CAP_NET_RAW CAP_NET_BIND_SERVICE CAP_DAC_OVERRIDE`)
  })

  it('users and folders are made as the daemons need them', async () => {
    const root = join(folder, 'root')
    mkdirSync(join(root, 'etc'), { recursive: true })
    for (const file of ['passwd', 'group']) cpSync(`/etc/${file}`, join(root, 'etc', file))
    await run('systemd-sysusers', [`--root=${root}`, join(process.cwd(), 'systemd/sysusers.d/orchestrator.conf')])
    assert.match(readFileSync(join(root, 'etc/passwd'), 'utf8'), /^unionize:.*nologin$/m)
    assert.match(readFileSync(join(root, 'etc/group'), 'utf8'), /^docker:.*\bunionize\b/m)
    await run('systemd-tmpfiles', [
      '--create',
      `--root=${root}`,
      join(process.cwd(), 'systemd/tmpfiles.d/orchestrator.conf'),
    ])
    assert.equal(statSync(join(root, 'var/lib/orchestrator-leases')).mode & 0o7777, 0o2770)
    assert.ok(existsSync(join(root, 'run/unionize/hosts.d')))
  })
})

describe('the service manager is told', () => {
  const folder = mkdtempSync('/tmp/orchestrator-notify-')
  const socket = join(folder, 'notify')
  const heard: string[] = []
  let listener: ChildProcess
  let daemon: ChildProcess
  before(async () => {
    const script = `use IO::Socket::UNIX; $| = 1; my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $ARGV[0]); while (defined $s->recv(my $m, 4096)) { print "$m\\n" }`
    listener = spawn('perl', ['-MSocket', '-e', script, socket], { stdio: ['ignore', 'pipe', 'inherit'] })
    listener.stdout?.on('data', (chunk: Buffer) => heard.push(...chunk.toString().trim().split('\n')))
    await until('the manager listens', () => existsSync(socket), { deadlineMs: 60_000 })
    const catalog = join(folder, 'catalog')
    mkdirSync(catalog)
    cpSync('client-image/sample.yaml', join(catalog, 'sample.yaml'))
    const flags = ['--state-directory', join(folder, 'state'), '--catalog-directory', catalog, '--server-port', '0']
    daemon = spawn(process.execPath, ['orchestrator/main.ts', ...flags], {
      stdio: 'ignore',
      env: { PATH: process.env['PATH'], NOTIFY_SOCKET: socket, WATCHDOG_USEC: '400000' },
    })
  })
  after(() => {
    daemon.kill('SIGKILL')
    listener.kill()
    rmSync(folder, { recursive: true, force: true })
  })

  it('when the orchestrator is ready, that it lives, and when it stops', async () => {
    await until('READY=1', () => heard.includes('READY=1'), { deadlineMs: 60_000 })
    await until('two keep-alives', () => heard.filter((m) => m === 'WATCHDOG=1').length >= 2)
    const ended = new Promise((resolve) => daemon.once('exit', resolve))
    daemon.kill('SIGTERM')
    assert.equal(await ended, 0)
    await until('STOPPING=1', () => heard.includes('STOPPING=1'))
  })

  it('when the wiring process is ready, that it lives, and when it stops, though it became another program', async () => {
    heard.length = 0
    const flags = ['--wiring-socket', join(folder, 'wiring.sock'), '--wiring-directory', join(folder, 'wiring')]
    const wiring = spawn(process.execPath, ['unionize/main.ts', 'wiring', ...flags], {
      stdio: 'ignore',
      env: { PATH: process.env['PATH'], NOTIFY_SOCKET: socket, WATCHDOG_USEC: '400000' },
    })
    await until('READY=1', () => heard.includes('READY=1'), { deadlineMs: 60_000 })
    await until('two keep-alives', () => heard.filter((m) => m === 'WATCHDOG=1').length >= 2)
    const ended = new Promise((resolve) => wiring.once('exit', resolve))
    wiring.kill('SIGTERM')
    assert.equal(await ended, 0)
    await until('STOPPING=1', () => heard.includes('STOPPING=1'))
  })
})
