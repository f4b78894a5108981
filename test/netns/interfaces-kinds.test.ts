import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { Target } from '../../unionize/wiring/interfaces/interfaces.ts'
import { type EngineProcess, InterfacesLab, said, type Wish } from '../support/interfaces-lab.ts'
import type { RemoteError } from '../support/wiring-remote.ts'

/** Everything that does not depend on the kind. */
const INSIDE = {
  addresses: ['10.1.1.5/24', '10.1.2.5/24', 'fd00::5/64', 'fd00:2::5/64'],
  gateways: ['10.1.1.1', 'fd00::1'],
  routes: [
    { to: '10.9.0.0/16', via: '10.1.2.1', metric: 7 },
    { to: 'fd09::/32', via: 'fd00:2::1', table: 1234, mtu: 1400 },
  ],
  rules: [
    { from: '10.1.2.0/24', table: 1234, priority: 500 },
    { to: 'fd09::/32', mark: 7, table: 1234, priority: 501 },
  ],
  sysctls: { 'ipv4.conf.rp_filter': '2', 'ipv6.neigh.base_reachable_time_ms': '20000' },
  shaping: { egress: { rate: '10M' } },
} satisfies Partial<Wish>

/** Whoever is reached refuses: nothing listens. */
const CONNECT = `
  const socket = require('node:net').connect({ host: process.argv[1], port: 9, timeout: 5000 })
  socket.on('error', ({ code }) => process.stdout.write(code))
  socket.on('timeout', () => socket.destroy())
`

describe('every kind of interface that this kernel has', () => {
  let lab: InterfacesLab
  let engine: EngineProcess
  let target: Target
  let other: Target

  before(async () => {
    lab = new InterfacesLab()
    target = lab.target('web')
    other = lab.target('other')
    lab.ip('host', 'link', 'add', 'up0', 'address', '02:00:00:00:0a:01', 'type', 'veth', 'peer', 'name', 'up1')
    lab.ip('host', 'link', 'set', 'up1', 'up')
    lab.ip('host', 'link', 'set', 'up0', 'mtu', '1480', 'up')
    lab.ip('host', 'address', 'add', '192.0.2.1/24', 'dev', 'up0')
    lab.ip('host', 'address', 'add', '2001:db8::1/64', 'dev', 'up0', 'nodad')
    lab.ip('host', 'route', 'add', '198.51.100.0/24', 'via', '192.0.2.9', 'dev', 'up0', 'metric', '33')
    lab.ip('host', '-6', 'route', 'add', '2001:db8:5::/48', 'via', '2001:db8::9', 'dev', 'up0', 'proto', 'static')
    lab.ip('host', 'link', 'add', 'br-own', 'address', '02:00:00:00:0b:01', 'type', 'bridge')
    lab.ip('host', 'link', 'set', 'br-own', 'mtu', '1450', 'up')
    engine = await lab.engine()
  })
  after(async () => {
    await lab[Symbol.asyncDispose]()
  })

  const kinds: Record<string, { link: Wish['link']; changed?: Wish['link'] }> = {
    'a bridge that is there': { link: { kind: 'bridge', bridge: 'br-own', create: false } },
    'a bridge that is made': { link: { kind: 'bridge', bridge: 'br-made', isolated: true } },
    'macvlan, bridge': { link: { kind: 'macvlan', parent: 'up0' } },
    'macvlan, private, of a parent named by its MAC': {
      link: { kind: 'macvlan', parent: 'mac:02:00:00:00:0a:01', mode: 'private' },
    },
    'macvlan, vepa': { link: { kind: 'macvlan', parent: 'up0', mode: 'vepa' } },
    'macvlan, passthru': { link: { kind: 'macvlan', parent: 'up0', mode: 'passthru' } },
    'vxlan with a parent': { link: { kind: 'vxlan', id: 77, remote: '192.0.2.2', local: '192.0.2.1', parent: 'up0' } },
    'vxlan over IPv6': { link: { kind: 'vxlan', id: 78, remote: '2001:db8::2', port: 4790, learning: false } },
    'a device of the host': { link: { kind: 'physical', device: 'up0' } },
    'a device named by its MAC': { link: { kind: 'physical', device: 'mac:02:00:00:00:0a:01' } },
    'veth to the host': { link: { kind: 'veth', peer: { addresses: ['10.1.1.1/24', 'fd00::1/64'] } } },
    'veth to another namespace': {
      link: {
        kind: 'veth',
        to: 'netns:OTHER',
        peer: { name: 'to-web', addresses: ['fd00::1/64'], mac: '02:00:00:00:07:07' },
      },
    },
  }
  for (const [name, { link }] of Object.entries(kinds)) {
    it(`${name}: wired once, nothing is left to do; unwired, all is as before`, async () => {
      const wish: Wish = { name: 'eth1', link: within(link), ...INSIDE }
      const former = pictures()
      const planned = await engine.plan(target, wish)
      assert.deepEqual(pictures(), former, 'plan changes nothing')
      assert.deepEqual(said(await engine.wire(target, wish)), said(planned))
      assert.deepEqual(lab.links('web'), ['eth1'])
      const wired = pictures()
      assert.deepEqual(said(await engine.plan(target, wish)), [])
      assert.deepEqual(await engine.check(target), [])
      assert.deepEqual(said(await engine.wire(target, wish)), [])
      assert.deepEqual(pictures(), wired, 'the second time changes nothing')
      const [shown] = await engine.show()
      assert.equal(shown?.alive, true)
      assert.equal(shown.interfaces[0]?.name, 'eth1')
      assert.ok(shown.interfaces[0].addresses.includes('fd00:2::5/64'))
      await engine.unwire(target)
      assert.deepEqual(pictures(), former, 'as before')
      assert.deepEqual(stateFiles(), [])
    })
  }

  it('stations reach one another through a bridge, however their MACs begin', async () => {
    const link: Wish['link'] = { kind: 'bridge', bridge: 'br-own', create: false }
    await engine.wire(other, { name: 'eth1', link, addresses: ['fd00:b::1/64'] })
    for (const [n, first] of ['02', '06', 'aa', 'fa', 'fe'].entries()) {
      const address = `fd00:b::1${n}`
      await engine.wire(target, { name: 'eth1', link, mac: `${first}:5a:ee:00:00:0${n}`, addresses: [`${address}/64`] })
      assert.equal(lab.run('other', process.execPath, '-e', CONNECT, address), 'ECONNREFUSED', first)
      await engine.unwire(target, 'eth1')
    }
    await engine.unwire(other, 'eth1')
  })

  it('each kind takes the place of each other', async () => {
    const all = Object.values(kinds).map(({ link }): Wish => ({ name: 'eth1', link: within(link), ...INSIDE }))
    const former = pictures()
    for (const wish of [...all, ...all.toReversed()]) {
      await engine.wire(target, wish)
      assert.deepEqual(said(await engine.plan(target, wish)), [], JSON.stringify(wish.link))
    }
    await engine.unwire(target)
    assert.deepEqual(pictures(), former)
  })

  const missing: Record<string, Wish['link']> = {
    dummy: { kind: 'dummy' },
    ipvlan: { kind: 'ipvlan', parent: 'up0' },
    'a VLAN': { kind: 'vlan', parent: 'up0', id: 5 },
    'a macvlan on a VLAN': { kind: 'macvlan', parent: 'up0', vlan: 5 },
    'a port with a VLAN': { kind: 'bridge', bridge: 'br-vlans', vlan: { access: 5 } },
  }
  for (const [name, link] of Object.entries(missing)) {
    it(`${name}, which this kernel lacks, is refused with its name, and all that was made is gone again`, async () => {
      const first: Wish = {
        name: 'eth0',
        link: { kind: 'bridge', bridge: 'br-made' },
        addresses: ['fd00::5/64'],
        rules: INSIDE.rules,
      }
      const former = pictures()
      await assert.rejects(engine.wire(target, first, { name: 'eth1', link }), (error: RemoteError) => {
        assert.equal(error.code, 'not-supported', error.message)
        assert.match(error.message, /CONFIG_/)
        return true
      })
      assert.deepEqual(pictures(), former)
      assert.deepEqual(stateFiles(), [])
    })

    it(`${name} in the place of what was wired is refused before that is touched`, async () => {
      const untouched = pictures()
      const first: Wish = { name: 'eth1', link: { kind: 'macvlan', parent: 'up0' }, ...INSIDE }
      await engine.wire(target, first, { name: 'eth2', link: { kind: 'veth', peer: {} } })
      const former = { pictures: pictures(), state: stateFiles().map((file) => readFileSync(join(lab.state, file))) }
      const index = lab.ip('web', '-o', 'link', 'show', 'eth1').split(':')[0]
      await assert.rejects(engine.wire(target, { ...first, link }), (error: RemoteError) => {
        assert.equal(error.code, 'not-supported', error.message)
        assert.match(error.message, /^eth1: .*CONFIG_/)
        return true
      })
      assert.deepEqual(pictures(), former.pictures)
      assert.equal(lab.ip('web', '-o', 'link', 'show', 'eth1').split(':')[0], index)
      assert.deepEqual(
        stateFiles().map((file) => readFileSync(join(lab.state, file))),
        former.state,
      )
      assert.deepEqual(await engine.check(target), [])
      await engine.unwire(target)
      assert.deepEqual(pictures(), untouched)
    })
  }

  const within = (link: Wish['link']): Wish['link'] =>
    link.kind === 'veth' && link.to !== undefined ? { ...link, to: `netns:${lab.nameOf('other')}` } : link
  const pictures = () => ['host', 'web', 'other'].flatMap((one) => [one, ...lab.picture(one)])
  const stateFiles = () => readdirSync(lab.state).filter((name) => name !== '.lock')
})
