import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Command } from 'commander'
import { type InterfaceSpec, interfaceShape } from '../../common/wiring-spec.ts'
import { candidates } from '../../unionize/cli/commands/completion.ts'
import { whyNotOne } from '../../unionize/cli/commands/wait.ts'
import { addWiringCommands } from '../../unionize/cli/commands.ts'
import { parseDocuments, writtenDocuments } from '../../unionize/cli/documents.ts'
import { exitCodeOf, InvalidWish } from '../../unionize/cli/exit.ts'
import { addInterfaceFlags, type InterfaceFlags } from '../../unionize/cli/flags.ts'
import { say, tell } from '../../unionize/cli/output.ts'
import { settingsOf } from '../../unionize/cli/session.ts'
import { interfaceOf } from '../../unionize/cli/wish.ts'
import { parseTarget, resolveTarget } from '../../unionize/targets.ts'
import type { FoundInterface } from '../../unionize/wiring/interfaces/interfaces.ts'

/** The flags as the command line's parser gives them. */
function flagsOf(...line: readonly string[]): InterfaceFlags {
  const command = addInterfaceFlags(new Command('wire'))
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
  return command.parse(line, { from: 'user' }).opts<InterfaceFlags>()
}
const specOf = (...line: readonly string[]) => interfaceOf(flagsOf(...line)).spec
const linkOf = (...line: readonly string[]) => specOf(...line).link
const shaped = (given: object) => interfaceShape.parse({ link: { kind: 'bridge', bridge: 'br1' }, ...given })

/** What is said of a wrong line. */
function faultsOf(...line: readonly string[]): readonly string[] {
  try {
    specOf(...line)
  } catch (thrown) {
    if (thrown instanceof InvalidWish) return thrown.faults
    throw thrown
  }
  return []
}

test('an interface on a bridge needs one flag; all else has its default', () => {
  assert.deepEqual(specOf('--bridge', 'br1'), shaped({}))
})

test('each way to lead an interface has its flag', () => {
  const cases: [string, object][] = [
    ['--bridge br1 --no-create --isolated', { kind: 'bridge', bridge: 'br1', create: false, isolated: true }],
    ['--bridge br1 --vlan 10', { kind: 'bridge', bridge: 'br1', vlan: { access: 10 } }],
    ['--bridge br1 --vlan access=10', { kind: 'bridge', bridge: 'br1', vlan: { access: 10 } }],
    [
      '--bridge br1 --vlan trunk=10,20-30,native=5',
      { kind: 'bridge', bridge: 'br1', vlan: { trunk: [10, '20-30'], native: 5 } },
    ],
    [
      '--ovs ovsbr0 --vlan 10 --external-id iface-id=web --external-id a=b=c',
      { kind: 'ovs', bridge: 'ovsbr0', tag: 10, externalIds: { 'iface-id': 'web', a: 'b=c' } },
    ],
    ['--ovs ovsbr0 --vlan trunk=10,20-22', { kind: 'ovs', bridge: 'ovsbr0', trunks: [10, 20, 21, 22] }],
    ['--macvlan eth0', { kind: 'macvlan', parent: 'eth0' }],
    [
      '--macvlan mac:02:00:00:00:00:01:passthru --vlan 12',
      { kind: 'macvlan', parent: 'mac:02:00:00:00:00:01', mode: 'passthru', vlan: 12 },
    ],
    [
      '--ipvlan pci:0000:03:00.0:l3s:private',
      { kind: 'ipvlan', parent: 'pci:0000:03:00.0', mode: 'l3s', isolation: 'private' },
    ],
    ['--vlan eth0.12', { kind: 'vlan', parent: 'eth0', id: 12 }],
    ['--vlan eth0.100.12:802.1AD', { kind: 'vlan', parent: 'eth0.100', id: 12, protocol: '802.1ad' }],
    [
      '--vxlan 42 --remote ff05::1 --parent eth0 --local fd00::1 --udp-port 8472 --no-learning',
      { kind: 'vxlan', id: 42, remote: 'ff05::1', parent: 'eth0', local: 'fd00::1', port: 8472, learning: false },
    ],
    ['--dummy', { kind: 'dummy' }],
    ['--physical eth2', { kind: 'physical', device: 'eth2' }],
    ['--veth --peer-name v0', { kind: 'veth', peer: { name: 'v0' } }],
    [
      '--veth-to netns:lab --peer-address 10.0.0.2/24 --peer-address fd00::2/64 --peer-mac 02:00:00:00:00:02',
      {
        kind: 'veth',
        to: 'netns:lab',
        peer: { addresses: ['10.0.0.2/24', 'fd00::2/64'], mac: '02:00:00:00:00:02' },
      },
    ],
  ]
  for (const [line, link] of cases) {
    assert.deepEqual(linkOf(...line.split(' ')), interfaceShape.parse({ link }).link, line)
  }
})

test('name, MAC, MTU, settings and state of the device have their flags', () => {
  const line = '--bridge br1 -i eth5 -l web-out --mac hash:web --mtu 9000 --sysctl ipv6.conf.accept_ra=0 --down'
  assert.deepEqual(
    specOf(...line.split(' '), '--no-announce'),
    shaped({
      ...{ name: 'eth5', hostName: 'web-out', mac: 'hash:web', mtu: 9000, up: false, announce: false },
      sysctls: { 'ipv6.conf.accept_ra': '0' },
    }),
  )
})

test('addresses, gateways, routes and rules of both families have their flags', () => {
  const spec = specOf(
    ...['--bridge', 'br1', '-a', '10.1.1.5/24', '--address', 'fd00::5/64', '-g', '10.1.1.1', '-g', 'fd00::1'],
    ...['--addressing', 'slaac'],
    ...['--route', '10.0.0.0/8 via 10.1.1.2 metric 5 src 10.1.1.5 table main mtu 1400 onlink'],
    ...['--route', 'to 192.0.2.7', '--route', 'default via fd00::9'],
    ...['--rule', 'from 10.1.1.5 to all iif eth1 oif eth2 fwmark 0x10 lookup 100 pref 1000'],
  )
  assert.deepEqual(
    spec,
    shaped({
      addresses: ['10.1.1.5/24', 'fd00::5/64'],
      gateways: ['10.1.1.1', 'fd00::1'],
      addressing: 'slaac',
      routes: [
        {
          ...{ to: '10.0.0.0/8', via: '10.1.1.2', metric: 5, source: '10.1.1.5', table: 254, mtu: 1400 },
          onlink: true,
        },
        { to: '192.0.2.7/32' },
        { to: 'default', via: 'fd00::9' },
      ],
      rules: [{ from: '10.1.1.5/32', incoming: 'eth1', outgoing: 'eth2', mark: 16, table: 100, priority: 1000 }],
    }),
  )
})

test('shaping has its flags, in the units of people', () => {
  const line = '--bridge br1 --rate-out 10M --burst-out 20000 --latency-out 100 --rate-in 512kbit --burst-in 30000'
  assert.deepEqual(specOf(...line.split(' '), '--delay', '1.5s', '--jitter', '5ms', '--loss', '5%').shaping, {
    egress: { rate: '10M', burst: 20_000, latencyMs: 100 },
    ingress: { rate: '512kbit', burst: 30_000 },
    ...{ delayMs: 1500, jitterMs: 5, loss: 0.05 },
  })
})

test('a wrong value is refused in the name of its flag, with what would be right', () => {
  const cases: [flag: string, values: string[], expected: RegExp, beside?: string][] = [
    ['--bridge', ['', 'br one', 'a/b', 'bridge-of-16-cha'], /expected/, '--dummy'],
    ['--ovs', ['', '-x', 'a b'], /expected/],
    ['--macvlan', ['', 'eth0:bridge:x', 'eth0:brigde', 'mac:zz', 'pci:1'], /expected|too much/],
    ['--ipvlan', ['', 'eth0:l2:bridge:x', 'eth0:l4', 'eth0:l2:x'], /expected|too much/],
    ['--vlan', ['', 'eth0', 'eth0.x', 'eth0.0', 'eth0.4095', 'eth0.5:802.3'], /expected/],
    ['--vlan', ['', 'x', '0', '4095', 'access=x', 'trunk=', 'trunk=x', 'trunk=native=x'], /expected/, '--bridge br1'],
    ['--vxlan', ['', 'x', '-1', '16777216'], /expected/, '--remote fd00::1'],
    ['--remote', ['', 'x', '10.0.0.0/8'], /expected/, '--vxlan 1'],
    ['--local', ['', 'x'], /expected/, '--vxlan 1 --remote fd00::1'],
    ['--parent', ['', 'a b'], /expected/, '--vxlan 1 --remote fd00::1'],
    ['--udp-port', ['', 'x', '0', '65536'], /expected/, '--vxlan 1 --remote fd00::1'],
    ['--external-id', ['', 'x', '=x'], /expected/, '--ovs br1'],
    ['--physical', ['', 'a b', 'mac:zz', 'pci:03:00.0'], /expected/],
    ['--veth-to', [''], /expected/],
    ['--peer-name', ['', 'a/b'], /expected/, '--veth'],
    ['--peer-address', ['', 'x', '10.0.0.1'], /expected/, '--veth'],
    ['--peer-mac', ['', 'x', '01:00:00:00:00:01'], /expected/, '--veth'],
    ['--interface', ['', '..', 'a/b', '-x', 'a b'], /expected/, '--dummy'],
    ['--host-name', ['', 'a/b'], /expected/, '--dummy'],
    ['--mac', ['', 'zz', 'hash:', '01:00:00:00:00:01', '02:00:00:00:00'], /expected hash:TEXT, or/, '--dummy'],
    ['--mtu', ['', 'x', '67', '65536', '1.5'], /expected/, '--dummy'],
    ['--sysctl', ['', 'x', 'x=1', '=1', 'net.ipv6.conf.accept_ra=1'], /expected/, '--dummy'],
    ['--address', ['', 'x', '10.1.1.5', '10.1.1.5/33', 'fd00::5/129', '::1/x'], /expected an address and/, '--dummy'],
    ['--addressing', ['', 'auto'], /expected one of static/, '--dummy'],
    ['--gateway', ['', 'x', '10.1.1.1/24'], /expected an IPv4 or IPv6 address/, '--dummy'],
    [
      '--route',
      ['', 'x', '10.0.0.0/8 via', '10.0.0.0/8 via x', '10.0.0.0/8 vai x', 'default dev eth1'],
      /./,
      '--dummy',
    ],
    ['--route', ['10.0.0.0/8 via ::1 via ::1'], /twice/, '--dummy'],
    ['--rule', ['', 'from x table 1 priority 1', 'table 1', 'priority 1', 'x', 'table'], /./, '--dummy'],
    ['--rate-out', ['', 'fast', '-1', '0', '1T'], /expected/, '--dummy'],
    ['--burst-out', ['', 'x', '0'], /expected/, '--dummy --rate-out 1M'],
    ['--latency-out', ['', 'x', '0'], /expected/, '--dummy --rate-out 1M'],
    ['--rate-in', ['', 'fast'], /expected/, '--dummy'],
    ['--burst-in', ['', 'x', '1.5'], /expected/, '--dummy --rate-in 1M'],
    ['--delay', ['', 'x', '-1', '5h'], /expected/, '--dummy'],
    ['--jitter', ['', 'x'], /expected/, '--dummy --delay 5'],
    ['--loss', ['', 'x', '101%', '2'], /expected/, '--dummy'],
  ]
  for (const [flag, values, expected, beside = ''] of cases) {
    const others = beside === '' || (flag === '--bridge' && beside === '--dummy') ? [] : beside.split(' ')
    for (const value of values) {
      const faults = faultsOf(...others, `${flag}=${value}`)
      assert.ok(faults.length > 0, `${flag} ${JSON.stringify(value)} was taken`)
      for (const fault of faults) {
        assert.ok(fault.startsWith(`${flag}:`) || fault.startsWith(`${flag} `), `${flag} ${value}: ${fault}`)
      }
      assert.match(faults.join('\n'), expected)
    }
  }
})

test('flags that contradict each other, or stand alone, are refused', () => {
  assert.match(faultsOf().join(), /^where does the interface lead\? Give one of --bridge, --ovs/)
  assert.deepEqual(faultsOf('--bridge', 'br1', '--macvlan', 'eth0'), [
    '--bridge and --macvlan: an interface leads to one place only',
  ])
  assert.deepEqual(faultsOf('--vxlan', '1'), ['--vxlan: needs --remote, the other end of the tunnel'])
  assert.deepEqual(faultsOf('--dummy', '--isolated'), ['--isolated: goes with --bridge only'])
  assert.deepEqual(faultsOf('--dummy', '--burst-in', '5'), ['--burst-in: goes with --rate-in only'])
})

test('all faults of a line are told at once', () => {
  const faults = faultsOf('--bridge', 'a b', '--mtu', 'x', '--address', '10.1.1.5', '--sysctl', 'x')
  assert.deepEqual(
    faults.map((fault) => fault.split(':')[0]),
    ['--sysctl', '--bridge', '--mtu', '--address'],
  )
})

test('what the engine finds wrong is told in the name of its flag', () => {
  const flagged = interfaceOf(flagsOf('--vlan', 'eth0.5', '--mac', 'hash:x', '--gateway', '10.0.0.1'))
  assert.equal(flagged.word({ path: ['mac'], text: 'no' }), '--mac: no')
  assert.equal(flagged.word({ path: ['gateways', '0'], text: 'no' }), '--gateway: no')
  assert.equal(flagged.word({ path: ['link', 'parent'], text: 'no' }), '--vlan: no')
})

test('a file is read with the line of each fault, and none of it counts if one is there', () => {
  const text = [
    ...['target: web', 'interfaces:', '  - name: eth1', '    link: {kind: brigde}', '    adresses: [10.1.1.5]'],
    ...['---', 'target: db', 'interfaces:', '  - link: {kind: dummy}', '    sysctls: {ipv6.conf.accept_ra: 0}', '---'],
    ...['target: web2', 'interface: []', '---', 'a: b: c'],
  ].join('\n')
  assert.throws(
    () => parseDocuments(text, 'w.yaml'),
    (thrown: unknown) => {
      assert.ok(thrown instanceof InvalidWish)
      assert.equal(exitCodeOf(thrown), 2)
      const said = thrown.message
      assert.match(said, /^w\.yaml:4: interfaces\.0\.link\.kind: expected one of bridge, ovs,.* got "brigde"$/m)
      assert.match(said, /^w\.yaml:5: interfaces\.0\.adresses is not known here \(did you mean addresses\?\)$/m)
      assert.match(said, /^w\.yaml:10: interfaces\.0\.sysctls\..*: expected a string \(put it in quotes\), got 0$/m)
      assert.match(said, /^w\.yaml:12: interfaces is missing$/m)
      assert.match(said, /^w\.yaml:15: Nested mappings/m)
      return true
    },
  )
  assert.throws(() => parseDocuments('---\n', 'w.yaml'), /there is no document/)
  assert.throws(() => parseDocuments('[1]', 'w.yaml'), /w\.yaml:1: /)
  const twice = 'target: a\ninterfaces: []\n---\ntarget: a\ninterfaces: []\n'
  assert.throws(() => parseDocuments(twice, 'w.yaml'), /target a has more than one document/)
})

test('aliases and merge keys are read, and those without end are refused', () => {
  const [read] = parseDocuments(
    'target: a\ninterfaces:\n  - &one {name: eth1, link: {kind: bridge, bridge: br1}}\n  - {<<: *one, name: eth2}\n',
    'w.yaml',
  )
  assert.deepEqual(read?.interfaces, [shaped({ name: 'eth1' }), shaped({ name: 'eth2' })])
  const circle = 'target: a\ninterfaces: &all [*all]\n'
  assert.throws(() => parseDocuments(circle, 'w.yaml'), /w\.yaml:1: aliases lead in a circle/)
  const levels = 'bcdefgh'.split('').map((to, i) => {
    const from = 'abcdefg'[i]
    return `${to}: &${to} [${Array(9).fill(`*${from}`).join()}]`
  })
  const bomb = ['a: &a [x]', ...levels, 'target: a'].join('\n')
  assert.throws(() => parseDocuments(bomb, 'w.yaml'), InvalidWish)
})

test('what stands for no address at all is not an address of an interface', () => {
  for (const none of ['0.0.0.0/0', '::/0', '0:0::/64'])
    assert.match(faultsOf('--bridge', 'br1', '-a', none).join(), /--address: expected an address of its own/)
})

test('of many faults in a file the first are told', () => {
  const told = (text: string) => {
    try {
      parseDocuments(text, 'w.yaml')
    } catch (thrown) {
      if (thrown instanceof InvalidWish) return thrown.faults
      throw thrown
    }
    return []
  }
  const faults = told('['.repeat(5000))
  assert.equal(faults.length, 21)
  assert.match(faults.at(-1) ?? '', /^w\.yaml: and \d+ faults more$/)
})

test('the name of an outer end is no setting of the daemon', () => {
  const flags = { ...flagsOf('--bridge', 'br1', '--host-name', 'Not_A_DNS.label'), wiringDirectory: '/somewhere' }
  assert.equal(settingsOf(flags)['wiring.directory'], '/somewhere')
})

test('what is said to people does not steer their terminal', (t) => {
  const written: string[] = []
  t.mock.method(process.stderr, 'write', (text: string) => written.push(text))
  say('\u001b[31mred')
  tell('netns:\u001b[31mred', [{ interface: 'eth1', text: 'lead it to \u001b]0;title\u0007' }])
  t.mock.restoreAll()
  assert.equal(written.length, 2)
  for (const steering of ['\u001b[31m', '\u001b]', '\u0007']) {
    assert.ok(!written.some((line) => line.includes(steering)), JSON.stringify(steering))
  }
})

test('what is printed as a file reads as the same wish', async () => {
  const lines = [
    '-i eth0 --bridge br1',
    '-i eth1 --vlan eth0.12:802.1ad --mtu 1400 --down',
    '-i eth2 --vxlan 7 --remote 192.0.2.1 --no-learning --mac hash:x --rate-out 10M --loss 1%',
    '-i a-name-longer-than-fifteen-characters --veth-to web --peer-address 10.0.0.1/24',
    '-i eth4 --physical mac:02:00:00:00:00:01 -a 10.0.0.1/8 -g 10.0.0.2 --addressing slaac --sysctl ipv4.conf.arp_notify=1',
    '-i eth5 --ovs br --vlan trunk=1-3 --external-id x=y --no-create',
  ]
  const documents = [
    { target: 'web', interfaces: lines.map((line) => specOf(...line.split(' '))) },
    { target: 'netns:lab', interfaces: [] },
  ]
  const written = await writtenDocuments(documents)
  assert.deepEqual(parseDocuments(written, 'w.yaml'), documents)
  assert.doesNotMatch(written, /announce|onlink|latencyMs: 50|port: 4789/, 'defaults are left out')
})

test('a target is a container, a process or a namespace, and nothing else', async () => {
  assert.deepEqual(parseTarget('web'), { kind: 'container', name: 'web' })
  assert.deepEqual(parseTarget('pid:12'), { kind: 'pid', pid: 12 })
  assert.deepEqual(parseTarget('netns:lab'), { kind: 'netns', path: '/run/netns/lab' })
  assert.deepEqual(parseTarget('netns:/proc/1/ns/net'), { kind: 'netns', path: '/proc/1/ns/net' })
  for (const text of [
    '',
    'we b',
    '../x',
    '-x',
    'pid:',
    'pid:0',
    'pid:x',
    'pid:99999999',
    'netns:',
    'netns:..',
    'netns:a/b',
  ]) {
    assert.throws(() => parseTarget(text), /^InvalidInput: target: expected a container's name or id, pid:N/, text)
  }
  const engine = () => Promise.reject(new Error('no engine is needed'))
  const own = await resolveTarget({ kind: 'pid', pid: process.pid }, engine)
  assert.deepEqual(own, { key: `pid:${process.pid}`, label: own.key, namespace: { pid: process.pid } })
  await assert.rejects(resolveTarget(parseTarget('netns:not-there-x'), engine), { code: 'target-missing' })
  await assert.rejects(resolveTarget({ kind: 'pid', pid: 4_194_304 }, engine), { code: 'target-missing' })
})

test('an interface is ready when it is up with a carrier and all addresses that were asked for', () => {
  const found: FoundInterface = {
    ...{ name: 'eth1', hostName: null, kind: 'bridge', mac: '02:00:00:00:00:01', mtu: 1500, up: true, running: true },
    ...{ addresses: ['10.1.1.5/24', 'fd00::5/64', 'fe80::1/64'], routes: [] },
  }
  const why = (spec: InterfaceSpec, change: Partial<FoundInterface> = {}, carrierOnly = false) => {
    const wired = { key: 'k', label: 'web', alive: true, spec: { interfaces: [spec] } }
    return whyNotOne({ ...wired, interfaces: [{ ...found, ...change }] }, spec, carrierOnly)
  }
  const both = specOf('--bridge', 'br1', '-a', '10.1.1.5/24', '-a', 'FD00:0::5/64')
  assert.equal(why(both), null)
  assert.match(why(both, { name: 'eth2' }) ?? '', /there is no eth1/)
  assert.match(why(both, { up: false }) ?? '', /down/)
  assert.match(why(both, { running: false }) ?? '', /no carrier/)
  assert.match(why(both, { addresses: ['10.1.1.5/24'] }) ?? '', /has not FD00:0::5\/64 yet/)
  assert.equal(why(both, { addresses: [] }, true), null)
  const lent = specOf('--bridge', 'br1', '-a', 'fd00::5/64', '--addressing', 'slaac')
  assert.match(why(lent) ?? '', /no address by slaac yet/, 'neither the static nor the link-local one counts')
  assert.equal(why(lent, { addresses: ['fd00::5/64', 'fd00::abcd/64'] }), null)
  assert.equal(why(specOf('--bridge', 'br1', '--addressing', 'dhcp4')), null)
})

test('what is typed so far is completed: commands, flags, and what flags take', async () => {
  const program = new Command('unionize')
  addWiringCommands(program)
  assert.deepEqual(await candidates(program, ['un']), ['unwire', 'unplace'])
  assert.deepEqual(await candidates(program, ['wire', '--addressing', 'dhcp']), ['dhcp', 'dhcp4', 'dhcp6'])
  assert.deepEqual(await candidates(program, ['wire', 'web', '--mac']), ['--macvlan', '--mac'])
  assert.deepEqual(await candidates(program, ['show', '-o', 'j']), ['json'])
  assert.deepEqual(await candidates(program, ['completion', 'f']), ['fish'])
  assert.deepEqual(await candidates(program, ['complete', '']), [], 'what is hidden is not offered')
})
