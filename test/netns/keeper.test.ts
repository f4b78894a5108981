import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { wiringShape } from '../../common/wiring-spec.ts'
import { LabEngine } from '../../lab/engine.ts'
import { rememberIfNew, removeImages } from '../../lab/images.ts'
import { runDirectory } from '../../lab/places.ts'
import { dockerEngine } from '../../unionize/engine/containers.ts'
import { ensurePauseImage } from '../../unionize/instances/pause.ts'
import { type DhcpServer, startDnsmasq } from '../support/dhcp-servers.ts'
import { until } from '../support/until.ts'
import { WiringLab } from '../support/wiring-lab.ts'
import { Remote } from '../support/wiring-remote.ts'

const PROCESS = fileURLToPath(new URL('../support/keeper-host.ts', import.meta.url))
const PREFIX = 'kt'
const LABEL = `keeper-test-${process.pid}`
const IMAGE = 'orchestrator/pause:1'
const BRIDGE = 'br-lan'
const MAC = '02:00:00:00:6b:01'
const MAC2 = '02:00:00:00:6b:02'
const SPEC = wiringShape.parse({
  interfaces: [
    {
      name: 'eth1',
      link: { kind: 'bridge', bridge: BRIDGE, create: false, isolated: true },
      mac: MAC,
      addresses: ['fd66::5/64'],
      addressing: 'dhcp4',
    },
    { name: 'eth2', link: { kind: 'bridge', bridge: BRIDGE, create: false }, mac: MAC2, addressing: 'slaac' },
  ],
})

let engine: LabEngine
let lab: WiringLab
let folder: string
let server: DhcpServer
let keeper: Remote
let box: string
let key: string

before(async () => {
  engine = await LabEngine.open(PREFIX, () => {})
  await rememberIfNew(engine, IMAGE)
  await ensurePauseImage(dockerEngine(engine.socket))
  lab = await WiringLab.start({ bare: true })
  folder = mkdtempSync(join(tmpdir(), 'keeper-'))
  execFileSync('ip', ['netns', 'add', serverNamespace()])
  makeBridge()
  lab.run('ip', 'link', 'add', 'p0', 'type', 'veth', 'peer', 'name', 'v0', 'netns', serverNamespace())
  execFileSync('ip', ['-n', serverNamespace(), 'link', 'set', 'v0', 'up'])
  execFileSync('ip', ['-n', serverNamespace(), 'address', 'add', '10.66.0.1/24', 'dev', 'v0'])
  joinServer()
  execFileSync('ip', ['-n', serverNamespace(), 'address', 'add', 'fd66::1/64', 'dev', 'v0', 'nodad'])
  const place = { namespace: serverNamespace(), link: 'v0', folder: join(folder, 'dnsmasq') }
  server = await startDnsmasq(place, { v4: '10.66.0.100,10.66.0.199', v6: 'fd66::100,fd66::1ff,slaac' })
  keeper = await start()
  const made = await engine.docker.createContainer({
    Image: IMAGE,
    Labels: { [LABEL]: '1' },
    HostConfig: { NetworkMode: 'none' },
  })
  await made.start()
  box = made.id
})

after(async () => {
  await keeper?.ask('unwire', key).catch(() => {})
  await keeper?.ask('stop').catch(() => {})
  await keeper?.kill()
  await server?.stop()
  await engine?.removeContainers(LABEL)
  if (engine) await removeImages(engine)
  await engine?.close()
  rmSync(runDirectory(PREFIX), { recursive: true, force: true })
  execFileSync('ip', ['netns', 'delete', serverNamespace()])
  await lab?.[Symbol.asyncDispose]()
  if (folder) rmSync(folder, { recursive: true })
})

const serverNamespace = () => `${lab.host}-dhcp`
function makeBridge(): void {
  lab.run('ip', 'link', 'add', BRIDGE, 'type', 'bridge')
  lab.run('ip', 'link', 'set', BRIDGE, 'up')
}
function joinServer(): void {
  lab.run('ip', 'link', 'set', 'p0', 'master', BRIDGE, 'up')
}
async function start(): Promise<Remote> {
  const command = [process.execPath, PROCESS, join(folder, 'state'), engine.socket]
  const remote = new Remote(['nsenter', `--net=/run/netns/${lab.host}`, ...command])
  await remote.ask('ready')
  return remote
}
const pidOf = async () => (await engine.docker.getContainer(box).inspect()).State.Pid
/** The addresses of eth1, or nothing while there is no such interface. */
async function inside(): Promise<string> {
  return lab.runIn(await pidOf(), 'ip', '-o', 'address', 'show')
}
const leaseIn = (text: string) => /eth1 +inet (10\.66\.0\.\d+)\//.exec(text)?.[1]
/** Resolves with the leased address when all of the wiring is there. */
const whole = (what: string) =>
  until(
    what,
    async () => {
      const text = await inside()
      const ports = lab.run('bridge', '-d', 'link')
      return (
        /eth1 +inet6 fd66::5\/64/.test(text) &&
        ports.includes(`master ${BRIDGE}`) &&
        /isolated on/.test(ports) &&
        leaseIn(text)
      )
    },
    { deadlineMs: 15_000, everyMs: 50 },
  ).catch(async (error) => {
    throw new Error((await keeper.ask<string[]>('messages')).join('\n'), { cause: error })
  })

test('a plain container gets its wiring and a lease', async () => {
  key = await keeper.ask('wire', box, SPEC)
  const lease = await whole('it is wired')
  assert.deepEqual(server.leased(), [lease])
  assert.deepEqual(await keeper.ask('check', key), [])
})

test('an interface hears the router of its bridge', async () => {
  await until('SLAAC gave it an address of its MAC', async () =>
    /eth2 +inet6 fd66::ff:fe00:6b02\/64/.test(await inside()),
  )
  assert.match(lab.runIn(await pidOf(), 'ip', '-6', 'route'), /default via fe80\S+ dev eth2/)
})

test('a container that restarts has its wiring and its lease again', async () => {
  const before = leaseIn(await inside())
  for (const round of [1, 2]) {
    const pid = await pidOf()
    await engine.docker.getContainer(box).restart({ t: 0 })
    assert.notEqual(await pidOf(), pid)
    assert.equal(await whole(`it is wired after restart ${round}`), before)
  }
  assert.doesNotMatch(server.log(), /DHCPRELEASE/)
  assert.deepEqual(server.leased(), [before])
})

test('a bridge that vanishes and returns gets its port back, with its settings', async () => {
  const before = leaseIn(await inside())
  lab.run('ip', 'link', 'delete', BRIDGE)
  makeBridge()
  joinServer()
  assert.equal(await whole('the port is back'), before)
  assert.deepEqual(await keeper.ask('check', key), [])
})

test('a link that somebody deleted is made anew', async () => {
  const [shown] = await keeper.ask<{ interfaces: { hostName: string }[] }[]>('show')
  lab.run('ip', 'link', 'delete', shown?.interfaces[0]?.hostName ?? '')
  await whole('the link is back')
})

test('what happened while the keeper was dead is made good when it starts', async () => {
  await keeper.kill()
  lab.run('ip', 'link', 'delete', BRIDGE)
  makeBridge()
  joinServer()
  await engine.docker.getContainer(box).restart({ t: 0 })
  keeper = await start()
  await whole('all is back')
})

test('a container that is stopped keeps its wish; one that is removed leaves nothing', async () => {
  await engine.docker.getContainer(box).stop({ t: 0 })
  await until('the lease is given back', () => server.leased().length === 0, { deadlineMs: 15_000 })
  assert.equal((await keeper.ask<unknown[]>('show')).length, 1)
  await engine.docker.getContainer(box).start()
  await whole('it is wired when it starts again')
  await engine.docker.getContainer(box).remove({ force: true })
  await until('it is forgotten', async () => (await keeper.ask<unknown[]>('show')).length === 0)
  await until('the lease is given back', () => server.leased().length === 0)
  await until('its link is gone', () => !/: un-/.test(lab.run('ip', '-o', 'link')))
  assert.match(server.log(), /DHCPRELEASE/)
  assert.match(readFileSync(join(folder, 'dnsmasq', 'dnsmasq.log'), 'utf8'), new RegExp(MAC))
})
