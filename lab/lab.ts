import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { type ClientOptions, DhcpClient } from './clients.ts'
import { LabError } from './command.ts'
import { Crowd } from './crowd.ts'
import { type DnsmasqOptions, type DnsmasqRole, type LeasePlaces, prepareDnsmasq, startDnsmasq } from './dnsmasq.ts'
import { containerProcesses, engineNamespace, LabEngine, removeOwnEngine, type Say } from './engine.ts'
import { removeImages } from './images.ts'
import { commandLine, listNamespaces, makeHost, processesIn, removeNamespaces } from './namespaces.ts'
import { CACHE_DIRECTORY, DEFAULT_PREFIX, MEMORY_DIRECTORY, RUN_DIRECTORY } from './places.ts'
import type { LabProcess } from './processes.ts'
import { clearSwarm, swarmPrefix } from './swarm.ts'
import { leftUsers, makeUsers, removeUsers } from './users.ts'

export interface LabOptions {
  /** Begins the names of everything that the lab makes; `orc` unless told. */
  readonly prefix?: string
  readonly say?: Say
  readonly dnsmasq?: DnsmasqOptions
  readonly signal?: AbortSignal
  /** An engine of the lab's own also where the machine has one: for tests that stop and kill it. */
  readonly ownEngine?: boolean
}

/**
 * A machine room of network namespaces: the host with its bridges and both dnsmasq, clients, a Docker engine. The machine's
 * own network, firewall and engine settings stay as they are. {@link close} undoes all of it.
 */
export class Lab {
  readonly prefix: string
  readonly say: Say
  readonly places: LeasePlaces
  /** Both run from the start. A test that ends one puts the new one here. */
  readonly dnsmasq = new Map<DnsmasqRole, LabProcess>()
  readonly #ownEngine: boolean
  #engine: LabEngine | undefined
  #nextClient = 1

  private constructor(prefix: string, say: Say, places: LeasePlaces, ownEngine: boolean) {
    this.prefix = prefix
    this.#ownEngine = ownEngine
    this.say = say
    this.places = places
  }

  /** Clears what a killed run left, then makes users, namespaces, bridges, and starts dnsmasq on both. */
  static async open(options: LabOptions = {}): Promise<Lab> {
    const prefix = options.prefix ?? DEFAULT_PREFIX
    const { signal } = options
    await clearLab(prefix)
    await makeUsers(signal)
    await makeHost(prefix, signal)
    const lab = new Lab(
      prefix,
      options.say ?? (() => undefined),
      prepareDnsmasq(prefix, options.dnsmasq),
      options.ownEngine ?? false,
    )
    for (const role of ['clients', 'instances'] as const) await lab.startDnsmasq(role, signal)
    return lab
  }

  /** Starts one of the two again, after its end. */
  async startDnsmasq(role: DnsmasqRole, signal?: AbortSignal): Promise<LabProcess> {
    if (this.dnsmasq.get(role)?.running) throw new LabError('running', `dnsmasq@${role} runs already`)
    const started = await startDnsmasq(this.prefix, role, signal)
    this.dnsmasq.set(role, started)
    return started
  }

  /** The engine, found or started when first asked for. */
  async engine(signal?: AbortSignal): Promise<LabEngine> {
    this.#engine ??= await LabEngine.open(this.prefix, this.say, signal, this.#ownEngine)
    return this.#engine
  }

  /** A device with a link of its own, plugged in; it asks for nothing yet. */
  async client(options: ClientOptions = {}, signal?: AbortSignal): Promise<DhcpClient> {
    return await new DhcpClient(this.prefix, this.#nextClient++, options).plug(signal)
  }

  /** Many devices on one link, plugged in. */
  async crowd(signal?: AbortSignal): Promise<Crowd> {
    return await new Crowd(this.prefix, this.#nextClient++).plug(signal)
  }

  /** Ends and removes everything that the lab made. */
  async close(): Promise<void> {
    await clearLab(this.prefix, this.#engine)
  }
}

/**
 * Removes everything that a lab of this prefix made, in whatever state it is, also after `kill -9`. Nothing there is fine.
 * Containers in an engine of the machine's are the business of whoever made them.
 * @param engine the lab's engine, where it is known
 */
export async function clearLab(prefix: string, engine?: LabEngine): Promise<void> {
  // Those that make containers first, so that none appears behind our back; the engine last.
  await removeNamespaces(prefix, [engineNamespace(prefix)])
  const machine = engine ?? (await LabEngine.ofMachine(prefix))
  if (machine !== undefined) await removeImages(machine)
  await engine?.close()
  await removeOwnEngine(prefix)
  await clearSwarm(swarmPrefix(prefix))
  await removeUsers()
  for (const top of [RUN_DIRECTORY, MEMORY_DIRECTORY]) rmSync(join(top, prefix), { recursive: true, force: true })
}

/** Everything of a lab of this prefix that is still there, in words; empty after {@link clearLab}. */
export function whatIsLeft(prefix: string): string[] {
  const left: string[] = []
  for (const name of listNamespaces(prefix)) {
    left.push(`network namespace ${name}`)
    left.push(...processesIn(name).map((pid) => `process ${pid} in ${name}: ${commandLine(pid)}`))
  }
  left.push(...containerProcesses(prefix).map((pid) => `container process ${pid}: ${commandLine(pid)}`))
  left.push(...leftUsers())
  const state = join(RUN_DIRECTORY, prefix)
  for (const folder of [state, join(MEMORY_DIRECTORY, prefix)]) if (existsSync(folder)) left.push(`folder ${folder}`)
  for (const line of readFileSync('/proc/mounts', 'utf8').split('\n')) {
    if (line.includes(`${state}/`)) left.push(`mount ${line.split(' ')[1]}`)
  }
  return left
}

/** Removes the cache too: the lab's engine with its images, base images. */
export async function wipeLab(prefix: string): Promise<void> {
  await clearLab(prefix)
  rmSync(CACHE_DIRECTORY, { recursive: true, force: true })
  rmSync(RUN_DIRECTORY, { recursive: true, force: true })
  rmSync(MEMORY_DIRECTORY, { recursive: true, force: true })
}
