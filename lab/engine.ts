import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Docker from 'dockerode'
import { cgroupProcesses, removeCgroup } from './cgroups.ts'
import { LabError, run, waitFor } from './command.ts'
import { listNamespaces, removeNamespace } from './namespaces.ts'
import { CACHE_DIRECTORY, runDirectory } from './places.ts'
import { type LabProcess, launch, quoted } from './processes.ts'

const MACHINE_SOCKET = '/var/run/docker.sock'

export type Say = (text: string) => void

/** What an engine of the lab's own is, beyond one of its kind. */
export interface EngineShape {
  /** Its host name; the machine's own unless told. */
  readonly hostName?: string
  /** Further arguments of dockerd, and variables of its environment. */
  readonly arguments?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  /** Makes what its network namespace is to have, before it starts. */
  readonly connect?: (namespace: string) => Promise<void>
}

/**
 * The Docker engine of a lab: one that runs on the machine already, left as it was, or one of our own in a network and a
 * mount namespace, so that the machine's own network sees nothing of it. Its images stay in the cache between runs.
 */
export class LabEngine {
  readonly prefix: string
  readonly socket: string
  readonly docker: Docker
  /** True: started by the lab, so it may be stopped and killed. */
  readonly own: boolean
  readonly #shape: EngineShape
  #home: LabProcess | undefined
  #dockerd: LabProcess | undefined

  private constructor(prefix: string, socket: string, own: boolean, shape: EngineShape = {}) {
    this.#shape = shape
    this.prefix = prefix
    this.socket = socket
    this.own = own
    this.docker = new Docker({ socketPath: socket })
  }

  /** The engine that runs on the machine already; undefined when none does. */
  static async ofMachine(prefix: string): Promise<LabEngine | undefined> {
    const machine = new LabEngine(prefix, MACHINE_SOCKET, false)
    return (await machine.version()) === undefined ? undefined : machine
  }

  /** Finds the machine's engine or starts one. @param own never the machine's: it is to be stopped and killed */
  static async open(
    prefix: string,
    say: Say,
    signal?: AbortSignal,
    own = false,
    shape: EngineShape = {},
  ): Promise<LabEngine> {
    const machine = own ? undefined : await LabEngine.ofMachine(prefix)
    if (machine !== undefined) {
      say(`using the Docker engine that runs here (${await machine.version()})`)
      return machine
    }
    const started = new LabEngine(prefix, join(runDirectory(prefix, 'engine'), 'docker.sock'), true, shape)
    await removeOwnEngine(prefix)
    await run('ip', ['netns', 'add', engineNamespace(prefix)], { signal })
    await run('ip', ['-n', engineNamespace(prefix), 'link', 'set', 'lo', 'up'], { signal })
    await shape.connect?.(engineNamespace(prefix))
    await started.start(signal)
    say(`started a Docker engine of the lab's own (${await started.version()})`)
    return started
  }

  /** Its version; undefined when it does not answer. */
  async version(): Promise<string | undefined> {
    try {
      return (await this.docker.version()).Version
    } catch {
      return undefined // not there, or still starting: for this question the same
    }
  }

  /** Starts it, after {@link stop} or {@link kill} too; resolves when it answers. */
  async start(signal?: AbortSignal): Promise<void> {
    this.#mustBeOwn()
    if (this.#dockerd?.running) return
    const state = runDirectory(this.prefix, 'engine')
    const etc = runDirectory(this.prefix, 'engine', 'etc')
    writeFileSync(join(etc, 'daemon.json'), '{}\n')
    if (!this.#home?.running) {
      const hostName = this.#shape.hostName === undefined ? '' : `hostname ${quoted(this.#shape.hostName)}\n`
      // Holds the mount namespace, so that a new dockerd finds the mounts of a killed one.
      this.#home = launch(this.prefix, {
        name: 'engine-home',
        namespace: engineNamespace(this.prefix),
        prepare: `${hostName}mkdir -p /etc/docker\nmount --bind ${quoted(etc)} /etc/docker`,
        command: ['sleep', 'infinity'],
      })
      const home = this.#home
      await home.ready(() => readFileSync(`/proc/${home.pid}/comm`, 'utf8').trim() === 'sleep', 30_000, signal)
    }
    this.#dockerd = launch(this.prefix, {
      name: 'dockerd',
      namespace: engineNamespace(this.prefix),
      inside: this.#home,
      command: [
        ...(['dockerd', '--host', `unix://${this.socket}`, '--group', 'docker'] as const),
        ...['--data-root', join(CACHE_DIRECTORY, 'engines', this.prefix), '--exec-root', join(state, 'exec')],
        ...['--pidfile', join(state, 'dockerd.pid'), '--config-file', join(etc, 'daemon.json')],
        ...['--exec-opt', 'native.cgroupdriver=cgroupfs', '--cgroup-parent', `/${cgroup(this.prefix)}`],
        ...(this.#shape.arguments ?? []),
      ],
      ...(this.#shape.environment && { environment: this.#shape.environment }),
    })
    await this.#dockerd.ready(async () => (await this.version()) !== undefined, 120_000, signal)
  }

  /** Stops it as a service manager does: its containers end with it. */
  async stop(): Promise<void> {
    this.#mustBeOwn()
    await this.#dockerd?.stop(20_000)
  }

  /** `kill -9` of the daemon; its containers run on until it starts again. */
  async kill(): Promise<void> {
    this.#mustBeOwn()
    await this.#dockerd?.kill()
    // Its containerd dies with it, a moment later; a dockerd started in between would wait for the dying one.
    const file = join(runDirectory(this.prefix, 'engine'), 'exec/containerd/containerd.pid')
    const pid = existsSync(file) ? readFileSync(file, 'utf8').trim() : ''
    await waitFor('the end of containerd', () => pid === '' || !existsSync(`/proc/${pid}`))
  }

  /** Containers, of any state, that bear `label` (`key` or `key=value`). */
  async containers(label: string): Promise<{ readonly id: string; readonly name: string; readonly state: string }[]> {
    const found = await this.docker.listContainers({ all: true, filters: { label: [label] } })
    return found.map((c) => ({ id: c.Id, name: c.Names[0]?.slice(1) ?? c.Id.slice(0, 12), state: c.State }))
  }

  /** Removes every container that bears `label`, with its anonymous volumes. */
  async removeContainers(label: string): Promise<void> {
    for (const { id } of await this.containers(label)) {
      await this.docker.getContainer(id).remove({ force: true, v: true }).catch(onlyUnless(404))
    }
  }

  /** Ends an engine of the lab's own with all that it runs; the machine's engine is not touched. */
  async close(): Promise<void> {
    if (!this.own) return
    await this.stop()
    await removeOwnEngine(this.prefix)
  }

  #mustBeOwn(): void {
    if (!this.own)
      throw new LabError('not-our-engine', `the engine at ${this.socket} belongs to the machine, not to the lab`)
  }
}

/** Ends what is left of an engine of the lab's own, killed or not. Images and layers stay in the cache. */
export async function removeOwnEngine(prefix: string): Promise<void> {
  const name = engineNamespace(prefix)
  if (listNamespaces(prefix).includes(name)) await removeNamespace(name)
  await removeCgroup(cgroup(prefix))
}

/** Processes in the control groups of the lab's own engine: containers that outlived it. */
export function containerProcesses(prefix: string): number[] {
  return cgroupProcesses(cgroup(prefix))
}

/** For `catch`: lets pass what the engine answers with this status. */
function onlyUnless(status: number): (error: unknown) => void {
  return (error) => {
    if ((error as { statusCode?: number }).statusCode !== status) throw error
  }
}

/** Name of the namespace that an engine of the lab's own runs in. */
export function engineNamespace(prefix: string): string {
  return `${prefix}-engine`
}
function cgroup(prefix: string): string {
  return `orchestrator-lab-${prefix}`
}
