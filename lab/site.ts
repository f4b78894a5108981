import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse, stringify } from 'yaml'
import { LabError, run, waitFor } from './command.ts'
import type { DnsmasqOptions, DnsmasqRole } from './dnsmasq.ts'
import type { LabEngine, Say } from './engine.ts'
import { buildSampleImage, buildSamplesImage, rememberIfNew, SAMPLE_IMAGE, SAMPLES_IMAGE } from './images.ts'
import { Lab, whatIsLeft } from './lab.ts'
import { hostNamespace, inNamespace, LAB_NETWORK } from './namespaces.ts'
import type { LabPlace, OpenPlace } from './place.ts'
import { DEFAULT_PREFIX, MEMORY_DIRECTORY, runDirectory, SOURCE_DIRECTORY } from './places.ts'
import { type LabProcess, launch } from './processes.ts'
import { daemonCommand, giveDirectory, nested, showProgram, stateDirectory, WIRING_CAPABILITIES } from './programs.ts'
import { SAMPLES_DIRECTORY, sampleRule } from './samples.ts'

export interface SiteOptions {
  readonly prefix?: string
  readonly say: Say
  readonly signal?: AbortSignal
  readonly dnsmasq?: DnsmasqOptions
  /** An engine of the lab's own also where the machine has one: for tests that stop and kill it. */
  readonly ownEngine?: boolean
  /** What leases become: `sample`, unless told, or one of docs/samples. */
  readonly template?: string
  /** Where instances run; on the host itself unless told. */
  readonly place?: OpenPlace | undefined
  /** Further settings of the daemons, over those of the lab. */
  readonly orchestrator?: Readonly<Record<string, unknown>>
  readonly unionize?: Readonly<Record<string, unknown>>
}

type Daemon = 'orchestrator' | 'unionize' | 'unionize-wiring'

/** TCP port of the API inside the host's namespace. */
const PORT = 8998
const HOST_NAME = 'lab'
const HOST_LABEL = `org.orchestrator.host=${HOST_NAME}`
const PAUSE_IMAGE = 'orchestrator/pause:1'

/**
 * One whole installation in the lab, as in production: dnsmasq, orchestrator, unionize and its wiring process as separate
 * processes with their own users and capabilities, joined by a one-time token, on a Docker engine.
 */
export class Site {
  readonly prefix: string
  readonly namespace: string
  readonly engine: LabEngine
  readonly #options: SiteOptions
  readonly #lab: Lab
  readonly #daemons = new Map<Daemon, LabProcess>()
  #place: LabPlace | undefined

  private constructor(options: SiteOptions, lab: Lab, engine: LabEngine) {
    this.#options = options
    this.#lab = lab
    this.prefix = lab.prefix
    this.namespace = hostNamespace(this.prefix)
    this.engine = engine
  }

  /** Makes everything, from nothing or from what a killed run left. Resolves when the host is connected and ready. */
  static async open(options: SiteOptions): Promise<Site> {
    const prefix = options.prefix ?? DEFAULT_PREFIX
    const { say, signal } = options
    await buildProgram(say, signal)
    say("making the host's network namespace with its two bridges, and starting dnsmasq on both")
    const lab = await Lab.open({ ...options, prefix })
    let site: Site | undefined
    try {
      site = new Site(options, lab, await lab.engine(signal))
      await site.#start()
      return site
    } catch (error) {
      await (site ?? lab).close()
      throw error
    }
  }

  /** Log files, settings and the like of this site. */
  path(...below: string[]): string {
    return join(runDirectory(this.prefix), ...below)
  }
  get journal(): string {
    return this.#lab.places.journal
  }
  /** One of the processes of the site. */
  process(name: Daemon | `dnsmasq-${DnsmasqRole}`): LabProcess {
    const found =
      name === 'dnsmasq-clients' || name === 'dnsmasq-instances'
        ? this.#lab.dnsmasq.get(name === 'dnsmasq-clients' ? 'clients' : 'instances')
        : this.#daemons.get(name)
    if (found === undefined) throw new LabError('not-started', `${name} was not started`)
    return found
  }

  /** Runs orctl as the lab's operator. @returns its standard output @throws LabError with what it said */
  async orctl(...args: string[]): Promise<string> {
    return await this.inside(this.orctlCommand(...args))
  }
  /** The same, for JSON output. */
  async orctlJson<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.orctl(...args, '-o', 'json')) as T
  }
  orctlCommand(...args: string[]): string[] {
    const server = `https://[::1]:${PORT}`
    const state = stateDirectory(this.prefix, 'orchestrator')
    const where = ['--server', server, '--token-file', join(state, 'api-token'), '--ca', join(state, 'ca.crt')]
    return [process.execPath, join(SOURCE_DIRECTORY, 'dist/orchestrator/cli/main.js'), ...where, ...args]
  }
  /** Runs a program in the host's namespace. @returns its standard output */
  async inside(command: readonly string[], timeoutMs = 30_000): Promise<string> {
    const [file = '', ...rest] = inNamespace(this.namespace, command)
    return await run(file, rest, { timeoutMs })
  }

  async startOrchestrator(): Promise<void> {
    const started = launch(this.prefix, {
      name: 'orchestrator',
      namespace: this.namespace,
      user: 'orchestrator',
      prepare: showProgram(this.prefix),
      command: daemonCommand(this.prefix, 'orchestrator/main.js', '--config', this.path('etc', 'orchestrator.yaml')),
    })
    this.#daemons.set('orchestrator', started)
    await started.ready(async () => {
      const answer = await this.inside(['curl', '-skf', `https://[::1]:${PORT}/readyz`]).catch(() => '')
      return answer.includes('ready')
    }, 60_000)
  }

  /** Starts the wiring process. Nothing waits for it: unionize does, as long as it takes. */
  startWiring(): void {
    const started = launch(this.prefix, {
      name: 'unionize-wiring',
      namespace: this.namespace,
      user: 'unionize',
      capabilities: WIRING_CAPABILITIES,
      prepare: showProgram(this.prefix),
      command: daemonCommand(this.prefix, 'unionize/main.js', 'wiring', '--config', this.path('etc', 'unionize.yaml')),
    })
    this.#daemons.set('unionize-wiring', started)
  }

  /** Starts unionize, which has no capability at all; nothing waits for its connection, see {@link connected}. */
  startUnionize(): void {
    const started = launch(this.prefix, {
      name: 'unionize',
      namespace: this.namespace,
      user: 'unionize',
      capabilities: [],
      prepare: showProgram(this.prefix),
      command: daemonCommand(this.prefix, 'unionize/main.js', 'run', '--config', this.path('etc', 'unionize.yaml')),
    })
    this.#daemons.set('unionize', started)
  }

  async startDnsmasq(role: DnsmasqRole): Promise<void> {
    await this.#lab.startDnsmasq(role)
  }

  /** Resolves when the orchestrator says that the host is connected. */
  async connected(timeoutMs = 60_000): Promise<void> {
    const look = async () => {
      const { items } = await this.orctlJson<{ items: { connected: boolean }[] }>('get', 'hosts')
      return items.some((host) => host.connected)
    }
    try {
      await waitFor("the host's connection", () => look().catch(() => false), { timeoutMs, everyMs: 50 })
    } catch (cause) {
      const logs = [...this.#daemons].map(([name, daemon]) => `${name}:\n${daemon.log(3000)}`)
      throw new LabError('not-connected', `the host did not connect; the logs end:\n${logs.join('\n')}`, { cause })
    }
  }

  /** Ends everything and takes it away. @returns what is left all the same, one line each; nothing is good */
  async close(): Promise<string[]> {
    // The wiring process last: whoever ends may still need it.
    for (const name of ['orchestrator', 'unionize', 'unionize-wiring'] as const) await this.#daemons.get(name)?.stop()
    const leftThere = (await this.#place?.close()) ?? []
    await this.engine.removeContainers(HOST_LABEL)
    const left = (await this.engine.containers(HOST_LABEL)).map((c) => `container ${c.name}`)
    await this.#lab.close()
    rmSync(stateDirectory(this.prefix), { recursive: true, force: true })
    return [...leftThere, ...left, ...whatIsLeft(this.prefix)]
  }

  async #start(): Promise<void> {
    const { say, signal } = this.#options
    rmSync(stateDirectory(this.prefix), { recursive: true, force: true })
    await this.engine.removeContainers(HOST_LABEL)
    await rememberIfNew(this.engine, PAUSE_IMAGE)
    await buildSampleImage(this.engine, say, signal)
    if ((this.#options.template ?? 'sample') !== 'sample') await buildSamplesImage(this.engine, say, signal)
    const { prefix, namespace, engine } = this
    const images = [SAMPLE_IMAGE, ...((this.#options.template ?? 'sample') === 'sample' ? [] : [SAMPLES_IMAGE])]
    this.#place = await this.#options.place?.({ prefix, namespace, engine, images, say, signal })
    this.#writeSettings()
    say('starting orchestrator, unionize and its wiring process, each with its own user and capabilities')
    await this.startOrchestrator()
    await this.#join()
    this.startWiring()
    this.startUnionize()
    await this.connected()
    await this.#place?.join(
      (name) => this.#token(name),
      (...args) => this.orctl(...args),
    )
  }

  async #token(host: string): Promise<string> {
    return (await this.orctlJson<{ token: string }>('create', 'token', '--host', host)).token
  }

  async #join(): Promise<void> {
    const token = await this.#token(HOST_NAME)
    const state = stateDirectory(this.prefix, 'unionize')
    const environment = { UNIONIZE_JOIN_TOKEN: token }
    const args = ['join', '--server', `https://[::1]:${PORT}`, '--host-name', HOST_NAME, '--state-directory', state]
    const joining = launch(this.prefix, {
      name: 'unionize-join',
      namespace: this.namespace,
      user: 'unionize',
      prepare: showProgram(this.prefix),
      command: daemonCommand(this.prefix, 'unionize/main.js', ...args),
      environment,
    })
    const outcome = await joining.ended
    if (outcome !== 0) throw new LabError('join-failed', `unionize join ended with ${outcome}: ${joining.log()}`)
  }

  /** Makes a template one of the place's backend. */
  #runElsewhere(file: string): void {
    if (this.#place === undefined) return
    const { 'x-orchestrator': extension, ...rest } = parse(readFileSync(file, 'utf8')) as Record<string, object>
    const elsewhere = { ...rest, 'x-orchestrator': { ...extension, backend: this.#place.backend } }
    writeFileSync(file, stringify(elsewhere))
  }

  #writeSettings(): void {
    const etc = runDirectory(this.prefix, 'etc')
    const catalog = runDirectory(this.prefix, 'etc', 'catalog')
    cpSync(join(SOURCE_DIRECTORY, 'client-image/sample.yaml'), join(catalog, 'sample.yaml'))
    this.#runElsewhere(join(catalog, 'sample.yaml'))
    const { template = 'sample' } = this.#options
    if (template !== 'sample') {
      cpSync(join(SAMPLES_DIRECTORY, template), join(catalog, template), { recursive: true })
      this.#runElsewhere(join(catalog, template, 'compose.yaml'))
      // Nobody waits for the end of a sample's grace.
      const rules = [sampleRule(template, {}, { grace: '0s' })]
      writeFileSync(join(catalog, 'rules.yaml'), stringify({ rules }))
    }
    const { places } = this.#lab
    const orchestrator = {
      'state.directory': stateDirectory(this.prefix, 'orchestrator'),
      'server.names': ['localhost', '::1', '127.0.0.1'],
      'instances.prefix': LAB_NETWORK.instancesPrefix,
      'catalog.directory': catalog,
      ...this.#place?.settings.orchestrator,
      ...this.#options.orchestrator,
    }
    const unionize = {
      'host.name': HOST_NAME,
      'server.url': `https://[::1]:${PORT}`,
      'state.directory': stateDirectory(this.prefix, 'unionize'),
      'docker.socket': this.engine.socket,
      'wiring.socket': join(stateDirectory(this.prefix, 'unionize'), 'wiring.sock'),
      'wiring.directory': join(stateDirectory(this.prefix, 'unionize'), 'wiring'),
      'network.bridge': LAB_NETWORK.instancesBridge,
      'network.gateway': LAB_NETWORK.instancesGateway,
      'network.my-address': LAB_NETWORK.myAddress,
      'leases.journal': places.journal,
      'leases.dnsmasq-config': places.clientsConfig,
      'names.directory': places.names,
      'files.directory': join(MEMORY_DIRECTORY, this.prefix, 'files'),
      ...this.#place?.settings.unionize,
      ...this.#options.unionize,
    }
    writeFileSync(join(etc, 'orchestrator.yaml'), stringify(nested(orchestrator)), { mode: 0o644 })
    writeFileSync(join(etc, 'unionize.yaml'), stringify(nested(unionize)), { mode: 0o644 })
    giveDirectory('orchestrator', stateDirectory(this.prefix, 'orchestrator'))
    giveDirectory('unionize', stateDirectory(this.prefix, 'unionize'))
    giveDirectory('unionize', unionize['files.directory'])
  }
}

/** Compiles the sources, as for a release. */
async function buildProgram(say: Say, signal: AbortSignal | undefined): Promise<void> {
  const begun = performance.now()
  say('building the program')
  await run(join(SOURCE_DIRECTORY, 'node_modules/.bin/tsc'), ['-p', join(SOURCE_DIRECTORY, 'tsconfig.build.json')], {
    signal,
    timeoutMs: 300_000,
  })
  say(`built the program in ${((performance.now() - begun) / 1000).toFixed(1)} s`)
}
