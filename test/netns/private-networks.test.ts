import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { after, before, describe, it } from 'node:test'
import { parseIpv6, parsePrefix } from '../../common/ipv6.ts'
import type { WireOrder } from '../../unionize/contract.ts'
import { type PlannedMember, planNetworks } from '../../unionize/networks/plan.ts'
import type { HubShare } from '../../unionize/wiring/private/share.ts'
import { service } from '../support/fixtures.ts'
import { until } from '../support/until.ts'
import {
  frame,
  ipv6Frame,
  neighbourAdvertisement,
  redirect,
  routerAdvertisement,
  udpPacket,
} from '../support/wiring-frames.ts'
import { type Agent, BRIEF, NETWORK, PORT, placement, WiringLab, type WiringProcess } from '../support/wiring-lab.ts'
import type { Remote } from '../support/wiring-remote.ts'

const AROUND = { instances: parsePrefix('fd00:1::/64'), myAddress: parseIpv6(NETWORK.myAddress) }
const ALL_NODES = '33:33:00:00:00:01'

/** A client: its hub, and a stack of a web server for all to see, a database and a cache behind it. */
interface Client {
  readonly number: number
  hub: Remote
  readonly agents: Map<string, Agent>
  order: WireOrder
}

let lab: WiringLab
let wiring: WiringProcess
let ada: Client
let bob: Client

/** `front`: web and cache; `back`: web and db. The web server's sandbox is that of the instance. */
function orderOf(number: number, prefixes: Record<string, string> = {}): WireOrder {
  const on = (name: string, networks: readonly string[]) => ({
    ...service({ name }),
    ...(name === 'web' ? {} : { sandbox: 'own' as const }),
    networks: Object.fromEntries(networks.map((network) => [network, { aliases: [] }])),
  })
  const network = (name: string) => [name, prefixes[name] === undefined ? {} : { prefix: prefixes[name] }] as const
  return {
    instance: `i-private${number}`,
    generation: 1,
    owner: { duid: `00:03:00:01:02:00:00:00:00:0${number}`, iaid: number },
    name: `box${number}`,
    address: `fd00:1::2${number.toString(16).padStart(2, '0')}`,
    ownerAddress: `fd00:c::10${number}`,
    services: [on('web', ['front', 'back']), on('db', ['back']), on('cache', ['front'])],
    wiring: { interfaces: [], networks: Object.fromEntries([network('front'), network('back')]) },
    outputs: false,
    entryPort: null,
  }
}

/** What a client's order makes of its hub. `without`: sandboxes that are on no network. */
function shareOf(client: Client, without: readonly string[] = []): HubShare {
  const plan = planNetworks(client.order, AROUND)
  const networks = plan.networks.map(({ bridge, prefix, members }) => ({
    bridge,
    prefixLength: prefix.length,
    members: members
      .filter(({ sandbox }) => !without.includes(sandbox))
      .map(({ sandbox, port, interface: name, mac, address }) => {
        return { pid: agentIn(client, sandbox).pid, port, interface: name, mac, address }
      }),
  }))
  return { pid: client.hub.pid, scope: plan.scope, networks }
}
function agentIn(client: Client, sandbox: string): Agent {
  return client.agents.get(sandbox === '' ? 'web' : sandbox) ?? assert.fail(`no agent ${sandbox}`)
}
function member(client: Client, service: string, network: string): PlannedMember {
  const sandbox = service === 'web' ? '' : service
  const found = planNetworks(client.order, AROUND).networks.find(({ name }) => name === network)
  return found?.members.find((one) => one.sandbox === sandbox) ?? assert.fail(`${service} is not on ${network}`)
}
const address = (client: Client, service: string, network: string) => member(client, service, network).address
const label = (client: Client, service: string) => `${service}${client.number}`
const connect = (client: Client, without: readonly string[] = []) => wiring.connect(shareOf(client, without))

async function newClient(number: number): Promise<Client> {
  const agents = new Map<string, Agent>()
  for (const service of ['web', 'db', 'cache']) agents.set(service, await lab.instance(`${service}${number}`, ''))
  return { number, hub: await lab.idle(), agents, order: orderOf(number) }
}
async function answers(from: Agent, to: string, expected: string): Promise<void> {
  const options = { timeoutMs: 3000 }
  assert.equal((await from.tcp(to, options)).label, expected, `TCP to ${to}`)
  assert.equal((await from.udp(to, options)).label, expected, `UDP to ${to}`)
  assert.equal((await from.icmp(to, options)).result, 'answered', `ICMP to ${to}`)
}
async function silent(from: Agent, to: string): Promise<void> {
  const tried = await Promise.all([from.tcp(to, BRIEF), from.udp(to, BRIEF), from.icmp(to, BRIEF)])
  for (const { result } of tried) assert.notEqual(result, 'answered', `${to} answered`)
}
/** Everybody who is to reach somebody does. */
async function wellConnected(client: Client): Promise<void> {
  const agent = (service: string) => agentIn(client, service)
  await answers(agent('web'), address(client, 'db', 'back'), label(client, 'db'))
  await answers(agent('web'), address(client, 'cache', 'front'), label(client, 'cache'))
  await answers(agent('db'), address(client, 'web', 'back'), label(client, 'web'))
  await answers(agent('cache'), address(client, 'web', 'front'), label(client, 'web'))
}
/** Names of the links in a process's namespace, but the loopback. */
function linksIn(pid: number): string[] {
  const links = JSON.parse(lab.runIn(pid, 'ip', '-j', 'link', 'show')) as { ifname: string }[]
  return links.map((link) => link.ifname).filter((name) => name !== 'lo')
}
/** The links that a hub has by the model: two bridges, and a port for each member. */
function modelOf(client: Client): string[] {
  const networks = planNetworks(client.order, AROUND).networks
  return networks.flatMap(({ bridge, members }) => [bridge, ...members.map(({ port }) => port)]).sort()
}

before(async () => {
  lab = await WiringLab.start()
  wiring = await lab.wiring()
  await wiring.prepare()
  ada = await newClient(1)
  bob = await newClient(2)
  for (const client of [ada, bob]) {
    const place = placement(agentIn(client, '').pid, client.number, null)
    await wiring.attach(place)
    await wiring.place({ ...place, address: client.order.address })
    assert.deepEqual(await connect(client), { others: 0 })
  }
})
after(async () => {
  await lab?.[Symbol.asyncDispose]()
})

describe('private networks', () => {
  it('let the members of a network reach each other, with the first packet, and only on the networks that they share', async () => {
    for (const client of [ada, bob]) {
      await wellConnected(client)
      assert.deepEqual(linksIn(client.hub.pid).sort(), modelOf(client))
      assert.deepEqual(linksIn(agentIn(client, 'db').pid), ['net-back'])
      await silent(agentIn(client, 'db'), address(client, 'cache', 'front'))
      await silent(agentIn(client, 'db'), address(client, 'web', 'front'))
    }
  })

  it('let nothing pass to another client by TCP, UDP or ICMP, not by way of the host either', async () => {
    const targets = (client: Client) => [
      address(client, 'web', 'back'),
      address(client, 'db', 'back'),
      address(client, 'cache', 'front'),
      client.order.address,
    ]
    const all = async () => {
      for (const [from, to] of [
        [ada, bob],
        [bob, ada],
      ] as const) {
        const pairs = ['web', 'db', 'cache'].flatMap((service) => targets(to).map((target) => ({ service, target })))
        await Promise.all(pairs.map(({ service, target }) => silent(agentIn(from, service), target)))
      }
    }
    await all()
    // A host that wants to route between them, and an instance that knows the way, cannot.
    for (const client of [ada, bob]) {
      const prefix = planNetworks(client.order, AROUND).networks.find(({ name }) => name === 'back')?.prefix
      lab.run('ip', '-6', 'route', 'add', `${prefix?.base}/64`, 'via', client.order.address, 'dev', 'br-instances')
      const other = client === ada ? bob : ada
      const web = agentIn(other, 'web').pid
      lab.runIn(web, 'ip', '-6', 'route', 'add', `${prefix?.base}/64`, 'via', NETWORK.gateway, 'dev', 'eth0')
      lab.runIn(web, 'sysctl', '-qw', 'net.ipv6.conf.all.forwarding=1')
      const db = agentIn(other, 'db').pid
      lab.runIn(db, 'ip', '-6', 'route', 'add', 'default', 'via', address(other, 'web', 'back'), 'dev', 'net-back')
    }
    await all()
    const onHost = await lab.onHost()
    for (const client of [ada, bob]) await silent(onHost, address(client, 'db', 'back'))
  })

  it('are not on the host: it has neither their bridges nor their ports nor an address of theirs', () => {
    const links = JSON.parse(lab.run('ip', '-j', 'link', 'show')) as { ifname: string }[]
    const own = ['lo', 'br-clients', 'br-instances', 'ui-1', 'ui-2']
    assert.deepEqual(links.map((link) => link.ifname).sort(), own.sort())
    for (const client of [ada, bob]) {
      const addresses = JSON.parse(lab.runIn(client.hub.pid, 'ip', '-j', 'address', 'show')) as {
        addr_info: unknown[]
      }[]
      assert.deepEqual(
        addresses.flatMap((link) => link.addr_info),
        [],
        'and the hub has no address at all',
      )
    }
  })

  it('drop every forged frame: MACs, sources, neighbours, routers, DHCP answers, VLAN tags, IPv4', async () => {
    const [db, web, theirs] = [member(ada, 'db', 'back'), member(ada, 'web', 'back'), member(bob, 'db', 'back')]
    const macs = { fromMac: db.mac, toMac: web.mac }
    const udp = (change: { from?: string; to?: string; fromPort?: number } = {}) =>
      udpPacket({ from: db.address, to: web.address, fromPort: 9, toPort: 9, ...change })
    const claim = { from: db.address, to: web.address, mac: db.mac }
    const forged: Record<string, string> = {
      "the MAC of a neighbour's port": ipv6Frame({ ...macs, fromMac: theirs.mac }, udp()),
      'the address of another client': ipv6Frame(macs, udp({ from: theirs.address })),
      'the address of nobody': ipv6Frame(macs, udp({ from: 'fd00:bad::1' })),
      'a link-local source': ipv6Frame(macs, udp({ from: 'fe80::1' })),
      'another as neighbour': ipv6Frame(macs, neighbourAdvertisement({ ...claim, target: 'fd00:bad::1' })),
      'a router': ipv6Frame({ ...macs, toMac: ALL_NODES }, routerAdvertisement({ from: db.address, to: 'ff02::1' })),
      'a redirect': ipv6Frame(macs, redirect({ from: db.address, to: web.address, target: theirs.address })),
      'a DHCPv6 answer': ipv6Frame(macs, udp({ fromPort: 547 })),
      IPv4: frame(macs, 0x0800, `4500001c00000000401166cf0a0000010a000002${'00'.repeat(8)}`),
      ARP: frame({ ...macs, toMac: 'ff:ff:ff:ff:ff:ff' }, 0x0806, '0001080006040001'.padEnd(56, '0')),
    }
    // The kernel takes the tag of a frame that arrives.
    const tag = frame(macs, 0x8100, `000186dd${udp({ fromPort: 10 })}`)
    const untagged = ipv6Frame(macs, udp({ fromPort: 10 }))
    const spy = agentIn(ada, 'web')
    await spy.ask('captureStart', 'net-back')
    const arriving = async (honest: string) => {
      for (const bytes of [...Object.values(forged), tag, honest]) {
        await agentIn(ada, 'db').ask('sendFrame', 'net-back', bytes)
      }
      const seen: string[] = []
      await until('the honest frame arrives', async () => {
        seen.push(...(await spy.ask<string[]>('captureTaken')))
        return seen.includes(honest)
      })
      const arrived = Object.keys(forged).filter((name) => seen.includes(forged[name] ?? ''))
      return [...arrived, ...(seen.includes(tag) || seen.includes(untagged) ? ['a VLAN tag'] : [])]
    }
    assert.deepEqual(await arriving(ipv6Frame(macs, udp({ fromPort: 11 }))), [])
    lab.runIn(ada.hub.pid, 'nft', 'flush', 'ruleset')
    const all = [...Object.keys(forged), 'a VLAN tag']
    assert.deepEqual(await arriving(ipv6Frame(macs, udp({ fromPort: 12 }))), all, 'without the rules they arrive')
    await connect(ada)
    assert.deepEqual(await arriving(ipv6Frame(macs, udp({ fromPort: 13 }))), [])
    // What the forged neighbour advertisements and redirects did while there were no rules.
    lab.runIn(spy.pid, 'ip', '-6', 'neigh', 'flush', 'dev', 'net-back')
  })

  it('carry no frame to another client, whoever it is addressed to: a station, everybody, the bridge itself', async () => {
    const [mine, theirs] = [member(ada, 'db', 'back'), member(bob, 'db', 'back')]
    const spies = ['web', 'db', 'cache'].map((service) => agentIn(bob, service))
    const links = ['net-back', 'net-back', 'net-front']
    for (const [at, spy] of spies.entries()) await spy.ask('captureStart', links[at])
    const bridge = JSON.parse(lab.runIn(ada.hub.pid, 'ip', '-j', 'link', 'show', 'br-back')) as { address: string }[]
    const packet = (to: string) => udpPacket({ from: mine.address, to, fromPort: 9, toPort: PORT })
    const sent = [theirs.mac, ALL_NODES, bridge[0]?.address ?? ''].flatMap((toMac) =>
      [theirs.address, bob.order.address, 'ff02::1'].map((to) => ipv6Frame({ fromMac: mine.mac, toMac }, packet(to))),
    )
    for (const bytes of sent) await agentIn(ada, 'db').ask('sendFrame', 'net-back', bytes)
    await wellConnected(bob)
    for (const spy of spies) {
      const taken = await spy.ask<string[]>('captureTaken')
      assert.ok(taken.length > 0, 'the spy sees its own traffic')
      assert.deepEqual(
        taken.filter((bytes) => sent.includes(bytes)),
        [],
      )
    }
  })

  it('may have the same prefix and addresses with every client', async () => {
    const prefixes = { back: 'fd77::/64', front: 'fd78::/64' }
    const former = [ada.order, bob.order] as const
    const given = (order: WireOrder): WireOrder => {
      const services = order.services.map((service) => {
        if (service.name !== 'db') return service
        return { ...service, networks: { back: { address: 'fd77::db', aliases: [] } } }
      })
      return { ...order, services }
    }
    ada.order = given(orderOf(1, prefixes))
    bob.order = given(orderOf(2, prefixes))
    for (const client of [ada, bob]) {
      await connect(client)
      assert.equal(address(client, 'db', 'back'), 'fd77::db')
      await answers(agentIn(client, 'web'), 'fd77::db', label(client, 'db'))
    }
    ada.order = former[0]
    bob.order = former[1]
    for (const client of [ada, bob]) {
      await connect(client)
      await wellConnected(client)
    }
  })

  it('change only where the order differs: a connection between two who stay lives on', async () => {
    const web = agentIn(ada, 'web')
    await web.ask('flowOpen', address(ada, 'db', 'back'), PORT)
    const index = () => JSON.parse(lab.runIn(web.pid, 'ip', '-j', 'link', 'show', 'net-back'))[0].ifindex as number
    await connect(ada)
    await connect(ada, ['cache'])
    assert.ok(await web.ask<boolean>('flowEcho', 1000))
    assert.deepEqual(linksIn(agentIn(ada, 'cache').pid), [])
    await silent(web, address(ada, 'cache', 'front'))
    const before = index()
    await connect(ada)
    assert.ok(await web.ask<boolean>('flowEcho', 1000))
    assert.equal(index(), before)
    await web.ask('flowClose')
    await wellConnected(ada)
  })

  it('come back with the same addresses after the death of a sandbox, or of the hub', async () => {
    const former = address(ada, 'db', 'back')
    await agentIn(ada, 'db').kill()
    ada.agents.set('db', await lab.instance(label(ada, 'db'), ''))
    await connect(ada)
    assert.equal(address(ada, 'db', 'back'), former)
    await wellConnected(ada)
    await ada.hub.kill()
    await until('its ports went with it', () => linksIn(agentIn(ada, 'web').pid).join() === 'eth0')
    await assert.rejects(connect(ada), { code: 'sandbox-gone' })
    ada.hub = await lab.idle()
    await connect(ada)
    await wellConnected(ada)
    assert.deepEqual(linksIn(ada.hub.pid).sort(), modelOf(ada))
  })

  it('are put right by repeating the call after a kill at any moment of it', async () => {
    for (const ms of [0, 1, 2, 4, 6, 8, 12, 16]) {
      const without = ms % 4 === 0 ? ['cache'] : ['db', 'cache']
      const changing = connect(ada, without).catch(() => null)
      await Promise.race([changing, new Promise((resolve) => setTimeout(resolve, ms))])
      await wiring.ask('killWorker')
      await changing
      await connect(ada)
      assert.deepEqual(linksIn(ada.hub.pid).sort(), modelOf(ada), `killed after ${ms} ms`)
    }
    await wellConnected(ada)
  })

  it('of two instances of one client meet on the same bridge; the hub can go with the second', async () => {
    const second = await newClient(3)
    second.hub = ada.hub
    second.order = { ...orderOf(3), owner: ada.order.owner }
    assert.deepEqual(await connect(second), { others: 4 })
    await answers(agentIn(second, 'web'), address(ada, 'db', 'back'), label(ada, 'db'))
    await wellConnected(ada)
    const nothing = (client: Client) => wiring.connect({ ...shareOf(client), networks: [] })
    assert.deepEqual(await nothing(second), { others: 4 })
    assert.deepEqual(linksIn(ada.hub.pid).sort(), modelOf(ada))
    await until('its sandboxes are clean', () => linksIn(agentIn(second, 'db').pid).length === 0)
    const tables = lab.runIn(ada.hub.pid, 'nft', 'list', 'tables')
    assert.doesNotMatch(tables, new RegExp(planNetworks(second.order, AROUND).scope), 'its rules are gone')
    await wellConnected(ada)
    assert.deepEqual(await nothing(ada), { others: 0 })
    for (const agent of second.agents.values()) await agent.kill()
  })

  it('hold nothing open: no descriptor, no namespace of the dead', async () => {
    await connect(bob)
    const before = await wiring.ask<number>('fds')
    for (let n = 0; n < 20; n++) await connect(bob, n % 2 === 0 ? ['db'] : [])
    assert.equal(await wiring.ask<number>('fds'), before)
    const hub = await lab.idle()
    const inode = execFileSync('readlink', [`/proc/${hub.pid}/ns/net`], { encoding: 'utf8' }).trim()
    await wiring.connect({ ...shareOf(bob), pid: hub.pid })
    await hub.kill()
    // Links at their other end tell that the kernel has buried the namespace.
    await until(`${inode} is gone`, () => linksIn(agentIn(bob, 'db').pid).length === 0)
    bob.hub = await lab.idle()
    await connect(bob)
    await wellConnected(bob)
  })

  it('refuse what is not theirs, is gone, or makes no sense', async () => {
    const stray = await lab.instance('stray', '')
    lab.runIn(stray.pid, 'ip', 'link', 'add', 'net-back', 'type', 'bridge')
    const share = shareOf(ada)
    const replaced = {
      ...share,
      networks: share.networks.map((network) => ({
        ...network,
        members: network.members.map((m) => ({ ...m, pid: stray.pid })),
      })),
    }
    await assert.rejects(wiring.connect(replaced), { code: 'interface-in-use' })
    assert.match(lab.runIn(stray.pid, 'ip', '-d', 'link', 'show', 'net-back'), /bridge/, 'it was not touched')
    await stray.kill()
    await assert.rejects(wiring.connect(replaced), { code: 'sandbox-gone' })
    for (const change of [{ scope: 'x' }, { pid: 0 }, { networks: null }, { networks: [{ bridge: 'eth0' }] }]) {
      await assert.rejects(wiring.connect({ ...share, ...change } as never), { code: 'invalid-input' })
    }
    await connect(ada)
    await wellConnected(ada)
  })
})
