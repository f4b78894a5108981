import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { DhcpClient } from '../../lab/clients.ts'
import { LAB_NETWORK } from '../../lab/namespaces.ts'
import type { Site } from '../../lab/site.ts'
import type { InstanceDetailShape, InstanceShape } from '../../orchestrator/api/wire.ts'
import { instancesOf, leasesOf, openSite, passagesOf, reachableInstance, settled } from '../support/site.ts'
import { until } from '../support/until.ts'

describe('the way of a lease, with real dnsmasq, dhcpcd and Docker', () => {
  let site: Site
  let close: () => Promise<void>
  const clients: DhcpClient[] = []
  const found: InstanceShape[] = []
  before(async () => {
    ;({ site, close } = await openSite({ dnsmasq: { leaseTime: '2m' } }))
    for (const n of [1, 2, 3]) clients.push(await new DhcpClient(site.prefix, n, { hostname: `Gast-${n}` }).plug())
    for (const client of clients) await client.request()
    for (const client of clients) await client.lease()
    for (const client of clients) found.push(await reachableInstance(site, client.duid))
  })
  after(() => close())
  const client = (n: number) => clients[n] ?? assert.fail()
  const instance = (n: number) => found[n] ?? assert.fail()

  it('gives each client its own page at my.instance', async () => {
    for (const [n, device] of clients.entries()) {
      const page = await device.get('http://my.instance/')
      assert.equal(page.status, 200)
      assert.equal(page.address, LAB_NETWORK.myAddress)
      assert.ok(page.body.includes(instance(n).id), `the page of client ${n} names its instance`)
      assert.ok(page.body.includes(device.duid))
    }
  })

  it('resolves instance names, and the owner reaches its instance by name', async () => {
    assert.deepEqual(await client(0).agent.call('resolve', { name: 'gast-2.instance' }), [instance(1).address])
    const page = await client(1).get('http://gast-2.instance/')
    assert.ok(page.body.includes(instance(1).id))
  })

  it('answers nobody else, on any port, until the rule is taken away', async () => {
    const stranger = client(1)
    const { address } = instance(0)
    // Port 22 is closed in an instance without an operator's key: the owner is told so, a stranger not even that.
    for (const [port, outcome] of [
      [80, 'accepted'],
      [22, 'refused'],
    ] as const) {
      assert.equal(await client(0).agent.call('dial', { address, port, timeoutMs: 10_000 }), outcome)
      assert.equal(await stranger.agent.call('dial', { address, port, timeoutMs: 300 }), 'silent')
    }
    const { address: strangerAddress } = await stranger.lease()
    const element = `element inet unionize passages { ${strangerAddress} . ${address} }`
    await site.inside(['nft', `add ${element}`])
    assert.equal(await stranger.agent.call('dial', { address, port: 80, timeoutMs: 10_000 }), 'accepted')
    await site.inside(['nft', `delete ${element}`])
    assert.notEqual(await stranger.agent.call('dial', { address, port: 80, timeoutMs: 300 }), 'accepted')
  })

  it('tells how each start went: every stage in order, in milliseconds since the hook', async () => {
    for (const { timelineMs: t } of found) {
      const stages = [t.hook, t.stored, t.decided, t.sandbox, t.started, t.reachable]
      assert.ok(
        stages.every((ms) => ms !== undefined),
        JSON.stringify(t),
      )
      const numbers = stages.map(Number)
      assert.deepEqual(
        numbers,
        [...numbers].sort((a, b) => a - b),
      )
    }
  })

  it('keeps the instance through a renewal', async () => {
    const before = (await leasesOf(site)).find((lease) => lease.owner.duid === client(0).duid)
    // dnsmasq counts in seconds: a renewal within the same one would show nothing.
    await until('a second has passed', () => Date.now() > Date.parse(before?.updatedAt ?? '') + 1500)
    await client(0).renew()
    const renewed = await until('the renewal is stored', async () => {
      const lease = (await leasesOf(site)).find((l) => l.owner.duid === client(0).duid)
      return lease?.expiresAt !== before?.expiresAt && lease
    })
    assert.equal(renewed.instance, instance(0).id)
    assert.equal((await settled(site)).find((i) => i.id === instance(0).id)?.generation, 1)
  })

  it('shows an operator everything about an instance', async () => {
    const detail = await site.orctlJson<InstanceDetailShape>('describe', 'instance', 'gast-1')
    assert.equal(detail.lease?.owner.duid, client(0).duid)
    assert.ok(detail.events.some((event) => event.kind === 'instance.running'))
    const text = await site.orctl('describe', 'instance', 'gast-1')
    assert.match(text, new RegExp(instance(0).address))
    assert.match(await site.orctl('get', 'leases'), /Gast-1/)
  })

  it('removes the instance when its lease is released, and nothing of it stays', async () => {
    await client(2).release()
    await until('the instance is gone', async () => (await instancesOf(site)).every((i) => i.id !== instance(2).id))
    const left = await site.engine.containers(`org.orchestrator.instance=${instance(2).id}`)
    assert.deepEqual(left, [])
    assert.equal(
      (await passagesOf(site)).some((passage) => passage.includes(instance(2).address)),
      false,
    )
    assert.equal(
      await client(0)
        .agent.call('resolve', { name: 'gast-3.instance' })
        .then(
          () => 'known',
          () => 'unknown',
        ),
      'unknown',
    )
  })

  it('brings the same DUID and IAID back to the same address, in a new instance', async () => {
    await client(2).request()
    await client(2).lease()
    const again = await reachableInstance(site, client(2).duid)
    assert.equal(again.address, instance(2).address)
    assert.notEqual(again.id, instance(2).id)
    assert.ok((await client(2).get('http://my.instance/')).body.includes(again.id))
  })

  it('wires what a template says: a service of its own on a private network, a port for everybody', async () => {
    const file = site.path('etc', 'catalog', 'sample.yaml')
    const before = readFileSync(file, 'utf8')
    const service = 'image: orchestrator/sample:latest, mem_limit: 128m, pids_limit: 64, networks: [back]'
    const stack = `services: { web: { ${service} }, store: { ${service} } }
networks: { back: {} }
x-orchestrator:
  summary: A stack
  entry: { service: web, port: 80 }
  wiring: { policy: { public: [{ port: 80 }] } }
`
    writeFileSync(file, stack)
    const versions = async () => (await site.orctlJson<{ items: { summary: string }[] }>('get', 'templates')).items
    await until('the template is read', async () => (await versions()).some(({ summary }) => summary === 'A stack'))
    const device = await new DhcpClient(site.prefix, 4, { hostname: 'Gast-4' }).plug()
    await device.request()
    await device.lease()
    const made = await reachableInstance(site, device.duid)
    const pidOf = async (name: string) =>
      String((await site.engine.docker.getContainer(`orc-${made.id}-${name}`).inspect()).State.Pid)
    const inWeb = async (...command: string[]) =>
      execFileSync('nsenter', ['-m', '-n', '-t', await pidOf('web'), ...command], { encoding: 'utf8' })
    assert.match(await inWeb('getent', 'hosts', 'store'), /^fd\S+ +store store\.back\.internal\n$/)
    const fetching = 'exec 3<>/dev/tcp/store/80; echo -e "GET / HTTP/1.0\n" >&3; cat <&3'
    await until('the store answers', async () => /200 OK/.test(await inWeb('bash', '-c', fetching)))
    assert.equal(await client(0).agent.call('dial', { address: made.address, port: 80, timeoutMs: 10_000 }), 'accepted')
    assert.equal(await client(0).agent.call('dial', { address: made.address, port: 22, timeoutMs: 300 }), 'silent')
    assert.equal((await site.engine.containers('org.orchestrator.role=hub')).length, 1)

    await device.release()
    await until('the instance is gone', async () => (await instancesOf(site)).every((i) => i.id !== made.id))
    assert.deepEqual(await site.engine.containers(`org.orchestrator.instance=${made.id}`), [])
    assert.deepEqual(await site.engine.containers('org.orchestrator.role=hub'), [])
    await device.unplug()
    writeFileSync(file, before)
  })

  it('removes the instance when its lease expires without a word', { timeout: 600_000 }, async () => {
    await client(1).vanish()
    const mine = async () => (await instancesOf(site)).some((i) => i.owner.duid === client(1).duid)
    assert.equal(await mine(), true)
    await until('the lease has expired', async () => !(await mine()), { deadlineMs: 200_000, everyMs: 500 })
    assert.equal((await settled(site)).length, 2)
  })
})
