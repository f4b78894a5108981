import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { announce } from '../../unionize/wiring/kernel/announce.ts'
import { getBridgeVlans, setPortVlans, vlansOf } from '../../unionize/wiring/kernel/bridge-vlans.ts'
import type { DeviceData } from '../../unionize/wiring/kernel/device-data.ts'
import { changeDevice, createDevice, type NewKind } from '../../unionize/wiring/kernel/devices.ts'
import { ipBytes } from '../../unionize/wiring/kernel/ip.ts'
import {
  addAltName,
  deleteAltName,
  deleteLink,
  getLink,
  getLinks,
  getNetnsId,
  type Link,
  linkOf,
  moveLink,
  netnsIdOf,
  rename,
  setAddrGenMode,
  setAlias,
  setDown,
  setGroup,
  setMac,
  setMaster,
  setMtu,
  setPortOptions,
  setUp,
} from '../../unionize/wiring/kernel/links.ts'
import { Namespaces, type Sandbox } from '../../unionize/wiring/kernel/namespaces.ts'
import { policeIngress, setIngress, setNetem } from '../../unionize/wiring/kernel/queueing.ts'
import { KernelRefusal } from '../../unionize/wiring/kernel/refusals.ts'
import type { RouteSocket } from '../../unionize/wiring/kernel/route-socket.ts'
import { until } from '../support/until.ts'

const [HERE, THERE] = [`wt-${process.pid}-here`, `wt-${process.pid}-there`]
const MAC = '02:00:00:00:00:0a'
const namespaces = new Namespaces()

/** Both namespaces at once. */
function both<T>(work: (here: Sandbox, there: Sandbox) => T): T {
  return namespaces.visit({ path: `/run/netns/${HERE}` }, (here) =>
    namespaces.visit({ path: `/run/netns/${THERE}` }, (there) => work(here, there)),
  )
}

function ip(namespace: string, ...words: string[]): string {
  return execFileSync('ip', ['-n', namespace, ...words], { encoding: 'utf8' })
}

function read(route: RouteSocket, ref: number | string): Link | null {
  const [answer] = route.ask({ purpose: `read ${ref}`, bytes: getLink(ref), fine: ['ENODEV'] })
  const [message] = answer?.messages ?? []
  return message === undefined ? null : linkOf(message)
}

function make(here: Sandbox, name: string, device: NewKind, rest: { parent?: number; master?: number } = {}): Link {
  const [, found] = here.route.ask(
    { purpose: `make ${name}`, bytes: createDevice({ name, device, ...rest }) },
    { purpose: `read ${name}`, bytes: getLink(name) },
  )
  const [message] = found?.messages ?? []
  assert.ok(message)
  return linkOf(message)
}

before(() => {
  for (const name of [HERE, THERE]) spawnSync('ip', ['netns', 'delete', name])
})
beforeEach(() => {
  for (const name of [HERE, THERE]) execFileSync('ip', ['netns', 'add', name])
})
afterEach(() => {
  for (const name of [HERE, THERE]) execFileSync('ip', ['netns', 'delete', name])
})
after(() => {
  for (const name of [HERE, THERE]) spawnSync('ip', ['netns', 'delete', name])
})

describe('devices that this kernel has', () => {
  const kinds: readonly (readonly [string, NewKind, DeviceData])[] = [
    ...(['bridge', 'vepa', 'private', 'passthru'] as const).map(
      (mode) => [`macvlan ${mode}`, { kind: 'macvlan', mode }, { kind: 'macvlan', mode }] as const,
    ),
    [
      'vxlan over IPv4',
      {
        kind: 'vxlan',
        id: 42,
        remote: ipBytes('10.0.0.5'),
        local: ipBytes('10.0.0.6'),
        port: 4789,
        learning: false,
      },
      { kind: 'vxlan', id: 42, remote: '10.0.0.5', local: '10.0.0.6', port: 4789, learning: false, parent: 0 },
    ],
    [
      'vxlan over IPv6 to a group',
      { kind: 'vxlan', id: 0xff_ffff, remote: ipBytes('ff05::100'), port: 8472, learning: true },
      { kind: 'vxlan', id: 0xff_ffff, remote: 'ff05::100', local: null, port: 8472, learning: true, parent: 0 },
    ],
    ['veth', { kind: 'veth', peer: { name: 'other' } }, { kind: 'veth' }],
    ['bridge', { kind: 'bridge', stp: true }, { kind: 'bridge', stp: true, vlanFiltering: false, defaultPvid: null }],
  ]

  for (const [title, device, expected] of kinds) {
    it(`${title}: made in the other namespace with name, MAC and MTU, and read back`, () =>
      both((here, there) => {
        const parent = make(here, 'parent', { kind: 'veth', peer: { name: 'far' } })
        const below = device.kind === 'macvlan' || (device.kind === 'vxlan' && device.local === undefined)
        here.route.ask({
          purpose: `make a ${title}`,
          bytes: createDevice({
            name: 'eth9',
            mac: MAC,
            mtu: 1400,
            namespace: there.namespace,
            ...(below ? { parent: parent.index } : {}),
            device,
          }),
        })
        const made = read(there.route, 'eth9')
        const found = made?.device
        const wanted = expected.kind === 'vxlan' && below ? { ...expected, parent: parent.index } : expected
        assert.deepEqual(found?.kind === 'bridge' ? { ...found, defaultPvid: null } : found, wanted)
        assert.equal(made?.kind, device.kind)
        if (title !== 'macvlan passthru') assert.equal(made?.mac, MAC)
        assert.equal(made?.mtu, 1400)
        assert.equal(made?.up, false)
        assert.equal(read(here.route, 'eth9'), null)
        if (device.kind === 'macvlan') {
          assert.equal(made?.peer, parent.index)
          assert.notEqual(made?.linkNetnsId, null)
        }
      }))
  }

  it('a pair has one end as a port here and the other there, each pointing at the other', () =>
    both((here, there) => {
      const bridge = make(here, 'br0', { kind: 'bridge' })
      const peer = { name: 'eth0', mac: MAC, mtu: 1400, namespace: there.namespace }
      const outer = make(here, 'v0', { kind: 'veth', peer }, { master: bridge.index })
      const inner = read(there.route, 'eth0')
      assert.equal(outer.master, bridge.index)
      assert.equal(outer.peer, inner?.index)
      assert.equal(inner?.peer, outer.index)
      assert.equal(inner?.mac, MAC)
      assert.equal(inner?.mtu, 1400)
      const [id] = here.route.ask({ purpose: 'ask for the id', bytes: getNetnsId(there.namespace) })
      const [told] = id?.messages ?? []
      assert.ok(told)
      assert.equal(outer.linkNetnsId, netnsIdOf(told))
      const [none] = there.route.ask({ purpose: 'ask for the id', bytes: getNetnsId(there.namespace) })
      assert.deepEqual(none?.messages.map(netnsIdOf), [null])
    }))

  it('change without being made anew: macvlan mode, spanning tree, remote of a vxlan', () =>
    both((here) => {
      const parent = make(here, 'parent', { kind: 'veth', peer: { name: 'far' } })
      const macvlan = make(here, 'm0', { kind: 'macvlan', mode: 'bridge' }, { parent: parent.index })
      const bridge = make(here, 'br0', { kind: 'bridge' })
      const vxlan = make(here, 'vx', {
        kind: 'vxlan',
        id: 5,
        remote: ipBytes('10.0.0.5'),
        port: 4789,
        learning: true,
      })
      here.route.ask(
        { purpose: 'change', bytes: changeDevice(macvlan.index, { kind: 'macvlan', mode: 'private' }) },
        { purpose: 'change', bytes: changeDevice(bridge.index, { kind: 'bridge', stp: true }) },
        {
          purpose: 'change',
          bytes: changeDevice(vxlan.index, { kind: 'vxlan', remote: ipBytes('10.0.0.9') }),
        },
      )
      assert.deepEqual(read(here.route, 'm0')?.device, { kind: 'macvlan', mode: 'private' })
      const [stp, far] = [read(here.route, 'br0')?.device, read(here.route, 'vx')?.device]
      assert.ok(stp?.kind === 'bridge' && stp.stp)
      assert.ok(far?.kind === 'vxlan' && far.remote === '10.0.0.9')
      assert.throws(
        () =>
          here.route.ask({
            interface: 'm0',
            purpose: 'make it a passthru macvlan',
            bytes: changeDevice(macvlan.index, { kind: 'macvlan', mode: 'passthru' }),
          }),
        { code: 'kernel-refused', message: 'm0: cannot make it a passthru macvlan (EINVAL)' },
      )
    }))
})

describe('what this kernel was built without', () => {
  const missing: readonly (readonly [string, (index: number) => Buffer, RegExp])[] = [
    ['dummy', () => createDevice({ name: 'x', device: { kind: 'dummy' } }), /CONFIG_DUMMY.*module dummy/],
    [
      'ipvlan',
      (parent) => createDevice({ name: 'x', parent, device: { kind: 'ipvlan', mode: 'l2', isolation: 'bridge' } }),
      /CONFIG_IPVLAN.*module ipvlan/,
    ],
    [
      'VLAN sub-interface',
      (parent) => createDevice({ name: 'x', parent, device: { kind: 'vlan', id: 5, protocol: '802.1Q' } }),
      /CONFIG_VLAN_8021Q.*module 8021q/,
    ],
    [
      'VLAN-filtering bridge',
      () => createDevice({ name: 'x', device: { kind: 'bridge', vlanFiltering: true } }),
      /CONFIG_BRIDGE_VLAN_FILTERING/,
    ],
    [
      'VLAN of a port',
      (port) => setPortVlans(port, [{ from: 5, to: 5, pvid: true, untagged: true }]),
      /CONFIG_BRIDGE_VLAN_FILTERING/,
    ],
    ['delay', (index) => setNetem(index, { delayMs: 1 }), /CONFIG_NET_SCH_NETEM.*module sch_netem/],
    ['policing', (index) => policeIngress(index, { rate: 1e6 }), /CONFIG_NET_CLS_MATCHALL.*module cls_matchall/],
  ]

  for (const [what, bytes, option] of missing) {
    it(`${what}: the refusal says what is missing, with interface, errno and the kernel's text`, (t) =>
      both((here) => {
        const bridge = make(here, 'br0', { kind: 'bridge' })
        const port = make(here, 'p0', { kind: 'veth', peer: { name: 'p1' } }, { master: bridge.index })
        here.route.ask({ purpose: 'prepare', bytes: setIngress(port.index) })
        const request = { interface: 'eth1', purpose: `make it a ${what}`, bytes: bytes(port.index) }
        try {
          here.route.ask(request)
          t.skip('this kernel has it')
        } catch (thrown) {
          assert.ok(thrown instanceof KernelRefusal)
          assert.equal(thrown.code, 'not-supported')
          assert.match(
            thrown.message,
            /^eth1: cannot make it a .* \((EOPNOTSUPP|ENOENT)(: [^()]+)?\): this kernel has no /,
          )
          assert.match(thrown.message, option)
        }
      }))
  }

  it('a device of that name is EEXIST and not something missing', () =>
    both((here) => {
      make(here, 'br0', { kind: 'bridge' })
      assert.throws(() => make(here, 'br0', { kind: 'bridge' }), { code: 'kernel-refused', errno: 'EEXIST' })
    }))
})

describe('links', () => {
  it('keep alias and MAC when they move under a new name, and come back', () =>
    both((here, there) => {
      const { index } = make(here, 'p0', { kind: 'veth', peer: { name: 'p1' } })
      here.route.ask(
        { purpose: 'label', bytes: setAlias(index, 'unionize:p0') },
        { purpose: 'give it a MAC', bytes: setMac(index, MAC) },
        { purpose: 'set up', bytes: setUp(index) },
        { purpose: 'move', bytes: moveLink(index, { namespace: there.namespace, name: 'eth7' }) },
      )
      assert.equal(read(here.route, index), null)
      const moved = read(there.route, 'eth7')
      assert.ok(moved)
      assert.deepEqual([moved.alias, moved.mac, moved.up], ['unionize:p0', MAC, false])
      there.route.ask({
        purpose: 'move back',
        bytes: moveLink(moved.index, { namespace: here.namespace, name: 'p0' }),
      })
      assert.equal(read(here.route, 'p0')?.alias, 'unionize:p0')
    }))

  it('are renamed while they are up, get other names, an alias, a group, an MTU, and lose them', () =>
    both((here) => {
      const { index } = make(here, 'p0', { kind: 'veth', peer: { name: 'p1' } })
      here.route.ask(
        { purpose: 'set up', bytes: setUp(index) },
        { purpose: 'rename', bytes: rename(index, 'q0') },
        { purpose: 'name', bytes: addAltName(index, 'a-name-of-more-than-fifteen-characters') },
        { purpose: 'label', bytes: setAlias('q0', 'label') },
        { purpose: 'group', bytes: setGroup(index, 7) },
        { purpose: 'size', bytes: setMtu(index, 1280) },
        { purpose: 'generate', bytes: setAddrGenMode(index, 1) },
      )
      const changed = read(here.route, 'q0')
      assert.ok(changed)
      const { altNames, alias, group, mtu, up, addrGenMode } = changed
      assert.deepEqual(
        { altNames, alias, group, mtu, up, addrGenMode },
        {
          altNames: ['a-name-of-more-than-fifteen-characters'],
          alias: 'label',
          group: 7,
          mtu: 1280,
          up: true,
          addrGenMode: 1,
        },
      )
      here.route.ask(
        { purpose: 'unlabel', bytes: setAlias(index, '') },
        { purpose: 'unname', bytes: deleteAltName(index, 'a-name-of-more-than-fifteen-characters') },
        { purpose: 'set down', bytes: setDown(index) },
        { purpose: 'generate', bytes: setAddrGenMode(index, 0) },
      )
      const back = read(here.route, index)
      assert.deepEqual([back?.alias, back?.altNames, back?.up, back?.addrGenMode], ['', [], false, 0])
      here.route.ask({ purpose: 'remove', bytes: deleteLink(index) })
      assert.deepEqual(
        here.route.dump({ purpose: 'list', bytes: getLinks() }).map((message) => linkOf(message).name),
        ['lo'],
      )
    }))

  it('are ports with the options given, and no ports any more', () =>
    both((here) => {
      const bridge = make(here, 'br0', { kind: 'bridge' })
      const { index } = make(here, 'p0', { kind: 'veth', peer: { name: 'p1' } })
      here.route.ask(
        { purpose: 'add', bytes: setMaster(index, bridge.index) },
        { purpose: 'set', bytes: setPortOptions(index, { isolated: true, learning: false, unicastFlood: true }) },
      )
      const { state: _state, ...port } = read(here.route, index)?.port ?? assert.fail('it is no port')
      assert.deepEqual(port, { isolated: true, learning: false, unicastFlood: true })
      here.route.ask({ purpose: 'isolate', bytes: setPortOptions(index, { isolated: false }) })
      assert.equal(read(here.route, index)?.port?.isolated, false)
      const vlans = here.route.dump({ purpose: 'list VLANs', bytes: getBridgeVlans() }).map(vlansOf)
      assert.equal(vlans.find((told) => told.index === index)?.master, bridge.index)
      here.route.ask({ purpose: 'take out', bytes: setMaster(index, 0) })
      assert.deepEqual([read(here.route, index)?.port, read(here.route, index)?.master], [null, 0])
    }))

  it('announce their addresses, so that neighbours who knew another MAC know this one', async () => {
    both((here, there) => {
      here.route.ask({
        purpose: 'make a pair',
        bytes: createDevice({
          name: 'p0',
          mac: MAC,
          device: { kind: 'veth', peer: { name: 'p1', namespace: there.namespace } },
        }),
      })
    })
    for (const [namespace, name, host] of [
      [HERE, 'p0', '1'],
      [THERE, 'p1', '2'],
    ] as const) {
      ip(namespace, 'link', 'set', name, 'up')
      ip(namespace, 'address', 'add', `10.9.0.${host}/24`, 'dev', name)
      ip(namespace, 'address', 'add', `fd09::${host}/64`, 'dev', name, 'nodad')
    }
    const known = ['10.9.0.1', 'fd09::1']
    for (const address of known) {
      ip(THERE, 'neigh', 'replace', address, 'lladdr', '02:00:00:00:00:99', 'dev', 'p1', 'nud', 'stale')
    }
    const neighbours = () =>
      JSON.parse(ip(THERE, '-j', 'neigh', 'show', 'dev', 'p1')) as { dst: string; lladdr?: string }[]
    await until('the pair carries frames', () => both((here) => read(here.route, 'p0')?.passing))
    both((here) => {
      const link = read(here.route, 'p0') ?? assert.fail('p0 is gone')
      announce(here, link.index, link.mac, known.map(ipBytes))
    })
    await until('both addresses are known with the new MAC', () =>
      known.every((address) => neighbours().find(({ dst }) => dst === address)?.lladdr === MAC),
    )
  })
})
