import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { LabError, waitFor } from './command.ts'
import { inNamespace } from './namespaces.ts'
import { runDirectory } from './places.ts'

/** One process to run as it runs in production: own user, few capabilities, in a namespace of the lab. */
export interface Launch {
  /** Unique in the lab: names the log file. */
  readonly name: string
  readonly command: readonly [string, ...string[]]
  /** Network namespace to run in. */
  readonly namespace: string
  /** System user; root unless told. Its supplementary groups come along. */
  readonly user?: string
  /** The only capabilities it has, ambient: `['net_admin']`. Only for a `user` other than root. */
  readonly capabilities?: readonly string[]
  /** Only these variables, besides PATH and LANG. */
  readonly environment?: Readonly<Record<string, string>>
  /** Shell commands run as root in the process's own mount and host-name namespace before it starts; with `set -e`. */
  readonly prepare?: string
  /** Runs in the mount and host-name namespace of this process instead of a new one; `prepare` is then not allowed. */
  readonly inside?: LabProcess
  /** Gives a Node process a message channel to the caller (`process.send`). */
  readonly channel?: boolean
}

/** A started process: it belongs to no terminal, so Ctrl-C reaches only whoever started the lab. */
export class LabProcess {
  readonly name: string
  readonly logFile: string
  readonly child: ChildProcess
  /** Resolves with the exit code or the signal's name once it has ended. */
  readonly ended: Promise<number | string>
  #outcome: number | string | undefined

  constructor(name: string, logFile: string, child: ChildProcess) {
    this.name = name
    this.logFile = logFile
    this.child = child
    this.ended = new Promise((resolve) => {
      const end = (outcome: number | string): void => {
        this.#outcome = outcome
        resolve(outcome)
      }
      child.once('error', (error) => end(error.message))
      child.once('exit', (code, signal) => end(code ?? signal ?? 'unknown'))
    })
  }

  /** Its process id, that of the command itself. */
  get pid(): number {
    if (this.child.pid === undefined) throw new LabError('not-started', `${this.name} could not be started`)
    return this.child.pid
  }
  get running(): boolean {
    return this.#outcome === undefined
  }

  /** The end of its log, at most `limit` characters. */
  log(limit = 4000): string {
    return readFileSync(this.logFile, 'utf8').slice(-limit)
  }

  /**
   * Waits until `ready` says so.
   * @throws LabError with the end of its log when it ends before, or the deadline passes
   */
  async ready(ready: () => boolean | Promise<boolean>, timeoutMs = 60_000, signal?: AbortSignal): Promise<this> {
    try {
      await waitFor(
        `${this.name} to be ready`,
        async () => {
          if (!this.running) throw new LabError('ended', `${this.name} ended at once (${this.#outcome})`)
          return await ready()
        },
        { timeoutMs, signal },
      )
    } catch (cause) {
      throw new LabError('not-ready', `${(cause as Error).message}; its log (${this.logFile}) ends:\n${this.log()}`, {
        cause,
      })
    }
    return this
  }

  signal(name: NodeJS.Signals): void {
    if (this.running) process.kill(this.pid, name)
  }

  /** Asks it to end, and after `graceMs` makes it. @returns exit code or signal name */
  async stop(graceMs = 5000): Promise<number | string> {
    this.signal('SIGTERM')
    const timer = setTimeout(() => this.signal('SIGKILL'), graceMs)
    const outcome = await this.ended
    clearTimeout(timer)
    return outcome
  }

  /** `kill -9` of the process alone: what it started lives on, as it would in production. */
  async kill(): Promise<void> {
    this.signal('SIGKILL')
    await this.ended
  }
}

/** Starts a process; see {@link Launch}. Its output goes to `log/NAME.log` of the lab, appended. */
export function launch(prefix: string, what: Launch): LabProcess {
  const logFile = join(runDirectory(prefix, 'log'), `${what.name}.log`)
  const log = openSync(logFile, 'a', 0o644)
  const own = ['unshare', '--mount', '--uts', '--propagation', 'slave', '--']
  const enter = what.inside && ['nsenter', '--target', String(what.inside.pid), '--mount', '--uts', '--']
  const [file = '', ...args] = inNamespace(what.namespace, [
    ...(enter ?? [...own, 'sh', '-ec', `${what.prepare ?? ''}\nexec "$@"`, 'sh']),
    ...asUser(what),
    ...what.command,
  ])
  try {
    const child = spawn(file, args, {
      cwd: '/',
      detached: true,
      stdio: what.channel ? ['ignore', log, log, 'ipc'] : ['ignore', log, log],
      env: {
        PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        LANG: 'C.UTF-8',
        ...what.environment,
      },
    })
    return new LabProcess(what.name, logFile, child)
  } finally {
    closeSync(log)
  }
}

function asUser(what: Launch): string[] {
  if (what.user === undefined) return []
  const wanted = (what.capabilities ?? []).map((name) => `+${name}`)
  const set = ['-all', ...wanted].join(',')
  return [
    ...['setpriv', '--reuid', what.user, '--regid', what.user, '--init-groups', '--no-new-privs'],
    ...[`--inh-caps=${set}`, `--ambient-caps=${set}`, `--bounding-set=${set}`, '--'],
  ]
}

/** A word that the shell reads as exactly this text. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
