import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { writeAtomically } from '../../atomic-file.ts'
import type { Namespace } from '../interfaces/interfaces.ts'
import type { DhcpInterface } from './configuration.ts'
import type { Lease } from './lease.ts'
import { parseLease } from './lease.ts'
import type { ProcessId } from './processes.ts'

/** One client, as it is kept on disk: enough to find it again, to start it anew and to end it. */
export interface ClientRecord {
  readonly key: string
  readonly label: string
  readonly wanted: DhcpInterface
  readonly namespace: Namespace
  /** Which network namespace that was. */
  readonly namespaceId: string
  /** The process whose end ends the client; null where the namespace has a name of its own. */
  readonly owner: ProcessId | null
}

/** What stood in a container's resolv.conf before before the first lease. */
export interface ResolverRecord {
  readonly former: string
}

/** The clients' folders below the state directory, and the former resolvers of containers. */
export class Records {
  readonly #directory: string

  constructor(directory: string) {
    this.#directory = directory
    mkdirSync(this.#clients(), { recursive: true, mode: 0o700 })
    mkdirSync(this.#resolvers(), { recursive: true, mode: 0o700 })
  }

  folder(key: string, name: string): string {
    const path = join(this.#clients(), shortened(`${key}\0${name}`))
    mkdirSync(path, { recursive: true, mode: 0o700 })
    return path
  }

  async write(record: ClientRecord): Promise<void> {
    await writeAtomically(join(this.folder(record.key, record.wanted.name), FILE), JSON.stringify(record), MODE)
  }

  remove(record: ClientRecord): void {
    rmSync(this.folder(record.key, record.wanted.name), { recursive: true, force: true })
  }

  /** All that a former run left. A folder without a record is one whose client never began. */
  all(): ClientRecord[] {
    return readdirSync(this.#clients()).flatMap((name) => {
      const path = join(this.#clients(), name, FILE)
      if (existsSync(path)) return [JSON.parse(readFileSync(path, 'utf8')) as ClientRecord]
      rmSync(join(this.#clients(), name), { recursive: true, force: true })
      return []
    })
  }

  /** What servers said last, by family. */
  leases(record: ClientRecord): Lease[] {
    const folder = this.folder(record.key, record.wanted.name)
    return (['ipv4', 'ipv6'] as const).flatMap((family) => {
      const path = join(folder, family === 'ipv4' ? 'lease4' : 'lease6')
      return existsSync(path) ? [parseLease(family, readFileSync(path, 'utf8'))] : []
    })
  }

  resolver(key: string): ResolverRecord | null {
    const path = this.#resolver(key)
    return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as ResolverRecord) : null
  }

  async writeResolver(key: string, record: ResolverRecord): Promise<void> {
    await writeAtomically(this.#resolver(key), JSON.stringify(record), MODE)
  }

  removeResolver(key: string): void {
    rmSync(this.#resolver(key), { force: true })
  }

  #clients(): string {
    return join(this.#directory, 'clients')
  }
  #resolvers(): string {
    return join(this.#directory, 'resolvers')
  }
  #resolver(key: string): string {
    return join(this.#resolvers(), `${shortened(key)}.json`)
  }
}

const FILE = 'client.json'
const MODE = { mode: 0o600, durable: true }

function shortened(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 24)
}
