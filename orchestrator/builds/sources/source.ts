import { createReadStream, createWriteStream } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type Context, type SourceEntry, writeContext } from './context.ts'
import { ignoreRules } from './ignore.ts'
import type { SourceLimits } from './limits.ts'
import { Counted } from './packed.ts'
import { SourceRefused } from './refused.ts'
import { tarEntries, tgzEntries } from './tar.ts'
import { zipEntries } from './zip.ts'

/** How a source is packed; a folder is sent as `tar`. */
export type SourceFormat = 'tar' | 'tgz' | 'zip'

/** What is put into the context beside what was sent. */
export interface Additions {
  /** The Dockerfile for a source that must not have one; null: it must. */
  readonly dockerfile: string | null
}

/** Name of the context in its folder: there when all of it is, and checked. */
export const CONTEXT_FILE = 'context.tar'

/**
 * Reads a source as it comes and makes the context of a build of it, {@link CONTEXT_FILE} in the folder. Nothing is
 * unpacked to the disk.
 * @throws SourceRefused for everything hostile, damaged or too large; nothing is left in the folder then
 */
export async function makeContext(
  input: Readable,
  how: { format: SourceFormat; directory: string; limits: SourceLimits } & Additions,
  signal: AbortSignal,
): Promise<Context> {
  const { format, directory, limits, dockerfile } = how
  const drafts = { packed: join(directory, 'source.packed'), draft: join(directory, 'source.tar') }
  const checked = join(directory, 'checked.tar')
  try {
    const entries = await entriesOf(input, format, drafts.packed, limits, signal)
    const draft = await writeContext(drafts.draft, entries, limits, signal)
    checkDockerfile(draft, dockerfile)
    const ignore = draft.ignore ?? ''
    if (ignore === '' && dockerfile === null) {
      await rename(drafts.draft, join(directory, CONTEXT_FILE))
      return draft
    }
    // Our own draft is read again: its limits were kept.
    const room = { ...limits, entries: limits.entries + 2, unpackedBytes: Infinity }
    const kept = without(
      tarEntries(createReadStream(drafts.draft), Infinity, signal),
      ignore,
      added(ignore, dockerfile),
    )
    const context = await writeContext(checked, kept, room, signal)
    await rename(checked, join(directory, CONTEXT_FILE))
    return context
  } finally {
    await Promise.all([...Object.values(drafts), checked].map((file) => rm(file, { force: true })))
  }
}

async function entriesOf(
  input: Readable,
  format: SourceFormat,
  packed: string,
  limits: SourceLimits,
  signal: AbortSignal,
): Promise<AsyncIterable<SourceEntry>> {
  if (format === 'tar') return tarEntries(input, limits.packedBytes + tarOverhead(limits), signal)
  if (format === 'tgz') return tgzEntries(input, limits.packedBytes, signal)
  // The directory of a zip stands at its end.
  await pipeline(input, new Counted(limits.packedBytes), createWriteStream(packed, { mode: 0o600 }), { signal })
  return zipEntries(packed, limits.entries, signal)
}

/** A tar is not packed: what counts is what is in it, and at most a header, a pax header and padding for each entry. */
function tarOverhead({ unpackedBytes, packedBytes, entries }: SourceLimits): number {
  return Math.max(0, unpackedBytes - packedBytes) + 4096 * (entries + 1)
}

function checkDockerfile({ hasDockerfile }: Context, generated: string | null): void {
  if (hasDockerfile && generated !== null) {
    throw new SourceRefused('two-dockerfiles', 'the source has a Dockerfile: leave the base away, or the Dockerfile')
  }
  if (!hasDockerfile && generated === null) {
    throw new SourceRefused(
      'no-dockerfile',
      'there is no Dockerfile at the top of the source: add one, or name a base that its files are put into (--base)',
    )
  }
}

/** Files of ours. The engine leaves a Dockerfile away from what is copied when .dockerignore names it. */
function added(ignore: string, dockerfile: string | null): ReadonlyMap<string, string> {
  if (dockerfile === null) return new Map()
  return new Map([
    ['Dockerfile', dockerfile],
    ['.dockerignore', `${ignore === '' ? '' : `${ignore}\n`}Dockerfile\n.dockerignore\n`],
  ])
}

async function* without(
  entries: AsyncIterable<SourceEntry>,
  ignore: string,
  ours: ReadonlyMap<string, string>,
): AsyncIterable<SourceEntry> {
  const isLeft = ignoreRules(ignore)
  for await (const entry of entries) {
    const name = entry.name.replace(/\/$/, '')
    if (!isLeft(name) && !ours.has(name)) yield entry
  }
  for (const [name, text] of ours) {
    const content = Buffer.from(text)
    yield { name, kind: 'file', executable: false, size: content.length, content: Readable.from([content]) }
  }
}
