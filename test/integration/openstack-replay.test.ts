import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { backend as kind } from '../../orchestrator/backends/cloud/cloud.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { cloudContext, cloudOrder } from '../support/cloud-backend.ts'
import { type Exchange, replayed } from '../support/exchanges.ts'
import { IRRELEVANT, scenarios, withoutPauses } from '../support/openstack-scenarios.ts'

const FIXTURES = join(import.meta.dirname, '../fixtures/openstack')

interface Recording {
  /** Epoch ms: tokens in it end some time after. */
  readonly recordedAt: number
  readonly credential: Readonly<Record<string, string>>
  readonly settings: unknown
  readonly exchanges: readonly Exchange[]
}

const read = (name: string) => JSON.parse(readFileSync(join(FIXTURES, `${name}.json`), 'utf8')) as Recording

/** Time passes with each wait, and nobody waits. */
function quickClock(start: number) {
  let now = start
  return {
    now: () => now,
    async wait(ms: number) {
      now += ms
    },
  }
}

async function replay(name: string, change: (exchanges: readonly Exchange[]) => readonly Exchange[] = (all) => all) {
  const { recordedAt, credential, settings, exchanges } = read(name)
  const scenario = scenarios.find((one) => one.name === name) ?? assert.fail(`no scenario ${name}`)
  await replayed(change(exchanges), IRRELEVANT, async () => {
    const backend = await kind.create(
      settings,
      cloudContext(() => credential, { clock: quickClock(recordedAt) }),
    )
    await scenario.run(backend)
  })
}

describe('what was recorded of a real OpenStack, word for word', () => {
  withoutPauses()
  it('is there for every scenario, and for no other', () => {
    const names = readdirSync(FIXTURES).map((file) => file.replace(/\.json$/, ''))
    assert.deepEqual(names.toSorted(), scenarios.map(({ name }) => name).toSorted())
  })
  for (const { name } of scenarios) it(name, () => replay(name))

  it('takes no other call, none too few and none too many', async () => {
    const last = (all: readonly Exchange[]) => all.slice(0, -1)
    await assert.rejects(replay('life', last))
    await assert.rejects(
      replay('life', (all) => [...all, ...all.slice(-1)]),
      /not all calls/,
    )
    const renamed = (all: readonly Exchange[]) =>
      all.map((one) => (one.method === 'DELETE' ? { ...one, url: `${one.url}x` } : one))
    await assert.rejects(replay('life', renamed), assert.AssertionError)
  })

  it('holds no token and no secret', () => {
    for (const { name } of scenarios) {
      const text = readFileSync(join(FIXTURES, `${name}.json`), 'utf8')
      assert.doesNotMatch(text, /gAAAA|correct horse|"password": "(?!<)|"secret": "(?!<)/, name)
    }
  })

  it('outputs on the console of a machine are told with the list', async () => {
    const { recordedAt, credential, settings, exchanges } = read('console')
    const at = exchanges.findIndex(({ url }) => url.endsWith('/action'))
    const text = Buffer.from('{"url":"http://x"}').toString('base64')
    const answer = { output: `Debian\r\norchestrator-outputs: ${text}\r\nlogin: ` }
    const told = exchanges.slice(0, at + 1).map((one, index) => (index === at ? { ...one, answer } : one))
    await replayed(told, IRRELEVANT, async () => {
      const backend = await kind.create(
        settings,
        cloudContext(() => credential, { clock: quickClock(recordedAt) }),
      )
      const signal = new AbortController().signal
      const one = { name: 'one' as HostName }
      const ensure = () => backend.ensure(cloudOrder(1, 1, { outputs: true }), one, signal)
      while ((await ensure()).state !== 'running');
      assert.deepEqual(
        (await backend.list(one, signal)).map(({ outputs }) => outputs),
        ['{"url":"http://x"}'],
      )
    })
  })

  it('two servers on one port are both deleted, and no room for one of them is told as such', async () => {
    const { recordedAt, credential, settings, exchanges } = read('no-valid-host')
    const [signIn = assert.fail()] = exchanges
    const isListed = ({ answer }: Exchange) => (answer as { servers?: unknown[] }).servers?.length === 1
    const [listed = assert.fail(), single = assert.fail(), ...deletion] = exchanges.slice(exchanges.findIndex(isListed))
    const [failed = assert.fail()] = (listed.answer as { servers: { id: string }[] }).servers
    const other = '11111111-d7db-4b23-91a6-0fe827d42c5f'
    const both = { ...listed, answer: { servers: [{ ...failed, id: other, status: 'ACTIVE' }, failed] } }
    const gone = deletion.slice(0, 3)
    const otherGone: Exchange[] = JSON.parse(JSON.stringify(gone).replaceAll(failed.id, other))
    const looks = exchanges.slice(-10).filter(({ method, url }) => method === 'GET' && !url.includes('fixed_ips'))
    const answer = { ports: [], security_groups: [], subnets: [], networks: [] }
    const nothing = looks.map((one) => ({ ...one, answer }))
    await replayed([signIn, both, single, ...otherGone, ...gone, ...nothing], IRRELEVANT, async () => {
      const context = cloudContext(() => credential, { clock: quickClock(recordedAt) })
      const backend = await kind.create(settings, context)
      const made = backend.ensure(cloudOrder(1), { name: 'one' as HostName }, new AbortController().signal)
      await assert.rejects(made, { code: 'no-room', message: /one has no room: No valid host was found/ })
    })
  })

  it('a credential that is rotated is used from the next call on', async () => {
    const { recordedAt, credential, settings, exchanges } = read('check-of-a-reader')
    const [signIn] = exchanges
    assert.ok(signIn !== undefined)
    const again = JSON.parse(JSON.stringify(signIn).replaceAll('<password>', 'another')) as Exchange
    let given = credential
    await replayed([...exchanges, again, ...exchanges.slice(1)], IRRELEVANT, async () => {
      const context = cloudContext(() => given, { clock: quickClock(recordedAt) })
      const backend = await kind.create(settings, context)
      const check = () => backend.check?.({ name: 'one' as HostName }, new AbortController().signal)
      await check()
      given = { ...credential, password: 'another' }
      await check()
    })
  })

  it('a token that a service no longer takes is renewed once', async () => {
    const { exchanges } = read('given-network')
    const [signIn, first, ...rest] = exchanges
    assert.ok(signIn !== undefined && first !== undefined)
    const refusal = { ...first, status: 401, answer: { error: { message: 'The token has expired' } } }
    await replay('given-network', () => [signIn, refusal, signIn, first, ...rest])
    await assert.rejects(replay('given-network', () => [signIn, refusal, signIn, refusal]))
  })
})
