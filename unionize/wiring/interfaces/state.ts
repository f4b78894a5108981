import { createHash } from 'node:crypto'
import {
  closeSync,
  fchownSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { wording } from '../../../common/errors.ts'
import { interfaceShape, wiringShape } from '../../../common/wiring-spec.ts'
import { WiringError } from '../errors.ts'

const namespaceShape = z.union([z.strictObject({ pid: z.number().int() }), z.strictObject({ path: z.string() })])

/** A device of the host as it was before it moved in. */
const formerDeviceShape = z.strictObject({
  name: z.string(),
  /** Empty for a real device, else the kind of what stands in for one. */
  kind: z.string(),
  mac: z.string(),
  /** By which it is known wherever it is; null: the driver tells none. */
  permanentMac: z.string().nullable(),
  /** `pci/0000:03:00.0`; empty: none. */
  bus: z.string(),
  mtu: z.number().int(),
  up: z.boolean(),
  /** Name of the bridge it was a port of; null: none. */
  master: z.string().nullable(),
  addresses: z.array(
    z.strictObject({
      prefix: z.string(),
      /** Milliseconds since 1970 at which it ends; null: never. */
      until: z.number().nullable(),
      broadcast: z.string().nullable(),
      /** Of an IPv4 address that has one of its own; else empty. */
      label: z.string(),
    }),
  ),
  routes: z.array(
    z.strictObject({
      to: z.string(),
      via: z.string().nullable(),
      metric: z.number(),
      table: z.number(),
      source: z.string().nullable(),
      onlink: z.boolean(),
      mtu: z.number().nullable(),
      protocol: z.number(),
      scope: z.number(),
    }),
  ),
})

const madeShape = z.strictObject({
  link: interfaceShape.shape.link,
  /** Name of the outer end of a veth pair; null: there is none. */
  hostName: z.string().nullable(),
  /** What settings were before we changed them, by path. */
  sysctls: z.record(z.string(), z.string()),
  /** Null unless the kind is `physical`. */
  former: formerDeviceShape.nullable(),
})

const keptShape = z.strictObject({
  version: z.literal(1),
  key: z.string(),
  label: z.string(),
  namespace: namespaceShape,
  /** Which namespace it was: found nowhere again once that is gone. */
  identity: z.string(),
  /** Where veth pairs lead, by the words of the spec. */
  peers: z.record(z.string(), namespaceShape),
  spec: wiringShape,
  /**
   * By name inside the namespace: interfaces that we made or are about to. What is here and exists is ours; it is written
   * before the kernel is told, and goes after the interface has gone.
   */
  made: z.record(z.string(), madeShape),
  /** Names of bridges and VLAN sub-interfaces of the host that go when nothing stands on them, if we made them. */
  supports: z.array(z.string()),
})

export type FormerDevice = z.infer<typeof formerDeviceShape>
export type Made = z.infer<typeof madeShape>
/** All that is remembered of one wired namespace. */
export type Kept = z.infer<typeof keptShape>

const SUFFIX = '.json'

/**
 * What is needed to find and to undo the wiring of each namespace: one file each, readable by the owner of the directory
 * only. A write is on the disk before it returns, whole or not at all.
 */
export class State {
  readonly #directory: string

  constructor(directory: string) {
    this.#directory = directory
  }

  /** @throws WiringError `state-unreadable` */
  read(key: string): Kept | null {
    return this.#readFile(this.#fileOf(key))
  }

  /** By label. @throws WiringError `state-unreadable` */
  readAll(): Kept[] {
    const all: Kept[] = []
    for (const name of this.#list()) {
      const kept = this.#readFile(join(this.#directory, name))
      if (kept !== null) all.push(kept)
    }
    return all.sort((a, b) => (a.label < b.label ? -1 : a.label > b.label ? 1 : 0))
  }

  /** @throws WiringError `state-unwritable`; then the file is as it was */
  write(kept: Kept): void {
    const path = this.#fileOf(kept.key)
    const interim = interimOf(path)
    try {
      rmSync(interim, { force: true })
      // Never what another put there: root writes into a directory that is the daemon's.
      const file = openSync(interim, 'wx', 0o600)
      try {
        this.#give(file)
        writeFileSync(file, `${JSON.stringify(kept)}\n`)
        fsyncSync(file)
      } finally {
        closeSync(file)
      }
      renameSync(interim, path)
      this.#settle()
    } catch (thrown) {
      rmSync(interim, { force: true })
      throw unwritable(path, thrown)
    }
  }

  /** @throws WiringError `state-unwritable` */
  remove(key: string): void {
    const path = this.#fileOf(key)
    try {
      rmSync(interimOf(path), { force: true })
      rmSync(path, { force: true })
      this.#settle()
    } catch (thrown) {
      throw unwritable(path, thrown)
    }
  }

  /** Makes the directory if it is missing. @throws WiringError `state-unwritable` */
  prepare(): void {
    try {
      mkdirSync(this.#directory, { recursive: true, mode: 0o700 })
    } catch (thrown) {
      throw unwritable(this.#directory, thrown)
    }
  }

  #list(): string[] {
    try {
      return readdirSync(this.#directory).filter((name) => name.endsWith(SUFFIX) && !name.startsWith('.'))
    } catch (thrown) {
      if (isMissing(thrown)) return []
      throw unreadable(this.#directory, thrown)
    }
  }

  #readFile(path: string): Kept | null {
    try {
      return keptShape.parse(JSON.parse(readFileSync(path, 'utf8')))
    } catch (thrown) {
      if (isMissing(thrown)) return null
      throw unreadable(path, thrown)
    }
  }

  #fileOf(key: string): string {
    const readable = key.replaceAll(/[^A-Za-z0-9_.-]+/g, '_').slice(0, 80)
    const hash = createHash('sha256').update(key).digest('hex').slice(0, 16)
    return join(this.#directory, `${readable}-${hash}${SUFFIX}`)
  }

  /** The command runs as root and the daemon does not: what one wrote the other must be able to read. */
  #give(file: number): void {
    if (process.getuid?.() !== 0) return
    const { uid, gid } = statSync(this.#directory)
    fchownSync(file, uid, gid)
  }

  /** A renamed or removed file survives a power cut once its directory is on the disk. */
  #settle(): void {
    const directory = openSync(this.#directory, 'r')
    try {
      fsyncSync(directory)
    } finally {
      closeSync(directory)
    }
  }
}

/** One interim file for each key: what a crash left is written over by the next, which holds the lock. */
function interimOf(path: string): string {
  return `${path}.interim`
}

function isMissing(thrown: unknown): boolean {
  return (thrown as NodeJS.ErrnoException).code === 'ENOENT'
}

function unreadable(path: string, thrown: unknown): WiringError {
  const reason = thrown instanceof z.ZodError ? z.prettifyError(thrown) : wording(thrown)
  return new WiringError(
    'state-unreadable',
    `cannot read what is remembered of a wiring in ${path} (${reason.replaceAll('\n', ' ')}): mend the file, or remove ` +
      'it and what it describes by hand',
  )
}

function unwritable(path: string, thrown: unknown): WiringError {
  return new WiringError('state-unwritable', `cannot write ${path} (${wording(thrown)}): nothing was changed`, {
    cause: thrown,
  })
}
