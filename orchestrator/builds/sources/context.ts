import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { rm } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type Pack, pack } from 'tar-stream'
import type { SourceLimits } from './limits.ts'
import { createPathBook, type EntryKind, plainPath } from './paths.ts'
import { checkCount, SourceRefused, shown } from './refused.ts'

/** One thing in a source, in the order of the archive. The content is read to its end before the next one is asked for. */
export interface SourceEntry {
  /** As the archive has it: not yet checked. */
  readonly name: string
  readonly kind: EntryKind
  /** Whether its owner may execute it; no other permission, owner or time is kept. */
  readonly executable: boolean
  /** Bytes of the content. */
  readonly size: number
  /** Where a link leads, as the archive has it. */
  readonly target?: string
  /** Of a file. */
  readonly content?: AsyncIterable<Uint8Array>
}

/** A checked context of a build. */
export interface Context {
  /** SHA-256, hex, of what is in it: paths, kinds, contents and whether they may be executed; not of order or times. */
  readonly hash: string
  readonly files: number
  readonly bytes: number
  /** Whether there is a Dockerfile at its top. */
  readonly hasDockerfile: boolean
  /** Text of its .dockerignore; null: there is none. */
  readonly ignore: string | null
}

/** Bytes of a .dockerignore that are looked at; a longer one is refused. */
const IGNORE_MOST = 64 * 1024

/**
 * Writes the entries as one tar that means the same to everybody: plain paths, files 0644 or 0755, no owners, no times.
 * @throws SourceRefused for whatever an entry must not be; there is no file then
 */
export async function writeContext(
  file: string,
  entries: AsyncIterable<SourceEntry>,
  limits: SourceLimits,
  signal: AbortSignal,
): Promise<Context> {
  const archive = pack()
  const written = pipeline(Readable.from(archive), createWriteStream(file, { mode: 0o600 }), { signal })
  try {
    // A disk that is full ends the writing, and then nobody takes what is put into the archive.
    const cannotWrite = written.then<never>(() => new Promise<never>(() => {}))
    const context = await Promise.race([writeEntries(archive, entries, limits, signal), cannotWrite])
    archive.finalize()
    await written
    return context
  } catch (error) {
    archive.destroy()
    await written.catch(() => {})
    await rm(file, { force: true })
    throw signal.aborted ? signal.reason : error
  }
}

async function writeEntries(
  archive: Pack,
  entries: AsyncIterable<SourceEntry>,
  limits: SourceLimits,
  signal: AbortSignal,
): Promise<Context> {
  const book = createPathBook()
  const lines = new Map<string, string>()
  let [count, files, bytes] = [0, 0, 0]
  let ignore: string | null = null
  for await (const entry of entries) {
    signal.throwIfAborted()
    checkCount(++count, limits.entries)
    const name = plainPath(entry.name)
    if (name === '') {
      if (entry.kind === 'directory') continue
      throw new SourceRefused('duplicate', `${shown(entry.name)} is the source itself, and no folder`)
    }
    const { kind, executable } = entry
    const target = kind === 'hardlink' ? plainPath(entry.target ?? '') : entry.target
    const isNew = book.add(name, kind, target)
    checkCount(book.size, limits.entries)
    if (!isNew) continue
    const mode = kind === 'directory' || executable ? 0o755 : 0o644
    if (kind !== 'file') {
      lines.set(name, kind === 'directory' ? '/' : `${kind} ${target}`)
      await writeHeader(archive, name, kind, mode, target)
      continue
    }
    bytes += entry.size
    if (!(bytes <= limits.unpackedBytes)) {
      throw new SourceRefused(
        'too-large',
        `the source unpacks to more than ${limits.unpackedBytes} bytes (builds.most-unpacked-bytes)`,
      )
    }
    const { hash, text } = await writeFile(archive, name, mode, entry, name === '.dockerignore')
    if (name === '.dockerignore') ignore = text
    files++
    lines.set(name, `${executable ? 'x' : '-'} ${hash}`)
  }
  book.close()
  return { hash: manifestHash(lines), files, bytes, hasDockerfile: lines.has('Dockerfile'), ignore }
}

/** Independent of the order; folders count only where nothing is in them, as archives may leave the others out. */
function manifestHash(lines: ReadonlyMap<string, string>): string {
  const hash = createHash('sha256')
  const paths = [...lines.keys()].sort()
  for (const [index, path] of paths.entries()) {
    const line = lines.get(path) ?? ''
    if (line === '/' && paths[index + 1]?.startsWith(`${path}/`)) continue
    hash.update(`${path}\0${line}\0`)
  }
  return hash.digest('hex')
}

const NO_TIME = new Date(0)

function writeHeader(
  archive: Pack,
  name: string,
  kind: Exclude<EntryKind, 'file'>,
  mode: number,
  target: string | undefined,
): Promise<void> {
  const type = kind === 'hardlink' ? 'link' : kind
  const linkname = target === undefined ? {} : { linkname: target }
  return new Promise((resolve, reject) => {
    archive.entry({ name, type, mode, mtime: NO_TIME, ...linkname }, (error) => (error ? reject(error) : resolve()))
  })
}

async function writeFile(
  archive: Pack,
  name: string,
  mode: number,
  entry: SourceEntry,
  keep: boolean,
): Promise<{ hash: string; text: string | null }> {
  if (keep && entry.size > IGNORE_MOST) {
    throw new SourceRefused('too-large', `${shown(name)} is larger than ${IGNORE_MOST} bytes`)
  }
  const hash = createHash('sha256')
  const kept: Uint8Array[] = []
  let seen = 0
  const { promise: stored, resolve, reject } = Promise.withResolvers<void>()
  stored.catch(() => {})
  const sink = archive.entry({ name, size: entry.size, mode, mtime: NO_TIME }, (error) =>
    error ? reject(error) : resolve(),
  )
  for await (const chunk of entry.content ?? []) {
    seen += chunk.length
    if (seen > entry.size) throw wrongSize(name, entry.size)
    hash.update(chunk)
    if (keep) kept.push(chunk)
    if (!sink.write(chunk)) await once(sink, 'drain')
  }
  if (seen !== entry.size) throw wrongSize(name, entry.size)
  sink.end(null)
  await stored
  return { hash: hash.digest('hex'), text: keep ? Buffer.concat(kept).toString('utf8') : null }
}

function wrongSize(name: string, size: number): SourceRefused {
  return new SourceRefused('wrong-size', `${shown(name)} has not the ${size} bytes that the archive promises`)
}
