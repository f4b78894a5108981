import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { Target } from '../../unionize/wiring/interfaces/interfaces.ts'
import { type EngineProcess, InterfacesLab, said, type Wish } from '../support/interfaces-lab.ts'
import { until } from '../support/until.ts'
import { Agent } from '../support/wiring-lab.ts'

const AGENT = new URL('../support/wiring-agent.ts', import.meta.url).pathname
const PORT = 7777
const SECOND: Wish = {
  name: 'eth1',
  link: { kind: 'bridge', bridge: 'br1' },
  addresses: ['10.1.1.5/24', 'fd00:11::5/64'],
  gateways: ['10.1.1.1', 'fd00:11::1'],
}

/** A container as Docker leaves it: `eth0` with default routes of its own, reached by a client from afar. */
describe('a new gateway beside a default route that is there', () => {
  let lab: InterfacesLab
  let engine: EngineProcess
  let target: Target
  let client: Agent
  let served: Agent
  const wayFrom = (...args: string[]) => / dev (\S+)/.exec(lab.ip('web', 'route', 'get', ...args))?.[1]
  const reaches = async (address: string) => (await client.tcp(address, { timeoutMs: 2000 })).result === 'answered'

  before(async () => {
    lab = new InterfacesLab()
    target = lab.target('web')
    lab.target('far')
    lab.run('host', 'sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1')
    for (const [name, inner, mine, theirs] of [
      ['web', 'eth0', ['172.17.0.1/16', 'fd00:17::1/64'], ['172.17.0.2/16', 'fd00:17::2/64']],
      ['far', 'eth0', ['198.51.100.1/24', '2001:db8:f::1/64'], ['198.51.100.9/24', '2001:db8:f::9/64']],
    ] as const) {
      const outer = `to-${name}`
      lab.ip('host', 'link', 'add', outer, 'type', 'veth', 'peer', 'name', inner, 'netns', lab.nameOf(name))
      lab.ip('host', 'link', 'set', outer, 'up')
      lab.ip(name, 'link', 'set', 'lo', 'up')
      lab.ip(name, 'link', 'set', inner, 'up')
      for (const address of mine) lab.ip('host', 'address', 'add', address, 'dev', outer, ...nodad(address))
      for (const address of theirs) lab.ip(name, 'address', 'add', address, 'dev', inner, ...nodad(address))
      for (const address of mine) lab.ip(name, 'route', 'add', 'default', 'via', address.split('/')[0] ?? '')
    }
    engine = await lab.engine()
    const start = async (name: string) => {
      const inside = [`--net=/run/netns/${lab.nameOf(name)}`, process.execPath, AGENT, name, String(PORT)]
      const agent = new Agent(['nsenter', ...inside], '')
      await agent.ask('ready')
      return agent
    }
    client = await start('far')
    served = await start('web')
    // Links that have just come up lose packets.
    for (const address of ['172.17.0.2', 'fd00:17::2']) await until(`${address} answers`, () => reaches(address))
  })
  after(async () => {
    await Promise.all([client.kill(), served.kill()])
    await lab[Symbol.asyncDispose]()
  })

  it('leaves connections that come in through the former one as they were, and takes what is begun inside', async () => {
    const former = lab.picture('web')
    await engine.wire(target, SECOND)
    assert.ok(await reaches('172.17.0.2'), 'a published port of IPv4')
    assert.ok(await reaches('fd00:17::2'), 'a published port of IPv6')
    for (const [away, others, own] of [
      ['203.0.113.1', '172.17.0.2', '10.1.1.5'],
      ['2001:db8:99::1', 'fd00:17::2', 'fd00:11::5'],
    ] as const) {
      assert.equal(wayFrom(away), 'eth1', 'what is begun inside')
      assert.equal(wayFrom(away, 'from', own), 'eth1', 'answers of the new interface')
      assert.equal(wayFrom(away, 'from', others), 'eth0', 'answers of the former interface')
    }
    assert.equal(wayFrom('172.17.0.9'), 'eth0', 'the network of the former interface')
    assert.equal(wayFrom('10.1.1.9'), 'eth1')
    assert.deepEqual(said(await engine.plan(target, SECOND)), [])
    assert.deepEqual(await engine.check(target), [])
    await engine.unwire(target)
    assert.deepEqual(lab.picture('web'), former)
  })

  it('is the default route itself where there is no other, and beside it as soon as there is one', async () => {
    lab.ip('web', 'route', 'del', 'default')
    lab.ip('web', '-6', 'route', 'del', 'default')
    await engine.wire(target, SECOND)
    assert.match(lab.ip('web', 'route'), /^default via 10\.1\.1\.1 dev eth1 proto 117/m)
    assert.doesNotMatch(lab.ip('web', 'rule'), /proto 117/)
    lab.ip('web', 'route', 'add', 'default', 'via', '172.17.0.1')
    assert.ok((await engine.check(target)).length > 0)
    await engine.wire(target, SECOND)
    assert.deepEqual(await engine.check(target), [])
    assert.equal(wayFrom('203.0.113.1'), 'eth1')
    assert.equal(wayFrom('203.0.113.1', 'from', '172.17.0.2'), 'eth0')
    await engine.unwire(target)
    assert.doesNotMatch(lab.ip('web', 'rule'), /proto 117/)
  })
})

/** Duplicate address detection would delay what is tested. */
function nodad(address: string): string[] {
  return address.includes(':') ? ['nodad'] : []
}
