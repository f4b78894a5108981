import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { Crowd } from '../../lab/crowd.ts'
import { LAB_NETWORK } from '../../lab/namespaces.ts'
import type { Site } from '../../lab/site.ts'
import type { EventShape } from '../../orchestrator/api/wire.ts'
import { openSite, settled } from '../support/site.ts'
import { until } from '../support/until.ts'

/** Devices that keep their leases all the time, and devices that come and go. */
const STAYING = 3
const CLIENTS = 10
const FAULTS = 6
/** Milliseconds of a burst in which the wiring process is ended. */
const BURST_MS = 1500

describe('a fault in native code costs a restart of the wiring process and nothing else', () => {
  let site: Site
  let close: () => Promise<void>
  let crowd: Crowd
  before(async () => {
    ;({ site, close } = await openSite({ unionize: { 'orphans.grace-seconds': 2 } }))
    crowd = await new Crowd(site.prefix, 100).plug()
  })
  after(() => close())

  const capabilities = (name: 'unionize' | 'unionize-wiring') => {
    const status = readFileSync(`/proc/${site.process(name).pid}/status`, 'utf8')
    return [...status.matchAll(/^Cap(?:Prm|Eff|Bnd|Amb):\t(\w+)$/gm)].map((match) => BigInt(`0x${match[1]}`))
  }
  const epochOf = async () => {
    const { items } = await site.orctlJson<{ items: { connected: boolean; epoch: number }[] }>('get', 'hosts')
    return items.map(({ connected, epoch }) => ({ connected, epoch }))
  }
  const disconnections = async () => {
    const { items } = await site.orctlJson<{ items: EventShape[] }>('events', '--limit', '1000')
    return items.filter((event) => event.kind === 'host.disconnected').length
  }
  /** Id and time of start of every container of ours that runs. */
  const containers = async () => {
    const found = await site.engine.docker.listContainers({ filters: { label: ['org.orchestrator.role'] } })
    const inspected = found.map(async ({ Id }) => {
      const { State } = await site.engine.docker.getContainer(Id).inspect()
      return `${Id} ${State.StartedAt}`
    })
    return new Set(await Promise.all(inspected))
  }
  async function fault(): Promise<void> {
    const wiring = site.process('unionize-wiring')
    wiring.signal('SIGSEGV')
    assert.equal(await wiring.ended, 'SIGSEGV')
    site.startWiring()
  }

  it('only the wiring process has capabilities', () => {
    assert.deepEqual(new Set(capabilities('unionize')), new Set([0n]))
    assert.ok(capabilities('unionize-wiring').every((set) => set !== 0n))
  })

  it(`SIGSEGV ${FAULTS} times while leases come and go`, { timeout: 900_000 }, async () => {
    const agent = site.process('unionize')
    const staying = crowd.devices(STAYING)
    await crowd.take(staying)
    await settled(site)
    const before = { epoch: await epochOf(), disconnections: await disconnections(), containers: await containers() }
    const services = await site.engine.docker.listContainers({ filters: { label: ['org.orchestrator.role=service'] } })
    const coming = crowd.devices(STAYING + CLIENTS).slice(STAYING)
    for (let round = 0; round < FAULTS; round++) {
      const burst = round % 2 === 0 ? crowd.take(coming) : crowd.release(coming)
      await delay(Math.random() * BURST_MS)
      await fault()
      await burst
      const instances = await settled(site)
      assert.equal(instances.length, round % 2 === 0 ? STAYING + CLIENTS : STAYING)
      await Promise.all(
        instances.map(({ id, ownerAddress }) =>
          until(`${ownerAddress} gets the page of ${id}`, async () => {
            const { body } = await crowd.get(ownerAddress, `http://[${LAB_NETWORK.myAddress}]/`, 1000)
            return body.includes(`content="${id}"`)
          }),
        ),
      )
    }
    assert.ok(agent.running && agent === site.process('unionize'), 'the agent never ended')
    assert.deepEqual(await epochOf(), before.epoch, 'the connection is still the same')
    assert.equal(await disconnections(), before.disconnections)
    const now = await containers()
    for (const { Id } of services) {
      const same = [...before.containers].find((container) => container.startsWith(Id)) ?? ''
      assert.ok(now.has(same), `container ${Id} lived on`)
    }
  })

  it('the firewall, flushed while nobody wires, is brought to what it is to be by the next process', async () => {
    const wiring = site.process('unionize-wiring')
    wiring.signal('SIGSEGV')
    await wiring.ended
    await site.inside(['nft', 'flush', 'ruleset'])
    site.startWiring()
    assert.equal((await settled(site)).length, STAYING)
  })

  it('while it stays away leases are taken in, status and events say so, and all of it is made up for', {
    timeout: 600_000,
  }, async () => {
    const wiring = site.process('unionize-wiring')
    wiring.signal('SIGSEGV')
    await wiring.ended
    const kinds = async () => {
      const { items } = await site.orctlJson<{ items: EventShape[] }>('events', '--limit', '1000')
      return items.map((event) => event.kind)
    }
    await until('it is told', async () => (await kinds()).includes('host.wiring-away'))
    const more = crowd.devices(STAYING + 2).slice(STAYING)
    await crowd.take(more)
    site.startWiring()
    assert.equal((await settled(site)).length, STAYING + more.length)
    assert.ok((await kinds()).includes('host.wiring-back'))
    await crowd.release(more)
    assert.equal((await settled(site)).length, STAYING)
  })
})
