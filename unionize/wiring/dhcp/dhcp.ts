import { isDeepStrictEqual } from 'node:util'
import { wording } from '../../../common/errors.ts'
import { createSequence } from '../../instances/sequence.ts'
import { WiringError } from '../errors.ts'
import type { Target } from '../interfaces/interfaces.ts'
import { type ProcessExits, watchExits } from '../lasting/exits.ts'
import type { WiringLog } from '../wiring.ts'
import { Client, type Ending } from './client.ts'
import type { DhcpInterface } from './configuration.ts'
import { type Lease, RESOLVER_HEADER, resolverText } from './lease.ts'
import { identify, namespaceId, pathOf } from './processes.ts'
import { type ClientRecord, Records } from './records.ts'
import { changeResolver } from './resolver.ts'

/**
 * DHCP for the interfaces of network namespaces: one client each (docs/decisions/0008), for as long as the namespace
 * lives. What it set goes when it is released, and so does the client when the namespace's process or name is gone; none
 * keeps a dead namespace alive for longer than {@link GRACE_MS}.
 */
export interface Dhcp {
  /**
   * Makes the clients of a target exactly these. One that runs as it should is left alone, one in a former namespace of
   * the target is ended without a word to the server, so that its lease goes on in the new one.
   * @throws WiringError `dhcp-client-missing`, `dhcp-client-failed`, `namespace-gone`, `not-permitted`
   */
  keep(target: Target, wanted: readonly DhcpInterface[]): Promise<void>
  /** Ends the clients of a target that are in another namespace than its present one, which is free to go then. */
  leaveFormer(target: Target): Promise<void>
  /** Gives back the leases of all of the target's interfaces, or of these; its resolver becomes what it was. */
  release(key: string, names?: readonly string[]): Promise<void>
  /** What servers said last, by interface. */
  leases(key: string): ReadonlyMap<string, readonly Lease[]>
  /** Lets go of the clients, which go on. */
  stop(): Promise<void>
}

/** Milliseconds between the end of a namespace's process and the release: a container that restarts keeps its lease. */
export const GRACE_MS = 5_000

/**
 * Finds what a former run left: takes over clients that run, starts those that should.
 * @param options `directory`: where clients keep their leases, and where what is needed for undoing stands
 */
export async function startDhcp(options: {
  readonly directory: string
  readonly log: WiringLog
  readonly exits?: ProcessExits
  readonly graceMs?: number
}): Promise<Dhcp> {
  const { log } = options
  const exits = options.exits ?? watchExits(log)
  const dhcp = new Clients(options.directory, exits, log, options.graceMs ?? GRACE_MS)
  await dhcp.recover()
  return {
    keep: (target, wanted) => dhcp.keep(target, wanted),
    leaveFormer: (target) => dhcp.leaveFormer(target),
    release: (key, names) => dhcp.release(key, names),
    leases: (key) => dhcp.leases(key),
    async stop() {
      await dhcp.stop()
      if (options.exits === undefined) await exits.stop()
    },
  }
}

class Clients {
  readonly #records: Records
  readonly #exits: ProcessExits
  readonly #log: WiringLog
  readonly #graceMs: number
  readonly #clients = new Map<string, Client>()
  readonly #timers = new Set<NodeJS.Timeout>()
  readonly #sequence = createSequence()
  #stopped = false

  constructor(directory: string, exits: ProcessExits, log: WiringLog, graceMs: number) {
    this.#records = new Records(directory)
    this.#exits = exits
    this.#log = log
    this.#graceMs = graceMs
  }

  async recover(): Promise<void> {
    const begun = this.#records.all().map((record) =>
      this.#sequence.run(record.key, undefined, async () => {
        try {
          await this.#begin(record)
        } catch (error) {
          const fields = { target: record.label, interface: record.wanted.name, error: wording(error) }
          this.#log('warn', 'a DHCP client of a former run could not be continued', fields)
          if (error instanceof WiringError && error.code === 'namespace-gone') this.#records.remove(record)
        }
        await this.#applyResolver(record.key)
      }),
    )
    await Promise.all(begun)
  }

  keep(target: Target, wanted: readonly DhcpInterface[]): Promise<void> {
    return this.#sequence.run(target.key, undefined, async () => {
      const id = namespaceId(pathOf(target.namespace))
      const owner = 'pid' in target.namespace ? identify(target.namespace.pid) : null
      if (id === null || ('pid' in target.namespace && owner === null)) {
        throw new WiringError('namespace-gone', `${target.label} has no network namespace any more`)
      }
      const names = new Set(wanted.map((one) => one.name))
      for (const client of this.#of(target.key)) {
        if (!names.has(client.record.wanted.name)) await this.#end(client, 'release')
      }
      for (const one of wanted) {
        const { key, label, namespace } = target
        await this.#keepOne({ key, label, wanted: one, namespace, namespaceId: id, owner })
      }
      await this.#applyResolver(target.key)
    })
  }

  leaveFormer(target: Target): Promise<void> {
    return this.#sequence.run(target.key, undefined, async () => {
      const id = namespaceId(pathOf(target.namespace))
      const former = this.#of(target.key).filter((client) => client.record.namespaceId !== id)
      await Promise.all(former.map((client) => client.end('leave')))
    })
  }

  release(key: string, names?: readonly string[]): Promise<void> {
    return this.#sequence.run(key, undefined, async () => {
      const ending = this.#of(key).filter(({ record }) => names === undefined || names.includes(record.wanted.name))
      const { owner = null } = ending[0]?.record ?? {}
      await Promise.all(ending.map((client) => this.#end(client, 'release')))
      await this.#applyResolver(key, owner?.pid)
      if (this.#of(key).length === 0) this.#records.removeResolver(key)
    })
  }

  leases(key: string): Map<string, Lease[]> {
    return new Map(this.#of(key).map(({ record }) => [record.wanted.name, this.#records.leases(record)]))
  }

  async stop(): Promise<void> {
    this.#stopped = true
    for (const timer of this.#timers) clearTimeout(timer)
    await this.#sequence.settled()
    for (const client of this.#clients.values()) client.letGo()
  }

  #of(key: string): Client[] {
    return [...this.#clients.values()].filter((client) => client.record.key === key)
  }

  async #keepOne(record: ClientRecord): Promise<void> {
    const former = this.#clients.get(idOf(record))
    if (former?.running && isDeepStrictEqual(former.record, record)) return
    if (former !== undefined) await former.end('leave')
    await this.#records.write(record)
    await this.#begin(record)
  }

  async #begin(record: ClientRecord): Promise<void> {
    const client = new Client(record, {
      folder: this.#records.folder(record.key, record.wanted.name),
      exits: this.#exits,
      log: this.#log,
      leaseChanged: () => this.#later(`resolver of ${record.label}`, record.key, () => this.#applyResolver(record.key)),
      ownerEnded: () => this.#afterGrace(client),
    })
    this.#clients.set(idOf(record), client)
    await client.begin()
  }

  /** The namespace is kept alive by the client alone now; its container may come back and want the lease. */
  #afterGrace(client: Client): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      this.#later(`release of ${client.record.label}`, client.record.key, async () => {
        if (this.#clients.get(idOf(client.record)) === client) await this.#end(client, 'release')
      })
    }, this.#graceMs)
    this.#timers.add(timer)
  }

  async #end(client: Client, how: Ending): Promise<void> {
    await client.end(how)
    this.#clients.delete(idOf(client.record))
    this.#records.remove(client.record)
  }

  #later(what: string, key: string, work: () => Promise<void>): void {
    if (this.#stopped) return
    this.#sequence.run(key, undefined, work).catch((error) => {
      this.#log('error', `DHCP: the ${what} failed`, { error: wording(error) })
    })
  }

  /** Writes what the leases say into the container's resolv.conf, or puts back what was there when they say nothing. */
  async #applyResolver(key: string, formerPid?: number): Promise<void> {
    const clients = this.#of(key)
    const label = clients[0]?.record.label ?? key
    const pid = clients[0]?.record.owner?.pid ?? formerPid
    if (pid === undefined) return
    try {
      const known = this.#records.resolver(key)
      const seen = changeResolver(pid, () => null)
      if (typeof seen === 'string') {
        if (seen !== 'gone' && known === null && clients.length > 0) {
          this.#log('info', 'names from DHCP are not applied', { target: label, because: seen })
        }
        return
      }
      const ours = known !== null && seen.former.startsWith(RESOLVER_HEADER)
      const former = ours ? known.former : seen.former
      const leases = clients.flatMap(({ record }) => this.#records.leases(record))
      const text = resolverText(leases, former) ?? (ours ? former : null)
      if (text === null || text === seen.former) return
      if (text !== former) await this.#records.writeResolver(key, { former })
      changeResolver(pid, (now) => (now === seen.former ? text : null))
    } catch (error) {
      this.#log('warn', 'names from DHCP could not be applied', { target: label, error: wording(error) })
    }
  }
}

function idOf(record: ClientRecord): string {
  return `${record.key}\0${record.wanted.name}`
}
