import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { ContainerFailure } from '../../unionize/engine/failure.ts'
import { checkArchive } from '../../unionize/images/archive.ts'
import { credentialsFor, registryOf } from '../../unionize/images/credentials.ts'
import type { ImageEngine } from '../../unionize/images/engine.ts'
import { loadImageRecord } from '../../unionize/images/record.ts'
import { createImageStock } from '../../unionize/images/stock.ts'
import { tar } from '../support/archives.ts'
import { silent } from '../support/fixtures.ts'
import { until } from '../support/until.ts'

const directory = mkdtempSync(join(tmpdir(), 'images-host-'))
after(() => rmSync(directory, { recursive: true }))
const never = new AbortController().signal
const unexpected = (error: unknown) => assert.fail(String(error))
let files = 0
const file = (content: string | Buffer) => {
  const path = join(directory, `${++files}`)
  writeFileSync(path, content)
  return path
}

describe('an archive of an image', () => {
  const manifest = (...tags: (string[] | null)[]) => ({
    name: 'manifest.json',
    content: JSON.stringify(tags.map((RepoTags) => ({ Config: 'c.json', RepoTags, Layers: [] }))),
  })
  const layer = { name: 'layer.tar', content: Buffer.alloc(200_000) }
  const check = (bytes: Buffer) => checkArchive(file(bytes), 'orchestrator/web:1', never)
  const refused = { code: 'archive-of-another' }

  it('is taken when it is of this name alone', async () => {
    await check(tar(layer, manifest(['orchestrator/web:1'])))
  })

  it('is refused when it gives another name a new meaning, or none', async () => {
    await assert.rejects(check(tar(manifest(['debian:bookworm']))), refused)
    await assert.rejects(check(tar(manifest(['orchestrator/web:1', 'debian:bookworm']))), refused)
    await assert.rejects(check(tar(manifest(['orchestrator/web:1'], ['debian:bookworm']))), refused)
    await assert.rejects(check(tar(manifest(null))), refused)
    await assert.rejects(check(tar(layer)), refused)
    await assert.rejects(check(tar({ name: 'manifest.json', content: '{' })), refused)
    const twice = tar(manifest(['orchestrator/web:1']), manifest(['debian:bookworm']))
    await assert.rejects(check(twice), refused)
  })
})

describe('what a registry is shown', () => {
  const auth = (text: string) => ({ auth: Buffer.from(text).toString('base64') })
  const config = file(
    JSON.stringify({
      auths: { 'registry.example:5000': auth('me:pass:word'), 'https://index.docker.io/v1/': auth('hub:secret') },
    }),
  )

  it('is what docker login left for that registry', async () => {
    assert.deepEqual(await credentialsFor('registry.example:5000/team/web:1', config), {
      ...{ username: 'me', password: 'pass:word', serveraddress: 'registry.example:5000' },
    })
    assert.equal((await credentialsFor('nginx:1', config))?.username, 'hub')
    assert.equal((await credentialsFor('library/nginx', config))?.username, 'hub')
    assert.equal(await credentialsFor('other.example/web', config), undefined)
    assert.equal(await credentialsFor('nginx', null), undefined)
  })

  it('is nothing that a fault of the file would show', async () => {
    const broken = file('{"auths": {"x": {"auth": "c2VjcmV0"')
    await assert.rejects(credentialsFor('nginx', broken), (error: Error) => !/c2Vj/.test(error.message))
    await assert.rejects(credentialsFor('nginx', join(directory, 'none')), /ENOENT/)
  })

  it('goes by the host that a name begins with', () => {
    const names = ['nginx', 'team/web', 'a.b/web', 'localhost/web', 'a:5000/web', 'a.b:1']
    assert.deepEqual(names.map(registryOf), [null, null, 'a.b', 'localhost', 'a:5000', null])
  })
})

describe('the record of images that came by us', () => {
  it('outlives us', async () => {
    const path = join(directory, 'record.json')
    const record = await loadImageRecord(path, unexpected)
    await Promise.all([
      record.put('a:1', { how: 'pulled', at: 1 }),
      record.put('b:1', { how: 'built', at: 2 }),
      record.forget('a:1'),
    ])
    assert.deepEqual([...(await loadImageRecord(path, unexpected)).all()], [['b:1', { how: 'built', at: 2 }]])
    assert.equal(JSON.parse(readFileSync(path, 'utf8'))['b:1'].at, 2)
  })

  it('that cannot be read names none to take away, and that is told', async () => {
    let told = 0
    const record = await loadImageRecord(file('{"a:1": 1}'), () => told++)
    assert.deepEqual([record.all().size, told], [0, 1])
  })
})

describe('images that came by us', () => {
  it('stay after a restart until it is told which are wanted; then those that are not wanted go', async () => {
    const old = { how: 'pulled', at: 1 }
    const record = await loadImageRecord(file(JSON.stringify({ 'wanted:1': old, 'surplus:1': old })), unexpected)
    const here = new Set(['wanted:1', 'surplus:1'])
    const engine: Pick<ImageEngine, 'find' | 'remove' | 'used'> = {
      find: async (image) => (here.has(image) ? { id: image, createdAt: 0, tags: [image] } : null),
      remove: async (image) => here.delete(image),
      used: async () => new Set(),
    }
    const stock = createImageStock({
      ...{ engine: engine as ImageEngine, record, directory, credentialsFile: null, keepMs: 0, log: silent },
      ...{ orchestrator: { get: unexpected }, notice: unexpected, now: Date.now },
    })
    await stock.prune()
    assert.deepEqual([[...here], record.all().size], [['wanted:1', 'surplus:1'], 2])
    const wanted = [{ image: 'wanted:1', from: { kind: 'registry' as const } }]
    await stock.keep(wanted, never)
    await stock.prune()
    assert.deepEqual([[...here], [...record.all().keys()]], [['wanted:1'], ['wanted:1']])
    await stock.keep([], never)
    assert.deepEqual([...here], [])
  })

  it('are noted before they come, so that a crash leaves no doubt whose they are; what does not come is not', async () => {
    const record = await loadImageRecord(join(directory, 'coming.json'), unexpected)
    const noted: [string, boolean][] = []
    const engine: Pick<ImageEngine, 'find' | 'pull'> = {
      find: async (image) => (image === 'theirs:1' ? { id: image, createdAt: 0, tags: [image] } : null),
      async pull(image) {
        noted.push([image, record.all().has(image)])
        if (image === 'missing:1') throw new ContainerFailure('pull-failed', 'no such image', { retryable: false })
      },
    }
    const stock = createImageStock({
      ...{ engine: engine as ImageEngine, record, directory, credentialsFile: null, keepMs: 0, log: silent },
      ...{ orchestrator: { get: unexpected }, notice: unexpected, now: Date.now },
    })
    await stock.pull('comes:1', { progress: () => {} })
    await stock.pull('theirs:1', { progress: () => {} })
    await assert.rejects(stock.pull('missing:1', { progress: () => {} }), { code: 'pull-failed' })
    assert.deepEqual(noted, [
      ['comes:1', true],
      ['theirs:1', false],
      ['missing:1', true],
    ])
    assert.deepEqual([...record.all().keys()], ['comes:1'])
  })

  it('stay noted when one who fetched them failed, and another one did not', async () => {
    const record = await loadImageRecord(join(directory, 'both.json'), unexpected)
    const pulls: { image: string; end: PromiseWithResolvers<void> }[] = []
    const engine: Pick<ImageEngine, 'find' | 'pull' | 'used'> = {
      find: async () => null,
      used: async () => new Set(),
      pull(image) {
        const end = Promise.withResolvers<void>()
        pulls.push({ image, end })
        return end.promise
      },
    }
    const stock = createImageStock({
      ...{ engine: engine as ImageEngine, record, directory, credentialsFile: null, keepMs: 0, log: silent },
      ...{ orchestrator: { get: unexpected }, notice: unexpected, now: Date.now },
    })
    const two = async (image: string) => {
      const outcomes = Promise.allSettled([1, 2].map(() => stock.pull(image, { progress: () => {} })))
      const here = () => pulls.filter((pull) => pull.image === image)
      await until('both are fetching', () => here().length === 2)
      const [first, second] = here().map(({ end }) => end)
      assert.ok(first && second)
      return { first, second, outcomes }
    }
    const cut = new ContainerFailure('pull-failed', 'cut', { retryable: true })
    const late = await two('late:1')
    late.first.reject(cut)
    await turn()
    assert.ok(record.all().has('late:1'), 'it is still coming')
    await stock.keep([], never)
    assert.ok(record.all().has('late:1'), 'nor is it here to be taken away')
    late.second.resolve()
    await late.outcomes
    const early = await two('early:1')
    early.first.resolve()
    await turn()
    early.second.reject(cut)
    await early.outcomes
    const none = await two('none:1')
    for (const { reject } of [none.first, none.second]) reject(cut)
    await none.outcomes
    assert.deepEqual([...record.all().keys()], ['late:1', 'early:1'])
  })
})
