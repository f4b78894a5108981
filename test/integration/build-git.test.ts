import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { type GitSource, gitSourceWords, withGitTar } from '../../orchestrator/builds/sources/git.ts'
import type { GitProtocol } from '../../orchestrator/builds/sources/git-url.ts'
import { makeContext } from '../../orchestrator/builds/sources/source.ts'
import { type GitServer, git, startGitServer } from '../support/git-server.ts'
import { until } from '../support/until.ts'

const MIB = 1024 * 1024
const LIMITS = { packedBytes: 8 * MIB, unpackedBytes: 16 * MIB, entries: 100 }
const never = new AbortController().signal
const PROTOCOLS: readonly GitProtocol[] = ['https', 'ssh', 'git', 'file']

describe('a git repository as a source', () => {
  let server: GitServer
  let around: string
  before(async () => {
    server = await startGitServer()
    around = mkdtempSync(join(tmpdir(), 'build-git-'))
  })
  after(async () => {
    await server[Symbol.asyncDispose]()
    rmSync(around, { recursive: true })
  })

  const fetchTo = async (source: GitSource, signal = never, mostBytes = 8 * MIB) => {
    const directory = join(around, 'git')
    const said: string[] = []
    const options = { directory, protocols: PROTOCOLS, mostBytes, say: (line: string) => void said.push(line) }
    try {
      const files = await withGitTar(source, options, signal, async (tar) => {
        const place = mkdtempSync(join(around, 'context-'))
        const made = await makeContext(
          tar,
          { format: 'tar', directory: place, limits: LIMITS, dockerfile: null },
          signal,
        )
        const list = execFileSync('tar', ['-tf', join(place, 'context.tar')], { encoding: 'utf8' })
        return { hash: made.hash, names: list.trim().split('\n'), place }
      })
      return { ...files, said }
    } finally {
      assert.ok(!existsSync(directory), 'the repository is gone')
    }
  }

  it('gives its main branch, a tag, a commit or a folder of it', async () => {
    const first = server.commit('site', { Dockerfile: 'FROM scratch\n', one: '1' }, { tag: 'v1' })
    server.commit('site', { two: '2', 'inner/Dockerfile': 'FROM scratch\n', 'inner/three': '3' })
    const url = `${server.url}site`
    const names = async (more: Partial<GitSource>) => (await fetchTo({ url, ...more })).names.sort()
    assert.deepEqual(await names({}), ['Dockerfile', 'inner', 'inner/Dockerfile', 'inner/three', 'one', 'two'])
    assert.deepEqual(await names({ ref: 'v1' }), ['Dockerfile', 'one'])
    assert.deepEqual(await names({ directory: 'inner' }), ['Dockerfile', 'three'])
    git(join(server.directory, 'site'), 'config', 'uploadpack.allowAnySHA1InWant', 'true')
    assert.deepEqual(await names({ ref: first }), ['Dockerfile', 'one'])
  })

  it('says which commit it is, and nothing of its history is fetched', async () => {
    for (let n = 0; n < 3; n++) server.commit('long', { Dockerfile: 'FROM scratch\n', n: `${n}` })
    const head = git(join(server.directory, 'long'), 'rev-parse', 'HEAD')
    const { said } = await fetchTo({ url: `${server.url}long` })
    assert.deepEqual(said, [`fetched commit ${head}`])
  })

  it('is taken with names and refs that have odd characters', async () => {
    const name = `it's "a b" $(touch pwned) ;&|é`
    server.commit(name, { Dockerfile: 'FROM scratch\n' }, { branch: `o'dd"$(x)&;|é` })
    const { names } = await fetchTo({ url: `file://${server.directory}/${name}`, ref: `o'dd"$(x)&;|é` })
    assert.deepEqual(names, ['Dockerfile'])
    assert.ok(!existsSync('pwned') && !existsSync(join(server.directory, 'pwned')))
  })

  it('comes as it is, also where its attributes would leave out or change', async () => {
    const attributes = 'hidden export-ignore\nDockerfile export-subst\n'
    server.commit('attributes', {
      '.gitattributes': attributes,
      hidden: '1',
      Dockerfile: 'FROM scratch\n#$Format:%H$\n',
    })
    const { names, place } = await fetchTo({ url: `${server.url}attributes` })
    assert.ok(names.includes('hidden'))
    assert.match(
      execFileSync('tar', ['-xOf', join(place, 'context.tar'), 'Dockerfile'], { encoding: 'utf8' }),
      /Format/,
    )
  })

  it('runs nothing of it and fetches no submodule', async () => {
    const trace = join(around, 'trace')
    const path = join(server.directory, 'hooked')
    server.commit('hooked', { Dockerfile: 'FROM scratch\n' })
    writeFileSync(join(path, '.gitmodules'), `[submodule "s"]\npath = s\nurl = ${server.url}secret\n`)
    const commit = server.commit('secret', { secret: 'x' })
    git(path, 'update-index', '--add', '--cacheinfo', `160000,${commit},s`)
    git(path, 'add', '.gitmodules')
    git(path, 'commit', '--quiet', '--message', 'submodule')
    for (const hook of ['post-checkout', 'post-merge', 'reference-transaction', 'fsmonitor-watchman']) {
      writeFileSync(join(path, '.git/hooks', hook), `#!/bin/sh\ntouch ${trace}\n`)
      chmodSync(join(path, '.git/hooks', hook), 0o755)
    }
    const { names } = await fetchTo({ url: `${server.url}hooked` })
    assert.deepEqual(names.sort(), ['.gitmodules', 'Dockerfile', 's'])
    assert.ok(!existsSync(trace))
  })

  it('is refused with a link that leads out, as an archive is', async () => {
    server.commit('link', { Dockerfile: 'FROM scratch\n' })
    symlinkSync('/etc/passwd', join(server.directory, 'link', 'passwd'))
    server.commit('link', {})
    await assert.rejects(fetchTo({ url: `${server.url}link` }), { reason: 'link-leads-out' })
  })

  it('is refused when it is too large, while it is fetched', async () => {
    // What cannot be packed.
    const bytes = randomBytes(4 * MIB).toString('base64')
    server.commit('large', { Dockerfile: 'FROM scratch\n', noise: bytes })
    await assert.rejects(fetchTo({ url: `${server.url}large` }, never, MIB), { reason: 'too-large' })
  })

  it('is refused when what is packed in it is a bomb', async () => {
    server.commit('bomb', { Dockerfile: 'FROM scratch\n', zeros: '\0'.repeat(20 * MIB) })
    await assert.rejects(fetchTo({ url: `${server.url}bomb` }), { reason: 'too-large' })
  })

  it('is refused when a few folders in one another mean more files than memory can hold', async () => {
    const path = join(server.directory, 'folders')
    server.commit('folders', { Dockerfile: 'FROM scratch\n' })
    const file = Buffer.from(git(path, 'rev-parse', 'HEAD:Dockerfile'), 'hex')
    const tree = (mode: string, object: Buffer) => {
      const entries = Array.from('0123456789', (name) => [Buffer.from(`${mode} ${name}\0`), object]).flat()
      writeFileSync(join(around, 'tree'), Buffer.concat(entries))
      return Buffer.from(git(path, 'hash-object', '-t', 'tree', '-w', join(around, 'tree')), 'hex')
    }
    let folder = tree('100644', file)
    for (let depth = 1; depth < 10; depth++) folder = tree('40000', folder)
    git(path, 'update-ref', 'HEAD', git(path, 'commit-tree', '-m', 'folders', folder.toString('hex')))
    const over = new AbortController()
    let ended = false
    const refused = assert.rejects(fetchTo({ url: `${server.url}folders` }, over.signal), {
      reason: 'too-large',
      message: /^git needs more than 288 MiB of memory for the repository: it has too many files/,
    })
    const look = () => {
      if (residentBytes(around) > 512 * MIB) over.abort(new Error('git has taken more than 512 MiB'))
      return ended
    }
    const bounded = until('it has ended', look, { deadlineMs: 60_000 })
    await refused.finally(() => {
      ended = true
    })
    await bounded
  })

  it('that is not there, or has no such branch, is told in the words of git', async () => {
    await assert.rejects(fetchTo({ url: `${server.url}nowhere` }), { reason: 'git-failed' })
    server.commit('branch', { Dockerfile: 'FROM scratch\n' })
    await assert.rejects(fetchTo({ url: `${server.url}branch`, ref: 'none' }), {
      reason: 'git-failed',
      message: /none/,
    })
    await assert.rejects(fetchTo({ url: `${server.url}branch`, directory: 'none' }), { reason: 'git-failed' })
  })

  it('whose server says nothing is given up at the signal, with all that git started', async (t) => {
    const silent = createTcpServer(() => {}).listen(0, '127.0.0.1')
    t.after(() => silent.close())
    await until('it listens', () => silent.listening)
    const { port } = silent.address() as { port: number }
    const over = new AbortController()
    const connected = new Promise((resolve) => silent.once('connection', resolve))
    const fetching = fetchTo({ url: `git://127.0.0.1:${port}/x` }, over.signal)
    fetching.catch(() => {})
    await connected
    over.abort(new Error('enough'))
    await assert.rejects(fetching, /enough/)
    await until('no git is left', () => gitProcesses(around).length === 0)
  })

  /** Begins to fetch by an ssh that is this script, waits until it is as told, and gives up. @returns the folder of the ssh */
  async function givenUp(url: string, script: string, stands: () => boolean): Promise<string> {
    const bin = mkdtempSync(join(around, 'bin-'))
    writeFileSync(join(bin, 'ssh'), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    const path = process.env['PATH']
    process.env['PATH'] = `${bin}:${path}`
    const over = new AbortController()
    try {
      const fetching = fetchTo({ url }, over.signal)
      fetching.catch(() => {})
      await until('git is that far', stands)
      over.abort(new Error('enough'))
      await assert.rejects(fetching, /enough/)
      await until('nothing of it is left', () => gitProcesses(around).length === 0)
    } finally {
      over.abort()
      process.env['PATH'] = path
    }
    return bin
  }

  it('fetched by ssh is given up with the ssh that git started', async () => {
    const runs = () => gitProcesses(around).some((command) => command.startsWith('sleep'))
    const script = 'echo "$@" >"$0.called"\nexec sleep 600'
    const bin = await givenUp("git@host.example:it's $(odd).git", script, runs)
    const called = readFileSync(join(bin, 'ssh.called'), 'utf8')
    assert.match(called, /^-o BatchMode=yes .*git@host\.example git-upload-pack 'it'\\''s \$\(odd\)\.git'\n$/)
  })

  it('is given up also when git has ended and what it started has not', async () => {
    const commands = () => gitProcesses(around).map((command) => command.split('\0')[0])
    const isAlone = () => commands().join() === 'sleep'
    await givenUp('git@host.example:x.git', 'sleep 600 </dev/null >/dev/null &', isAlone)
  })

  it('with a password in its URL shows that in no command line and no message', async (t) => {
    let commands: string[] = []
    // It ends the connection before any TLS: what git is started with is what matters here, and what it says.
    const web = createTcpServer((socket) => {
      commands = gitProcesses(around)
      socket.destroy()
    }).listen(0, '127.0.0.1')
    t.after(() => web.close())
    await until('it listens', () => web.listening)
    const { port } = web.address() as { port: number }
    const url = `https://user:pass%20word@127.0.0.1:${port}/repo`
    const words = gitSourceWords({ url }, PROTOCOLS)
    assert.equal(words, `https://127.0.0.1:${port}/repo`)
    await assert.rejects(fetchTo({ url }), (error: Error) => {
      assert.ok(!/pass|user:/.test(error.message), error.message)
      return true
    })
    assert.ok(commands.length > 0 && !/pass/.test(commands.join('\n')), commands.join('\n'))
  })

  it('is refused by its URL or ref alone when git could take that for something else', () => {
    const refused: GitSource[] = [
      { url: '--upload-pack=touch /tmp/pwned' },
      { url: '-oProxyCommand=x' },
      { url: 'ext::sh -c touch% /tmp/pwned' },
      { url: 'http://example.org/x' },
      { url: 'ftp://example.org/x' },
      { url: '/etc' },
      { url: '../..' },
      { url: 'example.org/x' },
      { url: 'https://' },
      { url: 'https:///x' },
      { url: 'https://example.org' },
      { url: 'https://example.org/x\nhttps://other/' },
      { url: 'https://example.org/%0ahost=other' },
      { url: 'https://example.org/a%00b' },
      { url: 'https://example.org\\@other/x' },
      { url: 'https://a@b@example.org/x' },
      { url: 'https://example.org/x#main' },
      { url: 'ssh://-oProxyCommand=x/y' },
      { url: 'ssh://user:password@example.org/x' },
      { url: 'ssh://-user@example.org/x' },
      { url: 'git@-host:x' },
      { url: 'git@example.org:-x' },
      { url: 'git://user@example.org/x' },
      { url: 'file://host/etc' },
      { url: 'https://example.org/x', ref: '--upload-pack=x' },
      { url: 'https://example.org/x', ref: 'a b' },
      { url: 'https://example.org/x', ref: 'a:b' },
      { url: 'https://example.org/x', ref: '+main' },
      { url: 'https://example.org/x', ref: 'a..b' },
      { url: 'https://example.org/x', ref: '@{-1}' },
      { url: 'https://example.org/x', ref: 'a\n' },
      { url: 'https://example.org/x', ref: '' },
      { url: 'https://example.org/x', directory: '../..' },
      { url: 'https://example.org/x', directory: '/etc' },
    ]
    for (const source of refused) {
      assert.throws(() => gitSourceWords(source, PROTOCOLS), { code: 'source-refused' }, JSON.stringify(source))
    }
    assert.throws(() => gitSourceWords({ url: 'file:///etc' }, ['https']), { reason: 'git-url' })
    assert.throws(() => gitSourceWords({ url: 'git@example.org:x' }, ['https']), { reason: 'git-url' })
  })

  it('is called for people by URL, ref and folder, without a password', () => {
    const words = (source: GitSource) => gitSourceWords(source, PROTOCOLS)
    assert.equal(words({ url: 'https://u:secret@example.org/x.git', ref: 'v1' }), 'https://example.org/x.git#v1')
    assert.equal(
      words({ url: 'https://token@example.org:8443/x', directory: 'a/b' }),
      'https://example.org:8443/x#:a/b',
    )
    assert.equal(words({ url: 'git@example.org:team/x.git' }), 'git@example.org:team/x.git')
    assert.equal(words({ url: 'ssh://git@[2001:db8::1]:22/x' }), 'ssh://git@[2001:db8::1]:22/x')
  })
})

/** Command lines of processes whose working directory is below that folder. */
function gitProcesses(directory: string): string[] {
  return ofProcesses(directory, 'cmdline')
}

/** Memory that those processes have at this moment. */
function residentBytes(directory: string): number {
  const pages = ofProcesses(directory, 'statm').map((sizes) => Number(sizes.split(' ')[1]))
  return pages.reduce((sum, count) => sum + count, 0) * 4096
}

/** What the kernel says in that file of each process whose working directory is below that folder. */
function ofProcesses(directory: string, file: 'cmdline' | 'statm'): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/cwd`).startsWith(directory)
          ? [readFileSync(`/proc/${pid}/${file}`, 'utf8')]
          : []
      } catch {
        return [] // it ended meanwhile
      }
    })
}
