import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { HostUnreachable } from '../../common/errors.ts'
import { fakeBackend } from '../../orchestrator/backends/fake/fake.ts'
import type { WantedImage } from '../../orchestrator/domain/build.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { type Preparation, startPreparation } from '../../orchestrator/preparation.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { manualClock, silent } from '../support/fixtures.ts'
import { until } from '../support/until.ts'

const h1 = 'h1' as HostName

describe('the preparation of hosts', () => {
  const directory = mkdtempSync('/tmp/orchestrator-preparation-')
  const running: Preparation[] = []
  let store: Store
  before(async () => {
    store = await openStore(`sqlite:${join(directory, 'test.db')}`)
    await store.putHost({ name: h1, fingerprint: 'f', joinedAt: 0 })
  })
  after(async () => {
    for (const one of running) await one.stop()
    await store.close()
    rmSync(directory, { recursive: true })
  })

  function world() {
    const clock = manualClock()
    const asked: string[] = []
    const w = { clock, asked, images: ['a:1'], fault: null as Error | null, hang: false, looks: 0 }
    const prepare = async (_: unknown, images: readonly WantedImage[], signal: AbortSignal) => {
      asked.push(images.map(({ image }) => image).join())
      if (w.fault !== null) throw w.fault
      if (!w.hang) return
      await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    }
    const preparation = startPreparation({
      ...{ store, clock, log: silent, backends: new Map([['fake', { ...fakeBackend(), prepare }]]) },
      wanted: async () => {
        w.looks++
        return w.images.map((image) => ({ image, from: { kind: 'registry' } }))
      },
    })
    running.push(preparation)
    return Object.assign(w, { preparation })
  }
  const told = async () => (await store.events({ limit: 100 })).filter((e) => e.kind === 'host.images-missing').length

  it('tells a host at its connection what it is to have, and again when that changes, and not otherwise', async () => {
    const w = world()
    w.preparation.hostConnected(h1)
    await until('it was asked', () => w.asked.length === 1)
    w.clock.advance(3_600_000)
    w.images = ['a:1', 'b:2']
    w.preparation.changed()
    await until('it was asked again', () => w.asked.length === 2)
    w.preparation.hostDisconnected(h1)
    w.preparation.changed()
    w.preparation.hostConnected(h1)
    await until('it was asked at the next connection', () => w.asked.length === 3)
    assert.deepEqual(w.asked, ['a:1', 'a:1,b:2', 'a:1,b:2'])
  })

  it('tells once what failed, and tries again later', async () => {
    const w = world()
    w.fault = new HostUnreachable('h1', 'the registry is away')
    w.preparation.hostConnected(h1)
    await until('it is told', async () => (await told()) === 1)
    for (const times of [2, 3]) {
      await until('it rests, and tries again', () => {
        w.clock.advance(60_000)
        return w.asked.length >= times
      })
    }
    assert.equal(await told(), 1)
    w.fault = null
    const before = w.asked.length
    w.preparation.changed()
    await until('it succeeds', () => w.asked.length > before)
    await w.preparation.stop()
  })

  it('tells hosts some time after instances went, once for all of them, and only when other images are wanted', async () => {
    const w = world()
    w.images = ['a:1', 'b:2']
    w.preparation.hostConnected(h1)
    await until('it was asked', () => w.asked.length === 1)
    w.images = ['b:2']
    for (let n = 0; n < 5; n++) w.preparation.freed()
    assert.deepEqual([w.looks, w.asked.length], [1, 1], 'not at once')
    w.clock.advance(10_000)
    await until('it was asked again', () => w.asked.length === 2)
    assert.equal(w.looks, 3, 'one look, and one to ask')
    w.preparation.freed()
    w.clock.advance(10_000)
    await until('it was looked again', () => w.looks === 4)
    w.images = []
    w.preparation.freed()
    w.clock.advance(10_000)
    await until('it was asked for the last time', () => w.asked.length === 3)
    assert.deepEqual(w.asked, ['a:1,b:2', 'b:2', ''])
    w.preparation.freed()
    await w.preparation.stop()
    w.clock.advance(10_000)
    assert.equal(w.asked.length, 3)
  })

  it('ends what is under way when the host goes, and at the stop', async () => {
    const w = world()
    w.hang = true
    w.preparation.hostConnected(h1)
    await until('it was asked', () => w.asked.length === 1)
    w.preparation.hostDisconnected(h1)
    w.preparation.hostConnected(h1)
    await until('it was asked anew', () => w.asked.length === 2)
    await w.preparation.stop()
    assert.equal(w.asked.length, 2)
  })
})
