import type { Readable } from 'node:stream'
import { crc32 } from 'node:zlib'
import { type Entry, getFileNameLowLevel, openPromise, type ZipFile } from 'yauzl'
import { wording } from '../../../common/errors.ts'
import type { SourceEntry } from './context.ts'
import { checkRatio } from './packed.ts'
import { checkCount, SourceRefused, shown } from './refused.ts'

/** Numbers of the ZIP format (PKWARE's APPNOTE.TXT 6.3.10): section 4.4.4, flags; 4.4.5, methods; 4.4.2, where attributes come from. */
const FLAG = { encrypted: 0x1, patch: 0x20, strong: 0x40, masked: 0x2000 } as const
const METHOD = { stored: 0, deflated: 8 } as const
const MADE_ON_UNIX = 3
/** Of the records at the end: sections 4.3.16, 4.3.15 and 4.3.14. */
const END_RECORD_BYTES = 22
const ZIP64_END_BYTES = 20 + 56
/** Types of files in the upper half of the external attributes, as in sys/stat.h. */
const TYPE = { mask: 0o170000, symlink: 0o120000, directory: 0o040000, file: 0o100000 } as const
/** Bytes of a symbolic link's target: PATH_MAX of linux/limits.h. */
const TARGET_MOST = 4096

/**
 * The entries of a zip file.
 * @param most of them; one that lists more is refused before the rest of its directory is looked at
 * @throws SourceRefused, the signal's reason
 */
export async function* zipEntries(path: string, most: number, signal: AbortSignal): AsyncIterable<SourceEntry> {
  const zip = await openPromise(path, { autoClose: false, decodeStrings: false }).catch((error: Error) => {
    throw refusal(error)
  })
  try {
    const entries = await readDirectory(zip, most, signal)
    for (const entry of entries) {
      const taken = await sourceEntry(zip, entry)
      yield taken
    }
  } catch (error) {
    throw signal.aborted ? signal.reason : refusal(error)
  } finally {
    zip.close()
  }
}

interface Placed {
  readonly entry: Entry
  readonly name: string
  /** Where its data begins. */
  readonly data: number
}

/** Reads the whole directory first: what it says must hold together before anything of it is believed. */
async function readDirectory(zip: ZipFile, most: number, signal: AbortSignal): Promise<readonly Placed[]> {
  const placed: Placed[] = []
  let unpacked = 0
  for await (const entry of zip.eachEntry()) {
    signal.throwIfAborted()
    checkCount(placed.length + 1, most)
    const name = nameOf(entry)
    checkEntry(entry, name)
    unpacked += entry.uncompressedSize
    checkRatio(zip.fileSize, unpacked)
    placed.push({ entry, name, data: await dataStart(zip, entry, name) })
  }
  checkPlaces(zip, placed)
  return placed
}

function nameOf(entry: Entry): string {
  return getFileNameLowLevel(entry.generalPurposeBitFlag, entry.fileNameRaw, entry.extraFields, true)
}

function checkEntry(entry: Entry, name: string): void {
  const flags = entry.generalPurposeBitFlag
  if ((flags & (FLAG.encrypted | FLAG.strong | FLAG.masked)) !== 0) {
    throw new SourceRefused('encrypted', `${shown(name)} is encrypted`)
  }
  if (entry.compressionMethod !== METHOD.stored && entry.compressionMethod !== METHOD.deflated) {
    throw new SourceRefused(
      'unknown-kind',
      `${shown(name)} is packed by method ${entry.compressionMethod}; pack it with "deflate"`,
    )
  }
  if ((flags & FLAG.patch) !== 0) throw new SourceRefused('unknown-kind', `${shown(name)} is a patch, not a file`)
}

/** Where the data of an entry begins, when the header there speaks of the same file. @throws SourceRefused */
async function dataStart(zip: ZipFile, entry: Entry, name: string): Promise<number> {
  const local = await zip.readLocalFileHeaderPromise(entry)
  const agrees =
    local.fileName.equals(entry.fileNameRaw) &&
    local.compressionMethod === entry.compressionMethod &&
    (local.generalPurposeBitFlag & FLAG.encrypted) === 0
  if (agrees) return local.fileDataStart
  throw new SourceRefused('hidden-data', `the zip calls ${shown(name)} otherwise in its directory than where it lies`)
}

/** Every byte belongs to one thing: no two files share data, nothing lies before the first or behind the directory. */
function checkPlaces(zip: ZipFile, placed: readonly Placed[]): void {
  const byPlace = [...placed].sort((a, b) => a.entry.relativeOffsetOfLocalHeader - b.entry.relativeOffsetOfLocalHeader)
  let end = 0
  for (const { entry, name, data } of byPlace) {
    if (entry.relativeOffsetOfLocalHeader < end) {
      throw new SourceRefused('overlap', `${shown(name)} shares its bytes with another file of the zip`)
    }
    if (end === 0 && entry.relativeOffsetOfLocalHeader !== 0) {
      throw new SourceRefused('hidden-data', 'there is something before the first file of the zip')
    }
    end = data + entry.compressedSize
  }
  const directoryEnd = zip.readEntryCursor as unknown as number
  const records = zip.fileSize - directoryEnd - Buffer.byteLength(zip.comment)
  if (records !== END_RECORD_BYTES && records !== END_RECORD_BYTES + ZIP64_END_BYTES) {
    throw new SourceRefused('hidden-data', 'the zip has more in its directory than it counts')
  }
  const directorySize = placed.reduce(
    (sum, { entry }) => sum + 46 + entry.fileNameLength + entry.extraFieldLength + entry.fileCommentLength,
    0,
  )
  if (end > directoryEnd - directorySize) {
    throw new SourceRefused('overlap', 'a file of the zip reaches into its directory')
  }
}

async function sourceEntry(zip: ZipFile, { entry, name }: Placed): Promise<SourceEntry> {
  const mode = entry.versionMadeBy >> 8 === MADE_ON_UNIX ? entry.externalFileAttributes >>> 16 : 0
  const type = mode & TYPE.mask
  const common = { name, executable: (mode & 0o100) !== 0, size: 0 }
  if (name.endsWith('/') || type === TYPE.directory) {
    if (entry.uncompressedSize > 0) throw new SourceRefused('hidden-data', `the folder ${shown(name)} has content`)
    return { ...common, kind: 'directory' }
  }
  if (type === TYPE.symlink) return { ...common, kind: 'symlink', target: await linkTarget(zip, entry, name) }
  if (type !== TYPE.file && type !== 0) throw new SourceRefused('special-file', `${shown(name)} is a device or a pipe`)
  return { ...common, kind: 'file', size: entry.uncompressedSize, content: contentOf(zip, entry, name) }
}

async function linkTarget(zip: ZipFile, entry: Entry, name: string): Promise<string> {
  if (entry.uncompressedSize > TARGET_MOST) {
    throw new SourceRefused('long-path', `the link ${shown(name)} leads to a name longer than ${TARGET_MOST} bytes`)
  }
  const parts: Uint8Array[] = []
  for await (const part of contentOf(zip, entry, name)) parts.push(part)
  return Buffer.concat(parts).toString('utf8')
}

/** @throws SourceRefused when size or checksum (CRC-32, APPNOTE 4.4.7) are not what the zip says */
async function* contentOf(zip: ZipFile, entry: Entry, name: string): AsyncIterable<Uint8Array> {
  let sum = 0
  try {
    for await (const chunk of (await zip.openReadStreamPromise(entry)) as Readable) {
      sum = crc32(chunk as Buffer, sum)
      yield chunk as Buffer
    }
  } catch (error) {
    throw refusal(error)
  }
  if (sum !== entry.crc32) throw new SourceRefused('bad-checksum', `the checksum of ${shown(name)} is wrong`)
}

/** What the reader of zips throws, in our words. */
function refusal(error: unknown): unknown {
  if (error instanceof SourceRefused || !(error instanceof Error)) return error
  const said = wording(error, 200)
  const refused = (reason: ConstructorParameters<typeof SourceRefused>[0], message: string) =>
    new SourceRefused(reason, `${message} (${said})`, { cause: error })
  if (/strong encryption|encrypted/.test(said)) return refused('encrypted', 'the zip is encrypted')
  if (/too many bytes|not enough bytes|size mismatch/.test(said)) {
    return refused('wrong-size', 'a file of the zip has another size than the zip says')
  }
  if (/Invalid comment length/.test(said)) return refused('trailing-data', 'there is something behind the zip')
  if (/record signature not found|unexpected EOF|reached end of file/i.test(said)) {
    return refused('truncated', 'this is no zip, or one that was cut off')
  }
  if ('code' in error && !String(error.code).startsWith('Z_')) return error
  return refused('damaged', 'the zip is damaged')
}
