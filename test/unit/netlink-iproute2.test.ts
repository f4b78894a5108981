import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { deleteAddress, putAddress } from '../../unionize/wiring/kernel/addresses.ts'
import { deletePortVlans, setPortVlans, vlansOf } from '../../unionize/wiring/kernel/bridge-vlans.ts'
import { changeDevice, createDevice, type NewDevice } from '../../unionize/wiring/kernel/devices.ts'
import { broadcastOf, ipBytes, prefixOf } from '../../unionize/wiring/kernel/ip.ts'
import {
  addAltName,
  deleteAltName,
  deleteLink,
  linkOf,
  moveLink,
  rename,
  setAddrGenMode,
  setAlias,
  setDown,
  setGroup,
  setMac,
  setMaster,
  setMtu,
  setNoLinkLocal,
  setPortOptions,
  setUp,
} from '../../unionize/wiring/kernel/links.ts'
import { deleteNeighbour, setNeighbour } from '../../unionize/wiring/kernel/neighbours.ts'
import { messagesIn } from '../../unionize/wiring/kernel/netlink.ts'
import {
  deleteIngress,
  deleteRoot,
  policeIngress,
  policeOf,
  qdiscOf,
  setIngress,
  setNetem,
  setTbf,
} from '../../unionize/wiring/kernel/queueing.ts'
import { addRoute, deleteRoute, type RouteWish, setRoute } from '../../unionize/wiring/kernel/routes.ts'
import { addRule, deleteRule, type RuleWish } from '../../unionize/wiring/kernel/rules.ts'

/** Recorded by test/support/record-iproute2.ts, which tells what these numbers are. */
const [BRIDGE, PORT, OTHER_END, NAMESPACE] = [10, 11, 12, 4]
const { messages } = JSON.parse(readFileSync(new URL('../fixtures/iproute2.json', import.meta.url), 'utf8')) as {
  messages: Record<string, string>
}

const MAC = '02:00:00:00:00:0a'
const v4Route: RouteWish = {
  family: 'ipv4',
  to: prefixOf('10.5.0.0/16'),
  via: ipBytes('10.9.0.2'),
  index: OTHER_END,
  metric: 7,
}
const v4Default: RouteWish = { family: 'ipv4', to: null, via: ipBytes('10.9.0.2'), index: OTHER_END }
const v6Default: RouteWish = { family: 'ipv6', to: null, via: ipBytes('fd09::2'), index: OTHER_END }
const rule: RuleWish = {
  family: 'ipv4',
  from: prefixOf('10.1.0.0/16'),
  to: prefixOf('10.2.0.0/16'),
  incoming: 'p1',
  mark: 5,
  table: 100,
  priority: 77,
}
const v4Address = { index: OTHER_END, ...prefixOf('10.1.1.5/24') }
const v6Address = { index: OTHER_END, ...prefixOf('fd00::5/64') }
const onParent = (name: string, device: NewDevice['device']) => createDevice({ name, parent: OTHER_END, device })

const ours: Readonly<Record<string, () => Buffer>> = {
  'ip link add name d0 address 02:00:00:00:00:0a mtu 1400 netns OTHER type dummy': () =>
    createDevice({ name: 'd0', mac: MAC, mtu: 1400, namespace: NAMESPACE, device: { kind: 'dummy' } }),
  'ip link add name d0 type dummy': () => createDevice({ name: 'd0', device: { kind: 'dummy' } }),
  'ip link add link p1 name m0 address 02:00:00:00:00:0a mtu 1400 netns OTHER type macvlan mode bridge': () =>
    createDevice({
      name: 'm0',
      mac: MAC,
      mtu: 1400,
      namespace: NAMESPACE,
      parent: OTHER_END,
      device: { kind: 'macvlan', mode: 'bridge' },
    }),
  'ip link add link p1 name m0 type macvlan mode vepa': () => onParent('m0', { kind: 'macvlan', mode: 'vepa' }),
  'ip link add link p1 name m0 type macvlan mode private': () => onParent('m0', { kind: 'macvlan', mode: 'private' }),
  'ip link add link p1 name m0 type macvlan mode passthru': () => onParent('m0', { kind: 'macvlan', mode: 'passthru' }),
  'ip link add name b1 type bridge stp_state 0 vlan_filtering 1': () =>
    createDevice({ name: 'b1', device: { kind: 'bridge', stp: false, vlanFiltering: true } }),
  'ip link add name b1 address 02:00:00:00:00:0b type bridge': () =>
    createDevice({ name: 'b1', mac: '02:00:00:00:00:0b', device: { kind: 'bridge' } }),
  'ip link add name b1 address 02:00:00:00:00:0b group 1970170231 type bridge': () =>
    createDevice({ name: 'b1', mac: '02:00:00:00:00:0b', group: 0x756e6977, device: { kind: 'bridge' } }),
  'ip link add link p1 name p1.5 group 1970170231 type vlan protocol 802.1Q id 5': () =>
    createDevice({
      name: 'p1.5',
      parent: OTHER_END,
      group: 0x756e6977,
      device: { kind: 'vlan', id: 5, protocol: '802.1Q' },
    }),
  'ip link add name v0 mtu 1400 master br0 type veth peer name eth1 address 02:00:00:00:00:0a mtu 1400 netns OTHER':
    () =>
      createDevice({
        name: 'v0',
        mtu: 1400,
        master: BRIDGE,
        device: { kind: 'veth', peer: { name: 'eth1', mac: MAC, mtu: 1400, namespace: NAMESPACE } },
      }),
  'ip link add link p1 name p1.5 type vlan protocol 802.1ad id 5': () =>
    onParent('p1.5', { kind: 'vlan', id: 5, protocol: '802.1ad' }),
  'ip link add link p1 name p1.6 type vlan protocol 802.1Q id 6': () =>
    onParent('p1.6', { kind: 'vlan', id: 6, protocol: '802.1Q' }),
  'ip link add link p1 name iv type ipvlan mode l3s private': () =>
    onParent('iv', { kind: 'ipvlan', mode: 'l3s', isolation: 'private' }),
  'ip link add link p1 name iv type ipvlan mode l3 vepa': () =>
    onParent('iv', { kind: 'ipvlan', mode: 'l3', isolation: 'vepa' }),
  'ip link add link p1 name iv netns OTHER type ipvlan mode l2 bridge': () =>
    createDevice({
      name: 'iv',
      namespace: NAMESPACE,
      parent: OTHER_END,
      device: { kind: 'ipvlan', mode: 'l2', isolation: 'bridge' },
    }),
  'ip link add name vx type vxlan id 42 group 239.1.1.1 dev p1 dstport 4789 learning': () =>
    onParent('vx', { kind: 'vxlan', id: 42, remote: ipBytes('239.1.1.1'), port: 4789, learning: true }),
  'ip link add name vx type vxlan id 42 remote fd00::5 local fd00::6 dstport 4789 nolearning': () =>
    createDevice({
      name: 'vx',
      device: {
        kind: 'vxlan',
        id: 42,
        remote: ipBytes('fd00::5'),
        local: ipBytes('fd00::6'),
        port: 4789,
        learning: false,
      },
    }),
  'ip link add name vx type vxlan id 43 remote 10.0.0.5 local 10.0.0.6 dstport 8472 learning': () =>
    createDevice({
      name: 'vx',
      device: {
        kind: 'vxlan',
        id: 43,
        remote: ipBytes('10.0.0.5'),
        local: ipBytes('10.0.0.6'),
        port: 8472,
        learning: true,
      },
    }),
  'ip link set dev p1 netns OTHER name eth7': () => moveLink(OTHER_END, { namespace: NAMESPACE, name: 'eth7' }),
  'ip link set dev p1 netns OTHER': () => moveLink(OTHER_END, { namespace: NAMESPACE }),
  'ip link set dev p0 alias unionize:abc': () => setAlias(PORT, 'unionize:abc'),
  'ip link set dev p0 mtu 1300': () => setMtu(PORT, 1300),
  'ip link set dev p0 address 02:00:00:00:00:0c': () => setMac(PORT, '02:00:00:00:00:0c'),
  'ip link set dev p0 down': () => setDown(PORT),
  'ip link set dev p0 up': () => setUp(PORT),
  'ip link set dev p0 name p9': () => rename(PORT, 'p9'),
  'ip link set dev p0 nomaster': () => setMaster(PORT, 0),
  'ip link set dev p0 master br0': () => setMaster(PORT, BRIDGE),
  'ip link set dev p0 group 7': () => setGroup(PORT, 7),
  'ip link set dev p0 addrgenmode none': () => setNoLinkLocal(PORT),
  'ip link set dev p0 addrgenmode eui64': () => setAddrGenMode(PORT, 0),
  'ip link property add dev p0 altname some-long-name-of-it': () => addAltName(PORT, 'some-long-name-of-it'),
  'ip link property del dev p0 altname some-long-name-of-it': () => deleteAltName(PORT, 'some-long-name-of-it'),
  'ip link delete dev p0': () => deleteLink(PORT),
  'ip link set dev p0 type bridge_slave learning off flood off mcast_flood off isolated on guard on root_block on':
    () =>
      setPortOptions(PORT, {
        learning: false,
        unicastFlood: false,
        multicastFlood: false,
        isolated: true,
        bpduGuard: true,
        rootBlock: true,
      }),
  'ip link set dev p0 type bridge_slave isolated off': () => setPortOptions(PORT, { isolated: false }),
  'ip link set dev br0 type bridge stp_state 1 vlan_filtering 1': () =>
    changeDevice(BRIDGE, { kind: 'bridge', stp: true, vlanFiltering: true }),
  'ip link set dev p0 type macvlan mode vepa': () => changeDevice(PORT, { kind: 'macvlan', mode: 'vepa' }),
  'ip link set dev p0 type ipvlan mode l3 vepa': () =>
    changeDevice(PORT, { kind: 'ipvlan', mode: 'l3', isolation: 'vepa' }),
  'ip link set dev p0 type vxlan remote 10.0.0.9 nolearning': () =>
    changeDevice(PORT, { kind: 'vxlan', remote: ipBytes('10.0.0.9'), learning: false }),
  'ip address replace 10.1.1.5/24 dev p1': () => putAddress(v4Address),
  'ip address replace 10.1.1.5/24 dev p1 broadcast + label p1:0 valid_lft 3600 preferred_lft 1800': () =>
    putAddress({
      ...v4Address,
      broadcast: broadcastOf(v4Address.address, 24),
      label: 'p1:0',
      validSeconds: 3600,
      preferredSeconds: 1800,
    }),
  'ip address replace 10.1.1.5/24 dev p1 noprefixroute': () => putAddress({ ...v4Address, noPrefixRoute: true }),
  'ip address replace fd00::5/64 dev p1 nodad': () => putAddress(v6Address),
  'ip address replace fd00::5/64 dev p1': () => putAddress({ ...v6Address, detectDuplicates: true }),
  'ip address replace fd00::5/64 dev p1 nodad noprefixroute valid_lft 3600 preferred_lft 1800': () =>
    putAddress({ ...v6Address, noPrefixRoute: true, validSeconds: 3600, preferredSeconds: 1800 }),
  'ip address delete 10.1.1.5/24 dev p1': () => deleteAddress(OTHER_END, v4Address.address, 24),
  'ip address delete fd00::5/64 dev p1': () => deleteAddress(OTHER_END, v6Address.address, 64),
  'ip route replace 10.5.0.0/16 via 10.9.0.2 dev p1 metric 7 proto 117': () => setRoute(v4Route),
  'ip route add 10.5.0.0/16 via 10.9.0.2 dev p1 metric 7 proto 117': () => addRoute(v4Route),
  'ip route delete 10.5.0.0/16 via 10.9.0.2 dev p1 metric 7 proto 117': () =>
    deleteRoute({ ...v4Route, mtu: 1400, source: ipBytes('10.9.0.1') }),
  'ip route replace default via 10.9.0.2 dev p1 proto 117': () => setRoute(v4Default),
  'ip route delete default via 10.9.0.2 dev p1 proto 117': () => deleteRoute(v4Default),
  'ip route replace 10.6.0.0/16 dev p1 table 1000 src 10.9.0.1 mtu 1400 proto 117': () =>
    setRoute({
      family: 'ipv4',
      to: prefixOf('10.6.0.0/16'),
      index: OTHER_END,
      table: 1000,
      source: ipBytes('10.9.0.1'),
      mtu: 1400,
    }),
  'ip route replace 10.7.0.0/16 via 192.168.1.1 dev p1 onlink proto 117': () =>
    setRoute({
      family: 'ipv4',
      to: prefixOf('10.7.0.0/16'),
      via: ipBytes('192.168.1.1'),
      index: OTHER_END,
      onlink: true,
    }),
  'ip route replace 10.8.0.0/16 via inet6 fd09::2 dev p1 proto 117': () =>
    setRoute({ family: 'ipv4', to: prefixOf('10.8.0.0/16'), via: ipBytes('fd09::2'), index: OTHER_END }),
  'ip -6 route replace fd05::/64 table 100 via fd09::2 dev p1 metric 7 src fd09::1 mtu 1400 proto 117': () =>
    setRoute({
      family: 'ipv6',
      to: prefixOf('fd05::/64'),
      via: ipBytes('fd09::2'),
      index: OTHER_END,
      metric: 7,
      table: 100,
      source: ipBytes('fd09::1'),
      mtu: 1400,
    }),
  'ip -6 route replace default via fd09::2 dev p1 proto 117': () => setRoute(v6Default),
  'ip -6 route delete default via fd09::2 dev p1 proto 117': () => deleteRoute(v6Default),
  'ip rule add from 10.1.0.0/16 to 10.2.0.0/16 iif p1 fwmark 5 table 100 priority 77 protocol 117': () => addRule(rule),
  'ip rule delete from 10.1.0.0/16 to 10.2.0.0/16 iif p1 fwmark 5 table 100 priority 77 protocol 117': () =>
    deleteRule(rule),
  'ip -6 rule add from fd00::/64 oif p1 table 1000 priority 78 protocol 117': () =>
    addRule({ family: 'ipv6', from: prefixOf('fd00::/64'), outgoing: 'p1', table: 1000, priority: 78 }),
  'ip -6 rule add from fd00::/64 table 100 suppress_prefixlength 0 priority 79 protocol 117': () =>
    addRule({ family: 'ipv6', from: prefixOf('fd00::/64'), suppressPrefixLength: 0, table: 100, priority: 79 }),
  'ip rule add from 10.1.0.0/16 suppress_prefixlength 16 table 1000 priority 79 protocol 117': () =>
    addRule({ family: 'ipv4', from: prefixOf('10.1.0.0/16'), suppressPrefixLength: 16, table: 1000, priority: 79 }),
  'ip rule delete from 10.1.0.0/16 table 100 suppress_prefixlength 0 priority 79 protocol 117': () =>
    deleteRule({ family: 'ipv4', from: prefixOf('10.1.0.0/16'), suppressPrefixLength: 0, table: 100, priority: 79 }),
  'ip neigh replace fd09::a lladdr 02:00:00:00:00:0a dev p1 nud permanent': () =>
    setNeighbour(OTHER_END, ipBytes('fd09::a'), MAC),
  'ip neigh replace 10.9.0.9 lladdr 02:00:00:00:00:0a dev p1 nud permanent': () =>
    setNeighbour(OTHER_END, ipBytes('10.9.0.9'), MAC),
  'ip neigh delete 10.9.0.9 dev p1': () => deleteNeighbour(OTHER_END, ipBytes('10.9.0.9')),
  'tc qdisc replace dev p1 root handle 1: tbf rate 10mbit burst 15000 latency 50ms': () =>
    setTbf(OTHER_END, { rate: 10e6, burst: 15000, latencyMs: 50 }),
  'tc qdisc replace dev p1 root handle 1: tbf rate 333333bit burst 2000 latency 12.5ms': () =>
    setTbf(OTHER_END, { rate: 333333, burst: 2000, latencyMs: 12.5 }),
  'tc qdisc replace dev p1 root handle 1: tbf rate 40gbit burst 10000000 latency 50ms': () =>
    setTbf(OTHER_END, { rate: 40e9, burst: 10_000_000, latencyMs: 50 }),
  'tc qdisc replace dev p1 parent 1:1 handle 10: tbf rate 512kbit burst 2000 latency 50ms': () =>
    setTbf(OTHER_END, { rate: 512e3, burst: 2000, latencyMs: 50, under: 'netem' }),
  'tc qdisc replace dev p1 root handle 1: netem delay 100ms 10ms loss 1%': () =>
    setNetem(OTHER_END, { delayMs: 100, jitterMs: 10, loss: 0.01 }),
  'tc qdisc replace dev p1 root handle 1: netem delay 5s': () => setNetem(OTHER_END, { delayMs: 5000 }),
  'tc qdisc replace dev p1 root handle 1: netem loss 33.3%': () => setNetem(OTHER_END, { loss: 0.333 }),
  'tc qdisc add dev p1 ingress': () => setIngress(OTHER_END),
  'tc filter add dev p1 parent ffff: protocol all pref 1 matchall action police rate 10mbit burst 15000 conform-exceed drop':
    () => policeIngress(OTHER_END, { rate: 10e6, burst: 15000 }),
  'tc filter add dev p1 parent ffff: protocol all pref 1 matchall action police rate 40gbit burst 15000000 conform-exceed drop':
    () => policeIngress(OTHER_END, { rate: 40e9, burst: 15_000_000 }),
  'tc qdisc delete dev p1 root': () => deleteRoot(OTHER_END),
  'tc qdisc delete dev p1 ingress': () => deleteIngress(OTHER_END),
  'bridge vlan add dev p0 vid 5 pvid untagged': () =>
    setPortVlans(PORT, [{ from: 5, to: 5, pvid: true, untagged: true }]),
  'bridge vlan add dev p0 vid 100-199': () =>
    setPortVlans(PORT, [{ from: 100, to: 199, pvid: false, untagged: false }]),
  'bridge vlan delete dev p0 vid 100-199': () => deletePortVlans(PORT, [{ from: 100, to: 199 }]),
  'bridge vlan delete dev p0 vid 5': () => deletePortVlans(PORT, [{ from: 5, to: 5 }]),
}

/**
 * iproute2 names the kind `bridge_slave`, for which the kernel looks for a module each time; we name it as the kernel
 * does when it tells of a port (IFLA_INFO_SLAVE_KIND `bridge`). The rest of the message is the same.
 */
function asWeSayIt(recorded: string): string {
  const [theirs, our] = [`10000100${Buffer.from('bridge_slave').toString('hex')}`, '0b0004006272696467650000']
  if (!recorded.includes(theirs)) return recorded
  const bytes = Buffer.from(recorded.replace(theirs, our), 'hex')
  bytes.writeUInt32LE(bytes.length, 0)
  bytes.writeUInt16LE(bytes.readUInt16LE(32) - 4, 32)
  return bytes.toString('hex')
}

describe('the same bytes as iproute2', () => {
  for (const [command, recorded] of Object.entries(messages)) {
    it(command, () => {
      assert.equal(ours[command]?.().toString('hex'), asWeSayIt(recorded))
    })
  }

  it('is asked of every message for which there is a recording, and the other way round', () => {
    assert.deepEqual(Object.keys(ours).sort(), Object.keys(messages).sort())
  })
})

describe('readers of what this kernel may not have', () => {
  /** What iproute2 asks for has the form in which the kernel tells of it. */
  const told = (command: string) => {
    const [message] = [...messagesIn(Buffer.from(messages[command] ?? '', 'hex'))]
    return message ?? assert.fail(command)
  }

  it('read ipvlan and VLAN sub-interfaces', () => {
    assert.deepEqual(linkOf(told('ip link add link p1 name iv type ipvlan mode l3s private')).device, {
      kind: 'ipvlan',
      mode: 'l3s',
      isolation: 'private',
    })
    const vlan = linkOf(told('ip link add link p1 name p1.5 type vlan protocol 802.1ad id 5'))
    assert.deepEqual(vlan.device, { kind: 'vlan', id: 5, protocol: '802.1ad' })
    assert.equal(vlan.peer, OTHER_END)
    assert.deepEqual(linkOf(told('ip link add name d0 type dummy')).device, { kind: 'dummy' })
    const bridge = linkOf(told('ip link add name b1 type bridge stp_state 0 vlan_filtering 1')).device
    assert.ok(bridge?.kind === 'bridge' && bridge.vlanFiltering && !bridge.stp)
  })

  it('read VLANs of ports, single ones and ranges', () => {
    assert.deepEqual(vlansOf(told('bridge vlan add dev p0 vid 5 pvid untagged')).vlans, [
      { from: 5, to: 5, pvid: true, untagged: true },
    ])
    assert.deepEqual(vlansOf(told('bridge vlan add dev p0 vid 100-199')).vlans, [
      { from: 100, to: 199, pvid: false, untagged: false },
    ])
  })

  it('read delay, loss and policing', () => {
    const { netem, root } = qdiscOf(told('tc qdisc replace dev p1 root handle 1: netem delay 100ms 10ms loss 1%'))
    assert.ok(root)
    assert.deepEqual([netem?.delayMs, netem?.jitterMs, netem?.loss.toFixed(6)], [100, 10, '0.010000'])
    const police = (rate: string, burst: string) =>
      policeOf(
        told(
          `tc filter add dev p1 parent ffff: protocol all pref 1 matchall action police rate ${rate} burst ${burst} conform-exceed drop`,
        ),
      )
    assert.deepEqual(police('10mbit', '15000'), { rate: 10e6, burst: 15_000 })
    assert.deepEqual(police('40gbit', '15000000'), { rate: 40e9, burst: 15_000_000 })
  })
})
