import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, afterEach, before, test } from 'node:test'
import { LabEngine } from '../../lab/engine.ts'
import { rememberIfNew, removeImages } from '../../lab/images.ts'
import { runDirectory } from '../../lab/places.ts'
import { dockerEngine } from '../../unionize/engine/containers.ts'
import { ensurePauseImage, PAUSE_IMAGE } from '../../unionize/instances/pause.ts'
import type { Difference, Step, Wired } from '../../unionize/wiring/interfaces/interfaces.ts'
import { startDnsmasq } from '../support/dhcp-servers.ts'
import { until } from '../support/until.ts'
import { type Link, type Ran, WireCommand } from '../support/wire-command.ts'
import { type Agent, WiringLab } from '../support/wiring-lab.ts'

/*
 * The command as people use it: a container made by plain `docker run --network none`, and no orchestrator, no unionize
 * and no service anywhere.
 */
const PREFIX = 'wc'
const LABEL = `org.orchestrator.test=wire-cli-${process.pid}`
const IMAGE = `${PAUSE_IMAGE.name}:${PAUSE_IMAGE.tag}`

let engine: LabEngine
let lab: WiringLab
let host: Agent
let command: WireCommand

before(async () => {
  engine = await LabEngine.open(PREFIX, () => {})
  await rememberIfNew(engine, IMAGE)
  await ensurePauseImage(dockerEngine(engine.socket))
  lab = await WiringLab.start({ bare: true })
  lab.run('ip', 'link', 'set', 'lo', 'up')
  host = await lab.onHost()
  command = new WireCommand(lab, engine.socket)
})

afterEach(async () => {
  assert.equal(unionize('unwire', '--all').status, 0)
  await engine.removeContainers(LABEL)
  assert.deepEqual(links(), ['lo'], 'no link is left on the host')
  assert.deepEqual(kept(), [], 'no state is left')
})

after(async () => {
  await engine?.removeContainers(LABEL)
  if (engine) await removeImages(engine)
  await engine?.close()
  rmSync(runDirectory(PREFIX), { recursive: true, force: true })
  await lab?.[Symbol.asyncDispose]()
  command?.close()
})

/** Runs the command with nobody's help. */
const unionize = (...line: readonly string[]): Ran => command.run({}, ...line)
const run = (options: { input?: string; before?: readonly string[] }, ...line: readonly string[]): Ran =>
  command.run(options, ...line)
const links = () => command.links()
const kept = () => command.kept()
const inside = (pid: number) => command.inside(pid)
const addressesOf = (pid: number, name: string) => command.addressesOf(pid, name)
const reaches = async (address: string) => (await host.icmp(address)).result === 'answered'
/** Everything that a refused command must not have touched. */
const world = (pid: number) => [links(), kept(), inside(pid), lab.runIn(pid, 'ip', 'route'), lab.run('ip', 'address')]

/** `docker run -d --network none`, as one does. */
function dockerRun(name: string): { name: string; id: string; pid: () => number } {
  const given = ['run', '-d', '--network', 'none', '--stop-timeout', '0', '--label', LABEL]
  const full = `wire-cli-${process.pid}-${name}`
  const id = docker(...given, '--name', full, IMAGE).trim()
  return { name: full, id, pid: () => Number(docker('inspect', '--format', '{{.State.Pid}}', id)) }
}
function docker(...args: readonly string[]): string {
  return execFileSync('docker', ['-H', `unix://${engine.socket}`, ...args], { encoding: 'utf8' })
}

test('a container of plain "docker run --network none" is wired, and reached, by one command', async () => {
  const web = dockerRun('web')
  const line = [web.name, '--bridge', 'br1', '-a', '10.7.0.5/24', '-a', 'fd00:7::5/64', '-g', '10.7.0.254']
  const wired = unionize('wire', ...line)
  assert.equal(wired.status, 0, wired.said)
  assert.equal(wired.out, '', 'what is said to people stays off standard output')
  assert.match(wired.said, new RegExp(`^${web.name}: eth1: .*fd00:7::5/64`, 'm'))
  assert.deepEqual(addressesOf(web.pid(), 'eth1'), ['10.7.0.5/24', 'fd00:7::5/64'])
  assert.match(lab.runIn(web.pid(), 'ip', 'route'), /default via 10\.7\.0\.254 dev eth1/)

  lab.run('ip', 'address', 'add', 'fd00:7::1/64', 'dev', 'br1', 'nodad')
  assert.ok(await reaches('fd00:7::5'), 'the host reaches it over the bridge')
  lab.run('ip', 'address', 'del', 'fd00:7::1/64', 'dev', 'br1')

  const again = unionize('wire', ...line)
  assert.deepEqual([again.status, again.said.trim()], [0, `${web.name}: nothing to do`])
})

test('show, check and spec tell what is wired, as people and as programs read it', () => {
  const web = dockerRun('web')
  unionize('wire', web.name, '--bridge', 'br1', '-a', 'fd00:7::5/64')
  unionize('wire', web.name, '-i', 'eth2', '--bridge', 'br2', '-a', '10.8.0.5/24', '--mtu', '1400')

  const table = unionize('show').out.split('\n')
  assert.match(table[0] ?? '', /^TARGET +INTERFACE +STATE +LEADS TO +ADDRESSES$/)
  assert.match(table[1] ?? '', new RegExp(`^${web.name} +eth1 +up +bridge br1 +fd00:7::5/64`))
  assert.match(table[2] ?? '', new RegExp(`^${web.name} +eth2 +up +bridge br2 +10\\.8\\.0\\.5/24`))
  assert.match(unionize('show', web.name, '-o', 'wide').out, /MAC +MTU +HOST NAME +ROUTES +KEY/)

  const one = JSON.parse(unionize('show', web.id.slice(0, 12), '-o', 'json').out) as Wired
  assert.deepEqual(
    one.interfaces.map(({ name, mtu, up, running }) => ({ name, mtu, up, running })),
    [
      { name: 'eth1', mtu: 1500, up: true, running: true },
      { name: 'eth2', mtu: 1400, up: true, running: true },
    ],
  )
  const all = JSON.parse(unionize('show', '-o', 'json').out) as { items: Wired[] }
  assert.deepEqual(
    all.items.map(({ key, label, alive }) => ({ key, label, alive })),
    [{ key: `container:${web.id}`, label: web.name, alive: true }],
  )

  const same = unionize('check', web.name)
  assert.deepEqual([same.status, same.out, same.said.trim()], [0, '', `${web.name}: as wanted`])
  lab.runIn(web.pid(), 'ip', 'address', 'del', '10.8.0.5/24', 'dev', 'eth2')
  lab.runIn(web.pid(), 'ip', 'link', 'set', 'eth1', 'mtu', '1300')
  const differs = unionize('check', web.name, '-o', 'json')
  assert.equal(differs.status, 3)
  const { differences } = JSON.parse(differs.out) as { differences: Difference[] }
  assert.deepEqual(differences.map((one) => [one.interface, one.field]).sort(), [
    ['eth1', 'mtu'],
    ['eth2', 'addresses'],
  ])
  assert.match(unionize('check').out, /eth1 +mtu +1500 +1300/)

  const file = unionize('spec').out
  assert.match(file, /^target: .*\ninterfaces:\n {2}- name: eth1\n {4}link:\n {6}kind: bridge\n {6}bridge: br1\n/)
  const mended = run({ input: file }, 'wire', '-f', '-')
  assert.equal(mended.status, 0, mended.said)
  assert.equal(unionize('check').status, 0)
})

test('flags change their own interface alone, and of it only what differs', () => {
  const web = dockerRun('web')
  unionize('wire', web.name, '--bridge', 'br1', '-a', 'fd00:7::5/64')
  unionize('wire', web.name, '-i', 'eth2', '--bridge', 'br1', '-a', '10.8.0.5/24')
  const before = inside(web.pid())
  const changed = unionize('wire', web.name, '--bridge', 'br1', '-a', 'fd00:7::6/64', '-o', 'json')
  assert.equal(changed.status, 0, changed.said)
  const { target, steps } = JSON.parse(changed.out) as { target: string; steps: Step[] }
  assert.equal(target, web.name)
  assert.ok(
    steps.every((step) => step.interface === 'eth1'),
    JSON.stringify(steps),
  )
  assert.deepEqual(addressesOf(web.pid(), 'eth1'), ['fd00:7::6/64'])
  const eth2 = (all: readonly Link[]) => all.find((link) => link.ifname === 'eth2')
  assert.deepEqual(eth2(inside(web.pid())), eth2(before))
  const macs = (all: readonly Link[]) => all.map((link) => link.address)
  assert.deepEqual(macs(inside(web.pid())), macs(before), 'no interface was made anew')
})

test('commands for one target at the same time leave the interfaces of the others', async () => {
  const { pid } = await lab.idle()
  const names = ['eth1', 'eth2', 'eth3', 'eth4']
  const ended = names.map((name) => {
    const [program = '', ...args] = command.command([], 'wire', `pid:${pid}`, '-i', name, '--bridge', 'br1')
    return once(spawn(program, args, { stdio: 'ignore' }), 'exit')
  })
  for (const [status] of await Promise.all(ended)) assert.equal(status, 0)
  const found = inside(pid).map((link) => link.ifname)
  assert.deepEqual(found.filter((name) => name !== 'lo').sort(), names)
})

test('what is unwired stays so, whoever wires another interface of the target at the same time', async () => {
  const { pid } = await lab.idle()
  const run = (verb: string, ...line: string[]) => {
    const [program = '', ...args] = command.command([], verb, `pid:${pid}`, ...line)
    return once(spawn(program, args, { stdio: 'ignore' }), 'exit')
  }
  for (const name of ['eth1', 'eth2', 'eth3']) await run('wire', '-i', name, '--bridge', 'br1')
  const ended = [1, 2, 3].flatMap((number) => [
    run('unwire', '-i', `eth${number}`),
    run('wire', '-i', `eth${number + 3}`, '--bridge', 'br1'),
  ])
  for (const [status] of await Promise.all(ended)) assert.equal(status, 0)
  const found = inside(pid).map((link) => link.ifname)
  assert.deepEqual(found.filter((name) => name !== 'lo').sort(), ['eth4', 'eth5', 'eth6'])
})

test('plan and --dry-run tell what wire would do, and do nothing', () => {
  const web = dockerRun('web')
  const before = world(web.pid())
  const line = [web.name, '--bridge', 'br1', '-a', 'fd00:7::5/64']
  const planned = JSON.parse(unionize('plan', ...line, '-o', 'json').out) as { steps: Step[] }
  assert.match(
    unionize('wire', ...line, '--dry-run').out,
    /^TARGET +INTERFACE +WOULD BE DONE\n.* br1 +make the bridge\n.* eth1 /,
  )
  assert.deepEqual(world(web.pid()), before)
  const done = JSON.parse(unionize('wire', ...line, '-o', 'json').out) as { steps: Step[] }
  assert.deepEqual(done.steps, planned.steps, 'what was told is what is done')
  const nothing = unionize('plan', ...line)
  assert.deepEqual([nothing.status, nothing.out, nothing.said.trim()], [0, '', `${web.name}: nothing to do`])
})

test('unwire takes away what was made, one interface or all of them', () => {
  const web = dockerRun('web')
  const before = inside(web.pid()).map((link) => link.ifname)
  unionize('wire', web.name, '--bridge', 'br1', '-a', 'fd00:7::5/64')
  unionize('wire', web.name, '-i', 'eth2', '--bridge', 'br2')
  const one = unionize('unwire', web.name, '-i', 'eth2')
  assert.equal(one.status, 0, one.said)
  assert.deepEqual(
    inside(web.pid()).map((link) => link.ifname),
    [...before, 'eth1'],
  )
  assert.ok(!links().includes('br2'), 'the bridge that was made for it went with it')
  assert.equal(unionize('unwire', web.name).status, 0)
  assert.deepEqual(
    inside(web.pid()).map((link) => link.ifname),
    before,
  )
  const again = unionize('unwire', web.name)
  assert.deepEqual([again.status, again.said.trim()], [0, `${web.name}: is not wired, nothing to do`])
})

test('a file wires several targets, all that each is to have', async () => {
  const [web, db] = [dockerRun('web'), dockerRun('db')]
  const { pid } = await lab.idle()
  unionize('wire', web.name, '-i', 'eth9', '--bridge', 'br9')
  const document = (target: string, address: string) =>
    `target: ${target}\ninterfaces:\n  - link: {kind: bridge, bridge: br1}\n    addresses: [${address}]\n`
  const parts = [document(web.name, 'fd00:7::5/64'), document(db.name, 'fd00:7::6/64')]
  const file = join(command.state, 'wiring.yaml')
  writeFileSync(file, [...parts, document(`pid:${pid}`, 'fd00:7::7/64')].join('---\n'))
  const wired = unionize('wire', '-f', file, '-o', 'json')
  assert.equal(wired.status, 0, wired.said)
  const { items } = JSON.parse(wired.out) as { items: { target: string; steps: Step[] }[] }
  assert.deepEqual(
    items.map((item) => item.target),
    [web.name, db.name, `pid:${pid}`],
  )
  assert.deepEqual(
    [web.pid(), db.pid(), pid].map((id) => addressesOf(id, 'eth1')),
    [['fd00:7::5/64'], ['fd00:7::6/64'], ['fd00:7::7/64']],
  )
  assert.equal(addressesOf(web.pid(), 'eth9'), undefined, 'what the file does not name is gone')
  const again = unionize('wire', '-f', file)
  assert.equal(again.said.match(/nothing to do/g)?.length, 3, again.said)
  rmSync(file)
})

test('a namespace of "ip netns" is a target too', () => {
  const name = `${lab.host}-x`
  execFileSync('ip', ['netns', 'add', name])
  try {
    assert.equal(unionize('wire', `netns:${name}`, '--bridge', 'br1', '-a', '10.7.0.5/24').status, 0)
    assert.match(execFileSync('ip', ['-n', name, 'address', 'show', 'eth1'], { encoding: 'utf8' }), /10\.7\.0\.5\/24/)
    const here = run({ before: ['nsenter', `--net=/run/netns/${name}`] }, 'wait', '--here', '--timeout', '5')
    assert.equal(here.status, 0, here.said)
    assert.equal(unionize('unwire', `netns:/var/run/netns/${name}`).status, 0, 'by its other path')
  } finally {
    execFileSync('ip', ['netns', 'delete', name])
  }
})

test('wait ends when the interface can be used, and says why when it cannot', async () => {
  const web = dockerRun('web')
  const vain = unionize('wait', web.name, '--timeout', '0.2')
  assert.equal(vain.status, 5)
  assert.match(vain.said, /is not ready after 0\.2 s: it is not wired/)
  unionize('wire', web.name, '--bridge', 'br1', '-a', 'fd00:7::5/64')
  assert.equal(unionize('wait', web.name, '-i', 'eth1').status, 0)
  assert.match(unionize('wait', web.name, '-i', 'eth7', '--timeout', '0').said, /eth7 is not wired/)
  lab.runIn(web.pid(), 'ip', 'link', 'set', 'eth1', 'down')
  assert.match(unionize('wait', web.name, '--timeout', '0').said, /eth1 is down/)
})

test('after a restart of its container the same command wires it again', async () => {
  const web = dockerRun('web')
  const line = [web.name, '--bridge', 'br1', '-a', 'fd00:7::5/64', '--mac', 'hash:web']
  unionize('wire', ...line)
  const mac = inside(web.pid()).find((link) => link.ifname === 'eth1')?.address
  docker('restart', '-t', '0', web.id)
  assert.notEqual(unionize('check', web.name).status, 0)
  const again = unionize('wire', ...line)
  assert.equal(again.status, 0, again.said)
  assert.equal(inside(web.pid()).find((link) => link.ifname === 'eth1')?.address, mac)
  assert.equal(unionize('check', web.name).status, 0)
})

test('a container that was removed is shown as gone, and unwired by its name', async () => {
  const web = dockerRun('web')
  unionize('wire', web.name, '--bridge', 'br1', '-a', 'fd00:7::5/64')
  docker('rm', '-f', web.id)
  await until('the kernel took its link away', () => links().every((name) => ['lo', 'br1'].includes(name)))
  assert.match(unionize('show', web.name).out, /eth1 +gone/)
  const wire = unionize('wire', web.name, '--bridge', 'br1')
  assert.deepEqual([wire.status, /there is no container/.test(wire.said)], [4, true], wire.said)
  assert.equal(unionize('unwire', web.name).status, 0)
  assert.deepEqual([links(), kept()], [['lo'], []])
})

test('with the service a lease is held and the server knows the name; a restart of the container keeps both', async () => {
  const server = `${lab.host}-dhcp`
  const folder = join(command.state, 'dnsmasq')
  execFileSync('ip', ['netns', 'add', server])
  lab.run('ip', 'link', 'add', 'br-lan', 'type', 'bridge')
  lab.run('ip', 'link', 'set', 'br-lan', 'up')
  lab.run('ip', 'link', 'add', 'p0', 'type', 'veth', 'peer', 'name', 'v0', 'netns', server)
  lab.run('ip', 'link', 'set', 'p0', 'master', 'br-lan', 'up')
  execFileSync('ip', ['-n', server, 'link', 'set', 'v0', 'up'])
  execFileSync('ip', ['-n', server, 'address', 'add', '10.66.0.1/24', 'dev', 'v0'])
  const ranges = { v4: '10.66.0.100,10.66.0.199', v6: 'fd66::100,fd66::1ff' }
  const dnsmasq = await startDnsmasq({ namespace: server, link: 'v0', folder }, ranges)
  const service = await command.startService()
  try {
    const web = dockerRun('web')
    const wired = unionize('wire', web.name, '--bridge', 'br-lan', '--no-create', '--addressing', 'dhcp4')
    assert.equal(wired.status, 0, wired.said)
    const waited = unionize('wait', web.name, '--timeout', '20')
    assert.equal(waited.status, 0, waited.said)
    const [leased] = addressesOf(web.pid(), 'eth1') ?? []
    assert.match(leased ?? '', /^10\.66\.0\.\d+\/24$/)
    assert.match(
      dnsmasq.log(),
      new RegExp(`DHCPACK\\(v0\\) [\\d.]+ [\\w:]+ ${web.name}\\b`),
      'the server knows its name',
    )

    docker('restart', '-t', '0', web.id)
    const again = () => addressesOf(web.pid(), 'eth1')?.[0] === leased
    await until('it has its interface and its lease again', again, { deadlineMs: 20_000, everyMs: 100 })
    assert.equal(unionize('unwire', web.name).status, 0)
    await until('the lease was given back', () => dnsmasq.leased().length === 0)
  } finally {
    await service.stop()
    await dnsmasq.stop()
    execFileSync('ip', ['netns', 'delete', server])
    rmSync(folder, { recursive: true })
    lab.run('ip', 'link', 'delete', 'br-lan')
    await until('the cable is gone', () => !links().includes('p0'))
  }
})

test('whatever is wrong with the line is named, and nothing is changed', () => {
  const web = dockerRun('web')
  const before = world(web.pid())
  const good = [web.name, '--bridge', 'br1']
  const cases: [line: string[], status: number, said: RegExp][] = [
    [[web.name], 2, /where does the interface lead\? Give one of --bridge/],
    [
      [...good, '-a', '10.7.0.5'],
      2,
      /^unionize: --address: expected an address and a prefix length.*got "10\.7\.0\.5"/,
    ],
    [[...good, '--mtu', '10'], 2, /^unionize: --mtu: expected at least 68, got 10/],
    [[...good, '-a', 'fd00::5/64', '--mtu', '1000'], 2, /^unionize: --mtu: IPv6 needs at least 1280/],
    [[...good, '-g', 'fd00::1', '-g', 'fd00::2'], 2, /^unionize: --gateway: expected at most one of each family/],
    [[...good, '--route', 'default'], 2, /^unionize: --route: .*default route/],
    [[...good, '--brdige', 'x'], 2, /unknown option '--brdige'/],
    [['we b', '--bridge', 'br1'], 2, /^unionize: target: expected a container's name or id/],
    [['not-there-x', '--bridge', 'br1'], 4, /there is no container not-there-x: "docker ps -a"/],
    [['pid:4194303', '--bridge', 'br1'], 4, /there is no process 4194303/],
    [['netns:not-there-x', '--bridge', 'br1'], 4, /no network namespace at \/run\/netns\/not-there-x/],
    [[...good, '--addressing', 'dhcp'], 2, /the wiring service must run: "systemctl start unionize-wiring"/],
    [[web.name, '--bridge', 'br1', '--no-create'], 1, /br1/],
    [[web.name, '--macvlan', 'not-there-x'], 1, /not-there-x/],
    [[web.name, '--physical', 'mac:02:00:00:00:00:77'], 1, /02:00:00:00:00:77/],
    [['-f', '/not-there-x'], 2, /--file: .*\/not-there-x/],
  ]
  for (const [line, status, said] of cases) {
    const refused = unionize('wire', ...line)
    assert.equal(refused.status, status, `${line.join(' ')}: ${refused.said}`)
    assert.match(refused.said, said)
    assert.doesNotMatch(refused.said, /\n\s+at /, 'no stack')
    assert.deepEqual(world(web.pid()), before, line.join(' '))
  }
  const file = run({ input: `target: ${web.name}\ninterfaces: [{link: {kind: x}}]\n` }, 'wire', '-f', '-')
  assert.deepEqual([file.status, /standard input:2: interfaces\.0\.link\.kind/.test(file.said)], [2, true], file.said)
  assert.deepEqual(world(web.pid()), before)
})

test('without the privileges it says so, before it looks at anything', () => {
  const nobody = ['setpriv', '--reuid', '0', '--bounding-set=-all', '--inh-caps=-all', '--ambient-caps=-all']
  const refused = run({ before: nobody }, 'show')
  assert.equal(refused.status, 6, refused.said)
  assert.match(refused.said, /CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_ADMIN missing.*sudo/)
})
