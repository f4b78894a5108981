import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { after, describe, it, type TestContext } from 'node:test'
import { HostUnreachable } from '../../common/errors.ts'
import { type Archives, openArchives } from '../../orchestrator/builds/archives.ts'
import { type Builds, type BuildsOptions, startBuilds } from '../../orchestrator/builds/builds.ts'
import { pruneArchives, wantedImages } from '../../orchestrator/builds/images.ts'
import { createBuildLogs } from '../../orchestrator/builds/logs.ts'
import type { Build } from '../../orchestrator/domain/build.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { Template } from '../../orchestrator/domain/template.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { defaultBuildSettings } from '../support/api.ts'
import { tar } from '../support/archives.ts'
import { content, manualClock, rollOut, silent } from '../support/fixtures.ts'
import { until } from '../support/until.ts'

const never = new AbortController().signal
const sha256 = (body: string) => createHash('sha256').update(body).digest('hex')
const around = mkdtempSync('/tmp/build-store-')
after(() => rmSync(around, { recursive: true }))
const folder = () => mkdtempSync(join(around, 'case-'))

/** An empty store, closed behind the test, however that ends: an open one keeps the process. */
async function storeFor(t: TestContext): Promise<Store> {
  const store = await openStore('sqlite::memory:')
  t.after(() => store.close())
  return store
}

const open = (directory: string, at = { now: 1000 }): Promise<Archives> =>
  openArchives({ directory, mostBytes: 1000, now: () => at.now })
const receive = (archives: Archives, image: string, body: string) =>
  archives.receive({ image, sha256: sha256(body), bytes: body.length }, Readable.from([Buffer.from(body)]), never)

describe('archives of images', () => {
  it('are kept by their content, and are there after a restart', async () => {
    const directory = folder()
    const archives = await open(directory)
    await receive(archives, 'a:1', 'bytes')
    await receive(archives, 'a:1', 'bytes')
    const again = await open(directory)
    assert.deepEqual(again.all(), [{ image: 'a:1', sha256: sha256('bytes'), bytes: 5, at: 1000 }])
    const opened = again.open(sha256('bytes'))
    assert.equal(opened && (await text(opened.stream)), 'bytes')
    assert.equal(again.open(sha256('other')), null)
  })

  it('of one image: the newest counts', async () => {
    const at = { now: 1 }
    const archives = await open(folder(), at)
    await receive(archives, 'a:1', 'first')
    at.now = 2
    await receive(archives, 'a:1', 'second')
    assert.equal(archives.of('a:1')?.sha256, sha256('second'))
    assert.equal(archives.of('b:1'), null)
  })

  it('that are not what they say leave nothing', async () => {
    const directory = folder()
    const archives = await open(directory)
    const told = { image: 'a:1', sha256: sha256('bytes'), bytes: 5 }
    const from = (body: string) => Readable.from([Buffer.from(body)])
    await assert.rejects(archives.receive(told, from('other'), never), { code: 'invalid-input' })
    await assert.rejects(archives.receive(told, from('byte'), never), { code: 'invalid-input' })
    await assert.rejects(archives.receive(told, from('bytes and more'), never), { code: 'invalid-input' })
    await assert.rejects(archives.receive({ ...told, bytes: 1001 }, from('bytes'), never), {
      code: 'archive-too-large',
    })
    const broken = new Readable({
      read() {
        this.destroy(new Error('the host is gone'))
      },
    })
    await assert.rejects(archives.receive(told, broken, never), /the host is gone/)
    assert.deepEqual(readdirSync(directory), [])
    assert.deepEqual(archives.all(), [])
  })

  it('that a crash left half done go away at the start', async () => {
    const directory = folder()
    await receive(await open(directory), 'a:1', 'whole')
    const [half, lonely, short] = ['half', 'lonely', 'short'].map(sha256)
    writeFileSync(join(directory, `${half}.1.part`), 'ha')
    writeFileSync(join(directory, `${lonely}.tar`), 'lonely')
    writeFileSync(join(directory, `${short}.tar`), 'sho')
    writeFileSync(join(directory, `${short}.json`), JSON.stringify({ image: 'b:1', sha256: short, bytes: 5, at: 1 }))
    const archives = await open(directory)
    assert.deepEqual(
      archives.all().map((a) => a.image),
      ['a:1'],
    )
    assert.deepEqual(readdirSync(directory).sort(), [`${sha256('whole')}.json`, `${sha256('whole')}.tar`])
  })
})

describe('what hosts are to have', () => {
  const template = (name: string, version: string, images: string[], backend = 'docker'): Template => ({
    ...content,
    ...{ name, version, number: 1, images, backend },
    stack: { services: { web: { image: images[0] ?? 'x' } } },
  })

  it('is what templates that are rolled out, rules and living instances refer to; the rest is kept only where it may be asked for', async (t) => {
    const store = await storeFor(t)
    const archives = await open(folder(), { now: 5000 })
    for (const version of ['v1', 'v2', 'v3']) await rollOut(store, template('web', version, [`web:${version}`]))
    await rollOut(store, template('other', 'v1', ['other:1', 'both:1']))
    await rollOut(store, template('fake', 'v1', ['fake:1'], 'fake'))
    const rule = { name: 'pinned', match: {}, give: { template: 'web', version: 1, parameters: {} } }
    await store.transaction((tx) => tx.putRuleset({ rules: [rule], quotas: {}, origin: 'api' }, 1))
    await receive(archives, 'both:1', 'both')
    const wanted = await wantedImages(store, archives)
    assert.deepEqual(wanted, [
      { image: 'both:1', from: { kind: 'archive', sha256: sha256('both'), bytes: 4 } },
      { image: 'other:1', from: { kind: 'registry' } },
      { image: 'web:v1', from: { kind: 'registry' } },
      { image: 'web:v3', from: { kind: 'registry' } },
    ])
    await receive(archives, 'web:v2', 'a version that nobody gives, but may again')
    await receive(archives, 'fresh:1', 'built a moment ago')
    assert.deepEqual(await pruneArchives(store, archives, 1000, 5999), [])
    assert.deepEqual(await pruneArchives(store, archives, 1000, 6000), ['fresh:1'])
    assert.deepEqual(
      archives
        .all()
        .map((a) => a.image)
        .sort(),
      ['both:1', 'web:v2'],
    )
  })
})

const row = (id: string, change: Partial<Build> = {}): Build => ({
  ...{ id, template: 'web', source: 'test', state: 'waiting', host: null, image: null, error: null },
  ...{ createdAt: 1, updatedAt: 1 },
  ...change,
})

/** Hosts that are connected and build at once, or when they are released. */
class PlayedHosts {
  readonly asked: [host: string, build: string][] = []
  readonly #names: readonly string[]
  release = () => {}
  #released: Promise<void> = Promise.resolve()
  /** What they do before they say that they are done. */
  built: (image: string) => Promise<void> = async () => {}

  constructor(...names: string[]) {
    this.#names = names
  }
  hold(): void {
    this.#released = new Promise((resolve) => {
      this.release = resolve
    })
  }
  connected = () => this.#names as HostName[]
  async *build(host: HostName, { build, image }: { build: string; image: string }) {
    this.asked.push([host, build])
    await this.#released
    await this.built(image)
    yield 'built\n'
  }
}

/** Builds over a store; they end with the test, however that ends. */
async function run(
  t: TestContext,
  store: Store,
  directory: string,
  hosts: BuildsOptions['hosts'],
  change: Partial<BuildsOptions> = {},
): Promise<Builds> {
  const settings = { ...defaultBuildSettings, 'builds.registry': 'registry.example' }
  const rest = { settings, clock: manualClock(), log: silent, changed: () => {}, ...change }
  const builds = await startBuilds({ store, directory, hosts, ...rest })
  t.after(() => builds.stop())
  return builds
}
const SOURCE = tar({ name: 'Dockerfile', content: 'FROM scratch\n' })
const sent = { template: 'web', source: 'test', format: 'tar', base: null } as const
const begin = (builds: Builds) => builds.fromArchive(sent, Readable.from([SOURCE]), never)
const isState = (store: Store, id: string, state: Build['state']) =>
  until(`build ${id} is ${state}`, async () => (await store.build(id))?.state === state)

/** A store whose transactions are another's. */
function withTransactions(store: Store, transaction: Store['transaction']): Store {
  return new Proxy(store, {
    get(target, name) {
      if (name === 'transaction') return transaction
      const value: unknown = Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

describe('two orchestrators on one database', () => {
  it('build each on the hosts that are connected to it, and leave the builds of the other alone', async (t) => {
    const store = await storeFor(t)
    for (const name of ['one', 'two'] as HostName[]) {
      await store.putHost({ name, fingerprint: 'f', joinedAt: 1 })
      await store.hostConnected(name, {}, 1)
    }
    const [first, second] = [new PlayedHosts('one'), new PlayedHosts('two')]
    const place = folder()
    const there = await run(t, store, folder(), second)
    second.hold()
    const build = await begin(there)
    const waiting = await begin(there)
    await isState(store, build.id, 'building')
    const here = await run(t, store, place, first)
    assert.equal((await store.build(build.id))?.state, 'building')
    assert.equal((await store.build(waiting.id))?.state, 'waiting')
    assert.deepEqual([await here.isOurs(build.id), await there.isOurs(build.id)], [false, true])
    const own = await begin(here)
    await isState(store, own.id, 'done')
    second.release()
    await isState(store, waiting.id, 'done')
    assert.deepEqual(first.asked, [['one', own.id]])
    assert.deepEqual(
      second.asked.map(([host]) => host),
      ['two', 'two'],
    )
  })
})

describe('a build and the store', () => {
  it('it is told as done before its context goes; what a crash left between the two goes later', async (t) => {
    const real = await storeFor(t)
    const directory = folder()
    const context = (id: string) => join(directory, 'builds', id, 'context.tar')
    let wasThere: boolean | null = null
    const store = withTransactions(real, (work) =>
      real.transaction((tx) => {
        const putBuild = tx.putBuild.bind(tx)
        tx.putBuild = async (build) => {
          if (build.state === 'done') wasThere = existsSync(context(build.id))
          await putBuild(build)
        }
        return work(tx)
      }),
    )
    const builds = await run(t, store, directory, new PlayedHosts('maker'))
    const { id } = await begin(builds)
    await isState(store, id, 'done')
    assert.equal(wasThere, true)
    await until('it goes', () => !existsSync(context(id)))
    writeFileSync(context(id), 'what a crash left')
    await builds.prune()
    assert.deepEqual(readdirSync(join(directory, 'builds', id)), ['log'])
    assert.equal((await store.build(id))?.state, 'done')
  })

  it('one that the store does not take is not built, and the readers of its log end', async (t) => {
    const real = await storeFor(t)
    const directory = folder()
    let isBroken = true
    const store = withTransactions(real, (work) =>
      isBroken ? Promise.reject(new Error('the store is away')) : real.transaction(work),
    )
    const hosts = new PlayedHosts('maker')
    const builds = await run(t, store, directory, hosts)
    await assert.rejects(begin(builds), /the store is away/)
    const git = { url: 'https://127.0.0.1:9/repo.git' }
    await assert.rejects(builds.fromGit({ template: 'web', git, base: null }), /the store is away/)
    const left = readdirSync(join(directory, 'builds'))
    assert.equal(left.length, 2)
    for (const id of left) {
      assert.equal(builds.cancel(id), false)
      assert.equal(await text(builds.log(id, true, never)), '')
    }
    isBroken = false
    const { id } = await begin(builds)
    await isState(store, id, 'done')
    assert.deepEqual(hosts.asked, [['maker', id]])
    await builds.prune()
    assert.deepEqual(readdirSync(join(directory, 'builds')), [id])
  })

  it('one that the store took although it failed is told as lost', async (t) => {
    const real = await storeFor(t)
    let isBroken = true
    const store = withTransactions(real, async (work) => {
      const done = await real.transaction(work)
      if (isBroken) throw new Error('the connection was lost')
      return done
    })
    const hosts = new PlayedHosts('maker')
    const builds = await run(t, store, folder(), hosts)
    await assert.rejects(begin(builds), /the connection was lost/)
    isBroken = false
    await builds.prune()
    const [found] = await store.builds({ limit: 10 })
    assert.equal(found?.state, 'failed')
    assert.match(found?.error ?? '', /its store failed.*build it again/)
    assert.deepEqual(hosts.asked, [])
  })

  it('an image that was built before is kept from then on as if it had come then', async (t) => {
    const store = await storeFor(t)
    const clock = manualClock()
    const directory = folder()
    const hosts = new PlayedHosts('maker')
    const builds = await run(t, store, directory, hosts, { settings: defaultBuildSettings, clock })
    hosts.built = (image) => receive(builds.archives, image, 'an image')
    const first = await begin(builds)
    await isState(store, first.id, 'done')
    clock.advance(6 * 86_400_000)
    const again = await begin(builds)
    await isState(store, again.id, 'done')
    assert.equal(hosts.asked.length, 1)
    clock.advance(6 * 86_400_000)
    await builds.prune()
    assert.deepEqual(
      builds.archives.all().map(({ image }) => image),
      [(await store.build(again.id))?.image],
    )
    const reopened = await openArchives({ directory: join(directory, 'archives'), mostBytes: 1000, now: clock.now })
    assert.deepEqual(reopened.all(), builds.archives.all(), 'a restart does not forget it')
    clock.advance(86_400_000)
    await builds.prune()
    assert.deepEqual(builds.archives.all(), [])
  })
})

describe('a host that is lost in the middle of a build', () => {
  const MAKER = 'maker' as HostName
  it('is not asked again before it has connected again, though it may look connected', async (t) => {
    const store = await storeFor(t)
    const hosts = new PlayedHosts('maker')
    hosts.built = () => Promise.reject(new HostUnreachable('maker', 'the connection ended'))
    const builds = await run(t, store, folder(), hosts)
    const { id } = await begin(builds)
    for (const attempt of [1, 2]) {
      await until('it waits again', async () => {
        const isAnew = (await text(builds.log(id, false, never))).split('it begins anew').length === attempt + 1
        return isAnew && (await store.build(id))?.state === 'waiting'
      })
      assert.equal(hosts.asked.length, attempt)
      builds.wake(MAKER)
    }
    await isState(store, id, 'failed')
    assert.equal(hosts.asked.length, 3)
  })

  it('is asked again when it was back before the loss was noticed', async (t) => {
    const store = await storeFor(t)
    const hosts = new PlayedHosts('maker')
    const builds = await run(t, store, folder(), hosts)
    hosts.built = async () => {
      if (hosts.asked.length > 1) return
      builds.wake(MAKER)
      throw new HostUnreachable('maker', 'the connection ended')
    }
    const { id } = await begin(builds)
    await isState(store, id, 'done')
    assert.equal(hosts.asked.length, 2)
  })

  it('is not back because others connect, before the loss was noticed or after it', async (t) => {
    const store = await storeFor(t)
    const hosts = new PlayedHosts('maker')
    const builds = await run(t, store, folder(), hosts)
    const other = 'other' as HostName
    hosts.built = async () => {
      if (hosts.asked.length > 1) return
      builds.wake(other)
      throw new HostUnreachable('maker', 'the connection ended')
    }
    const { id } = await begin(builds)
    await until('it waits again', async () => {
      return (
        (await text(builds.log(id, false, never))).includes('begins anew') &&
        (await store.build(id))?.state === 'waiting'
      )
    })
    builds.wake(other)
    assert.equal(builds.imageFor(id, MAKER), null)
    builds.wake(MAKER)
    await isState(store, id, 'done')
    assert.equal(hosts.asked.length, 2)
  })
})

describe('builds after a restart', () => {
  it('whose source had not come are told as lost; folders of nobody go away', async (t) => {
    const store = await storeFor(t)
    const directory = folder()
    await store.transaction((tx) => tx.putBuild(row('b-0000000001', { state: 'building' })))
    mkdirSync(join(directory, 'builds', 'b-0000000001'), { recursive: true })
    writeFileSync(join(directory, 'builds', 'b-0000000001', 'source.packed'), 'half')
    mkdirSync(join(directory, 'builds', 'b-0000000002'))
    await run(t, store, directory, new PlayedHosts('maker'))
    const lost = await store.build('b-0000000001')
    assert.equal(lost?.state, 'failed')
    assert.match(lost?.error ?? '', /was restarted.* before the source was there; build it again/)
    assert.deepEqual(readdirSync(join(directory, 'builds')), ['b-0000000001'])
    assert.deepEqual(readdirSync(join(directory, 'builds', 'b-0000000001')), ['log'])
  })
})

describe('the log of a build', () => {
  it('is read from its beginning by who follows late, to its end', async () => {
    const directory = folder()
    const logs = createBuildLogs((id) => join(directory, id, 'log'))
    logs.begin('b', 1000)
    await logs.print('b', 'one ')
    const following = (async () => {
      let read = ''
      for await (const part of logs.read('b', true, never)) read += part
      return read
    })()
    await logs.print('b', 'two ')
    await logs.note('b', 'three')
    logs.end('b')
    assert.equal(await following, 'one two three\n')
  })

  it('that is full keeps its beginning, says so, and takes our own words', async () => {
    const directory = folder()
    const logs = createBuildLogs((id) => join(directory, id, 'log'))
    logs.begin('b', 10)
    assert.equal(await logs.print('b', '12345678'), true)
    assert.equal(await logs.print('b', 'éééé'), false)
    assert.equal(await logs.print('b', 'more'), false)
    await logs.note('b', 'failed: too long')
    let read = ''
    for await (const part of logs.read('b', false, never)) read += part
    assert.equal(read, '12345678é\n[cut here: a log may have 10 bytes]\nfailed: too long\n')
  })

  it('that is followed by somebody who leaves ends for him', async () => {
    const logs = createBuildLogs((id) => join(folder(), id, 'log'))
    logs.begin('b', 10)
    const over = new AbortController()
    const reading = logs.read('b', true, over.signal)[Symbol.asyncIterator]().next()
    over.abort(new Error('left'))
    await assert.rejects(reading, /left/)
  })
})
