import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { it } from 'node:test'
import { inspect } from 'node:util'
import request from 'supertest'
import { OrchestratorError, wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import { createCredentials } from '../../orchestrator/access/credentials.ts'
import { backendReportShape, backendShape, credentialShape, listOf, problemShape } from '../../orchestrator/api/wire.ts'
import { CIRCUIT_LIMITS } from '../../orchestrator/domain/circuit.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { openSeal } from '../../orchestrator/pki/seal.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { type TestApi, testApi } from '../support/api.ts'
import { manualClock } from '../support/fixtures.ts'
import { type LockedWorld, lockedKind } from '../support/locked-backend.ts'
import { onBothStores } from '../support/stores.ts'

const SECRET = 'correct-horse-battery'
const code =
  (expected: string, words = /./) =>
  (error: unknown) =>
    error instanceof OrchestratorError && error.code === expected && words.test(error.message)

onBothStores('credentials', (open) => {
  async function world(store: Store) {
    const directory = mkdtempSync('/tmp/orchestrator-credentials-')
    const [seal, clock, told] = [await openSeal(directory), manualClock(), [] as (readonly string[])[]]
    rmSync(directory, { recursive: true })
    const settings = { cloud: { regions: [{ name: 'r1', credential: 'keys' }] }, swarm: { tls: { ca: 'x' } } }
    const changed = (usedBy: readonly string[]) => void told.push(usedBy)
    return { clock, told, seal, credentials: createCredentials({ store, seal, clock, settings, changed }) }
  }

  it('are kept sealed, opened for who asks, and replaced as a whole', async () => {
    const { store, url } = await open()
    const { credentials, clock, told } = await world(store)
    const info = await credentials.put('keys', { user: 'me', password: SECRET })
    assert.deepEqual(info, {
      ...{ name: 'keys', fields: ['password', 'user'], changedAt: clock.now(), usedBy: ['cloud'] },
    })
    assert.deepEqual(await credentials.openFor('cloud', 'keys'), { user: 'me', password: SECRET })
    assert.ok(!JSON.stringify(await store.credentials()).includes(SECRET))
    if (url.startsWith('sqlite:')) {
      for (const end of ['', '-wal']) assert.ok(!readFileSync(`${url.slice(7)}${end}`).includes(SECRET))
    }
    clock.advance(5)
    await credentials.put('keys', { token: 'another-secret' })
    assert.deepEqual(await credentials.openFor('cloud', 'keys'), { token: 'another-secret' })
    assert.deepEqual(
      (await credentials.all()).map(({ fields, changedAt }) => [fields, changedAt]),
      [[['token'], clock.now()]],
    )
    assert.deepEqual(told, [['cloud'], ['cloud']])
    const events = JSON.stringify(await store.events({ limit: 10 }))
    assert.match(events, /credential keys was set: password, user/)
    assert.ok(!events.includes(SECRET))
  })

  it('say with which command one is set that is not there', async () => {
    const { credentials } = await world((await open()).store)
    const missing = code('credential-missing', /orctl credential set keys/)
    await assert.rejects(credentials.openFor('cloud', 'keys'), missing)
    await assert.rejects(credentials.openFor('cloud', "x'; drop table credentials"), code('credential-missing'))
  })

  it('are not removed under a backend that uses them, unless by force', async () => {
    const { store } = await open()
    const { credentials } = await world(store)
    for (const name of ['keys', 'spare', 'asked']) await credentials.put(name, { token: SECRET })
    await credentials.openFor('swarm', 'asked')
    await assert.rejects(credentials.remove('keys', { force: false }), code('credential-in-use', /backend cloud,/))
    await assert.rejects(credentials.remove('asked', { force: false }), code('credential-in-use', /backend swarm,/))
    await credentials.remove('spare', { force: false })
    await credentials.remove('keys', { force: true })
    await assert.rejects(credentials.remove('keys', { force: true }), code('not-found'))
    assert.deepEqual(
      (await credentials.all()).map(({ name }) => name),
      ['asked'],
    )
  })

  it('do not open under another name, or with another key', async () => {
    const { store } = await open()
    const { credentials } = await world(store)
    await credentials.put('keys', { token: SECRET })
    const stored = await store.credential('keys')
    assert.ok(stored)
    await store.putCredential({ ...stored, name: 'stolen' })
    await assert.rejects(credentials.openFor('x', 'stolen'), code('seal-broken'))
    await assert.rejects((await world(store)).credentials.openFor('x', 'keys'), code('seal-broken', /another key/))
  })

  it('have fields that make sense, and no refusal shows a value', async () => {
    const { credentials } = await world((await open()).store)
    const cases: [string, Record<string, string>][] = [
      ['Bad Name', { token: SECRET }],
      ['../x', { token: SECRET }],
      ['keys', {}],
      ['keys', { [SECRET.replaceAll('-', ' ')]: 'x' }],
      ['keys', { token: '' }],
      ['keys', { token: SECRET.repeat(2000) }],
      ['keys', Object.fromEntries(Array.from({ length: 33 }, (_, n) => [`f${n}`, SECRET]))],
    ]
    for (const [name, fields] of cases) {
      await assert.rejects(credentials.put(name, fields), (error: Error) => {
        assert.doesNotMatch(error.message, /horse/)
        return code('invalid-input')(error)
      })
    }
    assert.deepEqual(await credentials.all(), [])
  })
})

onBothStores('backends and credentials over the API', (open) => {
  async function locked(log?: Log) {
    const { store } = await open()
    const world: LockedWorld = { password: SECRET, away: new Set(), missing: [], came: [] }
    const kinds = { locked: async () => ({ backend: lockedKind(world) }) }
    const settings = { credential: 'keys', targets: ['east', 'west'] }
    const setting = { vault: { kind: 'locked', settings } }
    const api = await testApi({ store, setting, kinds, ...(log && { log }) })
    return { api, world, store }
  }
  const call = (api: TestApi, method: 'get' | 'put' | 'post' | 'delete', path: string) =>
    request(api.url)[method](path).trustLocalhost().set('Authorization', `Bearer ${api.token}`)
  const set = (api: TestApi, password: string, test = false) =>
    call(api, 'put', '/v1/credentials/keys').send({ fields: { user: 'me', password }, test })
  const check = async (api: TestApi) =>
    backendReportShape.parse((await call(api, 'post', '/v1/backends/vault/check').expect(200)).body).targets

  it('never tell a value: in no answer, no log, no event, no metric', async () => {
    const logged: unknown[] = []
    const note = (...all: unknown[]) => void logged.push(all)
    const { api, world, store } = await locked({ debug: note, info: note, warn: note, error: note })
    await using _ = api
    const texts: string[] = []
    const asked = async (one: request.Test) => {
      const { text, body } = await one
      texts.push(text ?? '', JSON.stringify(body))
    }
    await asked(set(api, SECRET))
    await asked(call(api, 'get', '/v1/credentials'))
    await asked(call(api, 'post', '/v1/credentials/keys/test').send({}))
    world.password = 'another one'
    await asked(call(api, 'post', '/v1/credentials/keys/test').send({}))
    const [refused] = await check(api)
    assert.deepEqual(refused?.error, { code: 'credential-refused', message: '(secret) is wrong: 401: (secret)' })
    await asked(call(api, 'post', '/v1/backends/vault/check'))
    await asked(set(api, SECRET, true))
    const broken = call(api, 'put', '/v1/credentials/keys').set('Content-Type', 'application/json')
    await asked(broken.send(`{"fields": {"password": ${SECRET}}}`))
    await asked(call(api, 'put', '/v1/credentials/keys').send({ fields: { password: [SECRET] } }))
    await asked(call(api, 'put', '/v1/credentials/keys').send({ fields: { password: SECRET }, tset: true }))
    await asked(call(api, 'get', '/v1/backends'))
    await asked(call(api, 'get', '/metrics'))
    await asked(call(api, 'delete', '/v1/credentials/keys'))
    texts.push(JSON.stringify(await store.events({ limit: 100 })), JSON.stringify(logged))
    assert.ok(world.came.includes(SECRET), 'the backend was given it')
    assert.doesNotMatch(texts.join('\n'), /correct-/)
  })

  it('are in no error that a call of a backend ends with, nor in what it says is missing', async () => {
    const { api, world } = await locked()
    await using _ = api
    await set(api, SECRET).expect(200)
    const vault = api.access.backends.get('vault')
    assert.ok(vault)
    const east = { name: 'east' as HostName }
    world.missing.push(`the right to use ${SECRET}`)
    const { missing } = (await vault.check?.(east, new AbortController().signal)) ?? assert.fail()
    assert.deepEqual(missing, ['the right to use (secret)'])
    world.password = 'another one'
    await assert.rejects(vault.list(east, new AbortController().signal), (error) => {
      assert.ok(error instanceof OrchestratorError && error.code === 'credential-refused')
      assert.doesNotMatch(inspect(error), /correct-/)
      assert.equal(wording(error), '(secret) is wrong: 401: (secret)')
      return true
    })
  })

  it('are tested with every backend that uses them, before they hold if that is asked for', async () => {
    const { api, world } = await locked()
    await using _ = api
    const listed = async () =>
      listOf(credentialShape).parse((await call(api, 'get', '/v1/credentials').expect(200)).body).items
    const refused = problemShape.parse((await set(api, 'wrong-password', true).expect(422)).body)
    assert.equal(refused.code, 'credential-test-failed')
    assert.match(
      refused.message,
      /keys was not set, as its test failed: vault at east: \(secret\) is wrong: 401: \(secret\); vault at west/,
    )
    assert.deepEqual(await listed(), [])
    const kept = credentialShape.parse((await set(api, SECRET, true).expect(200)).body)
    assert.deepEqual([kept.fields, kept.usedBy], [['password', 'user'], ['vault']])
    await set(api, 'wrong-password', true).expect(422)
    assert.deepEqual(
      (await check(api)).map(({ error }) => error),
      [null, null],
      'the former one still holds',
    )
    world.password = 'next-password'
    const tests = (await call(api, 'post', '/v1/credentials/keys/test').send({}).expect(200)).body
    const [report] = listOf(backendReportShape).parse(tests).items
    assert.deepEqual(
      report?.targets.map(({ error }) => error?.code),
      ['credential-refused', 'credential-refused'],
    )
    await set(api, 'next-password').expect(200)
    assert.deepEqual(
      (await check(api)).map(({ error }) => error),
      [null, null],
      'without a restart',
    )
  })

  it('cannot be tested when no backend uses them, nor removed while one does', async () => {
    const { api } = await locked()
    await using _ = api
    await call(api, 'put', '/v1/credentials/spare')
      .send({ fields: { token: SECRET } })
      .expect(200)
    const unused = call(api, 'post', '/v1/credentials/spare/test').send({})
    assert.equal(problemShape.parse((await unused.expect(409)).body).code, 'credential-unused')
    await call(api, 'post', '/v1/credentials/nobody/test').send({}).expect(404)
    await call(api, 'delete', '/v1/credentials/spare').expect(204)
    await set(api, SECRET).expect(200)
    const used = problemShape.parse((await call(api, 'delete', '/v1/credentials/keys').expect(409)).body)
    assert.deepEqual([used.code, /backend vault,/.test(used.message)], ['credential-in-use', true])
    await call(api, 'delete', '/v1/credentials/keys?force=true').expect(204)
    const [east] = await check(api)
    assert.deepEqual(east?.error?.code, 'credential-missing')
    assert.match(east?.error?.message ?? '', /orctl credential set keys/)
  })

  it('tell which targets are away, ask them all the same when a person does, and what is missing there', async () => {
    const { api, world } = await locked()
    await using _ = api
    await set(api, SECRET).expect(200)
    world.away.add('east')
    world.missing.push('the right to list volumes: add it to the role')
    const vault = api.access.backends.get('vault')
    assert.ok(vault)
    for (let n = 0; n < CIRCUIT_LIMITS.failures; n++) {
      await assert.rejects(
        vault.list({ name: 'east' as never }, new AbortController().signal),
        code('host-unreachable'),
      )
    }
    const standing = async () => {
      const { items } = listOf(backendShape).parse((await call(api, 'get', '/v1/backends').expect(200)).body)
      return items.flatMap(({ name, kind, targets }) => targets.map((one) => [name, kind, one.name, one.state]))
    }
    assert.deepEqual(await standing(), [
      ['vault', 'locked', 'east', 'away'],
      ['vault', 'locked', 'west', 'answers'],
    ])
    const [east, west] = await check(api)
    assert.deepEqual([east?.error?.code, east?.version], ['host-unreachable', null])
    assert.deepEqual([west?.error, west?.version, west?.abilities], [null, 'Door 1', ['opens']])
    assert.match(west?.missing.join() ?? '', /right to list volumes/)
    world.away.clear()
    await check(api)
    assert.deepEqual(
      (await standing()).map(([, , , state]) => state),
      ['answers', 'answers'],
    )
    const events = await api.store.events({ limit: 20 })
    assert.deepEqual(
      events.filter(({ kind }) => kind.startsWith('target.')).map(({ kind, host }) => `${kind} ${host}`),
      ['target.away east', 'target.back east'],
    )
    await call(api, 'post', '/v1/backends/nobody/check').expect(404)
  })
})
