import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type DhcpInterface, duidOf, iaidOf } from '../../unionize/wiring/dhcp/configuration.ts'
import { type DhcpServer, startDnsmasq, startKea } from '../support/dhcp-servers.ts'
import { until } from '../support/until.ts'
import { WiringLab } from '../support/wiring-lab.ts'
import { Remote } from '../support/wiring-remote.ts'

const HOST = fileURLToPath(new URL('../support/dhcp-host.ts', import.meta.url))
const LATE_ARP = fileURLToPath(new URL('../support/late-arp.ts', import.meta.url))
const GRACE_MS = 600
const HOST_RESOLVER = readFileSync('/etc/resolv.conf', 'utf8')
const KEA4 = {
  subnet: '10.77.1.0/24',
  pool: '10.77.1.100-10.77.1.199',
  options: [
    { name: 'routers', data: '10.77.1.1' },
    { name: 'domain-name-servers', data: '10.77.1.53' },
    { name: 'domain-name', data: 'kea.example' },
  ],
}
const KEA6 = {
  subnet: 'fd77:1::/64',
  pool: 'fd77:1::100-fd77:1::1ff',
  options: [
    { name: 'dns-servers', data: 'fd77:1::53' },
    { name: 'domain-search', data: 'kea.example, lab.example' },
  ],
}

let lab: WiringLab
let folder: string
let dhcp: Remote
let lastBox = 0
const servers: DhcpServer[] = []
/** Those that end with the test that started them. */
const ofTest: DhcpServer[] = []
const boxes: Remote[] = []

before(async () => {
  lab = await WiringLab.start({ bare: true })
  folder = mkdtempSync(join(tmpdir(), 'dhcp-'))
  // Kea and dnsmasq want the same ports: each has a namespace of its own behind its bridge.
  for (const [bridge, n] of [
    ['br-kea', 1],
    ['br-dns', 2],
  ] as const) {
    const name = serverNamespace(bridge)
    execFileSync('ip', ['netns', 'add', name])
    const inside = (...args: string[]) => execFileSync('nsenter', [`--net=/run/netns/${name}`, ...args])
    inside('sysctl', '-qw', 'net.ipv6.conf.default.accept_dad=0')
    lab.run('ip', 'link', 'add', bridge, 'type', 'bridge')
    lab.run('ip', 'link', 'set', bridge, 'up')
    lab.run('ip', 'link', 'add', `p${n}`, 'master', bridge, 'type', 'veth', 'peer', 'name', 'v0', 'netns', name)
    lab.run('ip', 'link', 'set', `p${n}`, 'up')
    inside('ip', 'link', 'set', 'v0', 'up')
    inside('ip', 'address', 'add', `10.77.${n}.1/24`, 'dev', 'v0')
    inside('ip', 'address', 'add', `fd77:${n}::1/64`, 'dev', 'v0', 'nodad')
  }
  dhcp = await start()
})

after(async () => {
  for (const box of boxes) await dhcp?.ask('release', keyOf(box)).catch(() => {})
  await dhcp?.ask('stop').catch(() => {})
  await dhcp?.kill()
  for (const server of servers) await server.stop()
  for (const box of boxes) await box.kill()
  for (const bridge of ['br-kea', 'br-dns']) execFileSync('ip', ['netns', 'delete', serverNamespace(bridge)])
  await lab?.[Symbol.asyncDispose]()
  if (folder) rmSync(folder, { recursive: true })
})

// A test that fails must not make those after it fail.
afterEach(async () => {
  if (dhcp.process.exitCode !== null || dhcp.process.signalCode !== null) dhcp = await start()
  for (const key of [...boxes.map(keyOf), 'container:x']) await dhcp.ask('release', key)
  for (const server of ofTest.splice(0)) await server.stop()
  rmSync(join(folder, 'br-dns'), { recursive: true, force: true })
})

async function start(): Promise<Remote> {
  const remote = new Remote([process.execPath, HOST, join(folder, 'state'), String(GRACE_MS)])
  await remote.ask('ready')
  return remote
}
const serverNamespace = (bridge: string) => `${lab.host}-${bridge}`
const place = (bridge: string) => ({ namespace: serverNamespace(bridge), link: 'v0', folder: join(folder, bridge) })
async function kea(): Promise<[DhcpServer, DhcpServer]> {
  const both = await Promise.all([startKea(place('br-kea'), 4, KEA4), startKea(place('br-kea'), 6, KEA6)])
  servers.push(...both)
  return both
}
async function dnsmasq(v4 = '10.77.2.100,10.77.2.199', v6 = 'fd77:2::100,fd77:2::1ff'): Promise<DhcpServer> {
  const options = ['--dhcp-option=option:dns-server,10.77.2.53', '--dhcp-option=option6:dns-server,[fd77:2::53]']
  const router = '--dhcp-option=option:router,10.77.2.1'
  const classless = '--dhcp-option=option:classless-static-route,10.99.0.0/16,10.77.2.9,0.0.0.0/0,10.77.2.1'
  const server = await startDnsmasq(place('br-dns'), { v4, v6 }, [...options, router, classless])
  ofTest.push(server)
  return server
}

/** A process with a network namespace and a resolv.conf of its own, on a bridge, as a container has them. */
async function box(bridge: string, mac: string): Promise<Remote> {
  const number = ++lastBox
  const resolver = join(folder, `resolv-${number}`)
  writeFileSync(resolver, 'nameserver 192.0.2.1\noptions edns0\n')
  const script = 'mount --bind "$1" /etc/resolv.conf && ip link set lo up && exec cat'
  const made = new Remote([
    'unshare',
    '--net',
    '--mount',
    '--propagation',
    'private',
    'sh',
    '-c',
    script,
    'sh',
    resolver,
  ])
  boxes.push(made)
  const own = readlinkSync('/proc/self/ns/net')
  await until(
    'the box has its namespace',
    () =>
      readFileSync(`/proc/${made.pid}/comm`, 'utf8').trim() === 'cat' &&
      readlinkSync(`/proc/${made.pid}/ns/net`) !== own,
  )
  plug(made, bridge, mac)
  return made
}
function plug(made: Remote, bridge: string, mac: string): void {
  const end = `b${made.pid}`
  lab.run('ip', 'link', 'add', end, 'type', 'veth', 'peer', 'name', 'eth1', 'address', mac, 'netns', String(made.pid))
  lab.run('ip', 'link', 'set', end, 'master', bridge, 'up')
  lab.runIn(made.pid, 'ip', 'link', 'set', 'eth1', 'up')
}
const resolverOf = (made: Remote) => readFileSync(`/proc/${made.pid}/root/etc/resolv.conf`, 'utf8')
const keyOf = (made: Remote) => `pid:${made.pid}`
function targetOf(made: Remote, key = keyOf(made)): object {
  return { key, label: key, namespace: { pid: made.pid } }
}
function wanted(mac: string, change: Partial<DhcpInterface> = {}): DhcpInterface {
  return { name: 'eth1', mac, families: ['ipv4', 'ipv6'], hostname: 'box', gateway: true, ...change }
}
/** Global addresses of eth1, without their lengths. */
function addresses(made: Remote): string[] {
  const text = lab.runIn(made.pid, 'ip', '-j', 'address', 'show', 'dev', 'eth1', 'scope', 'global')
  const [found] = JSON.parse(text) as { addr_info: { local?: string; tentative?: boolean }[] }[]
  return (found?.addr_info ?? []).flatMap(({ local, tentative }) => (local && !tentative ? [local] : []))
}
const has = (made: Remote, start: string) => addresses(made).find((address) => address.startsWith(start))
const both = (made: Remote, v4: string, v6: string) =>
  until('both addresses', () => has(made, v4) !== undefined && has(made, v6) !== undefined && addresses(made), {
    deadlineMs: 60_000,
  })
const times = (text: string, word: RegExp) => [...text.matchAll(word)].length
/** dhcpcd processes whose folder is below ours. */
function clients(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const theirs = statSync(`/proc/${pid}/root/client`)
        return readdirSync(join(folder, 'state', 'clients')).some(
          (name) => statSync(join(folder, 'state', 'clients', name)).ino === theirs.ino,
        )
      } catch {
        return false // not a client, or gone meanwhile
      }
    })
}

/** The dhcpcd of the only folder, once nothing else runs with it: what starts it, or what it runs; null: none. */
function client(): number | null {
  const [name = ''] = readdirSync(join(folder, 'state', 'clients'))
  const path = join(folder, 'state', 'clients', name, 'run', 'dhcpcd', 'eth1.pid')
  const pid = existsSync(path) ? Number(readFileSync(path, 'utf8')) : 0
  return clients().join() === String(pid) ? pid : null
}

/** A server rewrites its file in place, so a part of it may be seen for a moment. */
function hasLeased(expected: readonly string[], ...from: readonly DhcpServer[]): Promise<unknown> {
  const now = () => from.flatMap((server) => server.leased()).sort()
  return until(`exactly ${expected} is leased`, () => now().join() === [...expected].sort().join())
}

/** What the only client says. */
function log(): string {
  const [name = ''] = readdirSync(join(folder, 'state', 'clients'))
  return readFileSync(join(folder, 'state', 'clients', name, 'log'), 'utf8')
}

test('Kea sees one DUID-LL and IAID of the MAC, renewals and a release; DNS and routes come and go', async () => {
  const mac = '02:00:00:77:01:01'
  const [v4, v6] = await kea()
  const made = await box('br-kea', mac)
  await dhcp.ask('keep', targetOf(made), [wanted(mac)])
  const leased = await both(made, '10.77.1.1', 'fd77:1::1')
  await hasLeased(leased, v4, v6)
  assert.match(v6.log(), new RegExp(`duid=\\[${duidOf(mac)}\\].*iaid=${iaidOf(mac)} `))
  assert.match(v4.log(), new RegExp(`cid=\\[ff:00:77:01:01:${duidOf(mac)}\\]`))
  const routed = () => /default via 10\.77\.1\.1 dev eth1/.test(lab.runIn(made.pid, 'ip', 'route'))
  await until('the default route is there', routed)
  await until('names of both families are applied', () => times(resolverOf(made), /^nameserver/gm) === 2)
  assert.match(resolverOf(made), /^search kea\.example lab\.example$/m)
  assert.match(resolverOf(made), /^nameserver 10\.77\.1\.53$/m)
  assert.match(resolverOf(made), /^nameserver fd77:1::53$/m)
  assert.match(resolverOf(made), /^options edns0$/m)
  assert.equal(readFileSync('/etc/resolv.conf', 'utf8'), HOST_RESOLVER)

  await until('IPv6 is renewed twice', () => times(v6.log(), /DHCP6_LEASE_RENEW/g) >= 2, { deadlineMs: 60_000 })
  await until('IPv4 is renewed twice', () => times(v4.log(), /DHCP4_LEASE_ALLOC/g) >= 3, { deadlineMs: 60_000 })
  assert.deepEqual(addresses(made).sort(), leased.sort(), 'renewals keep the addresses')

  await dhcp.ask('release', keyOf(made))
  assert.deepEqual(addresses(made), [])
  await until('Kea has taken both back', () => v4.leased().length + v6.leased().length === 0)
  assert.match(v6.log(), /DHCP6_RELEASE_NA/)
  assert.match(v4.log(), /DHCP4_RELEASE /)
  assert.doesNotMatch(lab.runIn(made.pid, 'ip', 'route'), /default/)
  assert.equal(resolverOf(made), 'nameserver 192.0.2.1\noptions edns0\n')
  assert.deepEqual(clients(), [])
  assert.deepEqual(readdirSync(join(folder, 'state', 'clients')), [])
  assert.deepEqual(readdirSync(join(folder, 'state', 'resolvers')), [])
})

test('dnsmasq sees renewals too; the route by RA is there; a kill -9 of ours changes nothing and makes no second lease', async () => {
  const mac = '02:00:00:77:02:01'
  const server = await dnsmasq()
  const made = await box('br-dns', mac)
  await dhcp.ask('keep', targetOf(made), [wanted(mac)])
  const leased = await both(made, '10.77.2.1', 'fd77:2::1')
  const classless = () => /10\.99\.0\.0\/16 via 10\.77\.2\.9/.test(lab.runIn(made.pid, 'ip', 'route'))
  await until('the classless route is there', classless)
  await until('the router is known', () => /default via fe80/.test(lab.runIn(made.pid, 'ip', '-6', 'route')))
  const first = await until('the client runs', client)
  await dhcp.kill()
  // Its shortest lease is renewed after a minute; told to, dhcpcd does the same at once.
  for (const round of [1, 2]) {
    process.kill(first, 'SIGUSR1')
    const seen = (word: RegExp) => times(server.log(), word) >= round
    const renewed = () => seen(/DHCPRENEW\(v0\)/g) && times(server.log(), /DHCPACK\(v0\)/g) > round
    await until(`dnsmasq sees renewal ${round}`, renewed)
  }
  dhcp = await start()
  await dhcp.ask('keep', targetOf(made), [wanted(mac)])
  assert.equal(await until('a client runs', client), first, 'the client was taken over')
  await hasLeased(leased, server)

  await dhcp.kill()
  process.kill(first, 'SIGKILL')
  dhcp = await start()
  const second = await until('another client runs', () => client() !== first && client())
  assert.deepEqual((await both(made, '10.77.2.1', 'fd77:2::1')).sort(), leased.sort())
  await hasLeased(leased, server)

  process.kill(second, 'SIGKILL')
  const third = await until('a client that died is replaced', () => client() !== second && client())

  process.kill(third, 'SIGKILL')
  await dhcp.ask('release', keyOf(made))
  await until('dnsmasq has both back, though their client was dead', () => server.leased().length === 0)

  // dnsmasq chooses by MAC and DUID; Kea gives the next free one after a release.
  await dhcp.ask('keep', targetOf(made), [wanted(mac)])
  assert.deepEqual((await both(made, '10.77.2.1', 'fd77:2::1')).sort(), leased.sort(), 'the same MAC, the same leases')
  await dhcp.ask('release', keyOf(made))
  await server.stop()
})

test('a release reaches a server whose MAC is not known and comes late', async () => {
  const mac = '02:00:00:77:02:03'
  const server = await dnsmasq()
  const made = await box('br-dns', mac)
  const inside = [`--net=/run/netns/${serverNamespace('br-dns')}`]
  execFileSync('nsenter', [...inside, 'sysctl', '-qw', 'net.ipv4.conf.v0.arp_ignore=8'])
  const late = new Remote(['nsenter', ...inside, process.execPath, LATE_ARP, 'v0', '10.77.2.1', '100'])
  try {
    await late.ask('ready')
    await dhcp.ask('keep', targetOf(made), [wanted(mac, { families: ['ipv4'] })])
    await until('it has an address', () => has(made, '10.77.2.1'))
    await until('dnsmasq has leased it', () => server.leased().length === 1)
    lab.runIn(made.pid, 'ip', 'neigh', 'flush', 'dev', 'eth1')
    await dhcp.ask('release', keyOf(made))
    lab.run('ip', 'link', 'delete', `b${made.pid}`) // as the wiring does next
    await until('dnsmasq has it back', () => server.leased().length === 0)
  } finally {
    await late.kill()
    execFileSync('nsenter', [...inside, 'sysctl', '-qw', 'net.ipv4.conf.v0.arp_ignore=0'])
    await server.stop()
  }
})

test('a container that ends gives its lease back, and its namespace is not kept alive', async () => {
  const mac = '02:00:00:77:01:02'
  const [v4, v6] = servers as [DhcpServer, DhcpServer]
  const made = await box('br-kea', mac)
  const link = `b${made.pid}`
  await dhcp.ask('keep', targetOf(made), [wanted(mac)])
  await both(made, '10.77.1.1', 'fd77:1::1')
  await made.kill()
  await until('both leases are back', () => v4.leased().length + v6.leased().length === 0)
  await until('its link is gone with its namespace', () => !lab.run('ip', '-o', 'link').includes(link))
  assert.deepEqual(clients(), [])
  await until('nothing of it is left', () => readdirSync(join(folder, 'state', 'clients')).length === 0)
})

test('a container that restarts, with a namespace that is new, keeps its lease', async () => {
  const mac = '02:00:00:77:01:03'
  const [v4, v6] = servers as [DhcpServer, DhcpServer]
  const first = await box('br-kea', mac)
  await dhcp.ask('keep', targetOf(first, 'container:x'), [wanted(mac)])
  const leased = await both(first, '10.77.1.1', 'fd77:1::1')
  const releases = times(v4.log() + v6.log(), /_RELEASE/g)
  await first.kill()
  const second = await box('br-dns', mac) // anywhere: the former link still bears the MAC on its bridge
  await dhcp.ask('leaveFormer', targetOf(second, 'container:x'))
  await until('the former namespace is gone', () => !lab.run('ip', '-o', 'link').includes(`b${first.pid}`))
  lab.run('ip', 'link', 'set', `b${second.pid}`, 'master', 'br-kea')
  await dhcp.ask('keep', targetOf(second, 'container:x'), [wanted(mac)])
  assert.deepEqual((await both(second, '10.77.1.1', 'fd77:1::1')).sort(), leased.sort())
  assert.equal(times(v4.log() + v6.log(), /_RELEASE/g), releases, 'it was never given back')
  await dhcp.ask('release', 'container:x')
})

test('a server that is away at first is found when it comes, and its NAK is followed', async () => {
  const mac = '02:00:00:77:02:02'
  const made = await box('br-dns', mac)
  await dhcp.ask('keep', targetOf(made), [wanted(mac)])
  await until('it asks', () => /soliciting a DHCP lease/.test(log()) && /soliciting a DHCPv6 lease/.test(log()))
  assert.deepEqual(addresses(made), [])
  const first = await dnsmasq()
  await both(made, '10.77.2.1', 'fd77:2::1')
  await first.stop()
  rmSync(join(folder, 'br-dns'), { recursive: true })
  const second = await dnsmasq('10.77.2.200,10.77.2.220', 'fd77:2::200,fd77:2::2ff')
  // As at T2, 105 s after the lease: it asks any server whether its addresses still hold.
  for (const client of clients()) process.kill(client, 'SIGHUP')
  const moved = () => has(made, '10.77.2.2') !== undefined && has(made, '10.77.2.1') === undefined
  await until('IPv4 moved after a NAK', moved, { deadlineMs: 60_000 })
  assert.match(second.log(), /DHCPNAK/)
  await dhcp.ask('release', keyOf(made))
  await second.stop()
})

test('when the server gives another IPv6 address at a renewal, the interface follows', async () => {
  const mac = '02:00:00:77:01:06'
  const made = await box('br-kea', mac)
  await dhcp.ask('keep', targetOf(made), [wanted(mac, { families: ['ipv6'] })])
  await until('it has an address', () => has(made, 'fd77:1::1'))
  const [, former] = servers
  await former?.stop()
  rmSync(join(folder, 'br-kea', 'kea6.csv'))
  const changed = await startKea(place('br-kea'), 6, { ...KEA6, pool: 'fd77:1::200-fd77:1::2ff' })
  servers.push(changed)
  const moved = () => has(made, 'fd77:1::2') !== undefined && has(made, 'fd77:1::1') === undefined
  await until('IPv6 moved', moved, { deadlineMs: 60_000 })
  await dhcp.ask('release', keyOf(made))
  await until('Kea has it back', () => changed.leased().length === 0)
})

test('a namespace by name: its client ends with the name', async () => {
  const mac = '02:00:00:77:01:04'
  const name = `${lab.host}-named`
  const [v4] = servers as [DhcpServer, DhcpServer]
  execFileSync('ip', ['netns', 'add', name])
  try {
    lab.run('ip', 'link', 'add', 'named', 'type', 'veth', 'peer', 'name', 'eth1', 'address', mac, 'netns', name)
    lab.run('ip', 'link', 'set', 'named', 'master', 'br-kea', 'up')
    execFileSync('ip', ['-n', name, 'link', 'set', 'eth1', 'up'])
    const path = `/run/netns/${name}`
    const target = { key: `netns:${path}`, label: name, namespace: { path } }
    await dhcp.ask('keep', target, [wanted(mac, { families: ['ipv4'] })])
    await until('it has a lease', () => v4.leased().length === 1)
  } finally {
    execFileSync('ip', ['netns', 'delete', name])
  }
  await until('the lease is back', () => v4.leased().length === 0)
  await until('its client has ended', () => clients().length === 0)
})

test('a resolv.conf that is a link, or the host its own, is left alone', async () => {
  const mac = '02:00:00:77:01:05'
  const [v4] = servers as [DhcpServer, DhcpServer]
  const made = await lab.idle()
  plug(made, 'br-kea', mac)
  boxes.push(made)
  await dhcp.ask('keep', targetOf(made), [wanted(mac, { families: ['ipv4'] })])
  await until('it has a lease', () => v4.leased().length === 1)
  const told = () => dhcp.ask<{ message: string; fields: { because?: string } }[]>('messages')
  await until('it is told', async () => (await told()).some(({ fields }) => fields.because === 'host'))
  assert.equal(readFileSync('/etc/resolv.conf', 'utf8'), HOST_RESOLVER)
  await dhcp.ask('release', keyOf(made))
})
