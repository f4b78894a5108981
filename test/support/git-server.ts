import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { until } from './until.ts'

/** Repositories on this machine, and git's own server for them. */
export interface GitServer extends AsyncDisposable {
  /** `git://127.0.0.1:PORT/` */
  readonly url: string
  readonly directory: string
  /** Makes a repository with one commit on `main`; a repository that is there gets another commit. @returns the commit */
  commit(name: string, files: Readonly<Record<string, string>>, options?: { branch?: string; tag?: string }): string
}

/** Runs git with no configuration but that of the repository. */
export function git(directory: string, ...args: string[]): string {
  const env = { PATH: process.env['PATH'], HOME: directory, GIT_CONFIG_NOSYSTEM: '1', GIT_CONFIG_GLOBAL: '/dev/null' }
  const who = ['-c', 'user.name=test', '-c', 'user.email=test@example.org', '-c', 'init.defaultBranch=main']
  return execFileSync('git', [...who, ...args], { cwd: directory, env, encoding: 'utf8', stdio: 'pipe' }).trim()
}

export async function startGitServer(): Promise<GitServer> {
  const directory = mkdtempSync(join(tmpdir(), 'git-server-'))
  const port = await freePort()
  const args = ['--reuseaddr', '--export-all', `--base-path=${directory}`, '--listen=127.0.0.1', `--port=${port}`]
  const child = spawn('/usr/lib/git-core/git-daemon', [...args, directory], { stdio: 'ignore' })
  await until('the git server answers', async () => {
    const socket = connect(port, '127.0.0.1')
    try {
      await once(socket, 'connect')
      return true
    } finally {
      socket.destroy()
    }
  })
  return {
    url: `git://127.0.0.1:${port}/`,
    directory,
    commit(name, files, { branch = 'main', tag } = {}) {
      const path = join(directory, name)
      mkdirSync(path, { recursive: true })
      git(path, 'init', '--quiet')
      git(path, 'checkout', '--quiet', '-B', branch)
      for (const [file, content] of Object.entries(files)) {
        mkdirSync(dirname(join(path, file)), { recursive: true })
        writeFileSync(join(path, file), content)
      }
      git(path, 'add', '--all')
      git(path, 'commit', '--quiet', '--allow-empty', '--message', 'more')
      if (tag !== undefined) git(path, 'tag', tag)
      return git(path, 'rev-parse', 'HEAD')
    },
    async [Symbol.asyncDispose]() {
      if (child.kill('SIGKILL')) await once(child, 'exit')
      rmSync(directory, { recursive: true })
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}
