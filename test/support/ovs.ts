import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { until } from './until.ts'

const SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema'

/** An Open vSwitch of its own: its database in a folder, its switch in a network namespace. Use with `await using`. */
export class OwnSwitch implements AsyncDisposable {
  readonly #folder = mkdtempSync(join(tmpdir(), 'wt-ovs-'))
  readonly #namespace: string
  readonly #processes = new Map<'database' | 'switch', ChildProcess>()
  readonly socket = join(this.#folder, 'db.sock')

  private constructor(namespace: string) {
    this.#namespace = namespace
  }

  /** @param namespace as `ip netns` names it */
  static async start(namespace: string): Promise<OwnSwitch> {
    const own = new OwnSwitch(namespace)
    execFileSync('ovsdb-tool', ['create', join(own.#folder, 'conf.db'), SCHEMA])
    await own.#run('database', 'ovsdb-server', [`--remote=punix:${own.socket}`, join(own.#folder, 'conf.db')])
    await until('the database listens', () => existsSync(own.socket))
    own.vsctl('--no-wait', 'init')
    await own.startSwitch()
    return own
  }

  async startSwitch(): Promise<void> {
    const inside = ['nsenter', `--net=/run/netns/${this.#namespace}`]
    await this.#run('switch', 'ovs-vswitchd', [`unix:${this.socket}`], inside)
    this.vsctl('--timeout=10', 'set', 'Open_vSwitch', '.', 'external_ids:started=yes')
  }

  async stopSwitch(): Promise<void> {
    await this.#end('switch')
  }

  /** @returns what `ovs-vsctl` printed, trimmed */
  vsctl(...args: readonly string[]): string {
    return execFileSync('ovs-vsctl', [`--db=unix:${this.socket}`, ...args], { encoding: 'utf8' }).trim()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end('switch')
    await this.#end('database')
    rmSync(this.#folder, { recursive: true, force: true })
  }

  async #run(role: 'database' | 'switch', program: string, args: readonly string[], through: readonly string[] = []) {
    const options = [
      `--unixctl=${join(this.#folder, `${role}.ctl`)}`,
      `--log-file=${join(this.#folder, `${role}.log`)}`,
    ]
    const [command = program, ...rest] = [...through, program, ...options, '-vconsole:off', ...args]
    const env = { ...process.env, OVS_RUNDIR: this.#folder }
    const child = spawn(command, rest, { stdio: 'ignore', env })
    await once(child, 'spawn')
    this.#processes.set(role, child)
  }

  async #end(role: 'database' | 'switch'): Promise<void> {
    const child = this.#processes.get(role)
    this.#processes.delete(role)
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    child.kill()
    await once(child, 'exit')
  }
}
