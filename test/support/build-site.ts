import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { Agent, request } from 'node:https'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { engineNamespace, LabEngine } from '../../lab/engine.ts'
import { runDirectory } from '../../lab/places.ts'
import { ApiClient } from '../../orchestrator/api/client.ts'
import type { BuildShape } from '../../orchestrator/api/wire.ts'
import { type Daemon, startDaemon } from '../../orchestrator/daemon.ts'
import {
  type Settings as OrchestratorSettings,
  settingsTable as orchestratorTable,
} from '../../orchestrator/settings.ts'
import { loadIdentity } from '../../unionize/identity.ts'
import { startImages } from '../../unionize/images/start.ts'
import type { Instances } from '../../unionize/instances/instances.ts'
import { joinOrchestrator } from '../../unionize/join.ts'
import type { Leads } from '../../unionize/leads.ts'
import { createLink } from '../../unionize/link.ts'
import { createRequests } from '../../unionize/requests.ts'
import { type Settings, settingsTable } from '../../unionize/settings.ts'
import { silent } from './fixtures.ts'
import { until } from './until.ts'

const never = new AbortController().signal
/** The base of what tests build: a shell and what it needs. */
export const BASE = 'test/base:1'

/** An orchestrator, and hosts with engines of their own; nothing of it is wired, for images need no network. */
export class BuildSite implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'build-site-'))
  readonly #settings: Partial<OrchestratorSettings>
  #daemon: Daemon | null = null
  #client: ApiClient | null = null
  #port = 0
  readonly #hosts: BuildHost[] = []

  private constructor(settings: Partial<OrchestratorSettings>) {
    this.#settings = settings
  }

  static async open(settings: Partial<OrchestratorSettings> = {}): Promise<BuildSite> {
    const site = new BuildSite(settings)
    await site.start()
    return site
  }

  get url(): string {
    return `https://127.0.0.1:${this.#port}`
  }

  get client(): ApiClient {
    if (this.#client === null) throw new Error('the orchestrator does not run')
    return this.#client
  }

  /** Starts the orchestrator, also after {@link stop}: with all that it had. */
  async start(): Promise<void> {
    mkdirSync(join(this.directory, 'catalog'), { recursive: true })
    const settings: OrchestratorSettings = {
      ...(defaultsOf(orchestratorTable) as OrchestratorSettings),
      'server.address': '::',
      'server.port': this.#port,
      'server.names': ['127.0.0.1', 'localhost'],
      'state.directory': this.directory,
      'catalog.directory': join(this.directory, 'catalog'),
      'builds.protocols': ['https', 'git'],
      ...this.#settings,
    }
    this.#daemon = await startDaemon(settings, '0.0.0-test', silent)
    this.#port = this.#daemon.port
    const token = readFileSync(join(this.directory, 'api-token'), 'utf8').trim()
    const authority = readFileSync(join(this.directory, 'ca.crt'), 'utf8')
    this.#client = new ApiClient({ server: this.url, token, authority })
  }

  async stop(): Promise<void> {
    this.#client?.close()
    await this.#daemon?.stop()
    this.#daemon = null
  }

  /** Joins a host. */
  async host(name: string, engine: LabEngine, settings: Partial<Settings> = {}): Promise<BuildHost> {
    const { token } = await this.client.createJoinToken({ host: name }, never)
    const host = await BuildHost.open(this, name, engine, token, settings)
    this.#hosts.push(host)
    return host
  }

  async connected(name: string, yes: boolean): Promise<void> {
    const look = async () => (await this.client.hosts(never)).some((h) => h.name === name && h.connected) === yes
    await until(`host ${name} is ${yes ? '' : 'dis'}connected`, look)
  }

  /** Waits until the build has ended. */
  async ended(build: BuildShape, deadlineMs = 60_000): Promise<BuildShape> {
    const look = async () => {
      const now = await this.client.build(build.id, never)
      return ['done', 'failed'].includes(now.state) && now
    }
    return await until(`the end of build ${build.id}`, look, { deadlineMs, everyMs: 50 })
  }

  async log(build: BuildShape, follow = false): Promise<string> {
    let text = ''
    for await (const part of this.client.buildLog(build.id, { follow }, never)) text += part
    return text
  }

  /** Waits for the end; the build must succeed. @returns the image */
  async built(build: BuildShape): Promise<string> {
    const ended = await this.ended(build, 120_000)
    if (ended.state !== 'done' || ended.image === null) throw new Error(`${ended.error}\n${await this.log(build)}`)
    return ended.image
  }

  /** Sends a packed source. */
  async archive(name: string, body: Buffer, format: string, base?: string): Promise<BuildShape> {
    const query = { template: name, source: `test.${format}`, format, base }
    return await this.client.buildFromArchive(query, Readable.from([body]), never)
  }

  /** Asks that it be ended. @throws Error with the problem's code */
  async cancel(build: BuildShape): Promise<void> {
    const token = readFileSync(join(this.directory, 'api-token'), 'utf8').trim()
    const ca = readFileSync(join(this.directory, 'ca.crt'), 'utf8')
    const sent = request(new URL(`/v1/builds/${build.id}`, this.url), {
      method: 'DELETE',
      headers: { Authorization: `Bearer ${token}` },
      agent: new Agent({ ca }),
    }).end()
    const [response] = (await once(sent, 'response')) as [IncomingMessage]
    const answer = JSON.parse(await text(response)) as { code?: string }
    if (response.statusCode !== 202) throw Object.assign(new Error('not cancelled'), { code: answer.code })
  }

  /** Applies a template whose only service runs that image. */
  async template(name: string, image: string): Promise<void> {
    const compose = `x-orchestrator:\n  summary: a test\nservices:\n  web:\n    image: ${image}\n`
    const files = { [`${name}.yaml`]: Buffer.from(compose).toString('base64') }
    await this.client.apply({ files }, never)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const host of this.#hosts) await host.close()
    await this.stop()
    rmSync(this.directory, { recursive: true })
  }
}

function defaultsOf(table: Readonly<Record<string, { readonly default?: unknown }>>): unknown {
  return Object.fromEntries(Object.entries(table).map(([name, setting]) => [name, setting.default]))
}

/** What of a host is about images: the real link, requests, stock and builder. */
export class BuildHost {
  readonly name: string
  readonly engine: LabEngine
  readonly notices: string[] = []
  readonly #state: string
  readonly #site: BuildSite
  readonly #settings: Partial<Settings>
  #stop: (() => Promise<void>) | null = null

  private constructor(site: BuildSite, name: string, engine: LabEngine, settings: Partial<Settings>) {
    this.name = name
    this.engine = engine
    this.#site = site
    this.#settings = settings
    this.#state = mkdtempSync(join(tmpdir(), 'build-host-'))
  }

  static async open(
    site: BuildSite,
    name: string,
    engine: LabEngine,
    token: string,
    settings: Partial<Settings>,
  ): Promise<BuildHost> {
    const host = new BuildHost(site, name, engine, settings)
    await joinOrchestrator({ server: site.url, token, host: name, stateDirectory: host.#state, now: Date.now })
    await host.connect()
    return host
  }

  /** Resolves when the orchestrator may ask it. @param change settings over those that it was opened with */
  async connect(change: Partial<Settings> = {}): Promise<void> {
    const settings: Settings = {
      ...(defaultsOf(settingsTable) as Settings),
      'server.url': this.#site.url,
      'state.directory': this.#state,
      'docker.socket': this.engine.socket,
      ...this.#settings,
      ...change,
    }
    const notice = (_level: string, code: string, message: string) => void this.notices.push(`${code} ${message}`)
    const { stock, builder } = await startImages({ settings, log: silent, notice, now: Date.now })
    const standing = {
      fault: () => null,
      work: <T>(carryOut: () => Promise<T>) => carryOut(),
      aside: <T>(wait: () => Promise<T>) => wait(),
    }
    const others = { instances: {} as Instances, leads: {} as Leads }
    const requests = createRequests({ ...others, standing, stock, builder, log: silent })
    const link = createLink({
      url: this.#site.url,
      identity: () => loadIdentity(this.#state),
      hello: async () => ({ version: '1', facts: { engine: 'e', kernel: 'k', instances: 0 } }),
      address: () => undefined,
      connected: () => {},
      request: requests,
      log: silent,
      status: () => {},
    })
    const over = new AbortController()
    const running = link.run(over.signal)
    this.#stop = async () => {
      over.abort(new Error('the test ends'))
      await Promise.all([running, stock.stop()])
    }
    await this.#site.connected(this.name, true)
  }

  async disconnect(): Promise<void> {
    await this.#stop?.()
    this.#stop = null
    await this.#site.connected(this.name, false)
  }

  /** References of all images of its engine, but for the base. */
  async images(): Promise<string[]> {
    const all = await this.engine.docker.listImages()
    return all
      .flatMap((image) => image.RepoTags ?? [])
      .filter((tag) => tag !== BASE && tag !== '<none>:<none>')
      .sort()
  }

  /** Ids of everything that the engine has of images, also what has no name. */
  async layers(): Promise<string[]> {
    return (await this.engine.docker.listImages({ all: true })).map((image) => image.Id).sort()
  }

  async has(image: string): Promise<boolean> {
    return (await this.images()).includes(image)
  }

  async close(): Promise<void> {
    await this.disconnect()
    rmSync(this.#state, { recursive: true })
  }
}

/** An engine of the test's own with nothing but {@link BASE}. */
export async function buildEngine(
  prefix: string,
): Promise<{ engine: LabEngine; namespace: string; close(): Promise<void> }> {
  const engine = await LabEngine.open(prefix, () => {}, undefined, true)
  await clear(engine)
  const stream = await engine.docker.importImage(Readable.from([baseTar()]) as never, { repo: 'test/base', tag: '1' })
  for await (const _ of stream);
  return {
    engine,
    namespace: engineNamespace(prefix),
    async close() {
      await clear(engine)
      await engine.close()
      rmSync(runDirectory(prefix), { recursive: true })
    },
  }
}

/** Its images outlive it otherwise, in the lab's cache. */
async function clear(engine: LabEngine): Promise<void> {
  for (const { Id } of await engine.docker.listContainers({ all: true })) {
    await engine.docker.getContainer(Id).remove({ force: true })
  }
  for (const image of await engine.docker.listImages()) {
    for (const name of image.RepoTags?.filter((tag) => tag !== '<none>:<none>') ?? [image.Id]) {
      await engine.docker.getImage(name).remove({ force: true })
    }
  }
  await engine.docker.pruneImages({ filters: { dangling: { false: true } } })
}

/** A root file system of this machine's own shell, a few programs and their libraries. */
function baseTar(): Buffer {
  const root = mkdtempSync(join(tmpdir(), 'build-base-'))
  try {
    const programs = ['dash', 'cat', 'sleep', 'yes', 'head', 'ls'].map((name) =>
      realpathSync(execFileSync('which', [name], { encoding: 'utf8' }).trim()),
    )
    const libraries = programs.flatMap((program) => {
      const said = execFileSync('ldd', [program], { encoding: 'utf8' })
      return [...said.matchAll(/(\/\S+) \(0x/g)].map(([, path = '']) => path)
    })
    for (const file of new Set(libraries)) {
      mkdirSync(join(root, dirname(file)), { recursive: true })
      cpSync(realpathSync(file), join(root, file))
    }
    mkdirSync(join(root, 'bin'), { recursive: true })
    mkdirSync(join(root, 'tmp'))
    for (const program of programs) cpSync(program, join(root, 'bin', program.split('/').at(-1) ?? ''))
    symlinkSync('dash', join(root, 'bin', 'sh'))
    return execFileSync('tar', ['-C', root, '-cf', '-', '.'], { maxBuffer: 64 * 1024 * 1024 })
  } finally {
    rmSync(root, { recursive: true })
  }
}
