import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { z } from 'zod'
import { wiringShape } from '../../common/wiring-spec.ts'
import type { Difference, Step, Target, Wired } from '../../unionize/wiring/interfaces/interfaces.ts'
import { Remote } from './wiring-remote.ts'

const PREFIX = 'wt-'
const HOST = fileURLToPath(new URL('./interfaces-host.ts', import.meta.url))
const OBSERVER = fileURLToPath(new URL('./interfaces-observer.ts', import.meta.url))

/** One interface of a spec before its defaults are filled in. */
export type Wish = z.input<typeof wiringShape>['interfaces'][number]

/** The engine, in a process of its own. */
export class EngineProcess extends Remote {
  plan = (target: Target, ...wishes: readonly Wish[]) => this.ask<Step[]>('plan', target, specOf(wishes))
  wire = (target: Target, ...wishes: readonly Wish[]) => this.ask<Step[]>('wire', target, specOf(wishes))
  check = (target: Target) => this.ask<Difference[]>('check', target.key)
  unwire = (target: Target, ...names: readonly string[]) =>
    this.ask<Step[]>('unwire', target.key, ...(names.length === 0 ? [] : [names]))
  show = () => this.ask<Wired[]>('show')
  fds = () => this.ask<number>('fds')
  /** Lets the process kill itself after so many steps more; null: not at all. */
  killAfter = (steps: number | null) => this.ask<void>('killAfter', steps)
}

/** What somebody sees who looks at a namespace with no engine's eyes. */
export class Observer extends Remote {
  /** Interfaces, addresses, and routes and rules of ours, one a line; null: the host. */
  look = (path: string | null) => this.ask<string[]>('look', path)
}

/** A host and namespaces to be wired on it, all network namespaces of their own. Use with `await using`. */
export class InterfacesLab implements AsyncDisposable {
  readonly state = mkdtempSync(join(tmpdir(), `${PREFIX}state-`))
  readonly #own: string
  readonly #names: string[] = []
  readonly #processes: Remote[] = []
  /** Many processes run the same sources: what Node makes of them is made once. */
  readonly #compiled = mkdtempSync(join(tmpdir(), `${PREFIX}compiled-`))

  /** `number` tells labs of one process apart. */
  constructor(number = 0) {
    removeLeftovers()
    this.#own = `${PREFIX}${process.pid}-${number}`
    this.#add('host')
  }

  /** A namespace to be wired: `ip netns` knows it as well. */
  target(name: string): Target {
    const path = `/run/netns/${this.nameOf(name)}`
    if (!existsSync(path)) this.#add(name)
    return { key: `netns:${path}`, label: name, namespace: { path } }
  }

  /** The name by which the machine knows a namespace of this lab. */
  nameOf(name: string): string {
    return `${this.#own}-${name}`
  }

  /** Ends a namespace, as the end of a container would. */
  end(name: string): void {
    execFileSync('ip', ['netns', 'delete', this.nameOf(name)])
    this.#names.splice(this.#names.indexOf(name), 1)
  }

  /** Runs a command in a namespace and returns its output. */
  run(name: string, program: string, ...args: readonly string[]): string {
    return this.#told('nsenter', [`--net=/run/netns/${this.nameOf(name)}`, program, ...args])
  }

  /** `ip` in a namespace. */
  ip(name: string, ...args: readonly string[]): string {
    return execFileSync('ip', ['-n', this.nameOf(name), ...args], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  }

  /** The names of the interfaces in a namespace, without `lo`. */
  links(name: string): string[] {
    const found = JSON.parse(this.ip(name, '-j', 'link', 'show')) as { ifname: string }[]
    return found.map((link) => link.ifname).filter((link) => link !== 'lo')
  }

  /** Names of this lab's namespaces, as the machine has them. */
  namespaces(): string[] {
    const prefix = `${this.#own}-`
    return readdirSync('/run/netns')
      .filter((name) => name.startsWith(prefix))
      .map((name) => name.slice(prefix.length))
      .sort()
  }

  /** Processes that live in a namespace, or have a file of it open. */
  holdersOf(name: string): string[] {
    const wanted = idOf(`/run/netns/${this.nameOf(name)}`)
    return readdirSync('/proc')
      .filter((pid) => /^\d+$/.test(pid))
      .filter((pid) => [`/proc/${pid}/ns/net`, ...filesOf(pid)].some((file) => idOf(file) === wanted))
  }

  /** All of a namespace that somebody made: nothing that the kernel adds or counts by itself. */
  picture(name: string): string[] {
    const told = <T>(...args: string[]) => JSON.parse(this.ip(name, '-j', ...args) || '[]') as T[]
    const links = told<LinkTold>('-d', 'link').map((link) =>
      [
        `${link.ifname} ${link.linkinfo?.info_kind ?? ''} ${link.address} mtu ${link.mtu}`,
        link.flags.includes('UP') ? 'up' : 'down',
        `${link.master ?? ''} ${link.linkinfo?.info_slave_data?.isolated ?? ''}`,
      ].join(' '),
    )
    const addresses = told<AddressTold>('address').flatMap((link) =>
      link.addr_info
        .filter((one) => !one.local.startsWith('fe80:'))
        .map((one) => `${link.ifname} has ${one.local}/${one.prefixlen} ${one.broadcast ?? ''} ${one.label ?? ''}`),
    )
    const families = ['-4', '-6']
    const routes = families.flatMap((family) =>
      told<RouteTold>(family, 'route', 'show', 'table', 'all')
        .filter((route) => route.protocol !== 'kernel' && !route.dst.startsWith('ff00:'))
        .map(({ flags, ...route }) => JSON.stringify(route)),
    )
    const rules = families.flatMap((family) => this.ip(name, family, 'rule').split('\n'))
    return [...links.sort(), ...addresses.sort(), ...routes.sort(), ...rules]
  }

  /** `ovs`: the socket of an Open vSwitch to be used. */
  async engine(state = this.state, ovs?: string): Promise<EngineProcess> {
    const engine = new EngineProcess(this.#node(HOST, state, ...(ovs === undefined ? [] : [ovs])))
    this.#processes.push(engine)
    await engine.ask('ready')
    return engine
  }

  /** Somebody who looks at namespaces and is never killed. */
  async observer(): Promise<Observer> {
    const observer = new Observer(this.#node(OBSERVER))
    this.#processes.push(observer)
    await observer.ask('ready')
    return observer
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#processes.map((one) => one.kill()))
    for (const name of this.#names) spawnSync('ip', ['netns', 'delete', this.nameOf(name)])
    for (const folder of [this.state, this.#compiled]) rmSync(folder, { recursive: true, force: true })
  }

  #node(script: string, ...args: readonly string[]): string[] {
    const inside = ['nsenter', `--net=/run/netns/${this.nameOf('host')}`, 'env', `NODE_COMPILE_CACHE=${this.#compiled}`]
    return [...inside, process.execPath, script, ...args]
  }

  #told(program: string, args: readonly string[]): string {
    return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  }

  #add(name: string): void {
    execFileSync('ip', ['netns', 'add', this.nameOf(name)])
    this.#names.push(name)
  }
}

interface LinkTold {
  readonly ifname: string
  readonly address: string
  readonly mtu: number
  readonly flags: readonly string[]
  readonly master?: string
  readonly linkinfo?: { readonly info_kind?: string; readonly info_slave_data?: { readonly isolated?: boolean } }
}
interface AddressTold {
  readonly ifname: string
  readonly addr_info: readonly { local: string; prefixlen: number; broadcast?: string; label?: string }[]
}
interface RouteTold {
  readonly dst: string
  readonly protocol?: string
  readonly flags: unknown
}

/** A spec with its defaults filled in. */
export function specOf(wishes: readonly Wish[]) {
  return wiringShape.parse({ interfaces: wishes })
}

/** What was done, as text. */
export function said(steps: readonly Step[]): string[] {
  return steps.map((step) => `${step.interface}: ${step.text}`)
}

function filesOf(pid: string): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).map((fd) => `/proc/${pid}/fd/${fd}`)
  } catch {
    return [] // The process ended meanwhile.
  }
}

/** By which a namespace is known, whatever path leads to it. */
function idOf(file: string): string | null {
  try {
    const { dev, ino } = statSync(file)
    return `${dev}:${ino}`
  } catch {
    return null // The process ended, or closed it, meanwhile.
  }
}

/** Namespaces of a test run that was killed. */
function removeLeftovers(): void {
  for (const name of readdirSync('/run/netns')) {
    const pid = /^wt-(\d+)-/.exec(name)?.[1]
    if (pid !== undefined && spawnSync('kill', ['-0', pid]).status !== 0) spawnSync('ip', ['netns', 'delete', name])
  }
}
