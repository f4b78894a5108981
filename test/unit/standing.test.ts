import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { OrchestratorError } from '../../common/errors.ts'
import { createStanding } from '../../unionize/standing.ts'
import { WiringError } from '../../unionize/wiring/errors.ts'
import { until } from '../support/until.ts'

/** A standing whose stock-takings end as told, in order; without a word they succeed. */
function scene(t: { after: (end: () => void) => void }) {
  const log: string[] = []
  const outcomes: (() => Promise<void>)[] = []
  const stopping = new AbortController()
  t.after(() => stopping.abort())
  const standing = createStanding({
    async takeStock() {
      log.push('begin')
      await outcomes.shift()?.()
      log.push('end')
    },
    notice: (_level, code) => log.push(code),
    host: 'h1',
    changed: () => {},
    signal: stopping.signal,
  })
  return { standing, log, outcomes }
}
const refusal = (code: string) => () => Promise.reject(new WiringError(code, code, { retryable: true }))

test('nothing is done before stock was taken, nor after an end', async (t) => {
  const { standing } = scene(t)
  await assert.rejects(
    standing.work(async () => 1),
    { code: 'starting', retryable: true },
  )
  await standing.engineReturned()
  assert.equal(await standing.work(async () => 1), 1)
  standing.engineAway(new OrchestratorError('engine-unreachable', 'away', { retryable: true }))
  await assert.rejects(
    standing.work(async () => 1),
    { code: 'engine-unreachable' },
  )
  standing.stop()
  await assert.rejects(
    standing.work(async () => 1),
    { code: 'stopping' },
  )
})

test('another wiring process: stock is taken when the work under way has ended, and new work waits for it', async (t) => {
  const { standing, log, outcomes } = scene(t)
  await standing.engineReturned()
  log.length = 0
  const taking = Promise.withResolvers<void>()
  outcomes.push(() => taking.promise)
  const under = Promise.withResolvers<void>()
  const first = standing.work(() => under.promise.then(() => log.push('first')))
  standing.wiringChanged({ there: true, again: true })
  await turn()
  const second = standing.work(async () => log.push('second'))
  await turn()
  assert.equal(log.length, 0)
  under.resolve()
  await first
  await until('stock is taken', () => log.includes('begin'))
  assert.deepEqual(log, ['first', 'begin'])
  taking.resolve()
  await second
  assert.deepEqual(log, ['first', 'begin', 'end', 'second'])
})

test('a stock-taking that fails is told and tried again, and work is refused meanwhile', async (t) => {
  const { standing, log, outcomes } = scene(t)
  await standing.engineReturned()
  log.length = 0
  outcomes.push(refusal('bridge-missing'))
  standing.wiringChanged({ there: true, again: true })
  await until('it is told', () => log.includes('bridge-missing'))
  await assert.rejects(
    standing.work(async () => 1),
    { code: 'bridge-missing' },
  )
  await until('it is well again', () => log.includes('wiring-back'))
  assert.equal(await standing.work(async () => 1), 1)
  assert.deepEqual(log, ['begin', 'bridge-missing', 'begin', 'end', 'wiring-back'])
})

test('a wiring process that dies once more during that is nobody’s news', async (t) => {
  const { standing, log, outcomes } = scene(t)
  await standing.engineReturned()
  log.length = 0
  outcomes.push(refusal('worker-died'))
  standing.wiringChanged({ there: true, again: true })
  await until('it was tried again', () => log.includes('end'))
  assert.deepEqual(log, ['begin', 'begin', 'end'])
})

test('a wiring process that stays away is told once, by whoever does not wait for the engine as well', async (t) => {
  const { standing, log } = scene(t)
  const away = { there: false, error: new WiringError('wiring-away', 'away', { retryable: true }) } as const
  standing.wiringChanged(away)
  assert.equal(log.length, 0)
  await standing.engineReturned()
  standing.wiringChanged(away)
  standing.wiringChanged(away)
  await assert.rejects(
    standing.work(async () => 1),
    { code: 'wiring-away' },
  )
  standing.wiringChanged({ there: true, again: true })
  await until('it is back', () => log.includes('wiring-back'))
  assert.equal(log.filter((word) => word === 'wiring-away').length, 1)
})

test('what must not come into a stock-taking waits for it, and keeps no work waiting', async (t) => {
  const { standing, log } = scene(t)
  await standing.beside(async () => log.push('too early'))
  await standing.engineReturned()
  log.length = 0
  const long = Promise.withResolvers<void>()
  const beside = standing.beside(() => long.promise.then(() => log.push('beside')))
  await turn()
  assert.equal(await standing.work(async () => 1), 1)
  standing.wiringChanged({ there: true, again: true })
  await turn()
  assert.equal(log.length, 0)
  long.resolve()
  await beside
  await until('stock is taken', () => log.includes('end'))
  assert.deepEqual(log, ['beside', 'begin', 'end'])
})

test('stock is taken while work waits aside, which goes on afterwards, or finds out that it cannot', async (t) => {
  const { standing, log } = scene(t)
  await standing.engineReturned()
  log.length = 0
  const happened = Promise.withResolvers<void>()
  const waiting = standing.work(() => standing.aside(() => happened.promise).then(() => log.push('went on')))
  await turn()
  standing.wiringChanged({ there: true, again: true })
  await until('stock is taken', () => log.includes('end'))
  happened.resolve()
  await waiting
  assert.deepEqual(log, ['begin', 'end', 'went on'])
  const again = standing.work(() => standing.aside(() => turn()).then(() => assert.fail('it went on')))
  await turn()
  standing.engineAway(new OrchestratorError('engine-unreachable', 'away', { retryable: true }))
  await assert.rejects(again, { code: 'engine-unreachable' })
})
