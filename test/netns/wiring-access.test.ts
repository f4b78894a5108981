import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { until } from '../support/until.ts'
import type { Outcome } from '../support/wiring-agent.ts'
import { packetTooBig, udpPacket } from '../support/wiring-frames.ts'
import { type Agent, BRIEF, percentiles, placement, WiringLab, type WiringProcess } from '../support/wiring-lab.ts'

const PROTOCOLS = ['tcp', 'udp', 'icmp'] as const
const MY_ADDRESS = 'fd00:1:0:ffff::1'

describe('who reaches whom', () => {
  let lab: WiringLab
  let wiring: WiringProcess
  let clients: [Agent, Agent, Agent]
  let instances: [Agent, Agent]

  const result = async (probe: Promise<Outcome>) => (await probe).result
  const placed = (n: 0 | 1) => placement(instances[n].pid, n, clients[n].address)
  /** How often a client began a TCP connection with another packet, because the first one was not answered. */
  const sentAgain = ({ pid }: Agent): number => {
    const shown = lab.runIn(pid, 'nstat', '-jasz', 'TcpExtTCPSynRetrans')
    return (JSON.parse(shown) as { kernel: { TcpExtTCPSynRetrans: number } }).kernel.TcpExtTCPSynRetrans
  }

  before(async () => {
    lab = await WiringLab.start()
    wiring = await lab.wiring()
    await wiring.prepare()
    clients = [await lab.client(0), await lab.client(1), await lab.client(2)]
    instances = [await lab.instance('first', 'fd00:1::200'), await lab.instance('second', 'fd00:1::201')]
    for (const n of [0, 1] as const) {
      await wiring.attach(placed(n))
      await wiring.place(placed(n))
    }
  })
  after(async () => {
    await lab[Symbol.asyncDispose]()
  })

  for (const protocol of PROTOCOLS) {
    it(`the owner reaches its instance by ${protocol}`, async () => {
      assert.equal(await result(clients[0][protocol](instances[0].address)), 'answered')
    })
    it(`nobody else reaches it by ${protocol}`, async () => {
      assert.equal(await result(clients[1][protocol](instances[0].address, BRIEF)), 'silent')
      assert.equal(await result(clients[2][protocol](instances[0].address, BRIEF)), 'silent')
    })
    it(`my.instance leads each owner to its own by ${protocol}`, async () => {
      const answers = await Promise.all([clients[0][protocol](MY_ADDRESS), clients[1][protocol](MY_ADDRESS)])
      assert.deepEqual(
        answers.map((answer) => answer.result),
        ['answered', 'answered'],
      )
      const labels = answers.map((answer) => answer.label)
      if (protocol !== 'icmp') assert.deepEqual(labels, ['first', 'second'])
    })
    it(`my.instance refuses a client without an instance at once by ${protocol}`, async () => {
      const before = sentAgain(clients[2])
      // A machine that stalls is slow now and then, a refusal that waits for something is slow each time.
      let fastest = Number.POSITIVE_INFINITY
      for (let tries = 0; tries < 5 && fastest >= 200; tries++) {
        const answer = await clients[2][protocol](MY_ADDRESS)
        assert.equal(answer.result, 'refused')
        fastest = Math.min(fastest, answer.ms)
      }
      assert.ok(fastest < 200, `${fastest} ms`)
      assert.equal(sentAgain(clients[2]), before, 'the first packet is answered')
    })
    it(`an instance reaches neither another instance nor a client by ${protocol}`, async () => {
      assert.equal(await result(instances[0][protocol](instances[1].address, BRIEF)), 'silent')
      assert.equal(await result(instances[0][protocol](clients[0].address, BRIEF)), 'silent')
    })
  }

  it('not even one packet of a stranger arrives at an instance, whether or not it could answer', async () => {
    const arrived = () =>
      Number(/^Udp6InDatagrams\s+(\d+)/m.exec(lab.runIn(instances[0].pid, 'cat', '/proc/net/snmp6'))?.[1])
    const before = arrived()
    await clients[1].udp(instances[0].address, BRIEF)
    assert.equal(arrived(), before)
    await clients[0].udp(instances[0].address)
    assert.ok(arrived() > before)
  })

  it('an instance reaches of the host the name service at the gateway, and nothing else', async () => {
    const host = await lab.onHost()
    await host.ask('listen', 53)
    await host.ask('listen', 8998)
    assert.equal(await result(instances[0].tcp('fd00:1::1', { port: 53 })), 'answered')
    assert.equal(await result(instances[0].udp('fd00:1::1', { port: 53 })), 'answered')
    for (const address of ['fd00:1::1', 'fd00:c::1']) {
      assert.equal(await result(instances[0].tcp(address, { port: 8998, ...BRIEF })), 'silent')
      assert.equal(await result(instances[0].udp(address, { port: 8998, ...BRIEF })), 'silent')
      assert.equal(await result(instances[0].icmp(address, BRIEF)), 'silent')
    }
    assert.equal(await result(host.tcp(instances[0].address)), 'answered', 'the host itself may look whether it is up')
    await host.kill()
  })

  it('closing a passage cuts an established connection at once, opening it lets it go on', async () => {
    const passage = { owner: clients[0].address, instance: instances[0].address }
    await clients[0].ask('flowOpen', instances[0].address, 7777)
    assert.equal(await clients[0].ask('flowEcho', 5000), true)
    await wiring.close(passage)
    await wiring.close(passage)
    assert.equal(await clients[0].ask('flowEcho', 300), false)
    await wiring.open(passage)
    await wiring.open(passage)
    assert.equal(await clients[0].ask('flowEcho', 5000), true)
    await clients[0].ask('flowClose')
  })

  it('an owner that moved reaches its instance from the new address only', async () => {
    await wiring.close({ owner: clients[0].address, instance: instances[0].address })
    await wiring.open({ owner: clients[2].address, instance: instances[0].address })
    assert.equal(await result(clients[0].tcp(instances[0].address, BRIEF)), 'silent')
    assert.equal(await result(clients[0].tcp(MY_ADDRESS)), 'refused')
    assert.equal(await result(clients[2].tcp(instances[0].address)), 'answered')
    assert.equal((await clients[2].tcp(MY_ADDRESS)).label, 'first')
    await wiring.close({ owner: clients[2].address, instance: instances[0].address })
    await wiring.place(placed(0))
  })

  it('of two instances of one owner my.instance is the one opened last, then again the other', async () => {
    const second = { owner: clients[0].address, instance: instances[1].address }
    await wiring.open(second)
    assert.equal((await clients[0].tcp(MY_ADDRESS)).label, 'second')
    await wiring.close(second)
    assert.equal((await clients[0].tcp(MY_ADDRESS)).label, 'first')
    assert.equal((await clients[1].tcp(MY_ADDRESS)).label, 'second')
  })

  it('a router on the way can tell an instance of trouble with its owner, and of nothing else', async () => {
    const [client, , router] = clients
    const [instance] = instances
    const bridgeMac = lab.macOf('br-clients')
    const mtuTo = (address: string) =>
      / mtu (\d+)/.exec(lab.runIn(instance.pid, 'ip', '-6', 'route', 'get', address))?.[1] ?? 'none'
    const tellOf = (inner: string) =>
      client.ask('sendFrame', 'eth0', packetTooBig({ toMac: bridgeMac, from: router.address, about: inner, mtu: 1300 }))
    const answerTo = (owner: string) => udpPacket({ from: instance.address, fromPort: 7777, to: owner, toPort: 4000 })
    assert.equal((await client.ask<Outcome>('udp', instance.address, 7777, 5000, 4000)).result, 'answered')
    await tellOf(answerTo(clients[1].address))
    await tellOf(answerTo(client.address))
    await until('the instance knows the smaller size', () => mtuTo(client.address) === '1300')
    assert.equal(mtuTo(clients[1].address), 'none')
  })

  it('the first packet after a placement is never lost', async () => {
    const before = sentAgain(clients[0])
    const times: number[] = []
    for (let round = 0; round < 50; round++) {
      await wiring.unplace(placed(0))
      if (round % 2 === 0) {
        await wiring.detach(placed(0).link)
        await wiring.attach(placed(0))
      }
      await wiring.place(placed(0))
      const answer = await clients[0].tcp(instances[0].address, { timeoutMs: 10_000 })
      assert.equal(answer.result, 'answered', `round ${round}`)
      times.push(answer.ms)
    }
    const { median, p99 } = percentiles(times)
    console.log(`first connection after place: median ${median.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`)
    assert.equal(sentAgain(clients[0]), before, `the slowest of 50 took ${Math.max(...times)} ms`)
  })

  it('what keeps instances apart is these rules: without them each reaches the other', async () => {
    lab.run('nft', 'delete', 'table', 'bridge', 'unionize')
    lab.run('nft', 'delete', 'table', 'inet', 'unionize')
    for (const link of ['ui-0', 'ui-1']) lab.run('bridge', 'link', 'set', 'dev', link, 'isolated', 'off')
    lab.runIn(instances[0].pid, 'ip', '-6', 'neigh', 'flush', 'all')
    for (const protocol of PROTOCOLS) {
      const toClient = await instances[0][protocol](clients[0].address, { timeoutMs: 3000 })
      assert.equal(toClient.result, 'answered', `${protocol} to a client`)
      const toInstance = await instances[0][protocol](instances[1].address, { timeoutMs: 3000 })
      assert.equal(toInstance.result, 'answered', `${protocol} to an instance`)
      assert.equal(await result(clients[1][protocol](instances[0].address)), 'answered', `${protocol} from a stranger`)
    }
  })

  it('rules that someone else removed come back whole with the next call', async () => {
    await wiring.open({ owner: clients[0].address, instance: instances[0].address })
    assert.equal(await result(clients[1].tcp(instances[0].address, BRIEF)), 'silent')
    assert.equal(await result(clients[0].tcp(instances[0].address)), 'answered')
    assert.equal((await clients[1].tcp(MY_ADDRESS)).label, 'second')
    const messages = await wiring.ask<{ level: string; message: string }[]>('messages')
    assert.ok(messages.some(({ level, message }) => level === 'warn' && message.includes('are restored')))
  })

  it('rules that someone else removed come back by themselves when somebody looks', async () => {
    lab.run('nft', 'flush', 'ruleset')
    assert.equal(await result(clients[1].tcp(instances[0].address)), 'answered', 'without rules all is open')
    await wiring.guard()
    assert.equal(await result(clients[1].tcp(instances[0].address, BRIEF)), 'silent')
    assert.equal(await result(clients[0].tcp(instances[0].address)), 'answered')
  })
})
