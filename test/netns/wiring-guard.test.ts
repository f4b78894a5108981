import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { until } from '../support/until.ts'
import { addressBytes } from '../support/wiring-bytes.ts'
import {
  destinationOptions,
  frame,
  ipv6Frame,
  neighbourAdvertisement,
  neighbourSolicitation,
  redirect,
  routerAdvertisement,
  udpPacket,
} from '../support/wiring-frames.ts'
import { type Agent, placement, WiringLab, type WiringProcess } from '../support/wiring-lab.ts'

const OWN = 'fd00:1::200'
const NEIGHBOUR = 'fd00:1::201'
const GATEWAY = 'fd00:1::1'
const ALL_NODES = 'ff02::1'
const MAC = '02:00:00:00:00:00'
const OTHER_MAC = '02:00:00:00:00:01'

/** 10.0.0.1 to 10.0.0.2, UDP without data. */
const IPV4 = '4500001c00000000401166cf0a0000010a0000020009000900080000'

/** The kernel shows a VLAN tag beside a frame, not in it. */
function untagged(bytes: string): string {
  return bytes.slice(24, 28) === '8100' ? bytes.slice(0, 24) + bytes.slice(32) : bytes
}

describe('what an instance may send', () => {
  let lab: WiringLab
  let wiring: WiringProcess
  let host: Agent
  let instance: Agent
  let other: Agent
  let toMac: string

  const udp = (from: string, fromPort = 9) => udpPacket({ from, to: GATEWAY, fromPort, toPort: 9 })
  const advertise = (target: string, options?: Buffer) =>
    neighbourAdvertisement({ from: OWN, to: GATEWAY, target, mac: MAC, ...(options && { options }) })
  const own = (packet: string) => ipv6Frame({ fromMac: MAC, toMac }, packet)
  const forgedFrames = (): Record<string, string> => ({
    "another's address": own(udp(NEIGHBOUR)),
    'a link-local address': own(udp('fe80::1')),
    'no address': own(udp('::')),
    "another's MAC": ipv6Frame({ fromMac: OTHER_MAC, toMac }, udp(OWN)),
    "another's MAC and address": ipv6Frame({ fromMac: OTHER_MAC, toMac }, udp(NEIGHBOUR)),
    "an advertisement of another's address": own(advertise(NEIGHBOUR)),
    "an advertisement of the gateway's address": own(advertise(GATEWAY)),
    'such an advertisement behind an extension header': own(
      advertise(NEIGHBOUR, destinationOptions(addressBytes(OWN))),
    ),
    "an advertisement from another's address": own(
      neighbourAdvertisement({ from: NEIGHBOUR, to: GATEWAY, target: OWN, mac: MAC }),
    ),
    "a solicitation from another's address": own(
      neighbourSolicitation({ from: NEIGHBOUR, to: GATEWAY, target: GATEWAY, mac: MAC }),
    ),
    'a router advertisement': own(routerAdvertisement({ from: OWN, to: ALL_NODES })),
    'a router advertisement of a link-local address': own(routerAdvertisement({ from: 'fe80::1', to: ALL_NODES })),
    'a redirect': own(redirect({ from: OWN, to: GATEWAY, target: NEIGHBOUR })),
    'an answer of a DHCPv6 server': own(udp(OWN, 547)),
    ARP: frame({ fromMac: MAC, toMac: 'ff:ff:ff:ff:ff:ff' }, 0x0806, `0001080006040001${'0'.repeat(40)}`),
    IPv4: frame({ fromMac: MAC, toMac }, 0x0800, IPV4),
    'a VLAN tag': frame({ fromMac: MAC, toMac }, 0x8100, `000186dd${udp(OWN, 11)}`),
  })
  const allowedFrames = (): Record<string, string> => ({
    'a packet of its own': own(udp(OWN)),
    'an advertisement of its own address': own(advertise(OWN)),
    'a solicitation of the gateway': own(neighbourSolicitation({ from: OWN, to: GATEWAY, target: GATEWAY, mac: MAC })),
  })

  /** What of these arrives at the bridge, judged when a last, allowed frame has arrived. */
  async function arriving(frames: Record<string, string>): Promise<string[]> {
    const last = own(udp(OWN, 10))
    await host.ask('captureTaken')
    for (const bytes of [...Object.values(frames), last]) await instance.ask('sendFrame', 'eth0', bytes)
    const seen: string[] = []
    await until('the last frame arrives', async () => {
      seen.push(...(await host.ask<string[]>('captureTaken')))
      return seen.includes(last)
    })
    return Object.keys(frames).filter((name) => seen.includes(untagged(frames[name] ?? '')))
  }

  before(async () => {
    lab = await WiringLab.start()
    wiring = await lab.wiring()
    await wiring.prepare()
    host = await lab.onHost()
    instance = await lab.instance('first', OWN)
    other = await lab.instance('second', NEIGHBOUR)
    for (const [number, agent] of [instance, other].entries()) {
      await wiring.attach(placement(agent.pid, number, null))
      await wiring.place(placement(agent.pid, number, null))
    }
    toMac = lab.macOf('br-instances')
    await host.ask('captureStart', 'br-instances')
  })
  after(async () => {
    await lab[Symbol.asyncDispose]()
  })

  it('its own MAC and address', async () => {
    assert.deepEqual(await arriving(allowedFrames()), Object.keys(allowedFrames()))
  })

  it('nothing forged', async () => {
    assert.deepEqual(await arriving(forgedFrames()), [])
  })

  it('nothing at all from an address it no longer has', async () => {
    const moved = { ...placement(instance.pid, 0, null), address: 'fd00:1::299' }
    await wiring.place(moved)
    await host.ask('captureTaken')
    await instance.ask('sendFrame', 'eth0', own(udp(OWN)))
    await instance.ask('sendFrame', 'eth0', own(udp(moved.address)))
    const seen: string[] = []
    await until('a frame of its new address arrives', async () => {
      seen.push(...(await host.ask<string[]>('captureTaken')))
      return seen.includes(own(udp(moved.address)))
    })
    assert.ok(!seen.includes(own(udp(OWN))))
    await wiring.place(placement(instance.pid, 0, null))
  })

  it('no frame from one instance to the port of another, whatever it holds', async () => {
    const toOther = { fromMac: MAC, toMac: OTHER_MAC }
    const direct = ipv6Frame(toOther, udpPacket({ from: OWN, to: NEIGHBOUR, fromPort: 9, toPort: 9 }))
    const everyone = ipv6Frame({ fromMac: MAC, toMac: '33:33:00:00:00:01' }, udp(OWN))
    const taken = async () =>
      (await other.ask<string[]>('captureTaken')).filter((bytes) => [direct, everyone].includes(bytes))
    await other.ask('captureStart', 'eth0')
    await arriving({ direct, everyone })
    assert.deepEqual(await taken(), [])
    lab.run('nft', 'flush', 'chain', 'bridge', 'unionize', 'packet')
    await arriving({ direct, everyone })
    assert.deepEqual(await taken(), [], 'they are held back where frames leave, too')
    lab.run('nft', 'flush', 'chain', 'bridge', 'unionize', 'forward')
    await arriving({ direct, everyone })
    assert.deepEqual(await taken(), [], 'the ports are isolated besides')
    lab.run('nft', 'flush', 'chain', 'inet', 'unionize', 'forward')
    for (const link of ['ui-0', 'ui-1']) lab.run('bridge', 'link', 'set', 'dev', link, 'isolated', 'off')
    await arriving({ direct, everyone })
    const seen: string[] = []
    await until('both arrive without the rules', async () => {
      seen.push(...(await taken()))
      return seen.includes(direct) && seen.includes(everyone)
    })
    await wiring.prepare()
  })

  it('what holds forged frames back is the guard: without it they all arrive', async () => {
    lab.run('nft', 'delete', 'table', 'bridge', 'unionize')
    assert.deepEqual(await arriving(forgedFrames()), Object.keys(forgedFrames()))
  })
})
