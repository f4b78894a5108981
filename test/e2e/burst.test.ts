import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Crowd } from '../../lab/crowd.ts'
import { LAB_NETWORK } from '../../lab/namespaces.ts'
import type { LabProcess } from '../../lab/processes.ts'
import type { Site } from '../../lab/site.ts'
import { openSite, settled } from '../support/site.ts'
import { until } from '../support/until.ts'

const CLIENTS = 100
/** Milliseconds that the main thread of a daemon may keep others waiting, at the 99th percentile. */
const MOST_DELAY_MS = 50

describe('a burst', () => {
  let site: Site
  let close: () => Promise<void>
  before(async () => {
    ;({ site, close } = await openSite())
  })
  after(() => close())

  /** The daemon's own measurement since the last one. */
  async function delays(process: LabProcess): Promise<{ p50: number; p99: number; max: number }> {
    const lines = () =>
      process
        .log(200_000)
        .split('\n')
        .filter((line) => line.includes('"runtime.delay"'))
    const before = lines().length
    process.signal('SIGUSR2')
    const [line = '{}'] = await until('the measurement is logged', () => lines().length > before && lines().slice(-1))
    return JSON.parse(line) as { p50: number; p99: number; max: number }
  }

  it(`of ${CLIENTS} leases: none lost, none doubled, and both daemons stay responsive`, {
    timeout: 300_000,
  }, async (t) => {
    const crowd = await new Crowd(site.prefix, 100).plug()
    const daemons = [site.process('orchestrator'), site.process('unionize')]
    for (const daemon of daemons) await delays(daemon)
    const devices = crowd.devices(CLIENTS)
    const answers = await crowd.take(devices)
    assert.equal(new Set(answers.map((answer) => answer.address)).size, CLIENTS)
    const instances = await settled(site, 240_000)
    assert.equal(instances.length, CLIENTS)
    for (const daemon of daemons) {
      const measured = await delays(daemon)
      t.diagnostic(`${daemon.name}: main-thread delay ${JSON.stringify(measured)}`)
      assert.ok(measured.p99 < MOST_DELAY_MS, `${daemon.name}: p99 ${measured.p99} ms`)
    }
    const dials = answers.map(({ address }) =>
      crowd.dial({ address: LAB_NETWORK.myAddress, port: 80, from: address ?? '', timeoutMs: 5000 }),
    )
    assert.deepEqual(new Set(await Promise.all(dials)), new Set(['accepted']))
    await crowd.release(devices)
    assert.equal((await settled(site, 120_000)).length, 0)
  })
})
