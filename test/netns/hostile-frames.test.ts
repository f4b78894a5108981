import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { DROP_REASONS, type DropReason } from '../../common/drop-reasons.ts'
import {
  ADVERTISED_ROUTER,
  arp,
  DESTINATION_OPTIONS,
  type Extension,
  fragment,
  framed,
  groupMac,
  HOP_BY_HOP,
  ICMPV6,
  icmpv6,
  ipv4Udp,
  ipv6,
  linkLayerOption,
  NO_NEXT_HEADER,
  neighbourBody,
  padding,
  ROUTER_ALERT,
  ROUTING,
  tcpSyn,
  UDP,
  udp,
} from '../support/hostile-frames.ts'
import { until } from '../support/until.ts'
import { addressBytes } from '../support/wiring-bytes.ts'
import { frame } from '../support/wiring-frames.ts'
import { type Agent, placement, WiringLab, type WiringProcess } from '../support/wiring-lab.ts'

const OWN = 'fd00:1::200'
const NEIGHBOUR = 'fd00:1::201'
const GATEWAY = 'fd00:1::1'
const ROUTER_LINK_LOCAL = 'fe80::1'
const MAC = '02:00:00:00:00:00'
const NEIGHBOUR_MAC = '02:00:00:00:00:01'
const BROADCAST = 'ff:ff:ff:ff:ff:ff'
/** Solicited-node group (RFC 4291, 2.7.1) of the neighbour. */
const NEIGHBOUR_GROUP = 'ff02::1:ff00:201'

interface Attempt {
  readonly frames: readonly string[]
  readonly reason: DropReason
}

/** Everything is root in its own network namespace, with raw sockets. */
describe('a hostile instance', () => {
  let lab: WiringLab
  let wiring: WiringProcess
  let host: Agent
  let hostile: Agent
  let neighbour: Agent
  let client: Agent
  let gatewayMac: string

  const toGateway = (packet: Buffer, fromMac = MAC) => framed(fromMac, gatewayMac, packet)
  const toGroup = (ends: { from: string; to: string }, packet: Buffer) => framed(MAC, groupMac(ends.to), packet)
  const datagram = (from: string, to: string, ports: readonly [number, number] = [9, 9]) =>
    ipv6({ from, to }, UDP, udp({ from, to }, ...ports))
  const control = (from: string, to: string, type: number, body: Buffer, extensions: readonly Extension[] = []) =>
    ipv6({ from, to }, ICMPV6, icmpv6({ from, to }, type, body), { extensions })
  const advertisement = (target: string, mac: string, ends = { from: OWN, to: GATEWAY }) =>
    control(ends.from, ends.to, 136, neighbourBody(target, [linkLayerOption(2, mac)], 0x60))
  const solicitation = (from: string, mac: string | null, target = GATEWAY) =>
    control(from, GATEWAY, 135, neighbourBody(target, mac === null ? [] : [linkLayerOption(1, mac)]))
  /** A message in two fragments, the first with `first` bytes of it. */
  const split = (from: string, to: string, protocol: number, message: Buffer, first: number) => [
    ipv6({ from, to }, protocol, message.subarray(0, first), { extensions: [fragment(0, true)] }),
    ipv6({ from, to }, protocol, message.subarray(first), { extensions: [fragment(first, false)] }),
  ]
  /** Neighbour discovery with a smaller hop limit than 255 (RFC 4861, 7.1). */
  const far = (type: number, body: Buffer) => {
    const ends = { from: OWN, to: GATEWAY }
    return toGateway(ipv6(ends, ICMPV6, icmpv6(ends, type, body), { hopLimit: 254 }))
  }
  const router = (from: string, extensions: readonly Extension[] = []) => {
    const ends = { from, to: 'ff02::1' }
    return toGroup(ends, control(from, ends.to, 134, ADVERTISED_ROUTER, extensions))
  }

  /** What each sends, by what it is. */
  const attempts: Record<string, () => Attempt> = {
    "another's MAC": () => ({ frames: [toGateway(datagram(OWN, GATEWAY), NEIGHBOUR_MAC)], reason: 'mac' }),
    "another's MAC and address": () => ({
      frames: [toGateway(datagram(NEIGHBOUR, GATEWAY), NEIGHBOUR_MAC)],
      reason: 'mac',
    }),
    "the gateway's MAC": () => ({ frames: [toGateway(datagram(OWN, GATEWAY), gatewayMac)], reason: 'mac' }),
    "another's address": () => ({ frames: [toGateway(datagram(NEIGHBOUR, GATEWAY))], reason: 'address' }),
    "the gateway's address": () => ({ frames: [toGateway(datagram(GATEWAY, GATEWAY))], reason: 'address' }),
    "a client's address": () => ({ frames: [toGateway(datagram(client.address, GATEWAY))], reason: 'address' }),
    'a link-local source': () => ({ frames: [toGateway(datagram('fe80::200', GATEWAY))], reason: 'link-local' }),
    'no source': () => ({ frames: [toGateway(datagram('::', GATEWAY))], reason: 'unspecified-source' }),
    'a loopback source': () => ({ frames: [toGateway(datagram('::1', GATEWAY))], reason: 'address' }),
    'IPv4, with any source': () => ({
      frames: [frame({ fromMac: MAC, toMac: gatewayMac }, 0x0800, ipv4Udp('10.0.0.5', '10.0.0.1', 9, 9))],
      reason: 'ipv4',
    }),
    'ARP as its neighbour and as the gateway': () => ({
      frames: [
        frame(
          { fromMac: MAC, toMac: BROADCAST },
          0x0806,
          arp(2, { mac: MAC, ip: '10.0.0.1' }, { mac: BROADCAST, ip: '10.0.0.1' }),
        ),
        frame(
          { fromMac: MAC, toMac: gatewayMac },
          0x0806,
          arp(1, { mac: NEIGHBOUR_MAC, ip: '10.0.0.6' }, { mac: gatewayMac, ip: '10.0.0.1' }),
        ),
      ],
      reason: 'arp',
    }),
    'a router advertisement': () => ({
      frames: [router(OWN), router(ROUTER_LINK_LOCAL), toGateway(control(OWN, GATEWAY, 134, ADVERTISED_ROUTER))],
      reason: 'router-advertisement',
    }),
    'a router advertisement behind extension headers': () => ({
      frames: [
        router(OWN, [padding(DESTINATION_OPTIONS)]),
        router(OWN, [padding(HOP_BY_HOP)]),
        router(OWN, [padding(HOP_BY_HOP), padding(DESTINATION_OPTIONS), padding(DESTINATION_OPTIONS)]),
        router(OWN, [{ protocol: ROUTING, rest: Buffer.from([0, 0, 0, 0, 0, 0, 0]) }]),
        router(OWN, [fragment(0, false)]),
        router(OWN, [padding(DESTINATION_OPTIONS), fragment(0, false)]),
        router(OWN, [fragment(0, false), padding(DESTINATION_OPTIONS)]),
      ],
      reason: 'router-advertisement',
    }),
    'a fragment of a router advertisement whose type is in the next one': () => {
      const ends = { from: OWN, to: 'ff02::1' }
      const options = Buffer.concat([Buffer.of(ICMPV6), padding(DESTINATION_OPTIONS).rest])
      const chain = Buffer.concat([options, icmpv6(ends, 134, ADVERTISED_ROUTER)])
      const [first] = split(ends.from, ends.to, DESTINATION_OPTIONS, chain, 8)
      return { frames: [toGroup(ends, first ?? Buffer.alloc(0))], reason: 'fragment' }
    },
    'a later fragment of an extension header': () => {
      const ends = { from: OWN, to: 'ff02::1' }
      const options = Buffer.concat([Buffer.of(ICMPV6), padding(DESTINATION_OPTIONS).rest])
      const chain = Buffer.concat([options, icmpv6(ends, 134, ADVERTISED_ROUTER)])
      const [, second] = split(ends.from, ends.to, DESTINATION_OPTIONS, chain, 8)
      return { frames: [toGroup(ends, second ?? Buffer.alloc(0))], reason: 'malformed' }
    },
    'a fragment of its own solicitation': () => {
      const message = icmpv6({ from: OWN, to: GATEWAY }, 135, neighbourBody(GATEWAY, [linkLayerOption(1, MAC)]))
      const [first] = split(OWN, GATEWAY, ICMPV6, message, 24)
      return { frames: [toGateway(first ?? Buffer.alloc(0))], reason: 'fragment' }
    },
    'a redirect': () => ({
      frames: [
        toGateway(
          control(OWN, GATEWAY, 137, Buffer.concat([Buffer.alloc(4), addressBytes(OWN), addressBytes(NEIGHBOUR)])),
        ),
        toGateway(
          control(
            ROUTER_LINK_LOCAL,
            GATEWAY,
            137,
            Buffer.concat([Buffer.alloc(4), addressBytes(OWN), addressBytes(NEIGHBOUR)]),
          ),
        ),
      ],
      reason: 'redirect',
    }),
    'answers of a DHCPv6 server, to its port or from it': () => ({
      frames: [
        toGateway(datagram(OWN, GATEWAY, [547, 546])),
        toGateway(datagram(OWN, GATEWAY, [547, 9999])),
        toGateway(datagram(OWN, GATEWAY, [9999, 546])),
        toGroup({ from: OWN, to: 'ff02::1' }, datagram(OWN, 'ff02::1', [547, 546])),
        ...split(OWN, GATEWAY, UDP, udp({ from: OWN, to: GATEWAY }, 547, 546), 8)
          .slice(0, 1)
          .map((packet) => toGateway(packet)),
      ],
      reason: 'dhcp-server',
    }),
    'answers of a DHCPv4 server': () => ({
      frames: [
        frame({ fromMac: MAC, toMac: BROADCAST }, 0x0800, ipv4Udp('10.0.0.1', '255.255.255.255', 67, 68)),
        frame({ fromMac: MAC, toMac: NEIGHBOUR_MAC }, 0x0800, ipv4Udp('10.0.0.1', '10.0.0.6', 67, 68)),
      ],
      reason: 'dhcp-server',
    }),
    'an advertisement for its neighbour, and for the router': () => ({
      frames: [
        toGateway(advertisement(NEIGHBOUR, MAC)),
        toGateway(advertisement(NEIGHBOUR, NEIGHBOUR_MAC)),
        toGateway(advertisement(GATEWAY, MAC)),
        toGateway(advertisement(ROUTER_LINK_LOCAL, MAC)),
        toGroup({ from: OWN, to: 'ff02::1' }, advertisement(GATEWAY, MAC, { from: OWN, to: 'ff02::1' })),
      ],
      reason: 'neighbour-advertisement',
    }),
    "an advertisement of its own address with another's MAC, or two": () => ({
      frames: [
        toGateway(advertisement(OWN, NEIGHBOUR_MAC)),
        toGateway(
          control(
            OWN,
            GATEWAY,
            136,
            neighbourBody(OWN, [linkLayerOption(2, MAC), linkLayerOption(2, NEIGHBOUR_MAC)], 0x60),
          ),
        ),
      ],
      reason: 'neighbour-advertisement',
    }),
    "a solicitation with another's MAC in it, or a second one": () => ({
      frames: [
        toGateway(solicitation(OWN, NEIGHBOUR_MAC)),
        toGateway(
          control(
            OWN,
            GATEWAY,
            135,
            neighbourBody(GATEWAY, [linkLayerOption(1, MAC), linkLayerOption(1, NEIGHBOUR_MAC)]),
          ),
        ),
      ],
      reason: 'neighbour-solicitation',
    }),
    "a solicitation from its neighbour's address": () => ({
      frames: [toGateway(solicitation(NEIGHBOUR, MAC)), toGateway(solicitation(NEIGHBOUR, null))],
      reason: 'address',
    }),
    "duplicate address detection for its neighbour's address, and for the gateway's": () => ({
      frames: [NEIGHBOUR, GATEWAY].map((target) => {
        const ends = { from: '::', to: NEIGHBOUR_GROUP }
        return toGroup(ends, control(ends.from, ends.to, 135, neighbourBody(target)))
      }),
      reason: 'neighbour-solicitation',
    }),
    "a router solicitation with another's MAC in it": () => ({
      frames: [
        toGroup(
          { from: OWN, to: 'ff02::2' },
          control(OWN, 'ff02::2', 133, Buffer.concat([Buffer.alloc(4), linkLayerOption(1, NEIGHBOUR_MAC)])),
        ),
      ],
      reason: 'router-solicitation',
    }),
    'a solicitation that has crossed a router': () => ({
      frames: [far(135, neighbourBody(GATEWAY))],
      reason: 'neighbour-solicitation',
    }),
    'an advertisement that has crossed a router': () => ({
      frames: [far(136, neighbourBody(OWN))],
      reason: 'neighbour-advertisement',
    }),
    'a router solicitation that has crossed one': () => ({
      frames: [far(133, Buffer.alloc(4))],
      reason: 'router-solicitation',
    }),
    'multicast listener queries and reports': () => ({
      frames: [
        toGroup(
          { from: ROUTER_LINK_LOCAL, to: 'ff02::1' },
          control(ROUTER_LINK_LOCAL, 'ff02::1', 130, Buffer.alloc(20), [ROUTER_ALERT]),
        ),
        toGroup({ from: OWN, to: 'ff02::16' }, control(OWN, 'ff02::16', 143, Buffer.alloc(4), [ROUTER_ALERT])),
        toGroup({ from: OWN, to: 'ff02::16' }, control(OWN, 'ff02::16', 143, Buffer.alloc(4))),
      ],
      reason: 'multicast-listener',
    }),
    'other messages of routers': () => ({
      frames: [138, 139, 151, 153].map((type) => toGateway(control(OWN, GATEWAY, type, Buffer.alloc(12)))),
      reason: 'icmpv6-type',
    }),
    'packets to groups': () => ({
      frames: ['ff02::1', 'ff02::fb', 'ff05::1:3'].map((to) => toGroup({ from: OWN, to }, datagram(OWN, to))),
      reason: 'multicast',
    }),
    'a packet to one station in a frame to all': () => ({
      frames: [
        framed(MAC, BROADCAST, datagram(OWN, NEIGHBOUR)),
        framed(MAC, '33:33:00:00:00:01', datagram(OWN, GATEWAY)),
      ],
      reason: 'multicast',
    }),
    "frames to its neighbour's port": () => ({
      frames: [
        framed(MAC, NEIGHBOUR_MAC, datagram(OWN, NEIGHBOUR)),
        framed(
          MAC,
          NEIGHBOUR_MAC,
          ipv6({ from: OWN, to: NEIGHBOUR }, 6, tcpSyn({ from: OWN, to: NEIGHBOUR }, 9, 7777)),
        ),
        framed(MAC, NEIGHBOUR_MAC, control(OWN, NEIGHBOUR, 128, Buffer.alloc(4))),
        framed(MAC, NEIGHBOUR_MAC, control(OWN, NEIGHBOUR, 135, neighbourBody(NEIGHBOUR, [linkLayerOption(1, MAC)]))),
      ],
      reason: 'other-instance',
    }),
    'VLAN tags': () => ({
      frames: [
        frame({ fromMac: MAC, toMac: gatewayMac }, 0x8100, `000186dd${datagram(OWN, GATEWAY).toString('hex')}`),
        frame({ fromMac: MAC, toMac: gatewayMac }, 0x88a8, `00028100000186dd${datagram(OWN, GATEWAY).toString('hex')}`),
      ],
      reason: 'vlan',
    }),
    'frames of other protocols, and garbage': () => ({
      frames: [
        frame({ fromMac: MAC, toMac: gatewayMac }, 0x88cc, '00'.repeat(60)),
        frame({ fromMac: MAC, toMac: gatewayMac }, 0x8863, '11'.repeat(60)),
        frame({ fromMac: MAC, toMac: gatewayMac }, 0x0026, '424203'.padEnd(120, '0')),
        frame({ fromMac: MAC, toMac: BROADCAST }, 0xffff, 'ab'.repeat(1400)),
      ],
      reason: 'ethertype',
    }),
    'extension headers before what is allowed': () => ({
      frames: [DESTINATION_OPTIONS, HOP_BY_HOP].map((header) =>
        toGateway(
          ipv6({ from: OWN, to: GATEWAY }, UDP, udp({ from: OWN, to: GATEWAY }, 9, 9), {
            extensions: [padding(header)],
          }),
        ),
      ),
      reason: 'extension-header',
    }),
    'a jumbogram': () => {
      const jumbo: Extension = { protocol: HOP_BY_HOP, rest: Buffer.from([0, 0xc2, 4, 0, 1, 0, 0]) }
      const packet = ipv6({ from: OWN, to: GATEWAY }, UDP, udp({ from: OWN, to: GATEWAY }, 9, 9), {
        extensions: [jumbo],
        length: 0,
      })
      return { frames: [toGateway(packet)], reason: 'extension-header' }
    },
    'packets that are shorter than they say, of another version, or of no protocol': () => ({
      frames: [
        toGateway(ipv6({ from: OWN, to: GATEWAY }, UDP, udp({ from: OWN, to: GATEWAY }, 9, 9), { length: 1400 })),
        frame({ fromMac: MAC, toMac: gatewayMac }, 0x86dd, `4${datagram(OWN, GATEWAY).toString('hex').slice(1)}`),
        frame({ fromMac: MAC, toMac: gatewayMac }, 0x86dd, '60'.padEnd(60, 'f')),
        toGateway(ipv6({ from: OWN, to: GATEWAY }, NO_NEXT_HEADER, Buffer.alloc(0))),
        toGateway(ipv6({ from: OWN, to: GATEWAY }, 200, Buffer.alloc(8))),
      ],
      reason: 'malformed',
    }),
  }

  /** Frames of these that came to the host's bridge or to the neighbour, judged when a last, honest one has come to each. */
  async function arrived(frames: readonly string[]): Promise<string[]> {
    marks++
    const mark = toGateway(datagram(OWN, GATEWAY, [10, marks]))
    await Promise.all([host.ask('captureTaken'), neighbour.ask('captureTaken')])
    for (const bytes of [...frames, mark]) await hostile.ask('sendFrame', 'eth0', bytes)
    const seen: string[] = []
    await until('the honest frame arrives', async () => {
      seen.push(...(await host.ask<string[]>('captureTaken')))
      return seen.includes(mark)
    })
    assert.equal((await host.udp(NEIGHBOUR)).result, 'answered')
    seen.push(...(await neighbour.ask<string[]>('captureTaken')))
    return frames.filter((bytes) => seen.includes(bytes) || seen.includes(untagged(bytes)))
  }
  let marks = 0

  before(async () => {
    lab = await WiringLab.start()
    // Else fragments are put together on their way over a bridge, and the routes' rules hold back what goes over it.
    for (const what of ['iptables', 'ip6tables']) lab.run('sysctl', '-qw', `net.bridge.bridge-nf-call-${what}=0`)
    wiring = await lab.wiring()
    await wiring.prepare()
    host = await lab.onHost()
    hostile = await lab.instance('first', OWN)
    neighbour = await lab.instance('second', NEIGHBOUR)
    client = await lab.client(0)
    for (const [number, agent] of [hostile, neighbour].entries()) {
      const placed = placement(agent.pid, number, client.address)
      await wiring.attach(placed)
      await wiring.place(placed)
    }
    gatewayMac = lab.macOf('br-instances')
    await host.ask('captureStart', 'br-instances')
    await neighbour.ask('captureStart', 'eth0')
  })
  after(async () => {
    await lab[Symbol.asyncDispose]()
  })

  for (const [what, attempt] of Object.entries(attempts)) {
    it(`cannot send ${what}`, async () => {
      const { frames, reason } = attempt()
      const before = await wiring.counters()
      assert.deepEqual(await arrived(frames), [])
      const now = await wiring.counters()
      const grown = DROP_REASONS.flatMap((name) => {
        const more = (now[name] ?? 0) - (before[name] ?? 0)
        return more === 0 || (name === 'multicast-listener' && reason !== name) || OWN_FAULT.has(name)
          ? []
          : [[name, more]]
      })
      assert.deepEqual(grown, [[reason, frames.length]])
      assert.equal((await client.udp(OWN)).result, 'answered', 'its owner reaches it all the same')
    })
  }

  it('arrives with what it may send, which nothing counts', async () => {
    const own = [
      datagram(OWN, GATEWAY),
      control(OWN, GATEWAY, 128, Buffer.alloc(4)),
      advertisement(OWN, MAC),
      solicitation(OWN, MAC),
      solicitation(OWN, null),
      control(OWN, GATEWAY, 136, neighbourBody(OWN)),
      control(OWN, GATEWAY, 133, Buffer.alloc(4)),
      ipv6({ from: OWN, to: GATEWAY }, UDP, udp({ from: OWN, to: GATEWAY }, 9, 9), {
        extensions: [fragment(0, false)],
      }),
      ...split(OWN, GATEWAY, ICMPV6, icmpv6({ from: OWN, to: GATEWAY }, 128, Buffer.alloc(28)), 16),
    ].map((packet) => toGateway(packet))
    const groups = [
      toGroup(
        { from: OWN, to: 'ff02::1:ff00:1' },
        control(OWN, 'ff02::1:ff00:1', 135, neighbourBody(GATEWAY, [linkLayerOption(1, MAC)])),
      ),
      toGroup(
        { from: OWN, to: 'ff02::2' },
        control(OWN, 'ff02::2', 133, Buffer.concat([Buffer.alloc(4), linkLayerOption(1, MAC)])),
      ),
      toGroup({ from: '::', to: 'ff02::1:ff00:200' }, control('::', 'ff02::1:ff00:200', 135, neighbourBody(OWN))),
      toGroup(
        { from: '::', to: 'ff02::1:ff00:200' },
        control('::', 'ff02::1:ff00:200', 135, neighbourBody(OWN, [Buffer.from([14, 1, 1, 2, 3, 4, 5, 6])])),
      ),
      toGroup({ from: OWN, to: 'ff02::1' }, advertisement(OWN, MAC, { from: OWN, to: 'ff02::1' })),
    ]
    const before = await wiring.counters()
    assert.deepEqual(await arrived([...own, ...groups]), [...own, ...groups])
    const now = await wiring.counters()
    const grown = DROP_REASONS.filter((name) => now[name] !== before[name])
    assert.deepEqual(
      grown.filter((name) => name !== 'host' && name !== 'multicast-listener'),
      [],
      'only the host, to which it has nothing to say, drops what it said there',
    )
  })

  it('is not reached over the bridge by others that are on it', async () => {
    const outsider = await lab.instance('outsider', 'fd00:1::2ff')
    lab.run('ip', 'link', 'add', 'x0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(outsider.pid))
    lab.run('ip', 'link', 'set', 'x0', 'master', 'br-instances', 'up')
    lab.runIn(outsider.pid, 'ip', 'link', 'set', 'eth0', 'up')
    await until('the port forwards', () => lab.run('bridge', 'link', 'show', 'dev', 'x0').includes('state forwarding'))
    const bytes = framed('02:00:00:00:00:ff', NEIGHBOUR_MAC, datagram('fd00:1::2ff', NEIGHBOUR))
    const before = await wiring.counters()
    await neighbour.ask('captureTaken')
    await outsider.ask('sendFrame', 'eth0', bytes)
    assert.equal((await host.udp(NEIGHBOUR)).result, 'answered')
    assert.ok(!(await neighbour.ask<string[]>('captureTaken')).includes(bytes))
    assert.ok(((await wiring.counters()).stranger ?? 0) > (before.stranger ?? 0))
    lab.run('nft', 'flush', 'chain', 'bridge', 'unionize', 'forward')
    await outsider.ask('sendFrame', 'eth0', bytes)
    await until('without the rule it arrives', async () =>
      (await neighbour.ask<string[]>('captureTaken')).includes(bytes),
    )
    await wiring.prepare()
    await outsider.kill()
  })

  it('is held back by these rules alone: without them everything arrives', async () => {
    lab.run('nft', 'delete', 'table', 'bridge', 'unionize')
    for (const link of ['ui-0', 'ui-1']) lab.run('bridge', 'link', 'set', 'dev', link, 'isolated', 'off')
    for (const [what, attempt] of Object.entries(attempts)) {
      const { frames } = attempt()
      for (const bytes of frames) await hostile.ask('sendFrame', 'eth0', bytes)
      const seen: string[] = []
      await until(`${what} arrives`, async () => {
        for (const agent of [host, neighbour]) seen.push(...(await agent.ask<string[]>('captureTaken')))
        return frames.every((bytes) => seen.includes(bytes) || seen.includes(untagged(bytes)))
      })
    }
  })
})

/** What the host drops of the honest frame that ends each attempt. */
const OWN_FAULT: ReadonlySet<DropReason> = new Set(['host'])

/** The kernel shows a VLAN tag beside a frame, not in it. */
function untagged(bytes: string): string {
  return ['8100', '88a8'].includes(bytes.slice(24, 28)) ? bytes.slice(0, 24) + bytes.slice(32) : bytes
}
