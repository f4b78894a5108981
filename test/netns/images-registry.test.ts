import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { gzipSync } from 'node:zlib'
import { packed } from '../../orchestrator/cli/context.ts'
import { tar, zip } from '../support/archives.ts'
import { BASE, type BuildHost, BuildSite, buildEngine } from '../support/build-site.ts'
import { type GitServer, startGitServer } from '../support/git-server.ts'
import { type Registry, startRegistry } from '../support/registry.ts'
import { until } from '../support/until.ts'

const never = new AbortController().signal
const recipe = (...lines: string[]) => [`FROM ${BASE}`, ...lines, ''].join('\n')

describe('images built with a registry', () => {
  let engines: Awaited<ReturnType<typeof buildEngine>>[]
  let registry: Registry
  let server: GitServer
  let site: BuildSite
  let builder: BuildHost
  let away: BuildHost

  before(async () => {
    engines = [await buildEngine('rb'), await buildEngine('rc')]
    const [first, second] = engines
    assert.ok(first && second)
    registry = await startRegistry([first.namespace, second.namespace])
    server = await startGitServer()
    site = await BuildSite.open({ 'builds.registry': registry.name, 'builds.host': 'builder' })
    builder = await site.host('builder', first.engine)
    away = await site.host('away', second.engine, { 'images.keep-seconds': 0 })
  })
  after(async () => {
    await site?.[Symbol.asyncDispose]()
    await server?.[Symbol.asyncDispose]()
    await registry?.[Symbol.asyncDispose]()
    for (const engine of engines ?? []) await engine.close()
  })

  it('from a folder, a zip, a tgz and a git repository are pushed there, and nowhere else', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'build-folder-'))
    writeFileSync(join(folder, 'Dockerfile'), recipe('COPY . /folder'))
    const query = { template: 'folder', source: 'folder x', format: 'tar' }
    const begun = await site.client.buildFromArchive(query, packed(folder), never)
    rmSync(folder, { recursive: true })
    server.commit('site', { Dockerfile: recipe('COPY . /git') })
    const git = { url: `${server.url}site` }
    const builds = {
      folder: begun,
      zip: await site.archive('zip', zip([{ name: 'Dockerfile', content: recipe('COPY . /zip') }]), 'zip'),
      tgz: await site.archive('tgz', gzipSync(tar({ name: 'Dockerfile', content: recipe('COPY . /tgz') })), 'tgz'),
      git: await site.client.buildFromGit({ template: 'git', git }, never),
    }
    for (const [name, build] of Object.entries(builds)) {
      const image = await site.built(build)
      assert.ok(image.startsWith(`${registry.name}/orchestrator/${name}:`), image)
      assert.deepEqual(await registry.tags(`orchestrator/${name}`), [image.split(':').at(-1)])
      assert.ok(await builder.has(image))
    }
    assert.deepEqual(readdirSync(join(site.directory, 'archives')), [])
  })

  it('are not built again while the registry has them, whichever host is asked', async () => {
    const source = tar({ name: 'Dockerfile', content: recipe('RUN echo again') })
    const image = await site.built(await site.archive('again', source, 'tar'))
    await builder.engine.docker.getImage(image).remove()
    const second = await site.archive('again', source, 'tar')
    assert.equal(await site.built(second), image)
    const log = await site.log(second)
    assert.match(log, /the registry has .* already/)
    assert.doesNotMatch(log, /Step 1/)
  })

  it('go to a host that was away, before any lease asks, and from it when nothing needs them', async () => {
    await away.disconnect()
    const source = (n: number) => tar({ name: 'Dockerfile', content: recipe(`RUN echo ${n}`) })
    const image = await site.built(await site.archive('spread', source(1), 'tar'))
    await site.template('spread', image)
    assert.ok(!(await away.has(image)))
    await away.connect()
    await until('the host that was away has it', () => away.has(image), { deadlineMs: 30_000 })
    const other = await site.built(await site.archive('spread', source(2), 'tar'))
    await site.template('spread', other)
    const swapped = async () => (await away.has(other)) && !(await away.has(image))
    await until('it has the new one alone', swapped, { deadlineMs: 30_000 })
  })

  it('stay on a host while a container is made of them', async () => {
    const source = (n: number) => tar({ name: 'Dockerfile', content: recipe(`RUN echo used ${n}`) })
    const image = await site.built(await site.archive('used', source(1), 'tar'))
    await site.template('used', image)
    await until('the host has it', () => away.has(image), { deadlineMs: 30_000 })
    const container = await away.engine.docker.createContainer({ Image: image, Cmd: ['sh'] })
    const other = await site.built(await site.archive('used', source(2), 'tar'))
    await site.template('used', other)
    await until('the host has the new one', () => away.has(other), { deadlineMs: 30_000 })
    assert.ok(await away.has(image))
    await container.remove()
    // The next word of what is wanted finds it unused.
    await site.template('more', BASE)
    await away.disconnect()
    await away.connect()
    await until('then it goes', async () => !(await away.has(image)), { deadlineMs: 30_000 })
  })

  it('are told when a registry has them not', async () => {
    const missing = `${registry.name}/orchestrator/missing:1`
    await site.template('missing', missing)
    const told = () => away.notices.find((text) => text.startsWith('image-missing') && text.includes(missing))
    assert.match(await until('the host tells it', told, { deadlineMs: 30_000 }), /cannot be pulled/)
    const events = () => site.client.events({ limit: 100 }, never)
    await until('an event says so', async () => (await events()).some((e) => e.kind === 'host.images-missing'))
  })

  it('and an image that only we could give is never looked for in a registry of others', async () => {
    await site.template('ours', 'orchestrator/unknown:1')
    const told = () => away.notices.find((text) => text.includes('orchestrator/unknown:1'))
    assert.match(await until('the host tells it', told, { deadlineMs: 30_000 }), /is in no registry/)
  })
})
