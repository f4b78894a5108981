import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readdirSync, readlinkSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { DropCounts } from '../../common/drop-reasons.ts'
import type { HubRest, HubShare } from '../../unionize/wiring/private/share.ts'
import type { HostNetwork, Passage, Placement, SandboxLink, Source, Way } from '../../unionize/wiring/wiring.ts'
import { until } from './until.ts'
import type { Outcome } from './wiring-agent.ts'
import { Remote } from './wiring-remote.ts'

export const NETWORK: HostNetwork = {
  bridge: 'br-instances',
  gateway: 'fd00:1::1',
  prefixLength: 64,
  myAddress: 'fd00:1:0:ffff::1',
}
export const PORT = 7777
/** For what is to stay silent, and for each look of those that are repeated. */
export const BRIEF = { timeoutMs: 400 }
/** Milliseconds for what is to be answered: however busy the machine is. */
const PATIENCE_MS = 5000

const PREFIX = 'wt-'
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const AGENT = fileURLToPath(new URL('./wiring-agent.ts', import.meta.url))
const HOST = fileURLToPath(new URL('./wiring-host.ts', import.meta.url))

/** One who tries to reach others, and whom others try to reach. */
export class Agent extends Remote {
  readonly address: string
  constructor(command: readonly string[], address: string) {
    super(command)
    this.address = address
  }
  tcp = (address: string, options: { port?: number; timeoutMs?: number } = {}) => this.#try('tcp', address, options)
  udp = (address: string, options: { port?: number; timeoutMs?: number } = {}) => this.#try('udp', address, options)
  icmp = (address: string, options: { timeoutMs?: number } = {}) => this.#try('icmp', address, options)

  #try(verb: string, address: string, options: { port?: number; timeoutMs?: number }): Promise<Outcome> {
    return this.ask<Outcome>(verb, address, options.port ?? PORT, options.timeoutMs ?? PATIENCE_MS)
  }
}

/** The wiring, in a process of its own. */
export class WiringProcess extends Remote {
  prepare = (network: HostNetwork = NETWORK) => this.ask<void>('prepare', network)
  attach = (sandbox: SandboxLink) => this.ask<void>('attach', sandbox)
  place = (placement: Placement) => this.ask<void>('place', placement)
  unplace = (placement: Placement) => this.ask<void>('unplace', placement)
  open = (passage: Passage) => this.ask<void>('open', passage)
  close = (passage: Passage) => this.ask<void>('close', passage)
  lead = (way: Way) => this.ask<void>('lead', way)
  unlead = (way: Pick<Way, 'owner' | 'address'>) => this.ask<void>('unlead', way)
  detach = (link: string) => this.ask<void>('detach', link)
  connect = (share: HubShare) => this.ask<HubRest>('connect', share)
  links = () => this.ask<string[]>('links')
  guard = () => this.ask<void>('guard')
  counters = () => this.ask<DropCounts>('counters')
  replacePassages = (paths: readonly (Passage | Way)[], sources: readonly Source[]) =>
    this.ask<void>('replacePassages', paths, sources)
  teardown = () => this.ask<void>('teardown')
  /** Ends the process as its owner would. */
  async stop(): Promise<void> {
    await this.ask('stop')
    await this.kill()
  }
}

/**
 * A host with clients on one bridge and instances on another, all in network namespaces of its own. Use with
 * `await using`, so that nothing stays.
 */
export class WiringLab implements AsyncDisposable {
  readonly host: string
  readonly #namespaces: string[] = []
  readonly #remotes: Remote[] = []
  readonly #folders: string[] = []

  private constructor(name: string) {
    this.host = `${PREFIX}${process.pid}-${name}`
  }

  /** `bare`: without bridges. `name`: of the host, where there are several. */
  static async start(options: { bare?: boolean; name?: string } = {}): Promise<WiringLab> {
    removeLeftovers()
    const lab = new WiringLab(options.name ?? 'host')
    lab.#addNamespace(lab.host)
    if (options.bare) return lab
    lab.run('sysctl', '-qw', 'net.ipv6.conf.all.forwarding=1', 'net.ipv6.conf.default.accept_dad=0')
    lab.run('ip', 'link', 'add', 'br-clients', 'address', '02:00:00:00:c0:01', 'type', 'bridge')
    lab.run('ip', 'link', 'add', 'br-instances', 'type', 'bridge')
    for (const [bridge, address] of [
      ['br-clients', 'fd00:c::1/64'],
      ['br-instances', 'fd00:1::1/64'],
    ] as const) {
      lab.run('ip', 'link', 'set', bridge, 'up')
      lab.run('ip', 'address', 'add', address, 'dev', bridge, 'nodad')
    }
    return lab
  }

  /** Runs a command in the host's namespace and returns its output. */
  run(program: string, ...args: readonly string[]): string {
    return execFileSync('nsenter', [`--net=/run/netns/${this.host}`, program, ...args], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  }

  /** The MAC of one of the host's links. */
  macOf(link: string): string {
    const [found] = JSON.parse(this.run('ip', '-j', 'link', 'show', link)) as { address: string }[]
    return found?.address ?? ''
  }

  /** Runs a command in a process's network namespace and returns its output. */
  runIn(pid: number, program: string, ...args: readonly string[]): string {
    return execFileSync('nsenter', ['-n', '-t', String(pid), program, ...args], { encoding: 'utf8' })
  }

  /**
   * A process of the wiring. `unprivileged`: not root, with nothing but the capabilities that the daemon has.
   * `compiled`: the folder of the compiled modules to use.
   */
  async wiring(options: { unprivileged?: boolean; compiled?: string } = {}): Promise<WiringProcess> {
    const module = options.compiled === undefined ? [] : [options.compiled, 'js']
    const command = [process.execPath, HOST, ...module]
    const inside = ['nsenter', `--net=/run/netns/${this.host}`]
    return this.#ready(
      new WiringProcess([...inside, ...(options.unprivileged ? this.#unprivileged(command) : command)]),
    )
  }

  /** A client with the address `fd00:c::10N`. */
  async client(number: number): Promise<Agent> {
    const name = `${PREFIX}${process.pid}-c${number}`
    const address = `fd00:c::10${number}`
    this.#addNamespace(name)
    this.run('ip', 'link', 'add', `c${number}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
    this.run('ip', 'link', 'set', `c${number}`, 'master', 'br-clients', 'up')
    const inside = (...args: string[]) => execFileSync('ip', ['-n', name, ...args])
    inside('link', 'set', 'lo', 'up')
    inside('link', 'set', 'eth0', 'up')
    inside('address', 'add', `${address}/64`, 'dev', 'eth0', 'nodad')
    inside('route', 'add', 'default', 'via', 'fd00:c::1')
    const command = ['nsenter', `--net=/run/netns/${name}`, process.execPath, AGENT, `client${number}`, String(PORT)]
    const agent = await this.#ready(new Agent(command, address))
    await until('the client reaches the host', async () => (await agent.icmp('fd00:c::1', BRIEF)).result === 'answered')
    return agent
  }

  /** An agent in the host's own namespace. */
  async onHost(label = 'host', address = ''): Promise<Agent> {
    return this.#ready(
      new Agent(['nsenter', `--net=/run/netns/${this.host}`, process.execPath, AGENT, label, String(PORT)], address),
    )
  }

  /** A sandbox whose process answers under its label. */
  async instance(label: string, address: string): Promise<Agent> {
    return this.#ready(new Agent(['unshare', '--net', process.execPath, AGENT, label, String(PORT)], address))
  }

  /** A sandbox in which nothing happens; cheap. Like an agent it ends when this process does. */
  async idle(): Promise<Remote> {
    const own = readlinkSync('/proc/self/ns/net')
    const remote = new Remote(['unshare', '--net', 'cat'])
    this.#remotes.push(remote)
    await until('the sandbox has its namespace', () => readlinkSync(`/proc/${remote.pid}/ns/net`) !== own)
    return remote
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#remotes.map((remote) => remote.kill()))
    for (const name of this.#namespaces) spawnSync('ip', ['netns', 'delete', name])
    for (const folder of this.#folders) rmdirSync(folder)
  }

  /** The sources may lie where only root can go, so such a process sees them at another place. */
  #unprivileged(command: readonly string[]): string[] {
    const visible = mkdtempSync(join(tmpdir(), PREFIX))
    chmodSync(visible, 0o755)
    this.#folders.push(visible)
    const moved = command.map((part) => (part.startsWith(ROOT) ? join(visible, part.slice(ROOT.length)) : part))
    const capabilities = '+net_admin,+sys_admin,+sys_ptrace'
    const setpriv = [
      'setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs',
      `--bounding-set=-all,${capabilities} --inh-caps=-all,${capabilities} --ambient-caps=-all,${capabilities}`,
    ].join(' ')
    const script = `mount --bind "$1" "$2" && shift 2 && exec ${setpriv} "$@"`
    return ['unshare', '--mount', 'sh', '-c', script, 'sh', ROOT, visible, ...moved]
  }

  async #ready<T extends Remote>(remote: T): Promise<T> {
    this.#remotes.push(remote)
    await remote.ask('ready')
    return remote
  }

  #addNamespace(name: string): void {
    execFileSync('ip', ['netns', 'add', name])
    this.#namespaces.push(name)
  }
}

/** The placement of number N: link `ui-N`, address `fd00:1::20N` in hexadecimal digits of N. */
export function placement(pid: number, number: number, owner: string | null): Placement {
  const hex = number.toString(16).padStart(2, '0')
  return { pid, link: `ui-${number}`, mac: `02:00:00:00:00:${hex}`, address: `fd00:1::2${hex}`, owner }
}

/** Median and 99th percentile. */
export function percentiles(values: readonly number[]): { median: number; p99: number } {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN
  return { median: at(0.5), p99: at(0.99) }
}

/** Namespaces of a test run that was killed. */
function removeLeftovers(): void {
  const names = readdirSync('/run/netns', { withFileTypes: true }).map((entry) => entry.name)
  for (const name of names) {
    const pid = /^wt-(\d+)-/.exec(name)?.[1]
    if (pid !== undefined && spawnSync('kill', ['-0', pid]).status !== 0) spawnSync('ip', ['netns', 'delete', name])
  }
}
