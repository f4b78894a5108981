import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { after, afterEach, before, test } from 'node:test'
import { until } from '../support/until.ts'
import { WireCommand } from '../support/wire-command.ts'
import { type Agent, BRIEF, WiringLab } from '../support/wiring-lab.ts'
import type { Remote } from '../support/wiring-remote.ts'

/*
 * What people do with pipework, line by line of its manual, done with `unionize` on the real kernel. The table in
 * docs/wiring.md points here.
 */
let lab: WiringLab
let host: Agent
let command: WireCommand
const guests: Remote[] = []

before(async () => {
  lab = await WiringLab.start({ bare: true })
  lab.run('ip', 'link', 'set', 'lo', 'up')
  host = await lab.onHost()
  command = new WireCommand(lab)
})

afterEach(async () => {
  const undone = command.run({}, 'unwire', '--all')
  assert.equal(undone.status, 0, undone.said)
  await Promise.all(guests.splice(0).map((guest) => guest.kill()))
  for (const name of ['eth2', 'br0', 'far']) if (command.links().includes(name)) lab.run('ip', 'link', 'delete', name)
  await until('every link of a guest is gone', () => command.links().every((name) => name === 'lo'))
  assert.deepEqual(command.kept(), [])
})

after(async () => {
  await lab?.[Symbol.asyncDispose]()
  command?.close()
})

/** A guest: its process id, as a target and as a number. */
async function newGuest(): Promise<{ pid: number; target: string }> {
  const guest = await lab.idle()
  guests.push(guest)
  return { pid: guest.pid, target: `pid:${guest.pid}` }
}

/** Runs a line that must succeed. */
function unionize(...line: readonly string[]): { out: string; said: string } {
  const ran = command.run({}, ...line)
  assert.equal(ran.status, 0, `${line.join(' ')}: ${ran.said}`)
  return ran
}

/** A card of the host, as far as a lab has one: the other end is `far`. */
function addCard(mac = '02:00:00:00:00:77'): void {
  lab.run('ip', 'link', 'add', 'eth2', 'address', mac, 'type', 'veth', 'peer', 'name', 'far')
  lab.run('ip', 'link', 'set', 'eth2', 'up')
  lab.run('ip', 'link', 'set', 'far', 'up')
}

/** Whether this kernel makes such a device, tried with `ip`. */
function has(...device: readonly string[]): boolean {
  try {
    lab.run('ip', 'link', 'add', 'tried', ...device)
  } catch {
    return false // that is the question
  }
  lab.run('ip', 'link', 'delete', 'tried')
  return true
}

const routes = (pid: number, ...family: string[]) => lab.runIn(pid, 'ip', ...family, 'route')
const linkOf = (pid: number, name: string) => command.inside(pid).find((link) => link.ifname === name)

test('a bridge that is missing is made, and guests on it reach each other and the host', async () => {
  const [apache, mysql] = [await newGuest(), await newGuest()]
  unionize('wire', apache.target, '--bridge', 'br1', '-a', '192.168.1.1/24', '-a', 'fd00:5::1/64')
  unionize('wire', mysql.target, '--bridge', 'br1', '-a', '192.168.1.2/24', '-a', 'fd00:5::2/64')
  lab.run('ip', 'address', 'add', 'fd00:5::fe/64', 'dev', 'br1', 'nodad')
  for (const address of ['fd00:5::1', 'fd00:5::2']) assert.equal((await host.icmp(address)).result, 'answered')
  assert.match(lab.runIn(apache.pid, 'ip', 'route', 'get', '192.168.1.2'), /dev eth1/)
})

test('the name inside, the name outside and the length of the prefix are as given', async () => {
  const guest = await newGuest()
  unionize('wire', guest.target, '--bridge', 'br1', '-i', 'eth5', '-l', 'hostapp1', '-a', '192.168.4.25/20')
  assert.ok(command.links().includes('hostapp1'))
  assert.deepEqual(command.addressesOf(guest.pid, 'eth5'), ['192.168.4.25/20'])
})

test('names longer than the kernel takes are shortened, always to the same ones', async () => {
  const guest = await newGuest()
  const line = ['--bridge', 'br1', '-i', 'public-network-of-the-web', '-l', 'web-on-the-public-network']
  unionize('wire', guest.target, ...line)
  const name = /^public-n-[0-9a-z]{6}$/
  assert.equal(command.inside(guest.pid).filter((link) => name.test(link.ifname)).length, 1)
  assert.equal(command.links().filter((link) => /^web-on-t-[0-9a-z]{6}$/.test(link)).length, 1)
  assert.match(unionize('wire', guest.target, ...line).said, /nothing to do/)
})

test('a gateway becomes the default route, also one that no prefix covers', async () => {
  const guest = await newGuest()
  unionize('wire', guest.target, '--bridge', 'br1', '-a', '192.168.4.25/20', '-g', '192.168.4.1')
  assert.match(routes(guest.pid), /default via 192\.168\.4\.1 dev eth1/)
  unionize('wire', guest.target, '--bridge', 'br1', '-a', '192.168.4.25/32', '-g', '10.0.0.1')
  assert.match(routes(guest.pid), /default via 10\.0\.0\.1 dev eth1 .*onlink/)
})

test('both families, several addresses and a gateway of each stand in one line', async () => {
  const guest = await newGuest()
  const addresses = ['10.1.1.5/24', '10.1.2.5/24', 'fd00:5::5/64', 'fd00:6::5/64']
  const line = [...addresses.flatMap((address) => ['-a', address]), '-g', '10.1.1.1', '-g', 'fd00:5::1']
  unionize('wire', guest.target, '--bridge', 'br1', ...line)
  assert.deepEqual(command.addressesOf(guest.pid, 'eth1'), addresses)
  assert.match(routes(guest.pid), /default via 10\.1\.1\.1 dev eth1/)
  assert.match(routes(guest.pid, '-6'), /default via fd00:5::1 dev eth1/)
})

test('an interface without an address is up, and has none', async () => {
  const guest = await newGuest()
  unionize('wire', guest.target, '--bridge', 'br1')
  assert.deepEqual(command.addressesOf(guest.pid, 'eth1'), [])
  assert.ok(linkOf(guest.pid, 'eth1')?.flags.includes('LOWER_UP'))
})

test('the MTU is that of the bridge, unless told', async () => {
  const guest = await newGuest()
  lab.run('ip', 'link', 'add', 'br0', 'mtu', '1400', 'type', 'bridge')
  lab.run('ip', 'link', 'set', 'br0', 'up')
  unionize('wire', guest.target, '--bridge', 'br0')
  assert.equal(linkOf(guest.pid, 'eth1')?.mtu, 1400)
  unionize('wire', guest.target, '--bridge', 'br0', '--mtu', '1300')
  assert.equal(linkOf(guest.pid, 'eth1')?.mtu, 1300)
})

test('a MAC is the one given, or follows from a text in every container alike', async () => {
  const [one, other] = [await newGuest(), await newGuest()]
  unionize('wire', one.target, '--bridge', 'br1', '--mac', '26:2e:71:98:60:8f')
  assert.equal(linkOf(one.pid, 'eth1')?.address, '26:2e:71:98:60:8f')
  unionize('wire', one.target, '--bridge', 'br1', '--mac', 'hash:myhost.example.org')
  const mac = linkOf(one.pid, 'eth1')?.address
  unionize('unwire', one.target)
  unionize('wire', other.target, '--bridge', 'br1', '--mac', 'hash:myhost.example.org')
  assert.equal(linkOf(other.pid, 'eth1')?.address, mac)
  assert.match(mac ?? '', /^[0-9a-f][26ae]:/, 'locally administered, of one station')
})

test('a card is shared by macvlan, and named by name or by MAC', async () => {
  const [one, other] = [await newGuest(), await newGuest()]
  addCard()
  unionize('wire', one.target, '--macvlan', 'eth2', '-a', '50.19.169.157/24', '-a', 'fd00:5::1/64')
  unionize('wire', other.target, '--macvlan', 'mac:02:00:00:00:00:77:private', '-a', '107.22.140.5/24')
  assert.match(lab.runIn(one.pid, 'ip', '-d', 'link', 'show', 'eth1'), /macvlan mode bridge/)
  assert.match(lab.runIn(other.pid, 'ip', '-d', 'link', 'show', 'eth1'), /macvlan mode private/)
  lab.run('ip', 'address', 'add', 'fd00:5::fe/64', 'dev', 'far', 'nodad')
  assert.equal((await host.icmp('fd00:5::1')).result, 'answered', 'from the other end of the card')
})

test('a card moves in as it is, and comes back with its name, addresses and state', async () => {
  const guest = await newGuest()
  addCard()
  lab.run('ip', 'address', 'add', '192.0.2.5/24', 'dev', 'eth2')
  const before = lab.run('ip', '-o', 'address', 'show', 'eth2').replace(/^\d+: /gm, '')
  unionize('wire', guest.target, '--physical', 'mac:02:00:00:00:00:77', '-i', 'eth7', '-a', '192.0.2.7/24')
  assert.ok(!command.links().includes('eth2'))
  assert.deepEqual(command.addressesOf(guest.pid, 'eth7'), ['192.0.2.7/24'])
  unionize('unwire', guest.target)
  assert.equal(linkOf(guest.pid, 'eth7'), undefined)
  assert.equal(lab.run('ip', '-o', 'address', 'show', 'eth2').replace(/^\d+: /gm, ''), before)
  assert.match(lab.run('ip', 'link', 'show', 'eth2'), /[<,]UP[,>]/)
})

test('a pair leads to the host itself, which reaches a guest behind a macvlan that way', async () => {
  const guest = await newGuest()
  unionize(
    'wire',
    guest.target,
    '--veth',
    '-a',
    'fd00:5::5/64',
    '--peer-name',
    'web0',
    '--peer-address',
    'fd00:5::1/64',
  )
  assert.ok(command.links().includes('web0'))
  assert.equal((await host.icmp('fd00:5::5')).result, 'answered')
})

test('a dummy, a VLAN of a card and VLANs of a bridge port are made, or this kernel is said to lack them', async () => {
  addCard()
  const filtering = has('type', 'bridge', 'vlan_filtering', '1')
  const cases: [there: boolean, line: string[]][] = [
    [has('type', 'dummy'), ['--dummy', '-a', '192.168.21.101/24']],
    [has('link', 'eth2', 'type', 'vlan', 'id', '10'), ['--vlan', 'eth2.10']],
    [has('link', 'eth2', 'type', 'vlan', 'id', '10'), ['--macvlan', 'eth2', '--vlan', '10']],
    [filtering, ['--bridge', 'br1', '--vlan', '10']],
    [filtering, ['--bridge', 'br1', '--vlan', 'trunk=10,20-30,native=5']],
  ]
  for (const [there, line] of cases) {
    const guest = await newGuest()
    const ran = command.run({}, 'wire', guest.target, ...line)
    if (there) assert.equal(ran.status, 0, ran.said)
    else {
      assert.deepEqual([ran.status, ran.said.includes('(not-supported)')], [1, true], `${line.join(' ')}: ${ran.said}`)
      assert.match(ran.said, /CONFIG_[A-Z0-9_]+/, 'the option is named')
      assert.deepEqual(
        command.inside(guest.pid).map((link) => link.ifname),
        ['lo'],
      )
    }
  }
})

test('routes and rules are put, changed and taken, each as ip-route and ip-rule write it', async () => {
  const guest = await newGuest()
  const line = [guest.target, '--bridge', 'br1', '-a', '192.168.2.5/24']
  unionize(
    ...[
      'wire',
      ...line,
      '--route',
      '10.0.5.0/24 via 192.168.2.1 metric 7',
      '--route',
      'default via 192.168.2.9 table 100',
    ],
    ...['--rule', 'from 192.168.2.5 table 100 priority 1000'],
  )
  assert.match(routes(guest.pid), /^10\.0\.5\.0\/24 via 192\.168\.2\.1 dev eth1 .*metric 7/m)
  assert.match(lab.runIn(guest.pid, 'ip', 'route', 'show', 'table', '100'), /default via 192\.168\.2\.9/)
  assert.match(lab.runIn(guest.pid, 'ip', 'rule'), /^1000:\s+from 192\.168\.2\.5 lookup 100/m)
  unionize('wire', ...line, '--route', '10.0.5.0/24 via 192.168.2.2')
  assert.match(routes(guest.pid), /10\.0\.5\.0\/24 via 192\.168\.2\.2/)
  assert.doesNotMatch(routes(guest.pid), /192\.168\.2\.1\b/)
  assert.doesNotMatch(lab.runIn(guest.pid, 'ip', 'rule'), /1000:/)
})

test('traffic is limited both ways; delay and loss are there, or this kernel is said to lack them', async () => {
  const guest = await newGuest()
  const line = ['wire', guest.target, '--bridge', 'br1', '-l', 'web0']
  const inner = () => lab.runIn(guest.pid, 'tc', 'qdisc', 'show', 'dev', 'eth1')
  const outer = () => lab.run('tc', 'qdisc', 'show', 'dev', 'web0')
  unionize(...line, '--rate-out', '10M', '--rate-in', '5M')
  assert.match(inner(), /tbf .*rate 10Mbit/)
  assert.match(outer(), /tbf .*rate 5Mbit/)
  assert.match(unionize(...line, '--rate-out', '10M', '--rate-in', '5M').said, /nothing to do/)
  unionize(...line)
  assert.doesNotMatch(inner() + outer(), /tbf/)
  const delayed = command.run({}, ...line, '--delay', '20ms', '--loss', '1%')
  if (delayed.status === 0) assert.match(inner(), /netem/)
  else assert.match(delayed.said, /CONFIG_NET_SCH_NETEM.*\(not-supported\)/)
})

test('who waits for the interface goes on when it is there, from the host and from inside', async () => {
  const guest = await newGuest()
  const start = (before: readonly string[], ...line: readonly string[]) => {
    const [program = '', ...args] = command.command(before, ...line)
    return spawn(program, args, { stdio: 'inherit' })
  }
  const waiting = [
    start([], 'wait', guest.target, '--timeout', '30'),
    start(['nsenter', '-n', '-t', String(guest.pid)], 'wait', '--here', '-i', 'eth1', '--timeout', '30'),
  ]
  const ended = waiting.map((one) => once(one, 'exit'))
  unionize('wire', guest.target, '--bridge', 'br1', '-a', 'fd00:5::5/64')
  for (const [status] of await Promise.all(ended)) assert.equal(status, 0)
})

test('ports that are published by the default route of others go on after a new gateway', async () => {
  const guest = await newGuest()
  const name = String(guest.pid)
  lab.run('ip', 'link', 'add', 'br0', 'type', 'bridge')
  lab.run('ip', 'link', 'add', 'far', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
  lab.run('ip', 'link', 'set', 'far', 'master', 'br0', 'up')
  lab.run('ip', 'link', 'set', 'br0', 'up')
  lab.run('ip', 'address', 'add', 'fd00:8::1/64', 'dev', 'br0', 'nodad')
  lab.run('ip', 'address', 'add', 'fd00:9::1/128', 'dev', 'lo', 'nodad')
  lab.run('ip', 'route', 'add', 'fd00:8::5/128', 'dev', 'br0', 'src', 'fd00:9::1')
  const inside = (...args: string[]) => lab.runIn(guest.pid, 'ip', ...args)
  inside('link', 'set', 'eth0', 'up')
  inside('address', 'add', 'fd00:8::5/64', 'dev', 'eth0', 'nodad')
  inside('route', 'add', 'default', 'via', 'fd00:8::1', 'dev', 'eth0')
  const answered = async (time?: typeof BRIEF) => (await host.icmp('fd00:8::5', time)).result === 'answered'
  await until('a far client is answered by the default route', () => answered(BRIEF))

  unionize('wire', guest.target, '--bridge', 'br1', '-a', 'fd00:5::5/64', '-g', 'fd00:5::1')
  assert.ok(await answered(), 'and still is')
  assert.match(inside('-6', 'route', 'get', '2001:db8::1', 'from', 'fd00:5::5'), /via fd00:5::1 dev eth1/)
  unionize('unwire', guest.target)
  assert.ok(await answered())
  assert.doesNotMatch(inside('-6', 'rule'), /fd00:5::5/)
  lab.run('ip', 'address', 'del', 'fd00:9::1/128', 'dev', 'lo')
})

test('when a guest ends, nothing of it is left on the host', async () => {
  const guest = await newGuest()
  unionize('wire', guest.target, '--bridge', 'br1', '-a', '10.0.0.5/24')
  await guests.pop()?.kill()
  await until('its link is gone', () => command.links().every((name) => ['lo', 'br1'].includes(name)))
  unionize('unwire', guest.target)
  assert.deepEqual([command.links(), command.kept()], [['lo'], []])
})
