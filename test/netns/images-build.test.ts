import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { gzipSync } from 'node:zlib'
import { packed } from '../../orchestrator/cli/context.ts'
import { logText } from '../../unionize/engine/answers.ts'
import { tar, zip } from '../support/archives.ts'
import { BASE, type BuildHost, BuildSite, buildEngine } from '../support/build-site.ts'
import { type GitServer, startGitServer } from '../support/git-server.ts'
import { until } from '../support/until.ts'

const never = new AbortController().signal
const dockerfile = (...lines: string[]) => ({ name: 'Dockerfile', content: [`FROM ${BASE}`, ...lines, ''].join('\n') })
const LOG_MOST = 256 * 1024
const KEEP_NOTHING = { 'images.keep-seconds': 0 }

describe('images built without a registry', () => {
  let engines: Awaited<ReturnType<typeof buildEngine>>[]
  let server: GitServer
  let site: BuildSite
  let builder: BuildHost
  let away: BuildHost

  before(async () => {
    engines = [await buildEngine('ib'), await buildEngine('ic')]
    server = await startGitServer()
    site = await BuildSite.open({ 'builds.most-log-bytes': LOG_MOST, 'builds.host': 'builder', 'builds.keep-days': 0 })
    const [first, second] = engines
    assert.ok(first && second)
    builder = await site.host('builder', first.engine)
    away = await site.host('away', second.engine, KEEP_NOTHING)
  })
  after(async () => {
    await site?.[Symbol.asyncDispose]()
    await server?.[Symbol.asyncDispose]()
    for (const engine of engines ?? []) await engine.close()
  })

  /** What a command in the image prints. */
  const printed = async (image: string, ...command: string[]): Promise<string> => {
    const { docker } = builder.engine
    const container = await docker.createContainer({ Image: image, Cmd: command, HostConfig: { NetworkMode: 'none' } })
    try {
      await container.start()
      await container.wait()
      const output = (await container.logs({ stdout: true, stderr: true })) as unknown as Buffer
      return logText(output, false)
    } finally {
      await container.remove({ force: true })
    }
  }

  it('from a folder, a zip, a tgz and a git repository, each as it is', async () => {
    const files = { 'site/hello.txt': 'hello\n', 'run.sh': '#!/bin/sh\ncat /site/hello.txt\n' }
    const recipe = dockerfile('COPY site /site', 'COPY run.sh /run.sh', 'RUN ls /site > /listed').content
    const folder = mkdtempSync(join(tmpdir(), 'build-folder-'))
    mkdirSync(join(folder, 'site'))
    for (const [name, content] of Object.entries({ ...files, Dockerfile: recipe })) {
      writeFileSync(join(folder, name), content, { mode: 0o755 })
    }
    symlinkSync('hello.txt', join(folder, 'site', 'link'))
    const query = { template: 'folder', source: 'folder site', format: 'tar' }
    const begun = await site.client.buildFromArchive(query, packed(folder), never)
    rmSync(folder, { recursive: true })
    assert.match(begun.id, /^b-[0-9a-z]{10}$/)
    const fromFolder = await site.built(begun)
    const entries = Object.entries({ ...files, Dockerfile: recipe }).map(([name, content]) => ({ name, content }))
    const fromZip = await site.built(await site.archive('zip', zip(entries), 'zip'))
    const fromTgz = await site.built(await site.archive('tgz', gzipSync(tar(...entries)), 'tgz'))
    const commit = server.commit('site', { ...files, Dockerfile: recipe })
    const fromGit = await site.built(
      await site.client.buildFromGit({ template: 'git', git: { url: `${server.url}site`, ref: 'main' } }, never),
    )
    assert.match(fromFolder, /^orchestrator\/folder:[0-9a-f]{16}$/)
    assert.equal(fromZip.split(':')[1], fromTgz.split(':')[1], 'the same source has the same hash')
    for (const image of [fromFolder, fromZip, fromTgz, fromGit]) {
      assert.equal(await printed(image, 'sh', '/run.sh'), 'hello\n')
    }
    assert.match(await printed(fromFolder, 'cat', '/listed'), /hello\.txt\nlink/)
    const log = await site.log(begun)
    assert.match(log, /Step 1\/4 : FROM test\/base:1/)
    const [git] = (await site.client.builds(never)).filter((build) => build.template === 'git')
    assert.ok(git)
    assert.equal(git.source, `${server.url}site#main`)
    assert.match(await site.log(git), new RegExp(`fetched commit ${commit}`))
  })

  it('with the base of a template and files alone; the Dockerfile is no part of it', async () => {
    await site.template('type', BASE)
    const source = tar({ name: 'index.html', content: 'page' }, { name: '.hidden', content: 'x' })
    const image = await site.built(await site.archive('derived', source, 'tar', 'type'))
    assert.equal(await printed(image, 'ls', '/srv'), 'index.html\n')
    assert.equal(await printed(image, 'cat', '/srv/index.html'), 'page')
    const byName = await site.built(await site.archive('derived', source, 'tar', BASE))
    assert.equal(byName, image, 'the image may be named instead')
    await assert.rejects(site.archive('derived', source, 'tar', 'nothing'), { code: 'invalid-input' })
    await assert.rejects(site.archive('derived', source, 'tar'), { status: 422, message: /no Dockerfile/ })
  })

  it('once: the same source again is the same image, without a build', async () => {
    const source = tar(dockerfile('RUN echo once'))
    const first = await site.built(await site.archive('once', source, 'tar'))
    const second = await site.archive('once', source, 'tar')
    assert.equal(await site.built(second), first)
    assert.equal((await site.ended(second)).host, null)
    assert.match(await site.log(second), /built before/)
  })

  it('with a log that is read while it is written', async () => {
    const build = await site.archive('slow', tar(dockerfile('RUN echo first; sleep 10; echo second')), 'tar')
    let text = ''
    let stateAtFirst = ''
    for await (const part of site.client.buildLog(build.id, { follow: true }, never)) {
      text += part
      if (stateAtFirst === '' && /^first$/m.test(text)) stateAtFirst = (await site.client.build(build.id, never)).state
    }
    assert.equal(stateAtFirst, 'building')
    assert.match(text, /first\nsecond\n[\s\S]*the image is orchestrator\/slow:/)
  })

  it('not when a step fails: that is told, and nothing of it stays', async () => {
    const before = await builder.layers()
    const failing = dockerfile('RUN echo made > /made', 'RUN echo about to fail; exit 3')
    const ended = await site.ended(await site.archive('failing', tar(failing), 'tar'))
    assert.equal(ended.state, 'failed')
    assert.match(ended.error ?? '', /returned a non-zero code: 3/)
    assert.match(await site.log(ended), /about to fail\n[\s\S]*failed: /)
    assert.deepEqual(await builder.layers(), before)
    assert.deepEqual(await builder.engine.containers(''), [])
    const left = () => readdirSync(join(site.directory, 'builds', ended.id))
    await until('its context is gone', () => left().join() === 'log')
  })

  it('not when one prints 100 MB: it is ended, and its log stays small', async () => {
    const before = await builder.layers()
    const printing = dockerfile('RUN yes 0123456789 | head -c 100000000')
    const ended = await site.ended(await site.archive('printing', tar(printing), 'tar'))
    assert.equal(ended.state, 'failed')
    assert.match(ended.error ?? '', /printed more than 262144 bytes/)
    const log = await site.log(ended)
    assert.ok(log.length < LOG_MOST + 4096, `${log.length} characters`)
    assert.match(log, /0123456789\n/)
    assert.match(log, /failed: it printed more than/)
    await until('nothing runs', async () => (await builder.engine.containers('')).length === 0)
    await until('no layer is left', async () => (await builder.layers()).join() === before.join())
  })

  it('not when one is cancelled while it runs', async () => {
    const build = await site.archive('cancelled', tar(dockerfile('RUN echo begun; sleep 600')), 'tar')
    await until('it runs', async () => /^begun$/m.test(await site.log(build)), { deadlineMs: 30_000 })
    await site.cancel(build)
    const ended = await site.ended(build)
    assert.equal(ended.state, 'failed')
    assert.match(ended.error ?? '', /cancelled/)
    await until('nothing runs', async () => (await builder.engine.containers('')).length === 0)
    await assert.rejects(site.cancel(build), { code: 'build-ended' })
  })

  it('in turn, one at a time', async () => {
    const builds = await Promise.all(
      [1, 2, 3].map((n) => site.archive(`turn${n}`, tar(dockerfile(`RUN echo ${n}; sleep 0.3`)), 'tar')),
    )
    let most = 0
    await until(
      'all are done',
      async () => {
        const all = await site.client.builds(never)
        most = Math.max(most, all.filter(({ state }) => state === 'building').length)
        return builds.every(({ id }) => all.some((b) => b.id === id && b.state === 'done'))
      },
      { deadlineMs: 60_000 },
    )
    assert.equal(most, 1)
  })

  it('with nothing of the network, unless the host allows it', async () => {
    const source = tar(dockerfile('COPY . /c', 'RUN ls /sys/class/net > /links'))
    assert.equal(await printed(await site.built(await site.archive('alone', source, 'tar')), 'cat', '/links'), 'lo\n')
  })

  it('and go to a host that was away, before any lease asks; and from both when nothing needs them', async () => {
    await away.disconnect()
    const image = await site.built(await site.archive('spread', tar(dockerfile('RUN echo spread > /spread')), 'tar'))
    await site.template('spread', image)
    await until('the builder keeps it', () => builder.has(image))
    assert.ok(!(await away.has(image)))
    await away.connect()
    await until('the host that was away has it', () => away.has(image), { deadlineMs: 30_000 })
    const told = () => away.notices.some((text) => text.startsWith(`image-fetched image ${image}`))
    await until('it told so', told)
    const other = await site.built(await site.archive('spread', tar(dockerfile('RUN echo other > /spread')), 'tar'))
    assert.ok((await builder.has(image)) && (await builder.has(other)))
    await builder.disconnect()
    await builder.connect(KEEP_NOTHING)
    await until('what no template names goes', async () => !(await builder.has(other)))
    assert.ok(await builder.has(image))
    await site.template('spread', other)
    const swapped = async (host: BuildHost) => (await host.has(other)) && !(await host.has(image))
    for (const host of [away, builder]) {
      await until(`${host.name} has the new one alone`, () => swapped(host), { deadlineMs: 60_000 })
    }
    assert.ok(await builder.engine.docker.getImage(BASE).inspect(), 'what was there before is not taken away')
  })

  it('goes on after a restart of the orchestrator', async () => {
    const build = await site.archive('restart', tar(dockerfile('RUN echo begun; sleep 20', 'RUN echo ended')), 'tar')
    await until('it runs', async () => /^begun$/m.test(await site.log(build)), { deadlineMs: 30_000 })
    await site.stop()
    await site.start()
    assert.match(await site.built(build), /^orchestrator\/restart:/)
    const log = await site.log(build)
    assert.match(log, /restarted; the build begins anew/)
    assert.ok(existsSync(join(site.directory, 'archives')))
  })

  it('not when one never ends: it is ended, and what ran of it', async () => {
    await builder.disconnect()
    await away.disconnect()
    const [first] = engines
    assert.ok(first)
    await using hasty = await BuildSite.open({ 'builds.most-seconds': 3 })
    await hasty.host('hasty', first.engine)
    const ended = await hasty.ended(await hasty.archive('endless', tar(dockerfile('RUN echo x; sleep 600')), 'tar'))
    assert.equal(ended.state, 'failed')
    assert.match(ended.error ?? '', /took more than 3 s/)
    await until('nothing runs', async () => (await builder.engine.containers('')).length === 0)
  })
})
