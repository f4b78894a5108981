import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { Policy } from '../../common/wiring-policy.ts'
import type { Way } from '../../unionize/wiring/wiring.ts'
import { until } from '../support/until.ts'
import { HOME, MACHINE, prepared, WaysLab } from '../support/ways-lab.ts'
import type { Outcome } from '../support/wiring-agent.ts'
import { packetTooBig, udpPacket } from '../support/wiring-frames.ts'
import { type Agent, BRIEF, placement, type WiringLab, type WiringProcess } from '../support/wiring-lab.ts'

const PROTOCOLS = ['tcp', 'udp', 'icmp'] as const
const MY_ADDRESS = 'fd00:1:0:ffff::1'
const ADDRESS = 'fd00:1::205'

/** IPv6 packets that a sandbox has received. */
function packetsIn(lab: WiringLab, sandbox: Agent): number {
  return Number(/^Ip6InReceives\s+(\d+)/m.exec(lab.runIn(sandbox.pid, 'cat', '/proc/net/snmp6'))?.[1])
}

describe('a way to an instance on another machine, with its own address', () => {
  let lab: WaysLab
  let wiring: WiringProcess
  let onMachine: WiringProcess
  let clients: [Agent, Agent]
  let instance: Agent
  let local: Agent

  const result = async (probe: Promise<Outcome>) => (await probe).result
  const way = (): Way => ({ owner: clients[0].address, address: ADDRESS, reach: { kind: 'routed', via: MACHINE } })
  const placed = () => ({ ...placement(instance.pid, 5, clients[0].address), ownerVia: HOME.onMachineLink })
  const here = () => placement(local.pid, 1, clients[1].address)

  before(async () => {
    lab = await WaysLab.start()
    wiring = await prepared(lab.home)
    onMachine = await prepared(lab.machine)
    clients = [await lab.home.client(0), await lab.home.client(1)]
    instance = await lab.machine.instance('remote', ADDRESS)
    local = await lab.home.instance('local', 'fd00:1::201')
    await onMachine.attach(placed())
    await onMachine.place(placed())
    await wiring.attach(here())
    await wiring.place({ ...here(), policy: { public: [], egress: ['fd00:1::/64'], limits: {} } })
    // Though all of the prefix is on its link for it, and it may go there as its policy says.
    lab.home.runIn(local.pid, 'ip', '-6', 'route', 'add', ADDRESS, 'via', 'fd00:1::1')
    await wiring.lead(way())
  })
  after(async () => {
    await lab[Symbol.asyncDispose]()
  })

  it('the routes are there, each through its next hop', () => {
    assert.deepEqual(WaysLab.routes(lab.home), [`${ADDRESS} ${MACHINE}`])
    assert.deepEqual(WaysLab.routes(lab.machine), [`${clients[0].address} ${HOME.onMachineLink}`])
  })

  for (const protocol of PROTOCOLS) {
    it(`the owner reaches it by ${protocol}, by address and as my.instance`, async () => {
      assert.equal(await result(clients[0][protocol](ADDRESS)), 'answered')
      const answer = await clients[0][protocol](MY_ADDRESS)
      assert.equal(answer.result, 'answered')
      if (protocol !== 'icmp') assert.equal(answer.label, 'remote')
    })
    it(`nobody else reaches it through the home host by ${protocol}, neither a client nor a local instance`, async () => {
      const before = await wiring.counters()
      assert.equal(await result(clients[1][protocol](ADDRESS, BRIEF)), 'silent')
      assert.equal(await result(local[protocol](ADDRESS, BRIEF)), 'silent')
      const now = await wiring.counters()
      for (const reason of ['stranger', 'other-instance'] as const) {
        assert.ok((now[reason] ?? 0) > (before[reason] ?? 0), `${reason} is counted`)
      }
      if (protocol !== 'icmp') assert.equal((await clients[1][protocol](MY_ADDRESS)).label, 'local')
    })
    it(`it begins nothing through the home host by ${protocol}`, async () => {
      // On its own machine it may do as it likes, so that it is the home host that refuses.
      const { egress } = await wiring.counters()
      await onMachine.place({
        ...placed(),
        policy: { public: [], egress: ['fd00:c::/64', 'fd00:1:1::/64'], limits: {} },
      })
      lab.machine.run('ip', '-6', 'route', 'replace', 'fd00:c::/64', 'via', HOME.onMachineLink)
      for (const client of clients) assert.equal(await result(instance[protocol](client.address, BRIEF)), 'silent')
      assert.ok(((await wiring.counters()).egress ?? 0) > (egress ?? 0))
      lab.machine.run('ip', '-6', 'route', 'delete', 'fd00:c::/64')
      await onMachine.place(placed())
    })
  }

  it('nor does it reach the public port of a local instance, which everybody else does', async () => {
    const open: Policy = { public: [{ protocol: 'tcp', port: 7777 }], egress: 'none', limits: {} }
    await wiring.place({ ...here(), policy: open })
    await onMachine.place({ ...placed(), policy: { public: [], egress: ['fd00:1::/64'], limits: {} } })
    lab.machine.runIn(instance.pid, 'ip', '-6', 'route', 'add', local.address, 'via', 'fd00:1::1')
    lab.machine.run('ip', '-6', 'route', 'add', local.address, 'via', HOME.onMachineLink)
    const before = await wiring.counters()
    const arrived = packetsIn(lab.home, local)
    assert.equal(await result(instance.tcp(local.address, BRIEF)), 'silent')
    assert.equal(packetsIn(lab.home, local), arrived)
    assert.ok(((await wiring.counters())['other-instance'] ?? 0) > (before['other-instance'] ?? 0))
    assert.equal((await clients[0].tcp(local.address)).label, 'local')
    lab.machine.run('ip', '-6', 'route', 'delete', local.address)
    lab.machine.runIn(instance.pid, 'ip', '-6', 'route', 'delete', local.address, 'via', 'fd00:1::1')
    await onMachine.place(placed())
    await wiring.place(here())
  })

  it('not even one packet of a stranger arrives on the machine', async () => {
    const arrived = packetsIn(lab.machine, instance)
    await clients[1].udp(ADDRESS, BRIEF)
    assert.equal(packetsIn(lab.machine, instance), arrived)
    await clients[0].udp(ADDRESS)
    assert.ok(packetsIn(lab.machine, instance) > arrived)
  })

  it('a router on the way can tell it of trouble with its owner, and of nothing else', async () => {
    const [owner, router] = clients
    const mtuTo = (address: string) =>
      / mtu (\d+)/.exec(lab.machine.runIn(instance.pid, 'ip', '-6', 'route', 'get', address))?.[1] ?? 'none'
    const tellOf = (to: string) => {
      const about = udpPacket({ from: ADDRESS, fromPort: 7777, to, toPort: 4000 })
      const frame = packetTooBig({ toMac: lab.home.macOf('br-clients'), from: router.address, about, mtu: 1300 })
      return owner.ask('sendFrame', 'eth0', frame)
    }
    assert.equal((await owner.ask<Outcome>('udp', ADDRESS, 7777, 5000, 4000)).result, 'answered')
    const before = await wiring.counters()
    await tellOf(router.address)
    await until('the home host has dropped that', async () => {
      return ((await wiring.counters()).stranger ?? 0) > (before.stranger ?? 0)
    })
    await tellOf(owner.address)
    await until('the instance knows the smaller size', () => mtuTo(owner.address) === '1300')
  })

  it('the machine refuses whoever the home host would let through', async () => {
    await wiring.lead({ ...way(), owner: clients[1].address })
    assert.equal(await result(clients[1].tcp(ADDRESS, BRIEF)), 'silent')
    await wiring.unlead({ owner: clients[1].address, address: ADDRESS })
    assert.equal(await result(clients[0].tcp(ADDRESS)), 'answered', 'the route stays, since the owner still needs it')
  })

  for (const [how, address] of [
    ['by address', ADDRESS],
    ['as my.instance', MY_ADDRESS],
  ] as const) {
    it(`taking it away cuts an established connection ${how} at once, leading there again lets it go on`, async () => {
      await clients[0].ask('flowOpen', address, 7777)
      assert.equal(await clients[0].ask('flowEcho', 5000), true)
      await wiring.unlead(way())
      await wiring.unlead(way())
      assert.deepEqual(WaysLab.routes(lab.home), [])
      assert.equal(await clients[0].ask('flowEcho', 300), false)
      assert.equal(await result(clients[0].tcp(ADDRESS, BRIEF)), 'silent')
      assert.equal(await result(clients[0].tcp(MY_ADDRESS)), 'refused')
      await wiring.lead(way())
      await wiring.lead(way())
      assert.equal(await clients[0].ask('flowEcho', 5000), true)
      await clients[0].ask('flowClose')
    })
  }

  it('after that not even what the instance still sends reaches the former owner', async () => {
    await clients[0].ask('flowOpen', ADDRESS, 7777)
    await wiring.unlead(way())
    await clients[0].ask('captureStart', 'eth0')
    await instance.ask('flowPush')
    await until('the home host has dropped it', async () => ((await wiring.counters()).stranger ?? 0) > 0)
    const from = Buffer.from('fd000001000000000000000000000205', 'hex').toString('hex')
    const seen = await clients[0].ask<string[]>('captureTaken')
    assert.ok(!seen.some((frame) => frame.slice(2 * 22, 2 * 38) === from))
    await wiring.lead(way())
    await clients[0].ask('flowClose')
  })

  it('a local instance opened later has my.instance, and the way again once that is closed', async () => {
    const second = { owner: clients[0].address, instance: local.address }
    await wiring.open(second)
    assert.equal((await clients[0].tcp(MY_ADDRESS)).label, 'local')
    await wiring.lead(way())
    assert.equal((await clients[0].tcp(MY_ADDRESS)).label, 'remote')
    await wiring.open(second)
    await wiring.close(second)
    assert.equal((await clients[0].tcp(MY_ADDRESS)).label, 'remote')
  })

  it('a wiring that died knows its ways from the kernel', async () => {
    await wiring.kill()
    wiring = await prepared(lab.home)
    assert.equal((await clients[0].tcp(MY_ADDRESS)).label, 'remote')
    await wiring.unlead(way())
    assert.deepEqual(WaysLab.routes(lab.home), [])
    assert.equal(await result(clients[0].tcp(MY_ADDRESS)), 'refused')
    await onMachine.kill()
    onMachine = await prepared(lab.machine)
    assert.deepEqual(WaysLab.routes(lab.machine), [`${clients[0].address} ${HOME.onMachineLink}`])
    await wiring.lead(way())
  })

  it('replacePassages makes ways and routes exactly what it is given, whatever a crash has left', async () => {
    const { link, mac, address } = here()
    const passage = { owner: clients[1].address, instance: address }
    lab.home.run('ip', '-6', 'route', 'add', 'fd00:1::299', 'via', MACHINE, 'metric', '512', 'proto', '118')
    await wiring.lead({ ...way(), owner: 'fd00:c::777' })
    await clients[0].ask('flowOpen', MY_ADDRESS, 7777)
    await wiring.replacePassages([passage, way()], [{ link, mac, address }])
    assert.deepEqual(WaysLab.routes(lab.home), [`${ADDRESS} ${MACHINE}`])
    assert.doesNotMatch(lab.home.run('nft', 'list', 'table', 'inet', 'unionize'), /fd00:c::777/)
    assert.equal(await clients[0].ask('flowEcho', 5000), true, 'a connection goes on meanwhile')
    await wiring.replacePassages([passage], [{ link, mac, address }])
    assert.deepEqual(WaysLab.routes(lab.home), [])
    assert.equal(await clients[0].ask('flowEcho', 300), false)
    await clients[0].ask('flowClose')
    await wiring.replacePassages([way(), passage], [{ link, mac, address }])
  })

  it('a route that the kernel took away with its link comes back when somebody looks', async () => {
    lab.home.run('ip', 'link', 'set', 'to-machine', 'down')
    assert.deepEqual(WaysLab.routes(lab.home), [])
    await wiring.guard()
    await wiring.guard()
    const messages = await wiring.ask<{ message: string }[]>('messages')
    assert.equal(messages.filter(({ message }) => message.includes('next hops')).length, 1, 'told once')
    lab.home.run('ip', 'link', 'set', 'to-machine', 'up')
    lab.home.run('ip', 'address', 'replace', `${HOME.onMachineLink}/64`, 'dev', 'to-machine', 'nodad')
    await until('the next hop is there again', async () => {
      await wiring.guard()
      return WaysLab.routes(lab.home).length === 1
    })
    assert.equal(await result(clients[0].tcp(ADDRESS)), 'answered')
  })

  it('a next hop that is on no link is refused by name with the remedy, and nothing is left of that way', async () => {
    const lost: Way = { owner: 'fd00:c::777', address: 'fd00:1::299', reach: { kind: 'routed', via: 'fd00:7::1' } }
    await assert.rejects(wiring.lead(lost), (error: Error & { code: string; retryable: boolean }) => {
      assert.match(error.message, /fd00:7::1.* on no link of this host: give this host an address/)
      assert.deepEqual([error.code, error.retryable], ['next-hop-unreachable', true])
      return true
    })
    assert.doesNotMatch(lab.home.run('nft', 'list', 'table', 'inet', 'unionize'), /fd00:c::777/)
    const nowhere = { ...placement(local.pid, 1, 'fd00:c::777'), ownerVia: 'fd00:7::1' }
    await assert.rejects(wiring.place(nowhere), { code: 'next-hop-unreachable' })
    assert.deepEqual(WaysLab.routes(lab.home), [`${ADDRESS} ${MACHINE}`])
  })

  it('a route of the operator to the same address stays as it is', async () => {
    lab.home.run('ip', '-6', 'route', 'add', ADDRESS, 'dev', 'to-cloud')
    await wiring.lead(way())
    assert.equal(await result(clients[0].tcp(ADDRESS)), 'answered')
    await wiring.unlead(way())
    assert.match(lab.home.run('ip', '-6', 'route', 'show', ADDRESS), /dev to-cloud/)
    lab.home.run('ip', '-6', 'route', 'delete', ADDRESS, 'dev', 'to-cloud')
    await wiring.lead(way())
  })

  it('unplace removes the route to the owner, unless another instance of that owner needs it', async () => {
    const back = `${clients[0].address} ${HOME.onMachineLink}`
    const other = { owner: clients[0].address, instance: 'fd00:1::206', ownerVia: HOME.onMachineLink }
    await onMachine.open(other)
    await onMachine.unplace(placed())
    assert.deepEqual(WaysLab.routes(lab.machine), [back])
    await onMachine.close(other)
    assert.deepEqual(WaysLab.routes(lab.machine), [])
    await onMachine.place(placed())
    await onMachine.unplace(placed())
    assert.deepEqual(WaysLab.routes(lab.machine), [])
    await onMachine.place(placed())
    assert.deepEqual(WaysLab.routes(lab.machine), [back])
    await onMachine.detach(placed().link)
    assert.deepEqual(WaysLab.routes(lab.machine), [], 'nor does one stay when its link goes')
    await onMachine.attach(placed())
    await onMachine.place(placed())
    assert.equal(await result(clients[0].tcp(ADDRESS)), 'answered')
  })

  it('a way that leads elsewhere from now on takes the place of the former one', async () => {
    lab.machine.run('ip', 'address', 'add', 'fd00:9::3/64', 'dev', 'to-home', 'nodad')
    await wiring.lead({ ...way(), reach: { kind: 'routed', via: 'fd00:9::3' } })
    assert.deepEqual(WaysLab.routes(lab.home), [`${ADDRESS} fd00:9::3`])
    assert.equal(await result(clients[0].tcp(MY_ADDRESS)), 'answered')
    await wiring.lead(way())
    assert.deepEqual(WaysLab.routes(lab.home), [`${ADDRESS} ${MACHINE}`])
  })

  it('teardown leaves no route', async () => {
    await wiring.teardown()
    await onMachine.teardown()
    assert.deepEqual([...WaysLab.routes(lab.home), ...WaysLab.routes(lab.machine)], [])
  })
})
