import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { after, describe, it } from 'node:test'
import { type Archives, openArchives } from '../../orchestrator/builds/archives.ts'
import { startBuilds } from '../../orchestrator/builds/builds.ts'
import { pruneArchives, wantedImages } from '../../orchestrator/builds/images.ts'
import { createBuildLogs } from '../../orchestrator/builds/logs.ts'
import type { Build } from '../../orchestrator/domain/build.ts'
import type { Template } from '../../orchestrator/domain/template.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import { defaultBuildSettings } from '../support/api.ts'
import { content, manualClock, rollOut, silent } from '../support/fixtures.ts'

const never = new AbortController().signal
const sha256 = (body: string) => createHash('sha256').update(body).digest('hex')
const around = mkdtempSync('/tmp/build-store-')
after(() => rmSync(around, { recursive: true }))
const folder = () => mkdtempSync(join(around, 'case-'))

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

  it('is what templates that are rolled out, rules and living instances refer to; the rest is kept only where it may be asked for', async () => {
    const store = await openStore('sqlite::memory:')
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
    await store.close()
  })
})

describe('builds after a restart', () => {
  const row = (id: string, change: Partial<Build> = {}): Build => ({
    ...{ id, template: 'web', source: 'test', state: 'waiting', host: null, image: null, error: null },
    ...{ createdAt: 1, updatedAt: 1 },
    ...change,
  })

  it('whose source had not come are told as lost; folders of nobody go away', async () => {
    const store = await openStore('sqlite::memory:')
    const directory = folder()
    await store.transaction((tx) => tx.putBuild(row('b-0000000001', { state: 'building' })))
    mkdirSync(join(directory, 'builds', 'b-0000000001'), { recursive: true })
    writeFileSync(join(directory, 'builds', 'b-0000000001', 'source.packed'), 'half')
    mkdirSync(join(directory, 'builds', 'b-0000000002'))
    const hosts = {
      async *build() {
        yield 'never'
      },
    }
    const clock = manualClock()
    const settings = defaultBuildSettings
    const builds = await startBuilds({ store, hosts, directory, settings, clock, log: silent, changed: () => {} })
    const lost = await store.build('b-0000000001')
    assert.equal(lost?.state, 'failed')
    assert.match(lost?.error ?? '', /restarted before the source was there; build it again/)
    assert.deepEqual(readdirSync(join(directory, 'builds')), ['b-0000000001'])
    assert.deepEqual(readdirSync(join(directory, 'builds', 'b-0000000001')), ['log'])
    await builds.stop()
    await store.close()
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
