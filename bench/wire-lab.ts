import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import type { HostNetwork } from '../unionize/wiring/wiring.ts'

export const NETWORK: HostNetwork = {
  bridge: 'br-instances',
  gateway: 'fd00:1::1',
  prefixLength: 64,
  myAddress: 'fd00:1:0:ffff::1',
}

/** A namespace to wire, and what it is to have. */
export interface Sandbox {
  readonly pid: number
  readonly link: string
  readonly mac: string
  readonly address: string
  readonly other: string
  readonly owner: string
}

const PATIENCE_MS = 5_000
const INSIDE = 'ORCHESTRATOR_BENCH_INSIDE'

/**
 * Runs this program once more in network and mount namespaces of its own, which end with it: nothing of the host is
 * touched or seen. Returns in there; the process outside ends with the exit code of the one inside.
 */
export function enterOwnNamespaces(): void {
  if (process.env[INSIDE] === 'yes') return
  const command = ['--net', '--mount', '--propagation', 'private', process.execPath, ...process.argv.slice(1)]
  const { status } = spawnSync('unshare', command, { stdio: 'inherit', env: { ...process.env, [INSIDE]: 'yes' } })
  process.exit(status ?? 1)
}

/** Compiles a program of this folder. @returns its path */
export function compile(name: string, folder: string): string {
  const program = join(folder, name)
  const source = join(import.meta.dirname, `${name}.c`)
  const result = spawnSync('cc', ['-O2', '-Wall', '-Wextra', '-o', program, source, '-ldl'], { encoding: 'utf8' })
  if (result.error !== undefined) throw new Error(`no C compiler for the bench: run "apt-get install gcc libc6-dev"`)
  if (result.status !== 0) throw new Error(`cc ${source}: ${result.stderr}`)
  return program
}

/** A host with one bridge, and sandboxes. Use with `await using`. */
export class WireLab implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'orchestrator-bench-'))
  readonly program = compile('wire', this.folder)
  readonly #processes: ChildProcess[] = []

  constructor() {
    // The devices of this namespace in /sys, some control groups, and a place for `ip netns`: what pipework looks at.
    mkdirSync('/run/netns', { recursive: true })
    run('mount', '-t', 'sysfs', 'sysfs', '/sys')
    run('mount', '-t', 'cgroup2', 'cgroup2', '/sys/fs/cgroup')
    run('mount', '-t', 'tmpfs', 'tmpfs', '/run/netns')
    run('sysctl', '-qw', 'net.ipv6.conf.all.forwarding=1', 'net.ipv6.conf.default.accept_dad=0')
    run('ip', 'link', 'set', 'lo', 'up')
    run('ip', 'link', 'add', NETWORK.bridge, 'address', '02:00:00:00:1b:01', 'type', 'bridge')
    run('ip', 'link', 'set', NETWORK.bridge, 'up')
    run('ip', 'address', 'add', `${NETWORK.gateway}/${NETWORK.prefixLength}`, 'dev', NETWORK.bridge, 'nodad')
  }

  async sandboxes(count: number): Promise<Sandbox[]> {
    const child = this.#add(spawn(this.program, ['sandboxes', String(count)], { stdio: ['pipe', 'pipe', 'inherit'] }))
    const made: Sandbox[] = []
    for await (const line of createInterface({ input: child.stdout })) {
      made.push(sandbox(Number(line), made.length + 1))
      if (made.length === count) break
    }
    return made
  }

  /** Starts a Node program of this folder that says when it is ready. */
  async start(name: string, ...args: readonly string[]): Promise<ChildProcess> {
    const stdio = ['ignore', 'inherit', 'inherit', 'ipc'] as const
    const child = this.#add(spawn(process.execPath, [join(import.meta.dirname, name), ...args], { stdio: [...stdio] }))
    const [said] = await Promise.race([once(child, 'message'), once(child, 'exit')])
    if (said !== 'listening') throw new Error(`${name} ended with ${said}`)
    return child
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#processes) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    rmSync(this.folder, { recursive: true, force: true })
  }

  #add<T extends ChildProcess>(child: T): T {
    this.#processes.push(child)
    return child
  }
}

export function run(program: string, ...args: readonly string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 28 })
}

/** As {@link run}, with a text on the standard input. */
export function feed(text: string, program: string, ...args: readonly string[]): void {
  execFileSync(program, args, { input: text, stdio: ['pipe', 'ignore', 'inherit'] })
}

function sandbox(pid: number, number: number): Sandbox {
  const hex = number.toString(16).padStart(4, '0')
  return {
    pid,
    link: `ui-${hex}`,
    mac: `02:00:00:01:${hex.slice(0, 2)}:${hex.slice(2)}`,
    address: `fd00:1::1:${number.toString(16)}`,
    other: `fd00:1::2:${number.toString(16)}`,
    owner: `fd00:c::${number.toString(16)}`,
  }
}

interface LinkText {
  readonly ifname: string
  readonly address: string
  readonly operstate: string
  readonly mtu: number
  readonly linkinfo?: { readonly info_slave_data?: { readonly state: string; readonly isolated: boolean } }
}

/** What must be true after a wiring. */
export interface Promised {
  /** Name of the host's end; null: whatever it is called. */
  readonly link: string | null
  readonly address: string
  /** Kept from others, with neighbours set for good on both sides: what ours and the C program promise. */
  readonly guarded: boolean
}

/**
 * Looks with `ip` whether the kernel has what was promised: at once of those who promise to wait for it, the guarded ones,
 * and else within a while.
 * @throws Error naming what it has instead
 */
export async function verify(sandboxes: readonly Sandbox[], promised: (sandbox: Sandbox) => Promised): Promise<void> {
  const patient = sandboxes.every((sandbox) => !promised(sandbox).guarded)
  for (const end = performance.now() + PATIENCE_MS; ; await delay(10)) {
    try {
      look(sandboxes, promised)
      return
    } catch (thrown) {
      if (!patient || performance.now() > end) throw thrown
    }
  }
}

function look(sandboxes: readonly Sandbox[], promised: (sandbox: Sandbox) => Promised): void {
  const ports = json<LinkText>('ip', '-j', '-d', 'link', 'show', 'master', NETWORK.bridge)
  const known = new Map(neighbours('dev', NETWORK.bridge).map((entry) => [entry.dst, entry.lladdr]))
  for (const sandbox of sandboxes) {
    const { link, address, guarded } = promised(sandbox)
    const inside = ['nsenter', '-n', '-t', String(sandbox.pid), 'ip', '-j'] as const
    const [device] = json<LinkText & { addr_info: { local: string; prefixlen: number; scope: string }[] }>(
      ...inside,
      ...['address', 'show', 'dev', 'eth0'],
    )
    const [route] = json<{ gateway: string; dev: string }>(...inside, '-6', 'route', 'show', 'default')
    const global = device?.addr_info.filter((entry) => entry.scope === 'global') ?? []
    const port = ports.find((one) => one.ifname === link)
    const slave = port?.linkinfo?.info_slave_data
    const wrong = [
      device?.operstate === 'UP' ? '' : `eth0 is ${device?.operstate}`,
      device?.address === sandbox.mac ? '' : `eth0 has MAC ${device?.address}`,
      global.length === 1 && global[0]?.local === address ? '' : `addresses ${JSON.stringify(global)}`,
      route?.gateway === NETWORK.gateway && route.dev === 'eth0' ? '' : `default route ${JSON.stringify(route)}`,
      link === null || slave?.state === 'forwarding' ? '' : `port ${link} is ${slave?.state ?? 'missing'}`,
      !guarded || slave?.isolated === true ? '' : 'the port is not isolated',
      !guarded || known.get(address) === sandbox.mac ? '' : `the host believes ${address} at ${known.get(address)}`,
    ].filter((text) => text !== '')
    if (wrong.length > 0) throw new Error(`wrong result for ${sandbox.link}: ${wrong.join('; ')}`)
  }
}

/** That nothing is left of the wirings. @throws Error */
export function verifyGone(): void {
  const ports = json<LinkText>('ip', '-j', 'link', 'show', 'master', NETWORK.bridge)
  if (ports.length > 0) throw new Error(`left behind: ${ports.map((port) => port.ifname).join(', ')}`)
}

function neighbours(...where: string[]): { dst: string; lladdr: string }[] {
  return json('ip', '-j', '-6', 'neigh', 'show', ...where, 'nud', 'permanent')
}

function json<T>(...command: [string, ...string[]]): T[] {
  const [program, ...args] = command
  const text = run(program, ...args).trim()
  const list = text === '' ? [] : (JSON.parse(text) as T[])
  // Of interfaces that do not match the filter `ip` prints empty objects.
  return list.filter((entry) => Object.keys(entry as object).length > 0)
}
