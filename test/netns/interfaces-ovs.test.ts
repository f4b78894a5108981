import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { describe, it } from 'node:test'
import { InterfacesLab, said, type Wish } from '../support/interfaces-lab.ts'
import { OwnSwitch } from '../support/ovs.ts'
import { until } from '../support/until.ts'
import type { RemoteError } from '../support/wiring-remote.ts'

const FIRST = {
  name: 'eth1',
  hostName: 'web-eth1',
  link: { kind: 'ovs', bridge: 'ovs0', create: false, tag: 10, externalIds: { 'iface-id': 'web' } },
  addresses: ['fd00::5/64'],
  announce: false,
} satisfies Wish

const picturesOf = (lab: InterfacesLab) => ['host', 'web'].flatMap((one) => [one, ...lab.picture(one)])
const stateFiles = (lab: InterfacesLab) => readdirSync(lab.state).filter((name) => name !== '.lock')
const addBridge = (own: OwnSwitch, name: string) =>
  own.vsctl('add-br', name, '--', 'set', 'bridge', name, 'datapath_type=netdev')

describe('interfaces on Open vSwitch', () => {
  it('a port with a tag: wired once, changed by the difference, checked, and gone', async () => {
    await using lab = new InterfacesLab()
    const target = lab.target('web')
    await using own = await OwnSwitch.start(lab.nameOf('host'))
    addBridge(own, 'ovs0')
    const former = picturesOf(lab)
    const engine = await lab.engine(lab.state, own.socket)
    const planned = said(await engine.plan(target, FIRST))
    assert.deepEqual(picturesOf(lab), former, 'plan changes nothing')
    assert.deepEqual(said(await engine.wire(target, FIRST)), planned)
    assert.equal(own.vsctl('get', 'Port', 'web-eth1', 'tag'), '10')
    assert.deepEqual(said(await engine.wire(target, FIRST)), [])
    assert.deepEqual(await engine.check(target), [])

    const index = lab.ip('web', '-o', 'link', 'show', 'eth1').split(':')[0]
    const changes: [Partial<typeof FIRST.link> & { trunks?: number[] }, string[]][] = [
      [{ tag: 20 }, ['eth1: give it tag 20']],
      [{ tag: 20, trunks: [40, 30] }, ['eth1: give it trunks 30, 40']],
      [
        { externalIds: { 'iface-id': 'other' } },
        ['eth1: give it tag 10', 'eth1: give it no trunks', 'eth1: give it the external id iface-id'],
      ],
    ]
    for (const [change, steps] of changes) {
      const wish: Wish = { ...FIRST, link: { ...FIRST.link, ...change } }
      assert.deepEqual(said(await engine.wire(target, wish)), steps)
      assert.deepEqual(said(await engine.wire(target, wish)), [])
    }
    assert.equal(lab.ip('web', '-o', 'link', 'show', 'eth1').split(':')[0], index)

    own.vsctl('set', 'Interface', 'web-eth1', 'external_ids:controller=seen')
    assert.deepEqual(await engine.check(target), [], 'what others add is theirs')
    own.vsctl('set', 'Port', 'web-eth1', 'tag=99')
    assert.deepEqual(await engine.check(target), [
      { interface: 'eth1', field: 'link.tag', wanted: 'tag 10', found: 'tag 99' },
    ])
    own.vsctl('del-port', 'web-eth1')
    assert.deepEqual(
      (await engine.check(target)).map((one) => one.field),
      ['link.bridge'],
    )
    await engine.wire(target, FIRST)
    assert.equal(own.vsctl('list-ports', 'ovs0'), 'web-eth1')
    assert.deepEqual(await engine.check(target), [])
    await engine.wire(target, { ...FIRST, hostName: 'renamed' })
    assert.equal(own.vsctl('list-ports', 'ovs0'), 'renamed')
    assert.deepEqual(await engine.check(target), [])
    await engine.unwire(target)
    assert.equal(own.vsctl('list-ports', 'ovs0'), '')
    assert.deepEqual(picturesOf(lab), former)
    assert.deepEqual(stateFiles(lab), [])
  })

  it('packets pass between ports of one tag, on a bridge that is made and goes with the last of them', async () => {
    await using lab = new InterfacesLab()
    const [web, other] = [lab.target('web'), lab.target('other')]
    await using own = await OwnSwitch.start(lab.nameOf('host'))
    const former = picturesOf(lab)
    const engine = await lab.engine(lab.state, own.socket)
    const made: Wish = { ...FIRST, link: { ...FIRST.link, create: true, bridge: 'ovs-made' } }
    await engine.wire(web, made)
    await engine.wire(other, { ...made, hostName: 'other-eth1', addresses: ['fd00::6/64'] })
    assert.equal(own.vsctl('list-ports', 'ovs-made'), 'other-eth1\nweb-eth1')
    await until('the neighbour answers', () => {
      lab.run('web', 'bash', '-c', 'echo > /dev/udp/fd00::6/9')
      return /lladdr/.test(lab.ip('web', 'neighbour', 'show', 'fd00::6'))
    })
    await engine.unwire(web)
    assert.equal(own.vsctl('list-br'), 'ovs-made')
    await engine.unwire(other)
    assert.equal(own.vsctl('list-br'), '')
    await until('the switch removed the bridge', () => lab.links('host').every((name) => !name.startsWith('ovs-')))
    assert.deepEqual(picturesOf(lab), former)
    assert.deepEqual(stateFiles(lab), [])
  })

  it('without Open vSwitch, or its switch, it is said, and nothing is left; what was wired before stays', async () => {
    await using lab = new InterfacesLab()
    const target = lab.target('web')
    await using own = await OwnSwitch.start(lab.nameOf('host'))
    addBridge(own, 'ovs0')
    const unreachable = (error: RemoteError) => error.code === 'ovs-unreachable' && error.retryable
    const pair: Wish = { name: 'eth1', link: { kind: 'veth', peer: {} } }
    const engine = await lab.engine(lab.state, own.socket)
    const missing = await lab.engine(lab.state, '/nowhere/db.sock')
    const none = { ...FIRST, link: { ...FIRST.link, bridge: 'ovs-none' } } satisfies Wish
    for (const before of [[], [pair]]) {
      await engine.wire(target, ...before)
      const former = picturesOf(lab)
      await assert.rejects(missing.wire(target, FIRST), unreachable)
      await assert.rejects(engine.wire(target, none), (error: RemoteError) => error.code === 'bridge-missing')
      assert.deepEqual(picturesOf(lab), former)
    }
    await engine.unwire(target)
    const former = picturesOf(lab)
    await own.stopSwitch()
    await assert.rejects(engine.wire(target, FIRST), unreachable)
    assert.equal(own.vsctl('list-ports', 'ovs0'), '')
    await assert.rejects(engine.wire(target, { ...none, link: { ...none.link, create: true } }), unreachable)
    assert.equal(own.vsctl('list-br'), 'ovs0')
    assert.deepEqual(
      picturesOf(lab).filter((line) => !line.startsWith('ovs')),
      former.filter((line) => !line.startsWith('ovs')),
    )
    assert.deepEqual(stateFiles(lab), [])
  })
})
