import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { openVswitch } from '../../unionize/wiring/ovs/open-vswitch.ts'
import { OwnSwitch } from '../support/ovs.ts'
import { until } from '../support/until.ts'
import { type Agent, BRIEF, WiringLab } from '../support/wiring-lab.ts'

const RACER = fileURLToPath(new URL('../support/ovs-racer.ts', import.meta.url))

/** This kernel has no datapath for Open vSwitch, so its own, in user space, is used. */
const NETDEV = { datapathType: 'netdev' } as const

/** An agent behind the device `port` of the lab's host namespace; nothing else is wired. */
async function behind(lab: WiringLab, port: string, address: string): Promise<Agent> {
  const agent = await lab.instance(port, address)
  lab.run('ip', 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(agent.pid))
  lab.run('ip', 'link', 'set', port, 'up')
  lab.runIn(agent.pid, 'ip', 'link', 'set', 'eth0', 'up')
  lab.runIn(agent.pid, 'ip', 'address', 'add', `${address}/64`, 'dev', 'eth0', 'nodad')
  return agent
}

const reaches = (from: Agent, to: Agent) =>
  until(`${from.address} reaches ${to.address}`, async () => (await from.icmp(to.address, BRIEF)).result === 'answered')
const misses = async (from: Agent, to: Agent) => assert.equal((await from.icmp(to.address, BRIEF)).result, 'silent')

describe('Open vSwitch', () => {
  it('a port with a tag passes frames to the same tag only, also after it changed', async () => {
    await using lab = await WiringLab.start({ bare: true })
    await using own = await OwnSwitch.start(lab.host)
    const ovs = openVswitch({ socket: own.socket })
    assert.equal(ovs.ensureBridge('ovs0', NETDEV), true)
    assert.equal(ovs.ensureBridge('ovs0', NETDEV), false)
    const [a, b, c] = await Promise.all([
      behind(lab, 'pa', 'fd00:5::a'),
      behind(lab, 'pb', 'fd00:5::b'),
      behind(lab, 'pc', 'fd00:5::c'),
    ])
    assert.equal(ovs.ensurePort({ bridge: 'ovs0', port: 'pa', tag: 10 }), true)
    assert.equal(ovs.ensurePort({ bridge: 'ovs0', port: 'pb', tag: 10 }), true)
    assert.equal(ovs.ensurePort({ bridge: 'ovs0', port: 'pc', tag: 20 }), true)
    await reaches(a, b)
    await misses(a, c)
    await misses(b, c)
    assert.equal(ovs.ensurePort({ bridge: 'ovs0', port: 'pb', tag: 20 }), true)
    await reaches(b, c)
    await misses(a, b)
    assert.deepEqual(ovs.bridgeOf('ovs0')?.ports.toSorted(), ['pa', 'pb', 'pc'])
    assert.equal(ovs.removePort('pb'), true)
    await until('the port is gone', async () => (await b.icmp(c.address, BRIEF)).result === 'silent')
    assert.equal(own.vsctl('list-ports', 'ovs0'), 'pa\npc')
    assert.equal(ovs.removePort('pb'), false)
  })

  it('a port moves, and has exactly the VLANs and external ids that are asked for; what others added stays', async () => {
    await using lab = await WiringLab.start({ bare: true })
    await using own = await OwnSwitch.start(lab.host)
    const ovs = openVswitch({ socket: own.socket })
    for (const bridge of ['ovs0', 'ovs1']) ovs.ensureBridge(bridge, NETDEV)
    lab.run('ip', 'link', 'add', 'pa', 'type', 'veth', 'peer', 'name', 'pb')
    const wish = { bridge: 'ovs0', port: 'pa', trunks: [30, 10], externalIds: { 'iface-id': 'x "1"', vm: 'v' } }
    assert.equal(ovs.ensurePort(wish), true)
    assert.equal(ovs.ensurePort(wish), false)
    const { number, ...found } = ovs.portOf('pa') ?? {}
    assert.ok(number != null && number > 0)
    const { port: _, ...rest } = wish
    const ourIds = ['iface-id', 'vm']
    assert.deepEqual(found, { ...rest, ourIds, name: 'pa', ours: true, tag: null, trunks: [10, 30], error: null })
    assert.equal(own.vsctl('get', 'Port', 'pa', 'trunks'), '[10, 30]')
    assert.equal(own.vsctl('get', 'Interface', 'pa', 'external_ids:vm'), 'v')

    own.vsctl('set', 'Interface', 'pa', 'external_ids:controller=seen')
    assert.equal(ovs.ensurePort(wish), false)
    const other = { bridge: 'ovs1', port: 'pa', tag: 5, trunks: [10], externalIds: { 'iface-id': 'y' } }
    assert.equal(ovs.ensurePort(other), true)
    assert.equal(ovs.ensurePort(other), false)
    assert.equal(own.vsctl('port-to-br', 'pa'), 'ovs1')
    assert.equal(own.vsctl('get', 'Port', 'pa', 'vlan_mode'), 'native-untagged')
    assert.deepEqual(ovs.portOf('pa')?.externalIds, { 'iface-id': 'y', controller: 'seen' })

    assert.equal(ovs.ensurePort({ bridge: 'ovs1', port: 'pa' }), true)
    assert.equal(own.vsctl('get', 'Port', 'pa', 'vlan_mode'), '[]')
    assert.deepEqual(ovs.portOf('pa')?.externalIds, { controller: 'seen' })
    own.vsctl('set', 'Port', 'pa', 'tag=99')
    assert.equal(ovs.ensurePort({ bridge: 'ovs1', port: 'pa' }), true, 'what somebody changed is put right')
    assert.equal(ovs.portOf('pa')?.tag, null)
  })

  it('only a bridge of ours goes, and only without ports', async () => {
    await using lab = await WiringLab.start({ bare: true })
    await using own = await OwnSwitch.start(lab.host)
    const ovs = openVswitch({ socket: own.socket })
    own.vsctl('add-br', 'theirs', '--', 'set', 'bridge', 'theirs', 'datapath_type=netdev')
    assert.equal(ovs.ensureBridge('theirs', NETDEV), false)
    assert.equal(ovs.removeBridge('theirs'), false)
    ovs.ensureBridge('ours', NETDEV)
    lab.run('ip', 'link', 'add', 'pa', 'type', 'veth', 'peer', 'name', 'pb')
    ovs.ensurePort({ bridge: 'ours', port: 'pa' })
    assert.equal(ovs.removeBridge('ours'), false)
    ovs.removePort('pa')
    assert.equal(ovs.removeBridge('ours'), true)
    assert.equal(ovs.removeBridge('ours'), false)
    assert.equal(own.vsctl('list-br'), 'theirs')
    assert.equal(ovs.bridgeOf('ours'), null)
  })

  it('what cannot be done is said, and leaves nothing in the database', async () => {
    await using lab = await WiringLab.start({ bare: true })
    await using own = await OwnSwitch.start(lab.host)
    const ovs = openVswitch({ socket: own.socket })
    assert.throws(() => ovs.ensurePort({ bridge: 'none', port: 'pa' }), {
      code: 'bridge-missing',
      message: /no bridge none: run "ovs-vsctl add-br none"/,
    })
    ovs.ensureBridge('ovs0', NETDEV)
    assert.throws(() => ovs.ensurePort({ bridge: 'ovs0', port: 'absent' }), {
      code: 'ovs-refused',
      message: /make absent a port of ovs0 \(could not open network device absent \(No such device\)\)/,
    })
    assert.equal(ovs.portOf('absent'), null)
    assert.throws(() => ovs.ensureBridge('kernel0', { datapathType: 'system' }), {
      code: 'ovs-refused',
      message: /make the bridge kernel0/,
    })
    assert.equal(own.vsctl('list-br'), 'ovs0')
    assert.throws(() => ovs.ensurePort({ bridge: 'ovs0', port: 'pa', tag: 5000 }), {
      code: 'ovs-refused',
      message: /constraint violation/,
    })

    lab.run('ip', 'link', 'add', 'pa', 'type', 'veth', 'peer', 'name', 'pb')
    own.vsctl('add-port', 'ovs0', 'pa')
    assert.equal(ovs.portOf('pa')?.ours, false)
    for (const call of [() => ovs.ensurePort({ bridge: 'ovs0', port: 'pa' }), () => ovs.removePort('pa')]) {
      assert.throws(call, { code: 'interface-in-use', message: /ovs-vsctl del-port pa/ })
    }
    assert.equal(own.vsctl('list-ports', 'ovs0'), 'pa')

    await own.stopSwitch()
    const hasty = openVswitch({ socket: own.socket, timeoutMs: 700 })
    assert.throws(() => hasty.ensurePort({ bridge: 'ovs0', port: 'pb' }), {
      code: 'ovs-unreachable',
      message: /ovs-vswitchd did not carry out the change within 700 ms/,
      retryable: true,
    })
    await own.startSwitch()
    assert.equal(ovs.ensurePort({ bridge: 'ovs0', port: 'pb' }), false, 'the restarted switch carried it out')
  })

  it('a switch that is not there, or does not answer, is said within the time', async () => {
    const before = readdirSync('/proc/self/fd').length
    assert.throws(() => openVswitch({ socket: '/nowhere/db.sock' }).bridgeOf('x'), {
      code: 'ovs-unreachable',
      message: /at \/nowhere\/db.sock \(ENOENT\).*systemctl start openvswitch-switch/,
      retryable: true,
    })
    assert.equal(readdirSync('/proc/self/fd').length, before)
    const silent = createServer()
    const path = `/tmp/wt-ovs-silent-${process.pid}`
    assert.throws(() => openVswitch({ socket: 'x'.repeat(200) }).bridgeOf('x'), { message: /longer than 107 bytes/ })
    await new Promise<void>((resolve) => silent.listen(path, resolve))
    try {
      assert.throws(() => openVswitch({ socket: path, timeoutMs: 100 }).bridgeOf('x'), {
        code: 'ovs-unreachable',
        message: /does not answer in time/,
      })
    } finally {
      silent.close()
    }
  })

  it('four processes that make the same ports at once: each port is made once', async () => {
    await using lab = await WiringLab.start({ bare: true })
    await using own = await OwnSwitch.start(lab.host)
    openVswitch({ socket: own.socket }).ensureBridge('ovs0', NETDEV)
    const ports = ['pa', 'pb', 'pc', 'pd', 'pe', 'pf']
    for (const port of ports) lab.run('ip', 'link', 'add', port, 'type', 'veth', 'peer', 'name', `${port}x`)
    const race = () => promisify(execFile)(process.execPath, [RACER, own.socket, 'ovs0', ...ports])
    const counts = (await Promise.all([race(), race(), race(), race()])).map(({ stdout }) => Number(stdout))
    assert.equal(
      counts.reduce((sum, count) => sum + count),
      ports.length,
    )
    assert.deepEqual(own.vsctl('list-ports', 'ovs0').split('\n').toSorted(), ports)
  })
})
