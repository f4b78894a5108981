import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { InterfaceSpec } from '../../common/wiring-spec.ts'
import { LABEL, type WireObserved, type WireOrder } from '../../unionize/contract.ts'
import { POOL, service, UnionizeHost } from '../support/unionize-host.ts'
import { until } from '../support/until.ts'
import { Agent, BRIEF, PORT } from '../support/wiring-lab.ts'

const AGENT = fileURLToPath(new URL('../support/wiring-agent.ts', import.meta.url))

let host: UnionizeHost
const agents: Agent[] = []

before(async () => {
  host = await UnionizeHost.open('un')
})
after(async () => {
  for (const agent of agents) await agent.kill()
  await host?.close()
})

/** A web server for all to see, a database and a cache with sandboxes of their own behind it. */
function stackOrder(change: Partial<WireOrder> = {}): WireOrder {
  const on = (name: string, networks: Record<string, string[]>) => ({
    ...service(name),
    networks: Object.fromEntries(Object.entries(networks).map(([network, aliases]) => [network, { aliases }])),
  })
  return host.newOrder({
    services: [
      on('web', { front: [], back: [] }),
      { ...on('db', { back: ['database', 'sql.example'] }), sandbox: 'own' },
      { ...on('cache', { front: [] }), sandbox: 'own' },
    ],
    wiring: { interfaces: [], networks: { front: {}, back: {} } },
    ...change,
  })
}
const container = (order: WireOrder, name: string) => `orc-${order.instance}-${name}`
const pidOf = (order: WireOrder, name: string) => host.pidOf(container(order, name))
const linksOf = async (order: WireOrder, name: string) => {
  const links = JSON.parse(host.lab.runIn(await pidOf(order, name), 'ip', '-j', 'link')) as { ifname: string }[]
  return links.map((link) => link.ifname).sort()
}

/** What the C library makes of a name in a service: with its hosts file, in its network namespace. Null: nothing. */
async function resolved(order: WireOrder, from: string, name: string): Promise<string | null> {
  const pid = String(await pidOf(order, from))
  const seen = join(host.state, 'seen-hosts')
  writeFileSync(seen, readFileSync(`/proc/${pid}/root/etc/hosts`))
  const script = 'mount --bind "$1" /etc/hosts && exec getent ahostsv6 "$2"'
  try {
    const command = ['-n', '-t', pid, 'unshare', '--mount', 'sh', '-c', script, 'sh', seen, name]
    const text = execFileSync('nsenter', command, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
    return text.split(' ')[0] ?? null
  } catch (error) {
    if ((error as { status?: number }).status === 2) return null // getent(1): the name was not found
    throw error
  }
}
/** One who is where a service is, and answers there too. */
async function agentIn(order: WireOrder, name: string): Promise<Agent> {
  const pid = String(await pidOf(order, name))
  const agent = new Agent(['nsenter', '-n', '-t', pid, process.execPath, AGENT, name, String(PORT)], '')
  agents.push(agent)
  await agent.ask('ready')
  return agent
}
/** Who of a stack is to reach whom, does, by name and with the first packet. */
async function wellConnected(order: WireOrder): Promise<void> {
  for (const [from, to] of [
    ['web', { db: 'back', cache: 'front' }],
    ['db', { web: 'back' }],
  ] as const) {
    const caller = await agentIn(order, from)
    for (const [name, network] of Object.entries(to)) {
      const address = await resolved(order, from, name)
      assert.equal(await resolved(order, from, `${name}.${network}.internal`), address)
      const { result } = await caller.icmp(address ?? '', { timeoutMs: 3000 })
      assert.equal(result, 'answered', `${from} reaches ${name} at ${address}`)
    }
    await caller.kill()
  }
}
async function nothingLeft(order: WireOrder): Promise<void> {
  assert.deepEqual(await host.containersOf(order), [])
  assert.ok(!existsSync(join(host.state, 'hosts', order.instance)))
}

test('a stack comes up: names resolve for the members alone, the owner reaches the entry alone, and nothing stays', async () => {
  const [mine, theirs] = [stackOrder(), stackOrder({ ownerAddress: host.stranger.address })]
  await Promise.all([host.ensure(mine), host.ensure(theirs)])
  for (const order of [mine, theirs]) await wellConnected(order)
  assert.equal((await host.hubs()).length, 2)
  assert.ok((await host.reaches(host.owner, mine)) && !(await host.reaches(host.owner, theirs, BRIEF)))
  assert.deepEqual(await linksOf(mine, 'web'), ['eth0', 'lo', 'net-back', 'net-front'])
  assert.deepEqual(await linksOf(mine, 'db'), ['lo', 'net-back'])
  const db = (await resolved(mine, 'web', 'db')) ?? ''
  assert.equal(await resolved(mine, 'web', 'database'), db)
  assert.equal(await resolved(mine, 'web', 'sql.example'), db)
  assert.equal(await resolved(mine, 'db', 'cache'), null, 'they share no network')
  assert.notEqual(await resolved(theirs, 'web', 'db'), db)
  assert.notEqual((await host.owner.icmp(db, BRIEF)).result, 'answered')
  const [web, there] = [await agentIn(theirs, 'web'), await agentIn(mine, 'db')]
  assert.notEqual((await web.icmp(db, BRIEF)).result, 'answered')
  const ours = await agentIn(mine, 'web')
  assert.equal((await ours.tcp(db)).label, 'db')
  for (const agent of [web, there, ours]) await agent.kill()
  const names = readdirSync(join(host.state, 'hosts.d')).join()
  assert.ok(!names.includes('db'), 'the resolver of all has never heard of it')

  for (const order of [mine, theirs]) {
    await host.remove(order)
    await nothingLeft(order)
    await host.remove(order)
  }
  assert.deepEqual(await host.hubs(), [])
  await host.poolFull()
  await until('only the pool is left', async () => (await host.sandboxes()).length === POOL)
})

test('the same order again changes nothing; whatever dies comes back with the same addresses', async () => {
  const order = stackOrder()
  await host.ensure(order)
  const ids = async () => [...(await host.containersOf(order)).map((c) => c.id), ...(await host.hubs())].sort()
  const [before, address] = [await ids(), await resolved(order, 'web', 'db')]
  await host.ensure(order)
  assert.deepEqual(await ids(), before)
  await host.unionize.ask('told')
  const victims = {
    'a service': async () => container(order, 'db'),
    'the sandbox of a service': () => host.sandboxOf(order, 'db'),
    'the sandbox of the instance': () => host.sandboxOf(order, 'web'),
    'the hub': async () => (await host.hubs())[0] ?? '',
  }
  for (const [what, find] of Object.entries(victims)) {
    await host.engine.docker.getContainer(await find()).kill()
    const told: WireObserved[] = []
    await until(`${what} runs again`, async () => {
      told.push(...(await host.unionize.ask<WireObserved[]>('told')))
      return told.some((o) => o.state === 'partial') && told.at(-1)?.state === 'running'
    })
    assert.equal(await resolved(order, 'web', 'db'), address)
    await wellConnected(order)
    assert.deepEqual(await ids(), before, `${what} is the same container`)
  }
  await host.engine.docker.getContainer(await host.sandboxOf(order, 'cache')).remove({ force: true })
  await host.ensure(order)
  await wellConnected(order)
  await host.remove(order)
  await nothingLeft(order)
})

test('a restart of unionize touches nothing, with its state and without it', async () => {
  const order = stackOrder()
  await host.ensure(order)
  const ids = async () => [...(await host.containersOf(order)).map((c) => c.id), ...(await host.hubs())].sort()
  const before = await ids()
  for (const forget of [false, true]) {
    await host.kill()
    if (forget) rmSync(join(host.state, 'generations'), { recursive: true })
    await host.start()
    assert.deepEqual(await ids(), before)
    await wellConnected(order)
  }
  await host.kill()
  await host.engine.docker.getContainer((await host.hubs())[0] ?? '').kill()
  await host.start()
  await until('a hub that died meanwhile is back', async () => (await host.hubs()).length === 1)
  await until('with all on it', () => wellConnected(order).then(() => true))
  await host.remove(order)
  assert.deepEqual(await host.hubs(), [])
})

test('a changed order changes the difference: networks, names and sandboxes come and go, the rest stays', async () => {
  const order = stackOrder()
  await host.ensure(order)
  const idOf = async (name: string) =>
    (await host.containersOf(order)).find((c) => c.name === container(order, name))?.id ?? assert.fail(name)
  const [web, db] = [await idOf('web'), await idOf('db')]
  const [ofDb, ofCache] = [await host.sandboxOf(order, 'db'), await host.sandboxOf(order, 'cache')]
  const [first, second] = order.services
  assert.ok(first && second)
  const renamed = { ...second, networks: { back: { aliases: ['postgres'] } } }
  const fewer = { ...order, generation: 2, services: [first, renamed] }
  await host.ensure(fewer)
  assert.deepEqual([await idOf('web'), await idOf('db')], [web, db])
  assert.equal(await resolved(fewer, 'web', 'postgres'), await resolved(fewer, 'web', 'db'))
  assert.equal(await resolved(fewer, 'web', 'database'), null)
  assert.deepEqual(await linksOf(fewer, 'db'), ['lo', 'net-back'])
  assert.ok(!(await host.sandboxes()).includes(ofCache), 'the sandbox of the cache is gone')
  const shared = { ...service('db'), networks: { back: { aliases: [] } } }
  const together = { ...order, generation: 3, services: [first, shared] }
  await host.ensure(together)
  assert.equal(await host.sandboxOf(together, 'db'), await host.sandboxOf(together, 'web'))
  assert.equal(await idOf('web'), web)
  assert.ok(!(await host.sandboxes()).includes(ofDb))
  const { wiring: _, ...without } = { ...order, generation: 4, services: [service('web')] }
  await host.ensure(without)
  assert.deepEqual(await linksOf(order, 'web'), ['eth0', 'lo'])
  assert.deepEqual(await host.hubs(), [])
  assert.ok(await host.reaches(host.owner, order))
  await host.unionize.ask('remove', order.instance, 5)
  await nothingLeft(order)
})

test('extra interfaces are wired before the first process, changed by a newer order, and undone before the end', async () => {
  const extra = (name: string): InterfaceSpec => ({
    ...{ name, link: { kind: 'dummy' }, addresses: [], addressing: 'static', gateways: [], routes: [], rules: [] },
    ...{ sysctls: {}, up: true, announce: true },
  })
  const order = host.newOrder({ wiring: { interfaces: [extra('eth1')], networks: {} } })
  const wired = () => host.unionize.ask<[string, { interfaces: InterfaceSpec[] }][]>('wired')
  await host.unionize.ask('refuseInterfaces', 'there is no device')
  await assert.rejects(host.ensure(order), { code: 'device-missing' })
  assert.deepEqual(await host.containersOf(order), [])
  assert.deepEqual(await wired(), [])
  await host.unionize.ask('refuseInterfaces', null)

  await host.ensure(order)
  const key = `container:${await host.sandboxOf(order)}`
  assert.deepEqual(await wired(), [[key, { interfaces: [extra('eth1')] }]])
  const more = [extra('eth1'), extra('eth2')]
  await host.ensure({ ...order, generation: 2, wiring: { interfaces: more, networks: {} } })
  assert.deepEqual(await wired(), [[key, { interfaces: more }]])
  await host.kill()
  await host.start()
  await host.engine.docker.getContainer(await host.sandboxOf(order)).kill()
  await until('a sandbox that died has them again', async () => (await wired()).length === 1)
  assert.deepEqual(await wired(), [[key, { interfaces: more }]])
  await until('all of it runs', async () => (await host.stateOf(order)) === 'running')
  const { wiring: _, ...plain } = { ...order, generation: 3 }
  await host.ensure(plain)
  assert.deepEqual(await wired(), [])
  await host.ensure({ ...order, generation: 4 })
  assert.equal((await wired()).length, 1)
  await host.unionize.ask('remove', order.instance, 5)
  assert.deepEqual(await wired(), [])
})

test('a policy opens a port for everybody, also after a restart, until a newer order closes it', async () => {
  const policy = { public: [{ protocol: 'tcp' as const, port: PORT }], egress: 'none' as const, limits: {} }
  const order = host.newOrder({ wiring: { interfaces: [], networks: {}, policy } })
  await host.ensure(order)
  const agent = await agentIn(order, 'web')
  const open = async (time?: typeof BRIEF) => (await host.stranger.tcp(order.address, time)).label === 'web'
  assert.ok(await open())
  assert.ok(!(await host.reaches(host.stranger, order, BRIEF)), 'that port alone')
  await host.kill()
  await host.start()
  assert.ok(await open())
  const { wiring: _, ...closed } = { ...order, generation: 2 }
  await host.ensure(closed)
  assert.ok(!(await open(BRIEF)))
  assert.ok(await host.reaches(host.owner, order))
  await agent.kill()
  await host.unionize.ask('remove', order.instance, 3)
})

test('a prefix that would hide the way to the owner is refused by name, and leaves nothing', async () => {
  const around = { 'fd00:1::/64': 'fd00:1::/64', 'fd00:c::/64': `${host.owner.address}/128` }
  for (const [prefix, hidden] of Object.entries(around)) {
    const order = stackOrder({ wiring: { interfaces: [], networks: { front: {}, back: { prefix } } } })
    await assert.rejects(host.ensure(order), (error: Error & { code: string }) => {
      assert.equal(error.code, 'invalid-input')
      assert.equal(error.message, `wiring.networks.back.prefix: ${prefix} would hide ${hidden}; choose another prefix`)
      return true
    })
    await nothingLeft(order)
  }
})

test('a member whose image is not there leaves neither hub nor names nor a sandbox that is not clean', async () => {
  const order = stackOrder()
  const [web, db, cache] = order.services
  assert.ok(web && db && cache)
  const broken = { ...order, services: [web, { ...db, image: 'nowhere/nothing:1' }, cache] }
  await assert.rejects(host.ensure(broken), { code: 'image-missing' })
  await nothingLeft(order)
  assert.deepEqual(await host.hubs(), [])
  await host.poolFull()
  await until('only the pool is left', async () => (await host.sandboxes()).length === POOL)
})

test('after kill -9 at any moment of a start or an end, repeating the order ends with one stack, or nothing', async () => {
  for (const ms of [40, 150, 300]) {
    const order = stackOrder()
    const starting = host.ensure(order).catch(() => null)
    await Promise.race([starting, new Promise((resolve) => setTimeout(resolve, ms))])
    await host.kill()
    await host.start()
    assert.equal((await host.ensure(order)).state, 'running', `killed after ${ms} ms of a start`)
    await wellConnected(order)
    assert.equal((await host.hubs()).length, 1)
    const ending = host.remove(order).catch(() => null)
    await Promise.race([ending, new Promise((resolve) => setTimeout(resolve, ms))])
    await host.kill()
    await host.start()
    await host.remove(order)
    await nothingLeft(order)
  }
  const id = await host.engine.docker.createContainer({
    Image: 'orchestrator/pause:1',
    Labels: { [LABEL.role]: 'hub', [LABEL.host]: host.name, [LABEL.owner]: '00:01/1' },
    HostConfig: { NetworkMode: 'none' },
  })
  await id.start()
  await until('only the pool is left', async () => {
    await host.unionize.ask('collect')
    return (await host.engine.containers(host.label)).length === POOL
  })
  for (const sandbox of await host.sandboxes()) {
    const links = JSON.parse(host.lab.runIn(await host.pidOf(sandbox), 'ip', '-j', 'link')) as { ifname: string }[]
    assert.deepEqual(links.map((link) => link.ifname).sort(), ['eth0', 'lo'], 'a pooled sandbox is clean')
  }
})
