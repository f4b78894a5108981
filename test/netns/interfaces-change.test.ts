import assert from 'node:assert/strict'
import { closeSync, openSync } from 'node:fs'
import { after, before, beforeEach, describe, it } from 'node:test'
import type { Target } from '../../unionize/wiring/interfaces/interfaces.ts'
import { type EngineProcess, InterfacesLab, said, type Wish } from '../support/interfaces-lab.ts'
import type { RemoteError } from '../support/wiring-remote.ts'

const FIRST = {
  name: 'eth1',
  hostName: 'web-eth1',
  link: { kind: 'bridge', bridge: 'br1' },
  addresses: ['10.1.1.5/24', 'fd00::5/64'],
  gateways: ['10.1.1.1', 'fd00::1'],
  announce: false,
} satisfies Wish

describe('a changed spec', () => {
  let lab: InterfacesLab
  let engine: EngineProcess
  let target: Target

  before(async () => {
    lab = new InterfacesLab()
    target = lab.target('web')
    engine = await lab.engine()
  })
  after(async () => {
    await lab[Symbol.asyncDispose]()
  })
  beforeEach(async () => {
    await engine.unwire(target)
    await engine.wire(target, FIRST)
  })

  const changes: Record<string, { to: Partial<Wish>; steps: string[] }> = {
    'one more address': { to: { addresses: [...FIRST.addresses, '10.1.1.6/24'] }, steps: ['give it 10.1.1.6/24'] },
    'other addresses': {
      to: { addresses: ['10.1.1.7/24', 'fd00::7/64'] },
      steps: ['give it 10.1.1.7/24', 'give it fd00::7/64', 'take 10.1.1.5/24 from it', 'take fd00::5/64 from it'],
    },
    'another prefix length': {
      to: { addresses: ['10.1.1.5/25', 'fd00::5/65'] },
      steps: ['give it 10.1.1.5/25', 'give it fd00::5/65', 'take 10.1.1.5/24 from it', 'take fd00::5/64 from it'],
    },
    'no IPv4 any more': {
      to: { addresses: ['fd00::5/64'], gateways: ['fd00::1'] },
      steps: ['remove the route default via 10.1.1.1', 'take 10.1.1.5/24 from it'],
    },
    'another gateway': {
      to: { gateways: ['10.1.1.2', 'fd00::1'] },
      steps: ['remove the route default via 10.1.1.1', 'route default via 10.1.1.2'],
    },
    'a route and a rule': {
      to: {
        routes: [{ to: '10.7.0.0/16', via: '10.1.1.9' }],
        rules: [{ from: '10.7.0.0/16', table: 9, priority: 90 }],
      },
      steps: ['route 10.7.0.0/16 via 10.1.1.9', 'add the rule 90: from 10.7.0.0/16 lookup 9'],
    },
    'another MTU': { to: { mtu: 1400 }, steps: ['set its MTU to 1400'] },
    'a larger MTU': { to: { mtu: 4000 }, steps: ['set its MTU to 4000', 'set the MTU of web-eth1 to 4000'] },
    'another MAC': { to: { mac: '02:00:00:00:00:33' }, steps: ['give it the MAC 02:00:00:00:00:33'] },
    'another bridge': {
      to: { link: { kind: 'bridge', bridge: 'br2' } },
      steps: ['make the bridge', 'make web-eth1 a port of br2', 'remove it, as nothing stands on it any more'],
    },
    isolation: {
      to: { link: { kind: 'bridge', bridge: 'br1', isolated: true } },
      steps: ['isolate it from other isolated ports'],
    },
    'another name outside': { to: { hostName: 'renamed' }, steps: ['rename its outer end to renamed'] },
    'a setting': { to: { sysctls: { 'ipv4.conf.arp_ignore': '1' } }, steps: ['set ipv4.conf.arp_ignore to 1'] },
    'limits both ways': {
      to: { shaping: { egress: { rate: '5M', burst: 4000 }, ingress: { rate: 2_000_000 } } },
      steps: ['let in 2000000 bit/s', 'let out 5000000 bit/s'],
    },
    down: {
      to: { up: false },
      steps: [
        'give it fd00::5/64',
        'remove the route default via 10.1.1.1',
        'remove the route default via fd00::1',
        'set it down',
      ],
    },
  }
  const index = () => lab.ip('web', '-o', 'link', 'show', 'eth1').split(':')[0]
  for (const [name, { to, steps }] of Object.entries(changes)) {
    it(`changes only the difference, there and back: ${name}`, async () => {
      const former = { index: index(), picture: lab.picture('web') }
      const wish: Wish = { ...FIRST, ...to }
      const planned = said(await engine.plan(target, wish))
      assert.deepEqual(said(await engine.wire(target, wish)), planned)
      assert.deepEqual(planned.map((step) => step.replace(/^\S+: /, '')).sort(), steps.toSorted())
      assert.equal(index(), former.index)
      assert.deepEqual(said(await engine.plan(target, wish)), [])
      assert.deepEqual(await engine.check(target), [])
      await engine.wire(target, FIRST)
      assert.deepEqual(said(await engine.plan(target, FIRST)), [])
      assert.equal(index(), former.index)
      if (name !== 'a larger MTU') assert.deepEqual(lab.picture('web'), former.picture)
    })
  }

  it('that wants nothing any more leaves nothing, not even a memory', async () => {
    await engine.wire(target)
    assert.deepEqual(lab.links('web'), [])
    assert.deepEqual(await engine.show(), [])
    await engine.wire(target)
    assert.deepEqual(await engine.show(), [])
  })

  const meddling: Record<string, { does: string[]; field: string }> = {
    'an address that was added': { does: ['address', 'add', '10.1.1.99/24', 'dev', 'eth1'], field: 'addresses' },
    'an address that was taken': { does: ['address', 'del', 'fd00::5/64', 'dev', 'eth1'], field: 'addresses' },
    'an interface that was set down': { does: ['link', 'set', 'eth1', 'down'], field: 'up' },
    'an interface that was removed': { does: ['link', 'del', 'eth1'], field: 'link' },
    'a route that was removed': { does: ['route', 'del', 'default', 'via', '10.1.1.1'], field: 'gateways' },
    'another MTU': { does: ['link', 'set', 'eth1', 'mtu', '1300'], field: 'mtu' },
    'another MAC': { does: ['link', 'set', 'eth1', 'address', '02:00:00:00:00:44'], field: 'mac' },
  }
  for (const [name, { does, field }] of Object.entries(meddling)) {
    it(`is told by check and put right by wire: ${name}`, async () => {
      const former = lab.picture('web')
      lab.ip('web', ...does)
      const differences = await engine.check(target)
      assert.ok(
        differences.some((one) => one.field === field),
        JSON.stringify(differences),
      )
      assert.ok(differences.every((one) => one.interface === 'eth1'))
      await engine.wire(target, FIRST)
      assert.deepEqual(await engine.check(target), [])
      assert.deepEqual(lab.picture('web'), former)
    })
  }

  it('a bridge that vanished is made again, with its port', async () => {
    lab.ip('host', 'link', 'del', 'br1')
    assert.deepEqual(
      (await engine.check(target)).map((one) => one.field),
      ['link.bridge'],
    )
    await engine.wire(target, FIRST)
    assert.deepEqual(await engine.check(target), [])
    assert.match(lab.ip('host', '-o', 'link', 'show', 'web-eth1'), /master br1 /)
  })

  it("other people's interfaces, addresses, routes and rules stay as they are, whatever is wired and unwired", async () => {
    lab.ip('web', 'link', 'add', 'theirs', 'type', 'bridge')
    lab.ip('web', 'link', 'set', 'theirs', 'up')
    lab.ip('web', 'address', 'add', '10.8.0.1/24', 'dev', 'theirs')
    lab.ip('web', 'route', 'add', '10.88.0.0/16', 'dev', 'theirs')
    lab.ip('web', 'rule', 'add', 'from', '10.8.0.0/24', 'lookup', '88', 'priority', '88')
    lab.ip('web', 'route', 'add', '10.89.0.0/16', 'via', '10.1.1.9', 'dev', 'eth1')
    const theirs = () => lab.picture('web').filter((line) => /theirs|10\.8/.test(line))
    const former = theirs()
    await engine.wire(target, FIRST)
    await engine.wire(target, { ...FIRST, addresses: ['10.1.1.5/24'], gateways: ['10.1.1.4'] })
    assert.deepEqual(theirs(), former)
    await engine.unwire(target)
    assert.deepEqual(
      theirs(),
      former.filter((line) => !line.includes('10.89')),
    )
    lab.ip('web', 'link', 'del', 'theirs')
    lab.ip('web', 'rule', 'del', 'priority', '88')
  })

  it('names that are taken, inside or on the host, are refused, and nothing is changed', async () => {
    lab.ip('web', 'link', 'add', 'taken', 'type', 'bridge')
    lab.ip('host', 'link', 'add', 'taken-too', 'type', 'bridge')
    const former = [...lab.picture('web'), ...lab.picture('host')]
    const inUse = (error: RemoteError) => error.code === 'interface-in-use' && /taken/.test(error.message)
    await assert.rejects(engine.wire(target, FIRST, { name: 'taken', link: { kind: 'bridge', bridge: 'br1' } }), inUse)
    const other: Wish = { name: 'eth2', hostName: 'taken-too', link: { kind: 'bridge', bridge: 'br1' } }
    await assert.rejects(engine.wire(target, FIRST, other), inUse)
    assert.deepEqual([...lab.picture('web'), ...lab.picture('host')], former)
    lab.ip('web', 'link', 'del', 'taken')
    lab.ip('host', 'link', 'del', 'taken-too')
  })

  it('a packet that does not fit through another port of the bridge is told, with that port', async () => {
    lab.ip('host', 'link', 'add', 'narrow', 'mtu', '1300', 'type', 'veth', 'peer', 'name', 'narrow-peer')
    lab.ip('host', 'link', 'set', 'narrow', 'master', 'br1')
    await assert.rejects(engine.wire(target, { ...FIRST, mtu: 1400 }), (error: RemoteError) => {
      assert.equal(error.code, 'path-mtu')
      assert.match(error.message, /1400 bytes do not fit through narrow, which takes 1300/)
      return true
    })
    lab.ip('host', 'link', 'del', 'narrow')
  })

  it('what is missing on the host is told with a remedy', async () => {
    const wish: Wish = { ...FIRST, link: { kind: 'bridge', bridge: 'br-none', create: false } }
    await assert.rejects(engine.wire(target, wish), (error: RemoteError) => error.code === 'bridge-missing')
    const device: Wish = { ...FIRST, link: { kind: 'macvlan', parent: 'none0' } }
    await assert.rejects(engine.wire(target, device), (error: RemoteError) => error.code === 'device-missing')
  })

  it('a namespace that another has replaced does not keep its names, even while somebody lives in it', async () => {
    const old = lab.target('restarted')
    const wish = { ...FIRST, hostName: 'again-eth1' }
    await engine.wire(old, wish)
    // The old namespace lives on, as it does for the moment that the kernel needs to bury it.
    const lodger = openSync(`/run/netns/${lab.nameOf('restarted')}`, 'r')
    lab.end('restarted')
    const next = lab.target('restarted')
    const steps = ['eth1: remove its outer end again-eth1', 'eth1: make it: port of bridge br1']
    assert.deepEqual(said(await engine.plan(next, wish)).slice(0, 2), steps)
    assert.deepEqual(said(await engine.wire(next, wish)).slice(0, 2), steps)
    closeSync(lodger)
    assert.deepEqual(said(await engine.wire(next, wish)), [])
    await engine.unwire(next)
    lab.end('restarted')
  })

  it('long names are made safe, always the same, and found by their long name', async () => {
    const wish: Wish = { name: 'an-interface-with-a-long-name', link: { kind: 'bridge', bridge: 'br1' } }
    await engine.wire(target, FIRST, wish)
    const [made] = lab.links('web').filter((name) => name !== 'eth1')
    assert.match(made ?? '', /^an-inter-[0-9a-z]{6}$/)
    assert.deepEqual(said(await engine.wire(target, FIRST, wish)), [])
    await engine.unwire(target, 'an-interface-with-a-long-name')
    assert.deepEqual(lab.links('web'), ['eth1'])
    assert.deepEqual(await engine.check(target), [])
  })

  it('IPv6 works in a namespace where it is switched off, as Docker does without a network', async () => {
    const off = lab.target('off')
    lab.run('off', 'sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1')
    await engine.wire(off, { ...FIRST, hostName: 'off-eth1' })
    assert.match(lab.ip('off', '-6', 'address', 'show', 'eth1'), /fd00::5\/64/)
    assert.deepEqual(said(await engine.plan(off, { ...FIRST, hostName: 'off-eth1' })), [])
    await engine.unwire(off)
  })
})
