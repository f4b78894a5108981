import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, before, describe, it } from 'node:test'
import { parseIpv6, parsePrefix } from '../../common/ipv6.ts'
import { engineNamespace, LabEngine } from '../../lab/engine.ts'
import { removeImages } from '../../lab/images.ts'
import { runDirectory } from '../../lab/places.ts'
import { LABEL, type WireOrder, type WireService } from '../../unionize/contract.ts'
import { dockerEngine, type Engine } from '../../unionize/engine/containers.ts'
import { createImages } from '../../unionize/images/images.ts'
import { createFiles, type Files } from '../../unionize/instances/files.ts'
import { ensurePauseImage, PAUSE_IMAGE } from '../../unionize/instances/pause.ts'
import { serviceSpec } from '../../unionize/instances/service.ts'
import { createVolumes } from '../../unionize/instances/volumes.ts'
import { hostFiles } from '../../unionize/networks/host-files.ts'
import { createNetworks, type Networks } from '../../unionize/networks/networks.ts'
import type { Wiring } from '../../unionize/wiring/wiring.ts'
import { silent as log, service } from '../support/fixtures.ts'
import { order as anyOrder } from '../support/orders.ts'
import { importTinyImage } from '../support/tiny-image.ts'
import { until } from '../support/until.ts'

const PREFIX = 'sc'
const HOST = `sc-${process.pid}`
const OURS = `${LABEL.host}=${HOST}`
const OURS_SERVICES = `${LABEL.role}=service`
const TINY = 'orchestrator/tiny:1'
const CHECKED = 'orchestrator/tiny:checked'
const MIB = 1 << 20

let lab: LabEngine
let engine: Engine
let sandbox: string
let folder: string
let memory: string
let files: Files
let networks: Networks
let lastId = 0

before(async () => {
  lab = await LabEngine.open(PREFIX, () => {})
  engine = dockerEngine(lab.socket)
  await ensurePauseImage(engine)
  await importTinyImage(engine, { name: 'orchestrator/tiny', tag: '1' })
  const changes = ['CMD ["/bin/sleep", "infinity"]', 'HEALTHCHECK --interval=1s CMD /bin/cat /nowhere']
  await importTinyImage(engine, { name: 'orchestrator/tiny', tag: 'checked', changes })
  folder = mkdtempSync(join(tmpdir(), 'stack-'))
  memory = mkdtempSync('/dev/shm/stack-')
  files = createFiles({ directory: memory })
  networks = createNetworks({
    ...{ engine, host: HOST, wiring: {} as Wiring, files: hostFiles({ directory: join(folder, 'hosts') }) },
    around: { instances: parsePrefix('fd00:1::/64'), myAddress: parseIpv6('fd00:1:0:ffff::1') },
  })
  sandbox = await engine.create({
    ...{ name: `${HOST}-sandbox`, image: `${PAUSE_IMAGE.name}:${PAUSE_IMAGE.tag}`, network: 'none', capabilities: [] },
    ...{ labels: { [LABEL.host]: HOST }, memoryBytes: 8 * MIB, pids: 4, stopGraceMs: 0, output: null },
  })
  await engine.start(sandbox)
})
after(async () => {
  await lab?.removeContainers(OURS)
  for (const { name } of (await engine?.volumes({ [LABEL.host]: HOST })) ?? []) await engine.removeVolume(name)
  if (lab && !lab.own) for (const name of [TINY, CHECKED]) await lab.docker.getImage(name).remove({ force: true })
  if (lab) await removeImages(lab)
  await lab?.close()
  if (folder) rmSync(folder, { recursive: true })
  if (memory) rmSync(memory, { recursive: true })
  rmSync(runDirectory(PREFIX), { recursive: true })
})

/** An order of one service, which runs a shell script. Every call is another instance. */
function newOrder(script: string | null, change: Partial<WireService> = {}, more: Partial<WireOrder> = {}): WireOrder {
  const command = script === null ? {} : { command: ['/bin/sh', '-c', script] }
  const web = service({ image: TINY, memoryBytes: 32 * MIB, pids: 32, ...command, ...change })
  const instance = `i-sc${process.pid}-${++lastId}` as WireOrder['instance']
  return { ...anyOrder(1), instance, services: [web], ...more } as WireOrder
}
/** Makes and starts the container of one service as the assembly does. */
async function start(order: WireOrder, at = 0): Promise<string> {
  const id = await create(order, at)
  await engine.start(id)
  return id
}
async function create(order: WireOrder, at = 0): Promise<string> {
  const one = order.services[at] ?? assert.fail()
  await Promise.all([files.put(order), networks.name(order)])
  const place = { host: HOST, sandbox, hostsFile: networks.hostsPath(order, one), files: files.paths(order, one) }
  return engine.create(serviceSpec(order, one, place))
}
async function inspect(id: string) {
  return lab.docker.getContainer(id).inspect()
}
/** What a service printed until its end, and how it ended. */
async function run(order: WireOrder): Promise<{ text: string; exitCode: number; id: string }> {
  const id = await start(order)
  const { StatusCode: exitCode } = (await lab.docker.getContainer(id).wait()) as { StatusCode: number }
  return { text: await printed(id), exitCode, id }
}
async function printed(id: string): Promise<string> {
  let text = ''
  const signal = AbortSignal.timeout(10_000)
  for await (const part of engine.logs(id, { follow: false, tail: 10_000 }, signal)) text += part
  return text
}

/** A cgroup's file on version 1, or on version 2. */
const cgroup = (v1: string, v2: string) => `cat /sys/fs/cgroup/${v1} 2>/dev/null || cat /sys/fs/cgroup/${v2}`
const status = (name: string) =>
  `while read key rest; do [ "$key" = ${name}: ] && echo "$rest"; done < /proc/self/status`
const mounted = (path: string) => `while read from at rest; do [ "$at" = ${path} ] && echo "$rest"; done < /proc/mounts`

/** Field by field: what is asked for, what is looked at inside, and what is to be seen there. */
const SEEN: readonly (readonly [string, Partial<WireService>, string, RegExp])[] = [
  ['environment', { environment: { GREETING: 'good day' } }, 'env', /^GREETING=good day$/m],
  ['workingDirectory', { workingDirectory: '/srv' }, 'pwd', /^\/srv$/m],
  ['user', { user: 'worker' }, 'id', /^uid=1000\(worker\) gid=1000\(worker\)/],
  ['user', { user: '65534:7' }, 'id', /^uid=65534 gid=7/],
  ['groups', { user: 'worker', groups: ['makers', '3000'] }, 'id -G', /\b2000 3000\b/],
  ['memoryBytes', {}, cgroup('memory/memory.limit_in_bytes', 'memory.max'), /^33554432$/m],
  [
    'memoryReservationBytes',
    { memoryReservationBytes: 16 * MIB },
    cgroup('memory/memory.soft_limit_in_bytes', 'memory.low'),
    /^16777216$/m,
  ],
  [
    'memorySwapBytes',
    { memorySwapBytes: 40 * MIB },
    cgroup('memory/memory.memsw.limit_in_bytes', 'memory.swap.max'),
    /^(41943040|8388608)$/m,
  ],
  ['cpus', { cpus: 0.5 }, cgroup('cpu/cpu.cfs_quota_us', 'cpu.max'), /^50000\b/m],
  ['cpuShares', { cpuShares: 512 }, cgroup('cpu/cpu.shares', 'cpu.weight'), /^(512|20)$/m],
  ['cpuset', { cpuset: '0' }, status('Cpus_allowed_list'), /^0$/m],
  ['pids', { pids: 9 }, cgroup('pids/pids.max', 'pids.max'), /^9$/m],
  ['shmBytes', { shmBytes: MIB }, mounted('/dev/shm'), /\bsize=1024k\b/],
  ['oomScoreAdjust', { oomScoreAdjust: 321 }, 'cat /proc/self/oom_score_adj', /^321$/m],
  // linux/capability.h: CAP_CHOWN is 0, CAP_NET_BIND_SERVICE is 10.
  ['capabilities', { capabilities: ['CHOWN', 'NET_BIND_SERVICE'] }, status('CapEff'), /^0000000000000401$/m],
  ['no capabilities', {}, status('CapBnd'), /^0000000000000000$/m],
  ['noNewPrivileges', {}, status('NoNewPrivs'), /^1$/m],
  ['noNewPrivileges: false', { noNewPrivileges: false }, status('NoNewPrivs'), /^0$/m],
  ['no securityOptions', {}, status('Seccomp'), /^2$/m],
  ['securityOptions', { securityOptions: ['seccomp=unconfined'] }, status('Seccomp'), /^0$/m],
  ['readOnly', { readOnly: true }, 'touch /x', /Read-only file system/],
  [
    'devices',
    { devices: [{ host: '/dev/fuse', container: '/dev/mine', permissions: 'rw' }] },
    ': > /dev/mine && echo opened',
    /^opened$/m,
  ],
  [
    'devices, permissions',
    { devices: [{ host: '/dev/fuse', container: '/dev/mine', permissions: 'r' }] },
    ': > /dev/mine',
    /Operation not permitted/,
  ],
  ['sysctls of the IPC namespace', { sysctls: { 'kernel.msgmax': '4096' } }, 'cat /proc/sys/kernel/msgmax', /^4096$/m],
  [
    'sysctls of the sandbox',
    { sysctls: { 'net.ipv4.ip_unprivileged_port_start': '80' } },
    'cat /proc/sys/net/ipv4/ip_unprivileged_port_start',
    /^80$/m,
  ],
  ['ulimits', { ulimits: [{ name: 'nofile', soft: 50, hard: 60 }] }, 'ulimit -n; ulimit -Hn', /^50\n60$/m],
  ['init', { init: true }, 'cat /proc/1/comm', /^(docker-)?init$/m],
  ['no init', {}, 'cat /proc/1/comm', /^(sh|cat)$/m],
  ['tty', { tty: true }, 'test -t 0 && test -t 1 && echo a terminal', /^a terminal\r$/m],
  ['no tty', {}, 'test -t 1 || echo no terminal', /^no terminal$/m],
  ['stdinOpen', { stdinOpen: true }, 'ls -l /proc/$$/fd/0', /pipe:/],
  ['no stdinOpen', {}, 'ls -l /proc/$$/fd/0', /\/dev\/null/],
  [
    'hosts',
    {
      hosts: [
        { name: 'printer', address: '192.0.2.7' },
        { name: 'nas.example', address: '2001:db8::7' },
      ],
    },
    'cat /etc/hosts',
    /^::1 localhost.*\n192\.0\.2\.7 printer\n2001:db8::7 nas\.example$/m,
  ],
  [
    'mounts: tmpfs',
    { mounts: [{ kind: 'tmpfs', target: '/t', sizeBytes: MIB, mode: 0o1750 }] },
    `stat -c %a /t; ${mounted('/t')}`,
    /^1750\ntmpfs .*nosuid,nodev,noexec.*size=1024k/m,
  ],
  [
    'mounts: anonymous volume',
    { mounts: [{ kind: 'volume', volume: null, target: '/srv', readOnly: false }] },
    'cat /srv/of-the-image; touch /srv/x && ls /srv',
    /^here\nof-the-image\nx$/m,
  ],
  [
    'mounts: volume, read-only',
    { mounts: [{ kind: 'volume', volume: 'v', target: '/v', readOnly: true }] },
    'touch /v/x',
    /Read-only file system/,
  ],
  ['platform', { platform: `linux/${process.arch === 'x64' ? 'amd64' : process.arch}` }, 'echo runs', /^runs$/m],
]

describe('what a service asks for is so inside its container', () => {
  for (const [field, change, script, expected] of SEEN) {
    it(field, async () => {
      const { text } = await run(newOrder(`(${script}) 2>&1`, change))
      assert.match(text, expected)
    })
  }

  it('entrypoint and command', async () => {
    const both = await run(newOrder(null, { entrypoint: ['/bin/sh', '-c', 'echo "$0 $1"'], command: ['a b', 'c'] }))
    assert.equal(both.text, 'a b c\n')
    const { Config: config } = await inspect(await create(newOrder(null)))
    assert.deepEqual(config.Cmd, ['/bin/sleep', 'infinity'], 'the command of the image, when none is given')
  })

  it('labels, but none that is ours to give', async () => {
    const order = newOrder(null, { labels: { colour: 'red', [LABEL.instance]: 'i-other', [LABEL.owner]: 'me' } })
    const { Config: config } = await inspect(await create(order))
    assert.equal(config.Labels['colour'], 'red')
    assert.equal(config.Labels[LABEL.instance], order.instance)
    assert.equal(config.Labels[LABEL.owner], undefined)
  })

  it('privileged: the engine is told so, and of nothing else', async () => {
    const privileged = async (change: Partial<WireService>) =>
      (await inspect(await create(newOrder(null, change)))).HostConfig.Privileged
    assert.equal(await privileged({ privileged: true }), true)
    assert.equal(await privileged({}), false)
  })

  it('stopSignal and stopGrace: it is asked by that signal, and killed when it does not listen', async () => {
    const polite = newOrder('trap "echo asked; exit 3" USR1; echo ready; while :; do sleep 0.05; done', {
      ...{ stopSignal: 'SIGUSR1', stopGraceMs: 10_000 },
    })
    const id = await start(polite)
    await until('it listens', async () => /ready/.test(await printed(id)))
    await engine.stop(id, 10_000)
    assert.match(await printed(id), /asked/)
    assert.equal((await engine.inspect(id)).exitCode, 3)
    assert.equal(((await inspect(id)).Config as { StopTimeout?: number }).StopTimeout, 10)
    const rude = await start(newOrder('trap "echo asked; exit 3" TERM; while :; do sleep 0.05; done'))
    await lab.docker.getContainer(rude).stop()
    assert.equal((await engine.inspect(rude)).exitCode, 137, 'a grace of 0: killed at once, whoever stops it')
  })

  it("healthcheck: its own, the image's, or none", async () => {
    const healthy = { test: ['CMD-SHELL', 'exit 0'], intervalMs: 100, timeoutMs: 5000, startPeriodMs: 0, retries: 2 }
    const own = await start(newOrder(null, { image: CHECKED, healthcheck: healthy }))
    const times = await start(newOrder(null, { image: CHECKED, healthcheck: { intervalMs: 100, retries: 1 } }))
    const none = await start(newOrder(null, { image: CHECKED, healthcheck: 'disabled' }))
    await until('its own says healthy', async () => (await engine.inspect(own)).health === 'healthy')
    await until("the image's says unhealthy", async () => (await engine.inspect(times)).health === 'unhealthy')
    assert.equal((await engine.inspect(none)).health, 'none')
    assert.deepEqual((await inspect(own)).Config.Healthcheck, {
      ...{ Test: healthy.test, Interval: 100_000_000, Timeout: 5_000_000_000, Retries: 2 },
    })
    for (const id of [own, times, none]) await engine.remove(id)
  })

  it('log: no more of it is kept than asked for', async () => {
    const script = 'n=0; while [ $n -lt 2000 ]; do echo "line $n"; n=$((n+1)); done'
    const little = await run(newOrder(script, { log: { mostBytes: 4096, files: 1 } }))
    assert.ok(little.text.length < 5000, `${little.text.length} characters`)
    assert.match(little.text, /line 1999\n$/)
    assert.match((await run(newOrder(script))).text, /^line 0\n/)
  })

  it('mounts: a path of the host', async () => {
    writeFileSync(join(folder, 'given'), 'from the host\n')
    const mount = { kind: 'host' as const, source: folder, target: '/host', readOnly: false }
    const writing = newOrder('cat /host/given; echo "from inside" > /host/taken', { mounts: [mount] })
    assert.equal((await run(writing)).text, 'from the host\n')
    assert.equal(readFileSync(join(folder, 'taken'), 'utf8'), 'from inside\n')
    const reading = newOrder('echo x > /host/other 2>&1 || echo refused', { mounts: [{ ...mount, readOnly: true }] })
    assert.match((await run(reading)).text, /refused/)
    assert.ok(!existsSync(join(folder, 'other')))
    const missing = newOrder('true', { mounts: [{ ...mount, source: join(folder, 'none') }] })
    await assert.rejects(create(missing), {
      code: 'engine-refused',
      message: /bind source path does not exist: .*none/,
    })
    assert.ok(!existsSync(join(folder, 'none')), 'and no folder is made of it')
  })
})

describe('limits are kept', () => {
  it('a process that takes more memory than its service has is killed', async () => {
    const { exitCode, id } = await run(
      newOrder(null, { command: ['/bin/dd', 'if=/dev/zero', 'of=/dev/null', 'bs=64M', 'count=1'] }),
    )
    assert.equal(exitCode, 137)
    assert.equal((await inspect(id)).State.OOMKilled, true)
  })
  it('a service with as many processes as it may have can start no more', async () => {
    const { text } = await run(newOrder('for n in 1 2 3 4 5 6 7 8; do sleep 5 & done 2>&1; echo here', { pids: 4 }))
    assert.match(text, /Cannot fork/)
  })
  it('a tmpfs takes what it is large, and no more', async () => {
    const mounts = [{ kind: 'tmpfs' as const, target: '/t', sizeBytes: MIB }]
    const { text } = await run(newOrder('dd if=/dev/zero of=/t/x bs=64k count=32 2>&1; stat -c %s /t/x', { mounts }))
    assert.match(text, /No space left on device[\s\S]*^1048576$/m)
  })
  it('the place for outputs is little, for everybody, and nothing runs from it', async () => {
    const script = `stat -c %a /orchestrator; ${mounted('/orchestrator')}
      dd if=/dev/zero of=/orchestrator/x bs=64k count=32 2>&1; rm /orchestrator/x
      n=0; while [ $n -lt 100 ] && touch /orchestrator/$n 2>&1; do n=$((n+1)); done; echo "$n files"`
    const { text } = await run(newOrder(script, { user: 'worker' }, { outputs: true }))
    assert.match(text, /^1777\ntmpfs .*nosuid,nodev,noexec.*size=1024k.*nr_inodes=64/)
    assert.equal(text.match(/No space left on device/g)?.length, 2)
    assert.match(text, /^(5|6)\d files$/m)
  })
})

describe('what cannot be is refused in words', () => {
  const refused: readonly (readonly [string, Partial<WireService>, RegExp])[] = [
    [
      'a kernel setting of the whole machine',
      { sysctls: { 'vm.swappiness': '1' } },
      /^services\.web\.sysctls\.vm\.swappiness: .*whole machine/,
    ],
    [
      'two things at one place',
      {
        mounts: [
          { kind: 'tmpfs', target: '/a' },
          { kind: 'tmpfs', target: '/a/' },
        ],
      },
      /^services\.web\.mounts: two things are mounted at \/a\b/,
    ],
    ['an image for another platform', { platform: 'linux/s390x' }, /platform.*linux\/s390x/],
    ['an unknown capability', { capabilities: ['FLY'] }, /create orc-i-sc.*-web .*FLY/i],
    ['an unknown security option', { securityOptions: ['nonsense=1'] }, /^services\.web\.securityOptions: .*nonsense/],
    ['an unknown ulimit', { ulimits: [{ name: 'wings', soft: 1, hard: 2 }] }, /^services\.web\.ulimits\.wings: /],
    ['a processor that is not there', { cpuset: '4000' }, /orc-i-sc.*-web .*4000/],
  ]
  for (const [name, change, words] of refused) {
    it(name, async () => {
      const order = newOrder('true', change)
      await assert.rejects(start(order), (error: Error & { retryable: boolean }) => {
        assert.match(error.message, words)
        assert.equal(error.retryable, false)
        return true
      })
    })
  }
})

describe('volumes', () => {
  const mount = (volume: string) => ({ kind: 'volume' as const, volume, target: '/v', readOnly: false })
  const volumes = () => createVolumes({ engine })

  it('are shared by the services of one instance that name them, and are gone with it', async () => {
    const order = newOrder('echo kept > /v/file', { mounts: [mount('data')] })
    const reader = service({ name: 'reader', image: TINY, command: ['/bin/cat', '/v/file'], mounts: [mount('data')] })
    const both = { ...order, services: [...order.services, reader] }
    await run(both)
    const reading = await start(both, 1)
    await lab.docker.getContainer(reading).wait()
    assert.equal(await printed(reading), 'kept\n')
    const mine = async () => engine.volumes({ [LABEL.host]: HOST, [LABEL.instance]: order.instance })
    assert.deepEqual(
      (await mine()).map((v) => v.name),
      [`orc-${order.instance}.data`],
    )
    await assert.rejects(volumes().forget(order.instance, [both]), { code: 'engine-failed', retryable: true })
    for (const { id } of await lab.containers(`${LABEL.instance}=${order.instance}`)) await engine.remove(id)
    await volumes().forget(order.instance, [both])
    await volumes().forget(order.instance, [both])
    assert.deepEqual(await mine(), [])
  })

  it('of one name are two in two instances', async () => {
    const [first, second] = [
      newOrder('touch /v/mine', { mounts: [mount('data')] }),
      newOrder('ls /v', { mounts: [mount('data')] }),
    ]
    await run(first)
    assert.equal((await run(second)).text, '')
  })

  it('without a name go with their container', async () => {
    const anonymous = { kind: 'volume' as const, volume: null, target: '/v', readOnly: false }
    const { id } = await run(newOrder('true', { mounts: [anonymous] }))
    const name = (await inspect(id)).Mounts.find((one) => one.Destination === '/v')?.Name ?? ''
    assert.ok((await engine.volumes({})).some((one) => one.name === name))
    await engine.remove(id)
    assert.ok(!(await engine.volumes({})).some((one) => one.name === name))
  })
})

describe('files', () => {
  const file = (target: string, text: string, mode: 0o444 | 0o555 = 0o444) => ({
    ...{ target, mode, content: Buffer.from(text).toString('base64') },
  })
  const SECRET = `hush-${process.pid}-${Date.now()}`

  it('are read by every user inside, changed by nobody, and may be programs', async () => {
    const program = file('/usr/local/bin/hello', '#!/bin/sh\necho hello from a file\n', 0o555)
    const given = [file('/run/secrets/key', SECRET), program, file('/orchestrator/parameters.json', '{}')]
    const script = `cat /run/secrets/key; echo; /usr/local/bin/hello; cat /orchestrator/parameters.json; echo
      for f in /run/secrets/key /usr/local/bin/hello; do stat -c %a $f; (echo x > $f) 2>&1; rm $f 2>&1; done`
    for (const change of [{}, { user: 'worker' }, { readOnly: true }]) {
      const { text } = await run(newOrder(script, { files: given, ...change }, { outputs: true }))
      assert.match(text, new RegExp(`^${SECRET}\nhello from a file\n{}\n444\n`))
      assert.match(text, /^555$/m)
      assert.equal(text.match(/Read-only file system|Permission denied|busy/gi)?.length, 4, text)
    }
  })

  it('are seen by their own service alone, and on this host by nobody else', async () => {
    const order = newOrder('true', { files: [file('/run/secrets/key', SECRET)] })
    const other = service({ name: 'other', image: TINY, command: ['/bin/sh', '-c', 'ls /run/secrets 2>&1'] })
    const id = await start({ ...order, services: [...order.services, other] }, 1)
    await lab.docker.getContainer(id).wait()
    assert.match(await printed(id), /No such file/)
    const worker = ['--reuid=65534', '--regid=65534', '--clear-groups']
    const listing = spawnSync('setpriv', [...worker, 'ls', join(memory, order.instance)], { encoding: 'utf8' })
    assert.match(listing.stderr, /Permission denied/)
  })

  it('change in place when a new order brings others, also for who runs already', async () => {
    const order = newOrder(null, { files: [file('/etc/motd', 'one\n')] })
    const id = await start(order)
    const inside = async () => readFileSync(`/proc/${(await engine.inspect(id)).pid}/root/etc/motd`, 'utf8')
    assert.equal(await inside(), 'one\n')
    const changed = (text: string) => ({
      ...order,
      services: order.services.map((s) => ({ ...s, files: [file('/etc/motd', text)] })),
    })
    for (const text of ['a longer one\n', 'two\n', '']) {
      await files.put(changed(text))
      assert.equal(await inside(), text)
    }
    await engine.remove(id)
  })

  it('are told to be incomplete when they are gone, as after a restart of the machine; then nothing is mounted in their place', async () => {
    const order = newOrder('true', { files: [file('/etc/motd', 'x')] })
    const id = await create(order)
    assert.equal(await files.complete(order), true)
    await files.forget(order.instance)
    await files.forget(order.instance)
    assert.equal(await files.complete(order), false)
    await assert.rejects(engine.start(id))
    assert.deepEqual(
      readdirSync(memory).filter((name) => name === order.instance),
      [],
    )
  })

  it('are never put on a disk', async () => {
    const disk = createFiles({ directory: join(folder, 'files') })
    const fault = await disk.fault()
    if (fault === null) return assert.fail('the folder for temporary files of this machine is in memory')
    assert.equal(fault.code, 'files-not-in-memory')
    await assert.rejects(disk.put(newOrder(null, { files: [file('/x', SECRET)] })), { message: /files\.directory/ })
    await disk.put(newOrder(null))
    assert.deepEqual(readdirSync(join(folder, 'files')), [])
    assert.equal(await files.fault(), null)
  })

  it('and environment values are in no label, and what files hold is nowhere in docker inspect', async () => {
    const order = newOrder('true', { files: [file('/run/secrets/key', SECRET)], environment: { A: 'planted-value' } })
    const { id } = await run(order)
    const seen = await inspect(id)
    const told = JSON.stringify(seen)
    for (const text of [SECRET, Buffer.from(SECRET).toString('base64')]) assert.ok(!told.includes(text))
    assert.doesNotMatch(JSON.stringify(seen.Config.Labels), /planted-value/)
    assert.match(seen.Config.Labels[LABEL.order] ?? '', /\/run\/secrets\/key/)
  })
})

describe('images', () => {
  const provide = (order: WireOrder, by: Pick<Engine, 'pull'> = engine) => {
    const one = order.services[0] ?? assert.fail()
    return createImages({ engine: by, log, now: Date.now }).provide(one, () => create(order))
  }
  it('that are there are not asked for, unless always', async () => {
    assert.match(await provide(newOrder('true')), /^[0-9a-f]{64}$/)
    await assert.rejects(provide(newOrder('true', { pull: 'always' })), { code: 'pull-failed' })
  })
  it('that are not there are tried to be fetched, unless never', async () => {
    const image = 'nowhere/nothing:1'
    const missing = { code: 'image-missing', message: /nowhere\/nothing:1 is not on this host.*cannot be pulled/ }
    await assert.rejects(provide(newOrder('true', { image })), missing)
    await assert.rejects(provide(newOrder('true', { image, pull: 'never' })), (error: Error) => {
      assert.doesNotMatch(error.message, /pulled/)
      return true
    })
  })
  it('are fetched from a registry, once for all who wait; one that is not there is refused for good', async (t) => {
    if (!lab.own) return t.diagnostic('the engine belongs to the machine; no registry is put beside it')
    const { docker } = lab
    const settings = { version: 0.1, storage: { filesystem: { rootdirectory: join(folder, 'registry') } } }
    writeFileSync(join(folder, 'registry.yml'), JSON.stringify({ ...settings, http: { addr: '127.0.0.1:5000' } }))
    const command = ['docker-registry', 'serve', join(folder, 'registry.yml')]
    const registry = spawn('nsenter', [`--net=/run/netns/${engineNamespace(PREFIX)}`, ...command], { stdio: 'ignore' })
    try {
      const image = 'localhost:5000/tiny:pushed'
      await docker.getImage(TINY).tag({ repo: 'localhost:5000/tiny', tag: 'pushed' })
      await until('it is pushed', async () => {
        const pushing = await docker
          .getImage(image)
          .push({ authconfig: { username: '', password: '', serveraddress: '' } })
        const told = (await text(pushing)).split('\n')
        return !told.some((line) => line.includes('"error"'))
      })
      await docker.getImage(image).remove()
      assert.equal(await engine.hasImage(image), false)
      let pulls = 0
      const counting: Pick<Engine, 'pull'> = {
        pull: (...arguments_) => {
          pulls++
          return engine.pull(...arguments_)
        },
      }
      const images = createImages({ engine: counting, log, now: Date.now })
      const orders = [1, 2, 3].map(() => newOrder('echo pulled', { image }))
      const ids = orders.map((order) => images.provide(order.services[0] ?? assert.fail(), () => create(order)))
      assert.equal(new Set(await Promise.all(ids)).size, 3)
      assert.equal(pulls, 1)
      assert.match((await run(newOrder('echo runs', { image }))).text, /runs/)
      await provide(newOrder('true', { image, pull: 'always' }))
      const other = newOrder('true', { image: 'localhost:5000/nothing:1' })
      await assert.rejects(provide(other), { code: 'image-missing', retryable: false })
      await lab.removeContainers(OURS_SERVICES)
      await docker.getImage(image).remove()
    } finally {
      const ended = once(registry, 'exit')
      registry.kill()
      await ended
    }
    await assert.rejects(provide(newOrder('true', { image: 'localhost:5000/tiny:gone' })), { retryable: true })
  })
})

it('a service that wants nothing of this costs the engine no call but its creation', async () => {
  const calls: string[] = []
  const counting = new Proxy(engine, {
    get: (target, name: keyof Engine) => {
      calls.push(name)
      return target[name]
    },
  })
  const order = newOrder(null)
  const volumes = createVolumes({ engine: counting })
  const images = createImages({ engine: counting, log, now: Date.now })
  const one = order.services[0] ?? assert.fail()
  await files.put(order)
  assert.equal(await files.complete(order), true)
  const place = { host: HOST, sandbox, hostsFile: networks.hostsPath(order, one), files: files.paths(order, one) }
  assert.deepEqual(serviceSpec(order, one, place).mounts, [])
  await images.provide(one, () => counting.create(serviceSpec(order, one, place)))
  await volumes.forget(order.instance, [order])
  assert.deepEqual(calls, ['create'])
  assert.ok(!readdirSync(memory).includes(order.instance))
})
