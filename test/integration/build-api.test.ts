import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { type ClientRequest, createServer, request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import express, { type Request } from 'express'
import request from 'supertest'
import { withBody } from '../../orchestrator/api/body-stream.ts'
import { ApiClient } from '../../orchestrator/api/client.ts'
import type { BuildShape } from '../../orchestrator/api/wire.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import { archivePath, contextPath } from '../../unionize/contract.ts'
import { type TestApi, type TestApiOptions, testApi } from '../support/api.ts'
import { tar } from '../support/archives.ts'
import { type Credentials, joinHost, TestHost } from '../support/test-host.ts'
import { until } from '../support/until.ts'

const never = new AbortController().signal
const SOURCE = tar({ name: 'Dockerfile', content: 'FROM scratch\n' })
const ARCHIVE = Buffer.from('what an engine saved')
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

/** Reads an answer's body as it is. */
function bytes(response: request.Response, done: (error: Error | null, body: Buffer) => void): void {
  buffer(response as unknown as Readable).then(
    (body) => done(null, body),
    (error) => done(error as Error, Buffer.alloc(0)),
  )
}

/** An orchestrator, and the far ends of hosts that a test plays. */
class Scene implements AsyncDisposable {
  readonly api: TestApi
  readonly client: ApiClient
  private constructor(api: TestApi) {
    this.api = api
    this.client = new ApiClient({ server: api.url, token: api.token, authority: api.authority.pem })
  }
  static async open(options: Partial<TestApiOptions> = {}): Promise<Scene> {
    return new Scene(await testApi({ store: await openStore('sqlite::memory:'), ...options }))
  }
  async host(name: string): Promise<{ host: TestHost; credentials: Credentials }> {
    const credentials = await joinHost(this.api, name)
    return { host: await this.connect(name, credentials), credentials }
  }
  async connect(name: string, credentials: Credentials): Promise<TestHost> {
    const host = await TestHost.connect(this.api, credentials)
    this.api.builds.wake(name as HostName)
    return host
  }
  /** A request as that host makes it; without credentials: as a stranger. */
  ask(method: 'get' | 'put', path: string, credentials?: Credentials) {
    const asked = request(this.api.url)[method](path).ca(this.api.authority.pem)
    return credentials === undefined ? asked : asked.key(credentials.key).cert(credentials.cert)
  }
  put(path: string, credentials: Credentials, body = ARCHIVE) {
    return this.ask('put', path, credentials).set('Content-Type', 'application/x-tar').send(body)
  }
  build(source = SOURCE, template = 'web'): Promise<BuildShape> {
    const query = { template, source: 'test', format: 'tar' }
    return this.client.buildFromArchive(query, Readable.from([source]), never)
  }
  ended(build: BuildShape): Promise<BuildShape> {
    return until('the build has ended', async () => {
      const now = await this.client.build(build.id, never)
      return ['done', 'failed'].includes(now.state) && now
    })
  }
  async log(build: BuildShape): Promise<string> {
    let text = ''
    for await (const part of this.client.buildLog(build.id, { follow: false }, never)) text += part
    return text
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.client.close()
    await this.api[Symbol.asyncDispose]()
    await this.api.store.close()
  }
}

test('a source is refused by its kind of fault, and leaves nothing', async () => {
  await using scene = await Scene.open({ builds: { 'builds.most-unpacked-bytes': 1000, 'builds.most-files': 3 } })
  const { client } = scene
  const refused = async (source: Buffer, status: number, code: string) =>
    await assert.rejects(scene.build(source), { status, code })
  await refused(tar({ name: '../../etc/passwd' }), 422, 'source-refused')
  await refused(Buffer.from('no tar'), 422, 'source-refused')
  await refused(tar({ name: 'Dockerfile', content: 'x'.repeat(1001) }), 413, 'source-too-large')
  await refused(tar(...['Dockerfile', 'a', 'b', 'c'].map((name) => ({ name }))), 413, 'source-too-large')
  await assert.rejects(scene.build(SOURCE, 'Not A Name'), { status: 400, code: 'invalid-input' })
  const git = { url: 'ext::sh -c x' }
  await assert.rejects(client.buildFromGit({ template: 'web', git }, never), { status: 422, code: 'source-refused' })
  await scene.ask('get', '/v1/builds').expect(401)
  await request(scene.api.url)
    .post('/v1/builds?template=web&source=x')
    .ca(scene.api.authority.pem)
    .set('Content-Type', 'application/octet-stream')
    .send(SOURCE)
    .expect(401)
  assert.deepEqual(await client.builds(never), [])
  assert.deepEqual(readdirSync(join(scene.api.directory, 'builds')), [])
})

test('an endless source is cut off at the limit, and one that is cut off leaves nothing', async () => {
  await using scene = await Scene.open({
    builds: { 'builds.most-packed-bytes': 1 << 20, 'builds.most-unpacked-bytes': 1 << 20 },
  })
  const endless = new Readable({
    read() {
      this.push(Buffer.alloc(65_536))
    },
  })
  const query = { template: 'web', source: 'endless', format: 'tgz' }
  await assert.rejects(scene.client.buildFromArchive(query, endless, never), { status: 422 })
  endless.destroy()
  const folder = join(scene.api.directory, 'builds')
  const over = new AbortController()
  const halting = new Readable({ read() {} })
  halting.push(SOURCE.subarray(0, 600))
  const sending = scene.client.buildFromArchive({ ...query, format: 'tar' }, halting, over.signal)
  sending.catch(() => {})
  await until('it is read', () => readdirSync(folder).length === 1)
  over.abort(new Error('the client leaves'))
  await assert.rejects(sending, /leaves/)
  await until('nothing is left', () => readdirSync(folder).length === 0)
})

/** A server that hands bodies to `use`, and a sender that announces so many bytes. */
async function bodyServer(
  t: TestContext,
  use: (body: Readable, signal: AbortSignal, request: Request) => Promise<void>,
) {
  const closed = Promise.withResolvers<void>()
  const app = express()
  app.post('/', async (request, response) => {
    try {
      await withBody(request, 'the source', (body, signal) => {
        request.once('close', () => setImmediate(closed.resolve))
        return use(body, signal, request)
      })
    } catch {
      response.status(400).end()
    }
  })
  const server = createServer(app).listen(0, '127.0.0.1')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const send = (announced: number, sent: number): ClientRequest => {
    const headers = { 'Content-Length': announced }
    const sender = httpRequest({ host: '127.0.0.1', port, method: 'POST', path: '/', headers })
    sender.on('error', () => {}) // it leaves
    sender.write(Buffer.alloc(sent))
    return sender
  }
  return { send, closed: closed.promise }
}

test('who is refused before anybody reads what is sent, and sends on, is cut off and harms nobody', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { send, closed } = await bodyServer(t, () => Promise.reject(new Error('there is no such base')))
  const sender = send(2 ** 30, 100_000)
  const [response] = (await once(sender, 'response')) as [{ statusCode: number }]
  assert.equal(response.statusCode, 400)
  t.mock.timers.tick(5_000)
  // What nobody listens for ends the process, and this test.
  await closed
})

for (const [what, announced] of [
  ['some', 2 ** 30],
  ['all', 150_000],
] as const) {
  test(`who has sent ${what} of it and leaves before anybody reads is told as gone to who reads then`, async (t) => {
    let outcome: unknown = null
    const { send, closed } = await bodyServer(t, async (body, signal, request) => {
      await until('it came', () => request.complete === (what === 'all'))
      assert.equal(request.readableEnded, false)
      sender.destroy()
      await closed
      buffer(body).then(
        () => {
          outcome = 'read'
        },
        (error) => {
          outcome = { error, isAborted: signal.aborted }
        },
      )
    })
    const sender = send(announced, Math.min(announced, 150_000))
    const { error, isAborted } = (await until('it is told', () => outcome)) as { error: Error; isAborted: boolean }
    assert.match(error.message, /the source was cut off/)
    assert.equal(isAborted, true)
  })
}

test('of a build of another orchestrator on the same database nothing is pretended', async () => {
  await using scene = await Scene.open()
  const { api, client } = scene
  const elsewhere = { id: 'b-0000000009', template: 'web', source: 'x', state: 'waiting', host: null } as const
  const rest = { image: null, error: null, createdAt: 1, updatedAt: 1 }
  await api.store.transaction((tx) => tx.putBuild({ ...elsewhere, ...rest }))
  assert.equal((await client.build(elsewhere.id, never)).state, 'waiting')
  await assert.rejects(client.cancelBuild(elsewhere.id, never), { status: 409, code: 'build-elsewhere' })
  const log = client.buildLog(elsewhere.id, { follow: true }, never)
  await assert.rejects(text(log), { status: 409, code: 'build-elsewhere' })
})

test('only the host that builds gets the context and may bring the archive; every host may fetch it', async () => {
  await using scene = await Scene.open({ builds: { 'builds.host': 'maker', 'builds.most-image-bytes': 1000 } })
  const { host, credentials } = await scene.host('maker')
  const { credentials: other } = await scene.host('other')
  const build = await scene.build()
  const asked = await host.next('build')
  assert.equal(asked.build, build.id)
  assert.match(asked.image, /^orchestrator\/web:[0-9a-f]{16}$/)
  assert.equal(asked.push, false)

  const context = await scene.ask('get', contextPath(build.id), credentials).buffer(true).parse(bytes).expect(200)
  assert.ok((context.body as Buffer).includes('FROM scratch'))
  await scene.ask('get', contextPath(build.id)).expect(401)
  await scene.ask('get', contextPath(build.id), other).expect(404)
  await scene.ask('get', contextPath('b-0000000000'), credentials).expect(404)

  const path = `${archivePath(sha256(ARCHIVE))}?build=${build.id}`
  await scene.put(path, other).expect(409)
  await scene.put(`${archivePath(sha256(ARCHIVE))}?build=b-0000000000`, credentials).expect(409)
  await scene.put(`${archivePath(sha256(SOURCE))}?build=${build.id}`, credentials).expect(400)
  const large = Buffer.alloc(1001)
  await scene.put(`${archivePath(sha256(large))}?build=${build.id}`, credentials, large).expect(413)
  await scene.ask('put', path).expect(401)
  assert.deepEqual(readdirSync(join(scene.api.directory, 'archives')), [], 'nothing of it was kept')
  await scene.put(path, credentials).expect(201)

  host.send({ type: 'output', id: asked.id, text: 'built\n' })
  host.send({ type: 'result', id: asked.id })
  const ended = await scene.ended(build)
  assert.deepEqual([ended.state, ended.image, ended.host], ['done', asked.image, 'maker'])
  assert.match(await scene.log(build), /host maker builds .*\nbuilt\nthe image is /)
  const fetched = await scene
    .ask('get', archivePath(sha256(ARCHIVE)), other)
    .buffer(true)
    .parse(bytes)
    .expect(200)
  assert.deepEqual(fetched.body, ARCHIVE)
  await scene.ask('get', archivePath(sha256(ARCHIVE))).expect(401)
  await scene.ask('get', archivePath(sha256(SOURCE)), other).expect(404)
  await scene.ask('get', contextPath(build.id), credentials).expect(404)
  await scene.put(path, credentials).expect(409)
})

test('a build that says that it is done without an archive has failed', async () => {
  await using scene = await Scene.open()
  const { host } = await scene.host('maker')
  const build = await scene.build()
  host.send({ type: 'result', id: (await host.next('build')).id })
  const ended = await scene.ended(build)
  assert.equal(ended.state, 'failed')
  assert.match(ended.error ?? '', /its archive did not come/)
})

test("a host's reason is told in the build, its log and an event", async () => {
  await using scene = await Scene.open()
  const { host } = await scene.host('maker')
  const build = await scene.build()
  const failure = { code: 'build-failed', message: 'no such command', retryable: false }
  host.send({ type: 'result', id: (await host.next('build')).id, failure })
  const ended = await scene.ended(build)
  assert.equal(ended.error, 'no such command')
  assert.match(await scene.log(build), /failed: no such command\n$/)
  const events = await scene.client.events({ limit: 10 }, never)
  assert.ok(events.some((e) => e.kind === 'build.failed' && e.message.includes('no such command')))
})

test('a host that prints more than it may is cut off here, too', async () => {
  await using scene = await Scene.open({ builds: { 'builds.most-log-bytes': 1000 } })
  const { host } = await scene.host('maker')
  const build = await scene.build()
  const { id } = await host.next('build')
  host.send({ type: 'output', id, text: 'é'.repeat(10_000) })
  assert.equal((await host.next('cancel')).id, id)
  const ended = await scene.ended(build)
  assert.match(ended.error ?? '', /printed more than 1000 bytes/)
  const log = await scene.log(build)
  assert.match(log, /é\n\[cut here: a log may have 1000 bytes\]\nfailed: /)
  assert.ok(Buffer.byteLength(log) < 1500)
})

test('a build waits for a host, and begins anew when that is lost, but not for ever', async () => {
  await using scene = await Scene.open()
  const credentials = await joinHost(scene.api, 'maker')
  const build = await scene.build()
  assert.equal((await scene.client.build(build.id, never)).state, 'waiting')
  for (let attempt = 1; attempt <= 3; attempt++) {
    await using host = await scene.connect('maker', credentials)
    await host.next('build')
    assert.equal((await scene.client.build(build.id, never)).state, 'building')
  }
  const ended = await scene.ended(build)
  assert.equal(ended.state, 'failed')
  assert.match(ended.error ?? '', /maker cannot be reached/)
  assert.equal([...(await scene.log(build)).matchAll(/it begins anew/g)].length, 2)
})

test('what one host builds another does not build meanwhile; another source goes to another host', async () => {
  await using scene = await Scene.open()
  const [first, second] = [await scene.host('one'), await scene.host('two')]
  const same = [await scene.build(), await scene.build()]
  const other = await scene.build(tar({ name: 'Dockerfile', content: 'FROM other\n' }))
  const asked = await Promise.all([first.host.next('build'), second.host.next('build')])
  assert.deepEqual(asked.map((a) => a.build).sort(), [same[0]?.id, other.id].sort())
  const states = (await scene.client.builds(never)).map(({ state }) => state).sort()
  assert.deepEqual(states, ['building', 'building', 'waiting'])
})

test('a build is cancelled while it waits and while it runs', async () => {
  await using scene = await Scene.open()
  const { api } = scene
  const remove = (id: string) =>
    request(api.url).delete(`/v1/builds/${id}`).ca(api.authority.pem).set('Authorization', `Bearer ${api.token}`)
  const waiting = await scene.build()
  await remove(waiting.id).expect(202)
  assert.match((await scene.ended(waiting)).error ?? '', /cancelled/)
  const { host } = await scene.host('maker')
  const running = await scene.build()
  const { id } = await host.next('build')
  await remove(running.id).expect(202)
  assert.equal((await host.next('cancel')).id, id)
  assert.match((await scene.ended(running)).error ?? '', /cancelled/)
  await remove(running.id).expect(409)
  await remove('b-0000000000').expect(404)
})

test('a password in the URL of a repository is stored, logged and told nowhere', async () => {
  await using scene = await Scene.open()
  const git = { url: 'https://user:s3cret-password@127.0.0.1:9/repo.git', ref: 'main' }
  const build = await scene.client.buildFromGit({ template: 'web', git }, never)
  assert.equal(build.source, 'https://127.0.0.1:9/repo.git#main')
  const ended = await scene.ended(build)
  assert.equal(ended.state, 'failed')
  const told = JSON.stringify([
    await scene.client.builds(never),
    await scene.log(build),
    await scene.client.events({ limit: 100 }, never),
    await scene.api.store.build(build.id),
  ])
  assert.ok(!told.includes('s3cret'))
  assert.ok(!existsSync(join(scene.api.directory, 'builds', build.id, 'git')))
})
