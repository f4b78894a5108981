import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { until } from './until.ts'
import type { WiringLab } from './wiring-lab.ts'

const UNIONIZE = fileURLToPath(new URL('../../unionize/main.ts', import.meta.url))

/** How a command ended, and what it wrote. */
export interface Ran {
  readonly status: number | null
  readonly out: string
  readonly said: string
}

/** As much of `ip -j address` as tests look at. */
export interface Link {
  readonly ifname: string
  readonly mtu: number
  readonly address: string
  readonly flags: readonly string[]
  readonly addr_info: readonly { readonly local: string; readonly prefixlen: number; readonly scope: string }[]
}

/** `unionize` as people run it by hand: on the lab's host, as root, with a state of its own, and no service unless one is started. */
export class WireCommand {
  readonly lab: WiringLab
  readonly state = mkdtempSync(join(tmpdir(), 'wire-command-'))
  /** Where the service listens, if {@link startService} was called: then commands go through it. */
  readonly socket = join(this.state, 'service.sock')
  readonly #docker: string

  /** @param docker socket of the engine; none answers there unless told */
  constructor(lab: WiringLab, docker?: string) {
    this.lab = lab
    this.#docker = docker ?? join(this.state, 'no-docker')
  }

  /** Runs it. `before`: a command that runs it in turn, such as nsenter. */
  run(options: { readonly input?: string; readonly before?: readonly string[] }, ...line: readonly string[]): Ran {
    const command = this.command(options.before ?? [], ...line)
    const [program = '', ...args] = command
    const ended = spawnSync(program, args, {
      encoding: 'utf8',
      input: options.input ?? '',
      env: { PATH: process.env['PATH'], NO_COLOR: '1' },
    })
    return { status: ended.status, out: ended.stdout, said: ended.stderr }
  }

  /** Starts the wiring service on the lab's host; resolves when it listens. */
  async startService(): Promise<{ stop(): Promise<void> }> {
    const [program = '', ...args] = this.command([], 'wiring', '--log-level', 'warn')
    const service = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] })
    const ended = once(service, 'exit')
    await until('the service listens', () => existsSync(this.socket))
    return {
      async stop() {
        service.kill()
        await ended
      },
    }
  }

  /** The whole command line. */
  command(before: readonly string[], ...line: readonly string[]): readonly string[] {
    const settings = ['--docker-socket', this.#docker, '--wiring-directory', this.state]
    const all = [...settings, '--wiring-socket', this.socket]
    return ['nsenter', `--net=/run/netns/${this.lab.host}`, ...before, process.execPath, UNIONIZE, ...line, ...all]
  }

  /** What is remembered for undoing. */
  kept(): string[] {
    return readdirSync(this.state).filter((name) => name.endsWith('.json'))
  }

  /** Names of the links on the lab's host. */
  links(): string[] {
    return (JSON.parse(this.lab.run('ip', '-j', 'link')) as Link[]).map((link) => link.ifname)
  }

  /** The links of a process's namespace. */
  inside(pid: number): Link[] {
    return JSON.parse(this.lab.runIn(pid, 'ip', '-j', 'address')) as Link[]
  }

  /** The global addresses of one of them, sorted; undefined: there is no such link. */
  addressesOf(pid: number, name: string): string[] | undefined {
    const found = this.inside(pid).find((link) => link.ifname === name)
    return found?.addr_info
      .filter((one) => one.scope === 'global')
      .map((one) => `${one.local}/${one.prefixlen}`)
      .sort()
  }

  /** Removes its state. */
  close(): void {
    rmSync(this.state, { recursive: true })
  }
}
