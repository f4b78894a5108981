import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { Policy } from '../../common/wiring-policy.ts'
import type { Way } from '../../unionize/wiring/wiring.ts'
import { CLOUD, HOME, prepared, WaysLab } from '../support/ways-lab.ts'
import type { Outcome } from '../support/wiring-agent.ts'
import { type Agent, BRIEF, placement, type WiringProcess } from '../support/wiring-lab.ts'

const PROTOCOLS = ['tcp', 'udp', 'icmp'] as const
const MY_ADDRESS = 'fd00:1:0:ffff::1'
const ADDRESS = 'fd00:1::205'

describe('a way to an instance at another address', () => {
  let lab: WaysLab
  let wiring: WiringProcess
  let clients: [Agent, Agent]
  let cloud: Agent
  let local: Agent

  const result = async (probe: Promise<Outcome>) => (await probe).result
  const way = (from?: string): Way => ({
    owner: clients[0].address,
    address: ADDRESS,
    reach: { kind: 'translated', address: CLOUD, ...(from === undefined ? {} : { from }) },
  })
  const here = () => placement(local.pid, 1, clients[1].address)

  before(async () => {
    lab = await WaysLab.start()
    wiring = await prepared(lab.home)
    clients = [await lab.home.client(0), await lab.home.client(1)]
    cloud = await lab.cloud()
    local = await lab.home.instance('local', 'fd00:1::201')
    await wiring.attach(here())
    await wiring.place({ ...here(), policy: { public: [], egress: ['fd00:8::/64'], limits: {} } })
    await wiring.lead(way())
    lab.admit(HOME.onCloudLink)
  })
  after(async () => {
    await lab[Symbol.asyncDispose]()
  })

  for (const protocol of PROTOCOLS) {
    it(`the owner reaches it by ${protocol}, as my.instance and by the instance's own address, from the host's own`, async () => {
      for (const address of [MY_ADDRESS, ADDRESS]) {
        const answer = await clients[0][protocol](address)
        assert.equal(answer.result, 'answered', address)
        if (protocol !== 'icmp') assert.equal(answer.label, 'cloud')
      }
    })
    it(`nobody else gets there through the home host by ${protocol}, by whatever address`, async () => {
      // As a filter that admits everybody shows: it is the home host that refuses.
      lab.admit('::/0')
      try {
        const before = await wiring.counters()
        assert.equal(await result(clients[1][protocol](ADDRESS, BRIEF)), 'silent')
        assert.equal(await result(clients[1][protocol](CLOUD, BRIEF)), 'silent')
        assert.equal(await result(local[protocol](CLOUD, BRIEF)), 'silent')
        const now = await wiring.counters()
        assert.ok((now.stranger ?? 0) >= (before.stranger ?? 0) + 2)
        assert.ok((now['other-instance'] ?? 0) > (before['other-instance'] ?? 0))
        if (protocol !== 'icmp') assert.equal((await clients[1][protocol](MY_ADDRESS)).label, 'local')
      } finally {
        lab.admit(HOME.onCloudLink)
      }
    })
  }

  it('it comes from the very address that is wanted, whatever the kernel would have chosen', async () => {
    lab.admit(HOME.onMachineLink)
    assert.equal(await result(clients[0].tcp(MY_ADDRESS, BRIEF)), 'silent')
    await wiring.lead(way(HOME.onMachineLink))
    for (const protocol of PROTOCOLS) assert.equal(await result(clients[0][protocol](MY_ADDRESS)), 'answered')
    assert.equal(await result(clients[0].tcp(ADDRESS)), 'answered')
    await wiring.kill()
    wiring = await prepared(lab.home)
    await wiring.lead(way())
    assert.equal(
      await result(clients[0].tcp(MY_ADDRESS, BRIEF)),
      'silent',
      'the former source is known from the kernel, and gone',
    )
    lab.admit(HOME.onCloudLink)
    assert.equal(await result(clients[0].tcp(MY_ADDRESS)), 'answered')
  })

  it('what the owner sends to that other address itself keeps its source, so that it ends with nothing of ours', async () => {
    assert.equal(await result(clients[0].tcp(CLOUD, BRIEF)), 'silent', 'the cloud admits the home host alone')
    lab.admit(clients[0].address)
    assert.equal((await clients[0].tcp(CLOUD)).label, 'cloud')
    lab.admit(HOME.onCloudLink)
  })

  it('the server goes on to use the home host as its router for what it begins itself', async () => {
    lab.admit('::/0')
    assert.equal(await result(cloud.tcp(clients[1].address)), 'answered')
    const open: Policy = { public: [{ protocol: 'tcp', port: 7777 }], egress: 'none', limits: {} }
    await wiring.place({ ...here(), policy: open })
    assert.equal((await cloud.tcp(local.address)).label, 'local', 'and is one of those who reach public ports')
    await wiring.place(here())
    lab.admit(HOME.onCloudLink)
  })

  for (const [how, address] of [
    ['as my.instance', MY_ADDRESS],
    ['by address', ADDRESS],
  ] as const) {
    it(`taking it away cuts an established connection ${how} at once, leading there again lets it go on`, async () => {
      await clients[0].ask('flowOpen', address, 7777)
      assert.equal(await clients[0].ask('flowEcho', 5000), true)
      await wiring.unlead(way())
      await wiring.unlead(way())
      assert.equal(await clients[0].ask('flowEcho', 300), false)
      assert.equal(await result(clients[0].tcp(ADDRESS, BRIEF)), 'silent')
      assert.equal(await result(clients[0].tcp(MY_ADDRESS)), 'refused')
      await wiring.lead(way())
      await wiring.lead(way())
      assert.equal(await clients[0].ask('flowEcho', 5000), true)
      await clients[0].ask('flowClose')
    })
  }

  it('a wiring that died knows its ways from the kernel, and replacePassages keeps exactly what it is given', async () => {
    await clients[0].ask('flowOpen', MY_ADDRESS, 7777)
    await wiring.kill()
    wiring = await prepared(lab.home)
    assert.equal(await clients[0].ask('flowEcho', 5000), true)
    const { link, mac, address } = here()
    const passage = { owner: clients[1].address, instance: address }
    await wiring.replacePassages([passage, way()], [{ link, mac, address }])
    assert.equal(await clients[0].ask('flowEcho', 5000), true)
    await wiring.replacePassages([passage], [{ link, mac, address }])
    assert.equal(await clients[0].ask('flowEcho', 300), false)
    assert.doesNotMatch(lab.home.run('nft', 'list', 'table', 'inet', 'unionize'), /fd00:8::80/)
    await wiring.replacePassages([way(), passage], [{ link, mac, address }])
    assert.equal(await clients[0].ask('flowEcho', 5000), true)
    await clients[0].ask('flowClose')
  })

  it('the tables come back with the ways in them when somebody removed them', async () => {
    lab.home.run('nft', 'flush', 'ruleset')
    await wiring.guard()
    assert.equal((await clients[0].tcp(MY_ADDRESS)).label, 'cloud')
    assert.equal(await result(clients[1].tcp(CLOUD, BRIEF)), 'silent')
  })

  it('an instance that moves from there to this host is reached here by new connections', async () => {
    await wiring.unlead(way())
    await wiring.open({ owner: clients[0].address, instance: local.address })
    assert.equal((await clients[0].tcp(MY_ADDRESS)).label, 'local')
    await wiring.lead(way())
    assert.equal((await clients[0].tcp(MY_ADDRESS)).label, 'cloud')
    await wiring.close({ owner: clients[0].address, instance: local.address })
  })
})
