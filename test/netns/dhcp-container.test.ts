import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { LabEngine } from '../../lab/engine.ts'
import { rememberIfNew, removeImages } from '../../lab/images.ts'
import { runDirectory } from '../../lab/places.ts'
import { dockerEngine } from '../../unionize/engine/containers.ts'
import { ensurePauseImage, PAUSE_IMAGE } from '../../unionize/instances/pause.ts'
import { type DhcpServer, startKea } from '../support/dhcp-servers.ts'
import { until } from '../support/until.ts'
import { WireCommand } from '../support/wire-command.ts'
import { WiringLab } from '../support/wiring-lab.ts'

/* `addressing: dhcp` as people use it: containers of plain `docker run --network none`, the service, and commands. */

const PREFIX = 'dc'
const LABEL = `org.orchestrator.test=dhcp-container-${process.pid}`
const IMAGE = `${PAUSE_IMAGE.name}:${PAUSE_IMAGE.tag}`
const HOST_RESOLVER = readFileSync('/etc/resolv.conf', 'utf8')
const LINE = ['--bridge', 'br-lan', '--no-create', '--addressing', 'dhcp'] as const

let engine: LabEngine
let lab: WiringLab
let folder: string
let command: WireCommand
let service: { stop(): Promise<void> }
let v4: DhcpServer
let v6: DhcpServer

before(async () => {
  engine = await LabEngine.open(PREFIX, () => {})
  await rememberIfNew(engine, IMAGE)
  await ensurePauseImage(dockerEngine(engine.socket))
  lab = await WiringLab.start({ bare: true })
  folder = mkdtempSync(join(tmpdir(), 'dhcp-container-'))
  const namespace = serverNamespace()
  execFileSync('ip', ['netns', 'add', namespace])
  lab.run('ip', 'link', 'add', 'br-lan', 'type', 'bridge')
  lab.run('ip', 'link', 'set', 'br-lan', 'up')
  lab.run('ip', 'link', 'add', 'p0', 'master', 'br-lan', 'type', 'veth', 'peer', 'name', 'v0', 'netns', namespace)
  lab.run('ip', 'link', 'set', 'p0', 'up')
  const inside = (...args: string[]) => execFileSync('nsenter', [`--net=/run/netns/${namespace}`, ...args])
  inside('sysctl', '-qw', 'net.ipv6.conf.v0.accept_dad=0')
  inside('ip', 'link', 'set', 'v0', 'up')
  inside('ip', 'address', 'add', '10.79.0.1/24', 'dev', 'v0')
  inside('ip', 'address', 'add', 'fd79::1/64', 'dev', 'v0', 'nodad')
  const place = { namespace, link: 'v0', folder: join(folder, 'kea') }
  const kea4 = { subnet: '10.79.0.0/24', pool: '10.79.0.100-10.79.0.199' }
  const kea6 = { subnet: 'fd79::/64', pool: 'fd79::100-fd79::1ff' }
  v4 = await startKea(place, 4, { ...kea4, options: [{ name: 'domain-name-servers', data: '10.79.0.53' }] })
  v6 = await startKea(place, 6, { ...kea6, options: [{ name: 'dns-servers', data: 'fd79::53' }] })
  command = new WireCommand(lab, engine.socket)
  service = await command.startService()
})

after(async () => {
  command?.run({}, 'unwire', '--all')
  await service?.stop()
  await v4?.stop()
  await v6?.stop()
  await engine?.removeContainers(LABEL)
  if (engine) await removeImages(engine)
  await engine?.close()
  rmSync(runDirectory(PREFIX), { recursive: true, force: true })
  execFileSync('ip', ['netns', 'delete', serverNamespace()])
  await lab?.[Symbol.asyncDispose]()
  command?.close()
  if (folder) rmSync(folder, { recursive: true })
})

const serverNamespace = () => `${lab.host}-kea`
function docker(...args: readonly string[]): string {
  return execFileSync('docker', ['-H', `unix://${engine.socket}`, ...args], { encoding: 'utf8' }).trim()
}
function dockerRun(name: string, ...what: readonly string[]): { name: string; pid: number } {
  const full = `dhcp-container-${process.pid}-${name}`
  docker(
    'run',
    '-d',
    '--network',
    'none',
    '--stop-timeout',
    '0',
    '--label',
    LABEL,
    '--name',
    full,
    ...(what.length > 0 ? what : [IMAGE]),
  )
  return { name: full, pid: Number(docker('inspect', '--format', '{{.State.Pid}}', full)) }
}
const resolverOf = (pid: number) => readFileSync(`/proc/${pid}/root/etc/resolv.conf`, 'utf8')
function unionize(...line: readonly string[]): string {
  const { status, out, said } = command.run({}, ...line)
  assert.equal(status, 0, said)
  return out
}
/** An image with these programs of the host, and what they need. */
function imageOf(programs: readonly string[]): string {
  const image = `dhcp-container:${process.pid}`
  const libraries = execFileSync('ldd', programs, { encoding: 'utf8' }).match(/\/\S+(?= \(0x)/g) ?? []
  const tar = execFileSync('tar', ['-c', '-h', '-P', ...programs, ...new Set(libraries)], { maxBuffer: 2 ** 26 })
  execFileSync('docker', ['-H', `unix://${engine.socket}`, 'import', '-', image], { input: tar })
  return image
}
/** Resolves when it has an address of each server. A first packet that is lost is sent again after waits that double. */
async function leased({ pid }: { pid: number }): Promise<readonly string[]> {
  const both = (found: readonly string[]) =>
    ['10.79.0.1', 'fd79::1'].every((one) => found.some((a) => a.startsWith(one)))
  return until(
    'both addresses are there',
    () => {
      const found = command.addressesOf(pid, 'eth1') ?? []
      return both(found) && found
    },
    { deadlineMs: 60_000 },
  )
}
const times = (text: string, word: RegExp) => [...text.matchAll(word)].length

test('a container leases, shows, renews and gives back; its names come and go', async () => {
  const web = dockerRun('web')
  const former = resolverOf(web.pid)
  unionize('wire', web.name, ...LINE)
  const addresses = await leased(web)
  const shown = unionize('show', web.name, '-o', 'wide')
  for (const address of addresses) assert.ok(shown.includes(address), `${address} is in ${shown}`)
  await until('the names of both servers are there', () =>
    ['10.79.0.53', 'fd79::53'].every((one) => resolverOf(web.pid).includes(`nameserver ${one}\n`)),
  )
  await until('IPv4 is renewed', () => times(v4.log(), /DHCP4_LEASE_ALLOC/g) >= 2)
  await until('IPv6 is renewed', () => times(v6.log(), /DHCP6_LEASE_RENEW/g) >= 1)
  assert.deepEqual(command.addressesOf(web.pid, 'eth1'), addresses)

  unionize('unwire', web.name)
  await until('both leases are back', () => v4.leased().length + v6.leased().length === 0)
  assert.equal(command.addressesOf(web.pid, 'eth1'), undefined)
  assert.equal(resolverOf(web.pid), former, 'its own names are back')
  assert.equal(readFileSync('/etc/resolv.conf', 'utf8'), HOST_RESOLVER)
})

test('a container whose resolv.conf leads out of it gets a lease, and nothing outside is written', async () => {
  const outside = join(folder, 'outside')
  writeFileSync(outside, 'nameserver 192.0.2.7\n')
  const image = imageOf(['/bin/sh', '/bin/umount', '/bin/ln', '/bin/sleep'])
  const script = `umount /etc/resolv.conf && ln -sf ${outside} /etc/resolv.conf && exec sleep infinity`
  const mayMount = ['--cap-add', 'SYS_ADMIN', '--security-opt', 'apparmor=unconfined']
  const evil = dockerRun('evil', ...mayMount, image, 'sh', '-c', script)
  await until('who follows the link from outside comes to a file of the host', () =>
    resolverOf(evil.pid).includes('192.0.2.7'),
  )
  unionize('wire', evil.name, ...LINE)
  await leased(evil)
  // By the time that another one has its names, this one would have them too.
  const good = dockerRun('good')
  unionize('wire', good.name, ...LINE)
  await leased(good)
  await until('the other one has its names', () => /nameserver fd79::53\n/.test(resolverOf(good.pid)))
  assert.equal(readFileSync(outside, 'utf8'), 'nameserver 192.0.2.7\n')
  for (const { name } of [evil, good]) unionize('unwire', name)
  await until('all leases are back', () => v4.leased().length + v6.leased().length === 0)
  assert.equal(readFileSync(outside, 'utf8'), 'nameserver 192.0.2.7\n', 'nor at the end')
  assert.equal(readFileSync('/etc/resolv.conf', 'utf8'), HOST_RESOLVER)
  await engine.removeContainers(LABEL)
  docker('rmi', image)
})
