import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { RuntimeDelay } from '../../common/runtime.ts'
import { Crowd } from '../../lab/crowd.ts'
import { LAB_NETWORK } from '../../lab/namespaces.ts'
import type { LabProcess } from '../../lab/processes.ts'
import type { Site } from '../../lab/site.ts'
import { openSite, settled } from '../support/site.ts'
import { until } from '../support/until.ts'
import { Remote } from '../support/wiring-remote.ts'

const CLIENTS = 100
/**
 * What the main thread of a daemon may keep others waiting, at the 99th percentile: milliseconds, and how many times as
 * long as in a process that does nothing meanwhile, since a machine that is too busy keeps that one waiting as well.
 */
const MOST_DELAY = { ms: 50, timesIdle: 3 }
const IDLE = fileURLToPath(new URL('../support/idle-process.ts', import.meta.url))

describe('a burst', () => {
  let site: Site
  let close: () => Promise<void>
  let idle: Remote
  before(async () => {
    ;({ site, close } = await openSite())
    idle = new Remote([process.execPath, IDLE])
  })
  after(async () => {
    await idle?.kill()
    await close()
  })

  /** The daemon's own measurement since the last one. */
  async function delays(process: LabProcess): Promise<RuntimeDelay> {
    const lines = () =>
      process
        .log(200_000)
        .split('\n')
        .filter((line) => line.includes('"runtime.delay"'))
    const before = lines().length
    process.signal('SIGUSR2')
    const [line = '{}'] = await until('the measurement is logged', () => lines().length > before && lines().slice(-1))
    return JSON.parse(line) as RuntimeDelay
  }

  it(`of ${CLIENTS} leases: none lost, none doubled, and both daemons stay responsive`, {
    timeout: 600_000,
  }, async (t) => {
    const crowd = await new Crowd(site.prefix, 100).plug()
    const daemons = [site.process('orchestrator'), site.process('unionize')]
    for (const daemon of daemons) await delays(daemon)
    await idle.ask('delays')
    const devices = crowd.devices(CLIENTS)
    const answers = await crowd.take(devices)
    assert.equal(new Set(answers.map((answer) => answer.address)).size, CLIENTS)
    const instances = await settled(site, 240_000)
    assert.equal(instances.length, CLIENTS)
    const control = await idle.ask<RuntimeDelay>('delays')
    t.diagnostic(`a process that does nothing: main-thread delay ${JSON.stringify(control)}`)
    const most = Math.max(MOST_DELAY.ms, MOST_DELAY.timesIdle * control.p99)
    for (const daemon of daemons) {
      const measured = await delays(daemon)
      t.diagnostic(`${daemon.name}: main-thread delay ${JSON.stringify(measured)}`)
      assert.ok(measured.p99 < most, `${daemon.name}: p99 ${measured.p99} ms, at most ${most} ms`)
    }
    const dials = answers.map(({ address }) =>
      crowd.dial({ address: LAB_NETWORK.myAddress, port: 80, from: address ?? '', timeoutMs: 5000 }),
    )
    assert.deepEqual(new Set(await Promise.all(dials)), new Set(['accepted']))
    await crowd.release(devices)
    assert.equal((await settled(site, 120_000)).length, 0)
  })
})
