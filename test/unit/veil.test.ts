import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Registry } from '@prometheus-io/client'
import type { Log } from '../../common/log.ts'
import { openAccess } from '../../orchestrator/access/access.ts'
import { createVeil } from '../../orchestrator/access/veil.ts'
import { type Backend, type BackendKind, CONTRACT_VERSION } from '../../orchestrator/backends/backend.ts'
import { callMetrics } from '../../orchestrator/backends/call-metrics.ts'
import { createGuards } from '../../orchestrator/backends/guarded.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { Observed } from '../../orchestrator/domain/instance.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { cloudOrder } from '../support/cloud-backend.ts'
import { manualClock } from '../support/fixtures.ts'

const SECRET = 'correct-horse-battery'
const never = new AbortController().signal
const one = { name: 'one' as HostName }
const order = cloudOrder(1)

/** Tells the password that it was given wherever it can say something of an instance. */
function careless(): Backend {
  const observed: Observed = {
    ...{ instance: order.instance, generation: 1, state: 'starting', address: null },
    detail: `signed in with ${SECRET}`,
  }
  return {
    name: 'mine',
    checkTemplate: () => {},
    list: async () => [observed],
    ensure: async () => observed,
    remove: async () => {},
    watch: async (_target, tell) => tell(observed),
    close: async () => {},
  }
}

function veiledWorld() {
  const veil = createVeil()
  veil.given('mine', 'lab', { user: 'me', password: SECRET })
  const guards = createGuards({
    ...{ clock: manualClock(), metrics: callMetrics(new Registry()), changed: () => {} },
    show: veil.text,
  })
  return { veil, backend: guards.guard(careless()) }
}

/** A log that keeps its lines. */
function notes() {
  const lines: unknown[] = []
  const note = (...line: unknown[]) => void lines.push(line)
  const log: Log = { debug: note, info: note, warn: note, error: note }
  return { lines, log }
}

describe('what a backend says without its credential', () => {
  it('is the detail of an instance, however it is told', async () => {
    const { backend } = veiledWorld()
    const told: (string | undefined)[] = [(await backend.ensure(order, one, never)).detail]
    for (const { detail } of await backend.list(one, never)) told.push(detail)
    await backend.watch?.(one, ({ detail }) => told.push(detail), never)
    assert.deepEqual(told, Array(3).fill('signed in with (secret)'))
  })

  it('is each line of its log, with its fields; other backends, and what is no text, stay as they are', () => {
    const { veil } = veiledWorld()
    const { lines, log } = notes()
    for (const level of ['debug', 'info', 'warn', 'error'] as const) {
      veil.log('mine', log)[level]('x', `by ${SECRET}`, { error: `no ${SECRET}`, n: 1 })
    }
    veil.log('other', log).info('x', SECRET)
    const shown = ['x', 'by (secret)', { error: 'no (secret)', n: 1 }]
    assert.deepEqual(lines, [shown, shown, shown, shown, ['x', SECRET, {}]])
  })

  it('has neither the credential of now nor the former one, calls with which may be under way, and no older one', () => {
    const veil = createVeil()
    const given = (password: string) => veil.given('mine', 'lab', { password })
    for (const password of ['first-password', 'second-password', 'third-password', 'third-password']) given(password)
    veil.given('mine', 'other', { password: 'third-password-and-more' })
    const said = 'first-password second-password third-password third-password-and-more'
    assert.equal(veil.text('mine', said), 'first-password (secret) (secret) (secret)')
  })

  it('is what it logs while new credentials are tried', async () => {
    const { lines, log } = notes()
    const backend: BackendKind = {
      contract: CONTRACT_VERSION,
      async create(_settings, { credential, log: own }) {
        const check = async () => {
          const { password } = await credential('lab')
          own.warn('mine.refused', `no ${password}`)
          throw new Error('refused')
        }
        return { ...careless(), targets: () => [one.name], check }
      },
    }
    const access = await openAccess({
      ...{ clock: manualClock(), log, registry: new Registry(), packages: '/', beside: [], wake: () => {} },
      store: { installation: async () => '0123456789abcdef' } as Partial<Store> as Store,
      seal: { seal: assert.fail, open: assert.fail, openAll: () => assert.fail() },
      setting: { mine: { kind: 'careless', settings: { credential: 'lab' } } },
      kinds: { careless: async () => ({ backend }) },
    })
    await assert.rejects(access.desk.credentials.set('lab', { password: SECRET }, true, never), /test failed/)
    assert.deepEqual(lines, [['mine.refused', 'no (secret)', {}]])
    await access.close()
  })
})
