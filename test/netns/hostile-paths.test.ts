import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { DROP_REASONS, type DropReason } from '../../common/drop-reasons.ts'
import type { Policy } from '../../common/wiring-policy.ts'
import { arp, framed, ICMPV6, icmpv6, ipv4Udp, ipv6, UDP, udp } from '../support/hostile-frames.ts'
import { until } from '../support/until.ts'
import type { Outcome } from '../support/wiring-agent.ts'
import { frame } from '../support/wiring-frames.ts'
import { type Agent, placement, WiringLab, type WiringProcess } from '../support/wiring-lab.ts'

const OWN = 'fd00:1::200'
const NEIGHBOUR = 'fd00:1::201'
const GATEWAY = 'fd00:1::1'
const MAC = '02:00:00:00:00:00'
const INTERNET = '2600:1::1'
/** In a network of the host itself that would pass for the internet. */
const NEARBY = '2600:2::5'
const PORTS = { other: 7777, open: 8080 }

describe('where a hostile instance gets', () => {
  let lab: WiringLab
  let wiring: WiringProcess
  let host: Agent
  let hostile: Agent
  let neighbour: Agent
  let owner: Agent
  let stranger: Agent
  let far: Agent
  let gatewayMac: string

  const result = async (probe: Promise<Outcome>) => (await probe).result
  const placed = (policy?: Partial<Policy>, address = OWN) => ({
    ...placement(hostile.pid, 0, owner.address),
    address,
    ...(policy && { policy: { public: [], egress: 'none', limits: {}, ...policy } satisfies Policy }),
  })

  /** How much each reason has grown while `work` was done; what kernels say of their groups does not count. */
  async function grown(work: () => Promise<unknown>): Promise<{ [R in DropReason]?: number }> {
    const before = await wiring.counters()
    await work()
    const now = await wiring.counters()
    const pairs = DROP_REASONS.map((name) => [name, (now[name] ?? 0) - (before[name] ?? 0)] as const)
    return Object.fromEntries(pairs.filter(([name, more]) => more > 0 && name !== 'multicast-listener'))
  }

  before(async () => {
    lab = await WiringLab.start()
    wiring = await lab.wiring()
    await wiring.prepare()
    host = await lab.onHost()
    owner = await lab.client(0)
    stranger = await lab.client(1)
    far = await lab.client(2)
    hostile = await lab.instance('first', OWN)
    neighbour = await lab.instance('second', NEIGHBOUR)
    await wiring.attach(placed())
    await wiring.place(placed())
    const other = placement(neighbour.pid, 1, stranger.address)
    await wiring.attach(other)
    await wiring.place({
      ...other,
      policy: { public: [{ protocol: 'tcp', port: PORTS.other }], egress: 'none', limits: {} },
    })
    await hostile.ask('listen', PORTS.open)
    gatewayMac = lab.macOf('br-instances')
    lab.run('ip', 'address', 'add', '2600:2::1/64', 'dev', 'br-clients', 'nodad')
    lab.run('ip', 'route', 'add', '2600:1::/64', 'via', far.address)
    lab.runIn(far.pid, 'ip', 'address', 'add', `${INTERNET}/128`, 'dev', 'lo', 'nodad')
    lab.runIn(far.pid, 'ip', 'route', 'replace', 'default', 'via', 'fd00:c::1', 'src', INTERNET)
    lab.runIn(stranger.pid, 'ip', 'address', 'add', `${NEARBY}/64`, 'dev', 'eth0', 'nodad')
    await wiring.guard()
  })
  after(async () => {
    await lab[Symbol.asyncDispose]()
  })

  it('not to other instances through the gateway, public ports included', async () => {
    lab.runIn(hostile.pid, 'ip', 'route', 'add', `${NEIGHBOUR}/128`, 'via', GATEWAY)
    for (const protocol of ['tcp', 'udp', 'icmp'] as const) {
      const drops = await grown(async () => {
        assert.equal(await result(hostile[protocol](NEIGHBOUR, { timeoutMs: 200 })), 'silent', protocol)
      })
      assert.deepEqual(Object.keys(drops), ['other-instance'])
    }
  })

  it('not to services of the host, on whichever of its addresses', async () => {
    await host.ask('listen', 8998)
    for (const address of [GATEWAY, 'fd00:c::1', '2600:2::1']) {
      const drops = await grown(async () => {
        assert.equal(await result(hostile.udp(address, { port: 8998, timeoutMs: 200 })), 'silent', address)
        assert.equal(await result(hostile.tcp(address, { port: 8998, timeoutMs: 200 })), 'silent', address)
      })
      assert.deepEqual(Object.keys(drops), ['host'])
    }
  })

  it("not to clients, its owner's or others', nor to the internet", async () => {
    for (const address of [owner.address, stranger.address, INTERNET, NEARBY]) {
      const drops = await grown(async () => {
        assert.equal(await result(hostile.tcp(address, { timeoutMs: 200 })), 'silent', address)
      })
      assert.deepEqual(Object.keys(drops), ['egress'])
    }
  })

  it('not to groups, though it may send to the gateway what is for all', async () => {
    const to = 'ff02::1'
    const packet = ipv6({ from: OWN, to }, UDP, udp({ from: OWN, to }, 9, 8998))
    const drops = await grown(() => hostile.ask('sendFrame', 'eth0', framed(MAC, gatewayMac, packet)))
    assert.deepEqual(drops, { multicast: 1 })
  })

  it('not past the bridge by a group address that bridges hand to the port itself', async () => {
    const group = '01:80:c2:00:00:0e'
    await host.ask('listen', 8997)
    lab.run('ip', 'address', 'add', '10.9.9.1/24', 'dev', 'br-clients')
    const datagram = ipv6({ from: NEIGHBOUR, to: 'fd00:c::1' }, UDP, udp({ from: NEIGHBOUR, to: 'fd00:c::1' }, 9, 8997))
    const frames = [
      framed(MAC, group, datagram),
      frame({ fromMac: MAC, toMac: group }, 0x0800, ipv4Udp('10.9.9.7', '10.9.9.1', 9, 8997)),
      frame(
        { fromMac: MAC, toMac: group },
        0x0806,
        arp(1, { mac: MAC, ip: '10.9.9.7' }, { mac: '00:00:00:00:00:00', ip: '10.9.9.1' }),
      ),
    ]
    const received = () => {
      const [six, four] = ['snmp6', 'snmp'].map((file) => lab.run('cat', `/proc/net/${file}`))
      const neighbours = lab.run('ip', '-4', 'neigh', 'show', '10.9.9.7').trim()
      return `${/Udp6InDatagrams\s+\d+/.exec(six ?? '')} ${/Udp: \d+/.exec(four ?? '')} ${neighbours}`
    }
    const before = received()
    const send = async () => {
      for (const bytes of frames) await hostile.ask('sendFrame', 'eth0', bytes)
      assert.equal(await result(owner.udp(OWN)), 'answered')
    }
    assert.deepEqual(await grown(send), { 'reserved-group': 3 })
    assert.equal(received(), before)
    lab.run('nft', 'flush', 'chain', 'inet', 'unionize', 'stray')
    lab.run('nft', 'flush', 'chain', 'arp', 'unionize', 'stray')
    await send()
    await until('without the rules the host takes them', () => received() !== before && received().includes('10.9.9.7'))
    await wiring.prepare()
  })

  it('not by an ICMPv6 error about a connection of its owner with somebody else', async () => {
    lab.runIn(far.pid, 'ip', 'route', 'add', `${owner.address}/128`, 'via', 'fd00:c::1', 'src', INTERNET)
    assert.equal((await far.ask<Outcome>('udp', owner.address, PORTS.other, 5000, 4001)).result, 'answered')
    const answer = { from: owner.address, to: INTERNET }
    const inner = ipv6(answer, UDP, udp(answer, PORTS.other, 4001))
    const ends = { from: OWN, to: owner.address }
    const forged = ipv6(ends, ICMPV6, icmpv6(ends, 2, Buffer.concat([Buffer.from([0, 0, 5, 0]), inner])))
    const mtu = () => / mtu (\d+)/.exec(lab.runIn(owner.pid, 'ip', '-6', 'route', 'get', INTERNET))?.[1] ?? 'none'
    const send = () => hostile.ask('sendFrame', 'eth0', framed(MAC, gatewayMac, forged))
    assert.deepEqual(await grown(send), { egress: 1 })
    assert.equal(mtu(), 'none')
    const unheard = owner.udp(OWN, { port: 9 })
    assert.equal(await result(unheard), 'refused', 'about its own connection it may say that nobody listens')
    lab.run('nft', 'flush', 'chain', 'inet', 'unionize', 'from_instances')
    await send()
    await until('without the rule the owner believes it', () => mtu() === '1280')
    await wiring.prepare()
  })

  it('not by the address of another, also when its own has changed', async () => {
    const moved = 'fd00:1::2aa'
    await wiring.place(placed({}, moved))
    lab.runIn(hostile.pid, 'ip', 'address', 'add', `${OWN}/64`, 'dev', 'eth0', 'nodad')
    const drops = await grown(async () => {
      assert.equal((await owner.ask<Outcome>('udp', OWN, PORTS.other, 200)).result, 'silent')
      const packet = ipv6({ from: OWN, to: GATEWAY }, UDP, udp({ from: OWN, to: GATEWAY }, 9, 53))
      await hostile.ask('sendFrame', 'eth0', framed(MAC, gatewayMac, packet))
    })
    assert.equal(drops.address, 1)
    assert.equal(drops.stranger, 1, 'nor is it the way there any more')
    assert.equal(await result(owner.icmp(moved)), 'answered')
    await wiring.place(placed())
  })

  /** Resolves when the hostile instance has no connection left that could still say something. */
  const ended = () =>
    until('no connection is left', () => lab.runIn(hostile.pid, 'ss', '-Htn', 'state', 'connected').trim() === '')

  /** Chains and sets that exist because of policies. */
  const policyChains = () =>
    lab.run('nft', 'list', 'ruleset').match(/(chain|set) (public|egress)_[0-9a-f]{12}\w*/g) ?? []

  it('everybody reaches a public port, and no other; the port no longer public is closed for those within', async () => {
    const others = policyChains()
    const open = placed({
      public: [
        { protocol: 'tcp', port: PORTS.open },
        { protocol: 'udp', port: 8000, last: 8090 },
      ],
    })
    await wiring.place(open)
    assert.equal(await result(stranger.tcp(OWN, { port: PORTS.open })), 'answered')
    assert.equal(await result(stranger.udp(OWN, { port: PORTS.open })), 'answered')
    const drops = await grown(async () => {
      assert.equal(await result(stranger.tcp(OWN, { timeoutMs: 200 })), 'silent')
      assert.equal(await result(stranger.udp(OWN, { timeoutMs: 200 })), 'silent')
      assert.equal(await result(stranger.icmp(OWN, { timeoutMs: 200 })), 'silent')
    })
    assert.deepEqual(Object.keys(drops), ['stranger'])
    await stranger.ask('flowOpen', OWN, PORTS.open)
    assert.equal(await stranger.ask('flowEcho', 2000), true)
    await wiring.place(placed())
    assert.equal(await stranger.ask('flowEcho', 300), false)
    await wiring.place(open)
    assert.equal(await stranger.ask('flowEcho', 5000), true, 'made public again it goes on')
    await stranger.ask('flowClose')
    await ended()
    await wiring.place(placed())
    assert.deepEqual(policyChains(), others, 'nothing of the policy is left')
    assert.equal(await result(owner.tcp(OWN)), 'answered')
  })

  it('to the internet with egress internet, and not to what is near the host', async () => {
    await wiring.place(placed({ egress: 'internet' }))
    for (const protocol of ['tcp', 'udp', 'icmp'] as const) {
      assert.equal(await result(hostile[protocol](INTERNET)), 'answered', protocol)
    }
    const near = [
      NEARBY,
      owner.address,
      stranger.address,
      'fd00:dead::1',
      '2001:db8::1',
      '2002:a00:1::1',
      '64:ff9b::a00:1',
    ]
    lab.run('ip', 'route', 'add', 'default', 'via', far.address)
    for (const address of near) {
      const drops = await grown(async () => {
        assert.equal(await result(hostile.udp(address, { timeoutMs: 100 })), 'silent', address)
      })
      assert.deepEqual(drops, { egress: 1 }, address)
    }
    const others = await grown(() => result(hostile.tcp(NEIGHBOUR, { timeoutMs: 100 })))
    assert.deepEqual(Object.keys(others), ['other-instance'])
    assert.equal(await result(stranger.tcp(OWN, { timeoutMs: 200 })), 'silent', 'nobody gets in by it')
    lab.run('ip', '-6', 'route', 'delete', 'default')
    await hostile.ask('flowOpen', INTERNET, PORTS.other)
    assert.equal(await hostile.ask('flowEcho', 2000), true)
    await wiring.place(placed())
    assert.equal(await hostile.ask('flowEcho', 300), false, 'connections are cut with the policy')
    await hostile.ask('flowClose')
  })

  it('to listed prefixes only, and policies outlive the tables and a new beginning', async () => {
    await wiring.place(
      placed({ egress: [`${NEARBY}/128`, '2600:9::/32'], public: [{ protocol: 'tcp', port: PORTS.open }] }),
    )
    const holds = async () => {
      assert.equal(await result(hostile.tcp(NEARBY)), 'answered')
      assert.equal(await result(hostile.tcp(INTERNET, { timeoutMs: 200 })), 'silent')
      assert.equal(await result(stranger.tcp(OWN, { port: PORTS.open })), 'answered')
      assert.equal(await result(stranger.tcp(OWN, { timeoutMs: 200 })), 'silent')
    }
    await holds()
    const before = await wiring.counters()
    lab.run('nft', 'flush', 'ruleset')
    await wiring.guard()
    await holds()
    await wiring.ask('killWorker')
    await until('a new worker answers', () =>
      wiring.prepare().then(
        () => true,
        () => false,
      ),
    )
    await holds()
    await wiring.place(placed({ egress: [`${NEARBY}/128`], public: [{ protocol: 'tcp', port: PORTS.open }] }))
    await holds()
    const { link, mac, policy } = placed({ egress: [`${NEARBY}/128`], public: [{ protocol: 'tcp', port: PORTS.open }] })
    const passages = [
      { owner: owner.address, instance: OWN },
      { owner: stranger.address, instance: NEIGHBOUR },
    ]
    const other = { link: 'ui-1', mac: '02:00:00:00:00:01', address: NEIGHBOUR }
    await wiring.replacePassages(passages, [{ link, mac, address: OWN, ...(policy && { policy }) }, other])
    await holds()
    const now = await wiring.counters()
    for (const name of DROP_REASONS) assert.ok((now[name] ?? 0) >= (before[name] ?? 0), `${name} has not shrunk`)
    await wiring.replacePassages(passages, [{ link, mac, address: OWN }, other])
    assert.deepEqual(policyChains(), [], 'nothing of them is left')
    assert.equal(await result(stranger.tcp(OWN, { port: PORTS.open, timeoutMs: 200 })), 'silent')
    await wiring.place(placed())
  })

  it('floods pass up to the limit, beside honest traffic of others', async () => {
    await wiring.place(placed({ limits: { packets: 50 } }))
    const bytes = framed(MAC, gatewayMac, ipv6({ from: OWN, to: GATEWAY }, UDP, udp({ from: OWN, to: GATEWAY }, 9, 9)))
    const drops = await grown(async () => {
      await hostile.ask('flood', 'eth0', bytes, 2000)
      assert.equal(await result(stranger.udp(NEIGHBOUR)), 'answered')
    })
    assert.ok((drops['packet-rate'] ?? 0) + (drops.host ?? 0) >= 2000, 'each is counted at the port or at the host')
    assert.ok((drops.host ?? 0) < 1000, `${drops.host} came through`)
    await wiring.place(placed())
    assert.equal(await result(owner.udp(OWN)), 'answered', 'with its former limits all is as before')
  })

  it('as many new connections begin as the limit allows', async () => {
    await wiring.place(placed({ egress: 'internet', limits: { connections: 10 } }))
    const frames = Array.from({ length: 200 }, (_, i) =>
      framed(MAC, gatewayMac, ipv6({ from: OWN, to: INTERNET }, UDP, udp({ from: OWN, to: INTERNET }, 20_000 + i, 9))),
    )
    const drops = await grown(async () => {
      for (const bytes of frames) await hostile.ask('sendFrame', 'eth0', bytes)
    })
    const begun = 200 - (drops['connection-rate'] ?? 0)
    assert.ok(begun >= 10 && begun < 150, `${begun} began`)
    assert.equal(await result(owner.tcp(OWN)), 'answered', 'its owner may begin what it likes')
    const queries = Array.from({ length: 200 }, (_, i) =>
      framed(MAC, gatewayMac, ipv6({ from: OWN, to: GATEWAY }, UDP, udp({ from: OWN, to: GATEWAY }, 20_000 + i, 53))),
    )
    const unasked = await grown(async () => {
      for (const bytes of queries) await hostile.ask('sendFrame', 'eth0', bytes)
    })
    assert.ok((unasked['connection-rate'] ?? 0) > 50, 'name queries count, too')
    await wiring.place(placed({ public: [{ protocol: 'udp', port: PORTS.open }], limits: { connections: 10 } }))
    const clientsMac = lab.macOf('br-clients')
    const knocks = Array.from({ length: 200 }, (_, i) => {
      const ends = { from: stranger.address, to: OWN }
      return framed('02:00:00:00:0c:fe', clientsMac, ipv6(ends, UDP, udp(ends, 30_000 + i, PORTS.open)))
    })
    const refused = await grown(async () => {
      for (const bytes of knocks) await stranger.ask('sendFrame', 'eth0', bytes)
    })
    const opened = 200 - (refused['connection-rate'] ?? 0)
    assert.ok(opened >= 10 && opened < 150, `${opened} were opened`)
    await wiring.place(placed())
  })

  it('bandwidth is limited each way', async () => {
    await wiring.place(placed({ limits: { upload: 80_000, download: 80_000 } }))
    const big = 'x'.repeat(1200)
    const send = async (from: Agent, ends: { from: string; to: string }, macs: [string, string], count: number) => {
      const bytes = framed(...macs, ipv6(ends, UDP, udp(ends, 9, 9, big)))
      return grown(() => from.ask('flood', 'eth0', bytes, count))
    }
    const up = await send(hostile, { from: OWN, to: GATEWAY }, [MAC, gatewayMac], 1000)
    assert.ok((up.bandwidth ?? 0) + (up.host ?? 0) >= 1000)
    assert.ok((up.bandwidth ?? 0) > 500 && (up.host ?? 0) > 100, JSON.stringify(up))
    const down = await send(
      owner,
      { from: owner.address, to: OWN },
      ['02:00:00:00:0c:fe', lab.macOf('br-clients')],
      1000,
    )
    assert.ok((down.bandwidth ?? 0) > 500 && (down.bandwidth ?? 0) < 900, JSON.stringify(down))
    await wiring.place(placed())
    assert.equal(await result(owner.udp(OWN)), 'answered')
  })

  it('not while the bridge is away either: rules that somebody removes then come back all the same', async () => {
    lab.run('ip', 'link', 'delete', 'br-instances')
    lab.run('nft', 'flush', 'ruleset')
    await wiring.guard()
    const tables = lab.run('nft', 'list', 'tables').trim().split('\n').sort()
    assert.deepEqual(tables, ['table arp unionize', 'table bridge unionize', 'table inet unionize'])
    assert.match(lab.run('nft', 'list', 'set', 'bridge', 'unionize', 'sources'), /fd00:1::201/)
  })
})
