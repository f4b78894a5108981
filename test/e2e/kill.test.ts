import assert from 'node:assert/strict'
import { appendFileSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { Crowd } from '../../lab/crowd.ts'
import { LAB_NETWORK } from '../../lab/namespaces.ts'
import { CACHE_DIRECTORY } from '../../lab/places.ts'
import type { Site } from '../../lab/site.ts'
import { idsOf } from '../../lab/users.ts'
import type { InstanceShape } from '../../orchestrator/api/wire.ts'
import { openSite, settled } from '../support/site.ts'
import { until } from '../support/until.ts'

const CLIENTS = 20
const MOMENTS = 20
/** Milliseconds of a burst in which a daemon is killed: from the first request until the last instance is up, here. */
const BURST_MS = 2500

describe('whatever is killed, each lease ends with exactly one wired instance', () => {
  let site: Site
  let close: () => Promise<void>
  let crowd: Crowd
  before(async () => {
    ;({ site, close } = await openSite({ ownEngine: true, unionize: { 'orphans.grace-seconds': 2 } }))
    crowd = await new Crowd(site.prefix, 100).plug()
  })
  after(() => close())

  /** Each client gets the page of its own instance: the last word on "wired". A service that just started may take a moment. */
  async function answered(instances: readonly InstanceShape[]): Promise<void> {
    const url = `http://[${LAB_NETWORK.myAddress}]/`
    const pages = instances.map(({ id, ownerAddress }) =>
      until(`${ownerAddress} gets the page of ${id}`, async () => {
        const { body } = await crowd.get(ownerAddress, url, 1000)
        assert.ok(body.includes(`content="${id}"`), 'the page is that of another instance')
        return true
      }),
    )
    await Promise.all(pages)
  }
  async function endsWith(count: number): Promise<void> {
    const instances = await settled(site)
    assert.equal(instances.length, count)
    await answered(instances)
  }
  const kills = {
    orchestrator: async () => {
      await site.process('orchestrator').kill()
      await site.startOrchestrator()
    },
    unionize: async () => {
      await site.process('unionize').kill()
      site.startUnionize()
    },
    both: async () => {
      await Promise.all([site.process('orchestrator').kill(), site.process('unionize').kill()])
      site.startUnionize()
      await site.startOrchestrator()
    },
  }

  for (const [name, kill] of Object.entries(kills)) {
    it(`kill -9 of ${name} at ${MOMENTS} random moments of bursts of ${CLIENTS} clients`, {
      timeout: 900_000,
    }, async () => {
      const devices = crowd.devices(CLIENTS)
      for (let moment = 0; moment < MOMENTS; moment++) {
        const comes = moment % 2 === 0
        const afterMs = Math.random() * BURST_MS
        const burst = comes ? crowd.take(devices) : crowd.release(devices)
        await delay(afterMs)
        await kill()
        await burst
        await endsWith(comes ? CLIENTS : 0).catch((cause) => {
          throw new Error(`moment ${moment}, ${Math.round(afterMs)} ms into ${comes ? 'arrival' : 'departure'}`, {
            cause,
          })
        })
      }
    })
  }

  it('the engine is stopped and started', { timeout: 900_000 }, async () => {
    const devices = crowd.devices(6)
    await crowd.take(devices.slice(0, 4))
    await endsWith(4)
    await site.engine.stop()
    await crowd.take(devices.slice(4))
    await crowd.release(devices.slice(0, 1))
    await site.engine.start()
    await endsWith(5)
    for (let round = 0; round < 6; round++) {
      await crowd.release(devices.slice(3))
      const burst = crowd.take(devices.slice(3))
      await delay(Math.random() * 500)
      await site.engine.kill()
      await burst
      await site.engine.start()
      await endsWith(5)
    }
    await crowd.release(devices.slice(1))
    await endsWith(0)
  })

  it('dnsmasq is restarted, killed, and sent SIGHUP', { timeout: 600_000 }, async () => {
    const devices = crowd.devices(5)
    await crowd.take(devices)
    await endsWith(5)
    const before = await settled(site)
    site.process('dnsmasq-clients').signal('SIGHUP')
    await site.process('dnsmasq-clients').stop()
    await site.startDnsmasq('clients')
    await site.process('dnsmasq-clients').kill()
    await site.startDnsmasq('clients')
    await endsWith(5)
    const unchanged = (all: readonly InstanceShape[]) => all.map((i) => `${i.id} ${i.generation}`)
    assert.deepEqual(unchanged(await settled(site)), unchanged(before), 'a replay of all leases touches no instance')
    await crowd.release(devices)
    await endsWith(0)
  })

  it('the connection is cut for a minute while leases come and go', { timeout: 600_000 }, async () => {
    const devices = crowd.devices(6)
    await crowd.take(devices.slice(0, 3))
    await endsWith(3)
    const { uid } = idsOf('unionize')
    const rule = `add table inet cut; add chain inet cut out { type filter hook output priority 0; }; add rule inet cut out meta skuid ${uid} tcp dport 8998 drop`
    await site.inside(['nft', rule])
    await crowd.take(devices.slice(3))
    await crowd.release(devices.slice(0, 2))
    await crowd.take(devices.slice(0, 1))
    await crowd.release(devices.slice(5))
    await delay(60_000)
    await site.inside(['nft', 'delete table inet cut'])
    await endsWith(4)
    await crowd.release([...devices.slice(0, 1), ...devices.slice(2, 5)])
    await endsWith(0)
  })

  it('the journal is replayed twice from the beginning, and once more appended to itself', {
    timeout: 900_000,
  }, async () => {
    const devices = crowd.devices(8)
    await crowd.take(devices)
    await crowd.release(devices.slice(0, 4))
    await endsWith(4)
    const before = await settled(site)
    for (let replay = 0; replay < 2; replay++) {
      await site.process('unionize').kill()
      rmSync(join(CACHE_DIRECTORY, 'state', site.prefix, 'unionize', 'journal.json'))
      site.startUnionize()
      await site.connected()
      await until('the journal is read to its end again', () => {
        const text = readFileSync(join(CACHE_DIRECTORY, 'state', site.prefix, 'unionize', 'journal.json'), 'utf8')
        const { offsets } = JSON.parse(text) as { offsets: Record<string, number> }
        return Object.values(offsets).includes(statSync(site.journal).size)
      })
      assert.deepEqual(
        (await settled(site)).map((i) => i.id),
        before.map((i) => i.id),
      )
    }
    appendFileSync(site.journal, readFileSync(site.journal))
    await endsWith(4)
    await crowd.release(devices.slice(4))
    await endsWith(0)
  })
})
