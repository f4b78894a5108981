import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { until } from '../support/until.ts'
import { BRIEF, NETWORK, percentiles, placement, WiringLab } from '../support/wiring-lab.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

describe('what is wrong is said clearly', () => {
  it('a host that is not ready: each fault and its remedy by name', async () => {
    await using lab = await WiringLab.start({ bare: true })
    const wiring = await lab.wiring()
    const prepare = () => wiring.prepare()
    await assert.rejects(wiring.attach({ pid: process.pid, link: 'ui-1', mac: '02:00:00:00:00:01' }), {
      code: 'not-prepared',
    })
    await assert.rejects(prepare, { code: 'bridge-missing', message: /br-instances does not exist.*ip link add/ })
    lab.run('ip', 'link', 'add', 'br-instances', 'type', 'veth')
    await assert.rejects(prepare, { code: 'bridge-missing', message: /br-instances is not a bridge/ })
    lab.run('ip', 'link', 'del', 'br-instances')
    lab.run('ip', 'link', 'add', 'br-instances', 'type', 'bridge')
    await assert.rejects(prepare, { code: 'bridge-missing', message: /is down.*ip link set br-instances up/ })
    lab.run('ip', 'link', 'set', 'br-instances', 'up')
    await assert.rejects(prepare, { code: 'gateway-missing', message: /fd00:1::1\/64 dev br-instances/ })
    lab.run('ip', 'address', 'add', 'fd00:1::1/64', 'dev', 'br-instances', 'nodad')
    await assert.rejects(prepare, { code: 'forwarding-off', message: /sysctl/ })
    lab.run('sysctl', '-qw', 'net.ipv6.conf.all.forwarding=1')
    await prepare()
    const sandbox = await lab.idle()
    lab.run('ip', 'link', 'del', 'br-instances')
    await assert.rejects(wiring.attach(placement(sandbox.pid, 1, null)), { code: 'bridge-missing' })
    await wiring.unplace(placement(sandbox.pid, 1, null))
  })

  it('an address of the host itself', async () => {
    await using lab = await WiringLab.start()
    const wiring = await lab.wiring()
    await wiring.prepare()
    const sandbox = await lab.idle()
    await wiring.attach(placement(sandbox.pid, 1, null))
    for (const address of [NETWORK.gateway, NETWORK.myAddress]) {
      await assert.rejects(wiring.place({ ...placement(sandbox.pid, 1, null), address }), {
        code: 'invalid-input',
        message: /address: .* is this host's own .*instances\.reserved/,
      })
    }
  })

  it('a sandbox that is gone, a zombie, the host itself, or somebody else’s', async () => {
    await using lab = await WiringLab.start()
    const wiring = await lab.wiring()
    await wiring.prepare()
    const sandbox = await lab.idle()
    await assert.rejects(wiring.place(placement(sandbox.pid, 1, null)), {
      code: 'link-gone',
      message: /attach it first/,
    })
    await sandbox.kill()
    for (const call of [wiring.attach, wiring.place]) {
      await assert.rejects(call(placement(sandbox.pid, 1, null)), { code: 'sandbox-gone', message: /process is gone/ })
    }
    const parent = spawn('sh', ['-c', 'sleep 0 & exec sleep 60'], { stdio: 'ignore' })
    try {
      const zombie = await until('there is a zombie', () => {
        const child = execFileSync('ps', ['--ppid', String(parent.pid), '-o', 'pid=,stat='], { encoding: 'utf8' })
        return /(\d+) Z/.exec(child)?.[1]
      })
      await assert.rejects(wiring.attach(placement(Number(zombie), 1, null)), { code: 'sandbox-gone' })
    } finally {
      parent.kill()
    }
    await assert.rejects(wiring.attach(placement(wiring.pid, 1, null)), { code: 'not-isolated' })
    const taken = await lab.idle()
    lab.runIn(taken.pid, 'ip', 'link', 'add', 'eth0', 'type', 'veth')
    await assert.rejects(wiring.attach(placement(taken.pid, 1, null)), { code: 'interface-in-use', message: /eth0/ })
    assert.deepEqual(await wiring.links(), [])
    const disabled = await lab.idle()
    lab.runIn(disabled.pid, 'sysctl', '-qw', 'net.ipv6.conf.default.disable_ipv6=1')
    await wiring.attach(placement(disabled.pid, 2, null))
    await assert.rejects(wiring.place(placement(disabled.pid, 2, null)), {
      code: 'kernel-refused',
      message: /IPv6 is disabled on this device/,
    })
    assert.doesNotMatch(lab.run('nft', 'list', 'ruleset'), /elements/)
  })

  it('malformed arguments, before anything is done', async () => {
    await using lab = await WiringLab.start()
    const wiring = await lab.wiring()
    await assert.rejects(wiring.prepare({ ...NETWORK, bridge: 'x" ; flush ruleset #' }), { code: 'invalid-input' })
    await wiring.prepare()
    const good = placement(wiring.pid, 1, null)
    for (const bad of [
      { link: 'eth0' },
      { link: 'ui-0123456789abcdef' },
      { link: 'ui-"; flush ruleset' },
      { mac: '02:00:00:00:00' },
      { mac: '01:00:00:00:00:00' },
      { pid: 0 },
      { pid: 1.5 },
      { address: '10.0.0.1' },
      { address: 'fe80::1' },
      { address: 'ff02::1' },
      { address: '::1' },
      { address: 'fd00::1%eth0' },
      { owner: 'fd00:c::1 accept' },
    ]) {
      await assert.rejects(wiring.place({ ...good, ...bad }), { code: 'invalid-input' }, JSON.stringify(bad))
    }
  })
})

describe('how the wiring runs', () => {
  it('as a user other than root, with three capabilities', async () => {
    await using lab = await WiringLab.start()
    const wiring = await lab.wiring({ unprivileged: true })
    const status = readFileSync(`/proc/${wiring.pid}/status`, 'utf8')
    assert.match(status, /Uid:\t65534/)
    assert.match(status, /CapEff:\t0000000000281000/)
    await wiring.prepare()
    const client = await lab.client(0)
    const instance = await lab.instance('first', 'fd00:1::200')
    const here = placement(instance.pid, 0, client.address)
    await wiring.attach(here)
    await wiring.place(here)
    assert.equal((await client.tcp(instance.address)).result, 'answered')
    assert.equal((await client.tcp(NETWORK.myAddress)).label, 'first')
    await wiring.unplace(here)
    assert.equal((await client.tcp(instance.address, BRIEF)).result, 'silent')
    await wiring.detach(here.link)
    await wiring.teardown()
  })

  it('compiled to JavaScript', async () => {
    await using lab = await WiringLab.start()
    const folder = mkdtempSync(join(tmpdir(), 'wt-'))
    try {
      symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
      writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
      const config = {
        extends: join(ROOT, 'tsconfig.json'),
        compilerOptions: {
          noEmit: false,
          outDir: join(folder, 'dist'),
          rootDir: ROOT,
          typeRoots: [join(ROOT, 'node_modules/@types')],
        },
        include: [join(ROOT, 'common/ip6addr.d.ts')],
        files: [join(ROOT, 'unionize/wiring/wiring.ts'), join(ROOT, 'unionize/wiring/threads/worker.ts')],
      }
      writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config))
      execFileSync(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', folder], {
        encoding: 'utf8',
      })
      const wiring = await lab.wiring({ compiled: join(folder, 'dist/unionize/wiring') })
      await wiring.prepare()
      const sandbox = await lab.idle()
      await wiring.attach(placement(sandbox.pid, 0, null))
      await wiring.place(placement(sandbox.pid, 0, null))
      assert.deepEqual(await wiring.links(), ['ui-0'])
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it('without leaking files, links or namespaces', async () => {
    await using lab = await WiringLab.start()
    const wiring = await lab.wiring()
    await wiring.prepare()
    const sandbox = await lab.idle()
    const rounds = async (count: number) => {
      for (let i = 0; i < count; i++) {
        await wiring.attach(placement(sandbox.pid, 0, null))
        await wiring.place(placement(sandbox.pid, 0, null))
        await wiring.unplace(placement(sandbox.pid, 0, null))
        await wiring.detach('ui-0')
      }
    }
    await rounds(5)
    const files = await wiring.ask('fds')
    await rounds(200)
    assert.equal(await wiring.ask('fds'), files)
    assert.deepEqual(await wiring.links(), [])
    await wiring.attach(placement(sandbox.pid, 0, null))
    await sandbox.kill()
    await until('the namespace goes with its process', async () => (await wiring.links()).length === 0)
  })

  it('fast: a hundred sandboxes one after another, and removed together', async () => {
    await using lab = await WiringLab.start()
    const wiring = await lab.wiring()
    await wiring.prepare()
    const sandboxes = await Promise.all(Array.from({ length: 100 }, () => lab.idle()))
    const placements = sandboxes.map((sandbox, n) => placement(sandbox.pid, n, `fd00:c::${n + 256}`))
    const timed = (...calls: readonly { verb: string; args: readonly unknown[] }[]) =>
      wiring.ask<number[]>('timed', calls)
    const call = (verb: string) => (argument: unknown) => ({ verb, args: [argument] })
    for (const verb of ['attach', 'place', 'unplace']) {
      // Between them a call that changes nothing tells how slow the machine is just now.
      const looking = { verb: 'links', args: [] }
      const took = await timed(...placements.flatMap((here) => [looking, call(verb)(here)]))
      const { median, p99 } = percentiles(took.filter((_, n) => n % 2 === 1))
      const look = percentiles(took.filter((_, n) => n % 2 === 0)).median
      console.log(`${verb}: median ${median.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms, a look ${look.toFixed(2)} ms`)
      assert.ok(median < Math.max(20, 5 * look), `${verb} took ${median} ms, a look ${look} ms`)
    }
    const alone = percentiles(await timed(...placements.slice(60).map(call('place')))).median
    const slow = placements.slice(0, 20).map((here) => here.link)
    const removing = timed(...slow.map(call('detach')))
    const beside = percentiles(await timed(...placements.slice(20, 60).map(call('place')))).median
    const detach = percentiles(await removing).median
    const measured = [
      `${beside.toFixed(2)} ms`,
      `alone ${alone.toFixed(2)} ms`,
      `a detach ${detach.toFixed(2)} ms`,
    ].join(', ')
    console.log(`place beside detach: median ${measured}`)
    assert.ok(beside < Math.max(10, alone + detach / 4), `place waited for detach: ${measured}`)
    const startedAt = performance.now()
    await Promise.all(placements.slice(20).map((here) => wiring.detach(here.link)))
    const each = (performance.now() - startedAt) / 80
    console.log(`detach, 80 at once: ${each.toFixed(2)} ms each`)
    assert.deepEqual(await wiring.links(), [])
  })
})
