import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { WireService } from '../../unionize/contract.ts'
import { createHealthBook, healthIn } from '../../unionize/instances/health.ts'
import { createRestarts } from '../../unionize/instances/restarts.ts'
import { lastWords, nextStep, type ServiceState, staysEnded } from '../../unionize/instances/starting.ts'
import { createWakes } from '../../unionize/instances/wakes.ts'
import { service } from '../support/unionize-host.ts'

type Condition = WireService['dependsOn'][number]['condition']
const never: Omit<ServiceState, 'id'> = {
  ...{ running: false, exitCode: null, health: 'none', healthOutput: '', startedAt: null, finishedAt: null },
}
const runs = (startedAt: number, change: Partial<ServiceState> = {}) => ({ running: true, startedAt, ...change })
const ended = (exitCode: number, startedAt: number, finishedAt: number) => ({ exitCode, startedAt, finishedAt })

/** The next step of web, which depends on db; how both stand. */
function step(
  condition: Condition,
  web: Partial<ServiceState>,
  db: Partial<ServiceState>,
  more: {
    held?: readonly string[]
    restart?: boolean
    policies?: Partial<Record<'web' | 'db', WireService['restart']>>
  } = {},
) {
  const { held = [], restart = false, policies = {} } = more
  const dependsOn = [{ service: 'db', condition, restart }]
  const services = [
    service('web', { dependsOn, restart: policies.web ?? 'always' }),
    service('db', { restart: policies.db ?? 'always' }),
  ] as const
  const states = new Map([
    ['web', { ...never, id: 'w', ...web }],
    ['db', { ...never, id: 'd', ...db }],
  ])
  return nextStep(services[0], services, states, (name) => held.includes(name))
}
const waits = (why: RegExp, state: string, found: ReturnType<typeof step>) => {
  assert.ok(found.kind === 'wait', `it is to wait, not to ${found.kind}`)
  assert.match(found.why, why)
  assert.equal(found.state, state)
}

test('who depends on a start waits for it, and no longer', () => {
  waits(/^service web waits for db to run$/, 'patience', step('started', {}, {}))
  assert.equal(step('started', {}, runs(1)).kind, 'start')
  waits(/exit code 1$/, 'failed', step('started', {}, ended(1, 1, 2), { held: ['db'] }))
  const stays = { policies: { db: 'no' as const } }
  assert.equal(step('started', {}, ended(1, 1, 2), stays).kind, 'start', 'it was started, and is to stay ended')
})

test('who depends on health waits for it; unhealthy is a failure, in its own words; none is one for good', () => {
  waits(/to be healthy: it is starting$/, 'patience', step('healthy', {}, runs(1, { health: 'starting' })))
  assert.equal(step('healthy', {}, runs(1, { health: 'healthy' })).kind, 'start')
  const ill = runs(1, { health: 'unhealthy', healthOutput: 'no\n  disk\u001b[0m\n' })
  waits(/it is unhealthy; its check said: no disk \[0m$/, 'failed', step('healthy', {}, ill))
  waits(/it has no health check/, 'never', step('healthy', {}, runs(1)))
  waits(/it ended with exit code 0/, 'never', step('healthy', {}, ended(0, 1, 2), { policies: { db: 'no' } }))
})

test('who depends on an end waits for its success', () => {
  waits(/to end with success$/, 'patience', step('completed', {}, runs(1)))
  assert.equal(step('completed', {}, ended(0, 1, 2)).kind, 'start')
  waits(
    /exit code 3$/,
    'failed',
    step('completed', {}, ended(3, 1, 2), { held: ['db'], policies: { db: 'on-failure' } }),
  )
  waits(/exit code 3$/, 'patience', step('completed', {}, ended(3, 1, 2), { policies: { db: 'on-failure' } }))
  waits(/exit code 3$/, 'never', step('completed', {}, ended(3, 1, 2), { policies: { db: 'no' } }))
})

test('a service that dies is not held down by one that was healthy when it started; by a new run of that one it is', () => {
  const dead = ended(1, 5, 9)
  const ill = { health: 'unhealthy' } as const
  assert.equal(step('healthy', dead, runs(4, ill)).kind, 'start')
  assert.equal(step('healthy', dead, runs(6, ill)).kind, 'wait')
})

test('what runs is left alone, unless it is to follow a restart', () => {
  const ill = { health: 'unhealthy' } as const
  assert.equal(step('healthy', runs(5), runs(6, ill)).kind, 'none')
  assert.equal(step('started', runs(5), runs(6)).kind, 'none')
  assert.equal(step('started', runs(5), runs(6), { restart: true }).kind, 'restart')
  assert.equal(step('started', runs(7), runs(6), { restart: true }).kind, 'none')
  assert.equal(step('healthy', runs(5), runs(6, { health: 'starting' }), { restart: true }).kind, 'wait')
  const stopped = { ...ended(137, 5, 7), running: false }
  const once = { restart: true, policies: { web: 'no' as const } }
  assert.equal(step('started', stopped, runs(6), once).kind, 'start', 'it was stopped to follow, and then came a crash')
  assert.equal(step('started', ended(0, 5, 5), runs(6), once).kind, 'none', 'it had ended before')
})

test('what ended stays so as its policy says; what died waits for its time', () => {
  const policies = [
    ['always', 0, false],
    ['always', 1, false],
    ['on-failure', 0, true],
    ['on-failure', 1, false],
    ['no', 0, true],
    ['no', 1, true],
  ] as const
  for (const [restart, exitCode, stays] of policies) {
    assert.equal(staysEnded(service('x', { restart }), exitCode), stays, `${restart} ${exitCode}`)
    const found = step('started', ended(exitCode, 2, 3), runs(1), { policies: { web: restart } })
    assert.equal(found.kind, stays ? 'none' : 'start')
  }
  assert.equal(staysEnded(service('x', { restart: 'no' }), null), false, 'it never ran')
  waits(
    /web ended with exit code 1; it is started again/,
    'failed',
    step('started', ended(1, 2, 3), runs(1), { held: ['web'] }),
  )
})

test('a death holds its part alone, until the delay of the last death is over', () => {
  const restarts = createRestarts(() => 0)
  const first = restarts.died('i-one', 'web')
  const second = restarts.died('i-one', 'web')
  assert.deepEqual([first.delayMs, second.delayMs, restarts.died('i-one', 'db').delayMs], [200, 400, 200])
  first.release()
  assert.ok(restarts.held('i-one', 'web'))
  second.release()
  assert.ok(!restarts.held('i-one', 'web') && restarts.held('i-one', 'db') && !restarts.held('i-two', 'db'))
})

test('a wake ends the waits of those who listened before, of that instance alone', async () => {
  const wakes = createWakes()
  const { signal } = new AbortController()
  assert.equal(wakes.wake('i-one'), false)
  const [one, other] = [wakes.listen('i-one'), wakes.listen('i-two')]
  assert.equal(wakes.wake('i-one'), true)
  await one.wait(600_000, signal)
  one.leave()
  assert.equal(wakes.wake('i-one'), false)
  const stopping = new AbortController()
  const ending = assert.rejects(other.wait(600_000, stopping.signal), /enough/)
  stopping.abort(new Error('enough'))
  await ending
  await wakes.listen('i-two').wait(1, signal)
})

test('health is told when it changes, in few words', () => {
  const book = createHealthBook()
  assert.ok(!book.note('i-one', 'web', null))
  assert.ok(book.note('i-one', 'web', 'it hurts'))
  assert.ok(!book.note('i-one', 'web', 'it still hurts'), 'that is no news')
  assert.ok(book.note('i-one', 'db', ''))
  assert.equal(book.detail('i-one'), 'service web is unhealthy: it still hurts; service db is unhealthy')
  assert.ok(book.note('i-one', 'web', null))
  book.replace('i-one', new Map())
  assert.equal(book.detail('i-one'), undefined)
  assert.deepEqual(['health_status: unhealthy', 'health_status: healthy', 'exec_die'].map(healthIn), [
    'unhealthy',
    'healthy',
    null,
  ])
  assert.equal(lastWords('x'.repeat(5000)).length, 300)
})
