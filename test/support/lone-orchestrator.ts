import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { stringify } from 'yaml'
import type { InstanceShape } from '../../orchestrator/api/wire.ts'
import { until } from './until.ts'

const MAIN = new URL('../../orchestrator/main.ts', import.meta.url).pathname
/** Modules that this process has had compiled for {@link LoneOrchestrator.compile}. */
let compiled: { readonly directory: string; readonly done: Promise<unknown> } | null = null

/** The orchestrator as a process of its own, without hosts, that can be killed and started again on the same store. */
export class LoneOrchestrator implements AsyncDisposable {
  readonly directory = mkdtempSync('/tmp/orchestrator-lone-')
  readonly #settings: Readonly<Record<string, unknown>>
  #child: ChildProcess | null = null
  #said = ''
  #port = 0
  #cache = join(this.directory, 'compiled')
  /** Its calls share connections: whoever asks again and again must not be busy with handshakes. */
  #agent: Agent | null = null

  /** @param settings as in its settings file, nested; @param catalog files of its catalog directory, by name */
  constructor(settings: Readonly<Record<string, unknown>>, catalog: Readonly<Record<string, string>> = {}) {
    const folder = join(this.directory, 'catalog')
    mkdirSync(folder)
    for (const [name, text] of Object.entries(catalog)) writeFileSync(join(folder, name), text)
    this.#settings = {
      catalog: { directory: folder },
      state: { directory: join(this.directory, 'state') },
      ...settings,
    }
    mkdirSync(join(this.directory, 'state'))
  }

  /** Everything that it logged since it was started last. */
  get said(): string {
    return this.#said
  }
  get port(): number {
    return this.#port
  }
  /** PEM of its authority. */
  get authority(): string {
    return readFileSync(join(this.directory, 'state', 'ca.crt'), 'utf8')
  }

  /** The id that it gives to what is its own in targets. */
  get installation(): string {
    using database = new DatabaseSync(join(this.directory, 'state', 'orchestrator.db'), { readOnly: true })
    return String(database.prepare('select id from installation').get()?.['id'])
  }

  /** Resolves when it answers. @throws with what it said when it ends instead */
  async start(): Promise<void> {
    const ended = this.launch()
    let code: number | null | undefined
    void ended.then((result) => {
      code = result
    })
    await until(
      'the orchestrator listens',
      () => {
        if (code !== undefined) throw new Error(`the orchestrator ended with ${code}: ${this.#said}`)
        this.#port = Number(/"id":"api.listening"/.test(this.#said) && /"port":(\d+)/.exec(this.#said)?.[1])
        return this.#port > 0
      },
      { deadlineMs: 60_000 },
    )
  }

  /** Starts it. @returns its exit code, when it ends by itself or is killed (null) */
  async launch(): Promise<number | null> {
    const file = join(this.directory, 'orchestrator.yaml')
    writeFileSync(file, stringify({ server: { address: '::1', port: 0 }, ...this.#settings }))
    this.#said = ''
    const env = { ...process.env, NODE_COMPILE_CACHE: this.#cache }
    const child = spawn(process.execPath, [MAIN, '--config', file], { env, stdio: ['ignore', 'ignore', 'pipe'] })
    this.#child = child
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#said += text
    })
    const [code] = (await once(child, 'close')) as [number | null]
    if (this.#child === child) this.#child = null
    return code
  }

  /** Keeps its modules compiled, which a process that is killed does not: for who starts it often. */
  async compile(): Promise<void> {
    compiled ??= compileModules()
    this.#cache = compiled.directory
    await compiled.done
  }

  /** `kill -9`, and nothing else: whatever it was doing is half done. */
  async kill(): Promise<void> {
    const child = this.#child
    if (child === null) return
    const gone = once(child, 'close')
    child.kill('SIGKILL')
    await gone
    this.#agent?.destroy()
    this.#agent = null
  }

  /** A call to its API as an administrator. */
  async call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const token = readFileSync(join(this.directory, 'state', 'api-token'), 'utf8').trim()
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
    this.#agent ??= new Agent({ keepAlive: true })
    const agent = this.#agent
    return await new Promise<T>((resolve, reject) => {
      const options = {
        host: '::1',
        port: this.#port,
        path,
        method,
        headers,
        ca: this.authority,
        agent,
      }
      const call = request(options, (response) => {
        let text = ''
        response.setEncoding('utf8').on('data', (part: string) => {
          text += part
        })
        response.on('end', () => {
          const status = response.statusCode ?? 0
          if (status >= 300) reject(new Error(`${method} ${path}: ${status} ${text}`))
          else resolve((text === '' ? undefined : JSON.parse(text)) as T)
        })
      })
      call.once('error', reject)
      call.end(body === undefined ? undefined : JSON.stringify(body))
    })
  }

  async instances(): Promise<readonly InstanceShape[]> {
    return (await this.call<{ items: InstanceShape[] }>('GET', '/v1/instances')).items
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
    rmSync(this.directory, { recursive: true })
  }
}

function compileModules(): NonNullable<typeof compiled> {
  const directory = mkdtempSync('/tmp/orchestrator-compiled-')
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }))
  const env = { ...process.env, NODE_COMPILE_CACHE: directory }
  const child = spawn(process.execPath, [MAIN, '--print-config'], { env, stdio: 'ignore' })
  return { directory, done: once(child, 'close') }
}
