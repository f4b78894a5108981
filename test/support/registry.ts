import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { until } from './until.ts'

/** Docker's registry (Debian's docker-registry) in the network namespaces of engines, with one storage for all. */
export interface Registry extends AsyncDisposable {
  /** How an engine in one of those namespaces names it: engines trust their own loopback without a certificate. */
  readonly name: string
  /** What it has of a repository. */
  tags(repository: string): Promise<readonly string[]>
}

const PORT = 5000

/** Starts one process in each namespace. */
export async function startRegistry(namespaces: readonly string[]): Promise<Registry> {
  const directory = mkdtempSync(join(tmpdir(), 'registry-'))
  const config = join(directory, 'config.yml')
  const name = `127.0.0.1:${PORT}`
  writeFileSync(
    config,
    stringify({
      version: 0.1,
      log: { level: 'error' },
      storage: { filesystem: { rootdirectory: join(directory, 'data') } },
      http: { addr: name },
    }),
  )
  const children = namespaces.map((namespace) =>
    spawn('nsenter', [`--net=/run/netns/${namespace}`, 'docker-registry', 'serve', config], { stdio: 'ignore' }),
  )
  const ask = async (namespace: string, path: string): Promise<string> => {
    const child = spawn('nsenter', [`--net=/run/netns/${namespace}`, 'curl', '-sS', `http://${name}${path}`])
    const parts: string[] = []
    child.stdout.setEncoding('utf8').on('data', (part: string) => parts.push(part))
    const [code] = await once(child, 'close')
    if (code !== 0) throw new Error(`curl ended with ${code}`)
    return parts.join('')
  }
  for (const namespace of namespaces) await until(`a registry in ${namespace}`, () => ask(namespace, '/v2/'))
  return {
    name,
    async tags(repository) {
      const answer = JSON.parse(await ask(namespaces[0] ?? '', `/v2/${repository}/tags/list`)) as { tags?: string[] }
      return answer.tags ?? []
    },
    async [Symbol.asyncDispose]() {
      for (const child of children) {
        if (child.exitCode === null) {
          child.kill('SIGKILL')
          await once(child, 'exit')
        }
      }
      rmSync(directory, { recursive: true })
    },
  }
}
