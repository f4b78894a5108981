import { type Readable, Transform, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import { type Extract, extract, type Header } from 'tar-stream'
import { wording } from '../../../common/errors.ts'
import type { SourceEntry } from './context.ts'
import { Counted, checkRatio } from './packed.ts'
import { SourceRefused, shown } from './refused.ts'

/** Bytes of zeros that end a tar (POSIX pax, "ustar Interchange Format": two blocks of 512). */
const END_BYTES = 1024
/** First bytes of a gzip stream, hex (RFC 1952, section 2.3.1). */
const GZIP_MAGIC = '1f8b'
/** Keywords of a pax header (POSIX pax, "pax Extended Header Keyword/Value Pairs") that change what an entry is in ways not followed here. */
const SPARSE = /^GNU\.sparse\./

/** The entries of a tar. @throws SourceRefused */
export function tarEntries(input: Readable, mostPackedBytes: number, signal: AbortSignal): AsyncIterable<SourceEntry> {
  return entriesOf(input, [new Counted(mostPackedBytes)], refusal, signal)
}

/** The entries of a tar packed by gzip (RFC 1952). @throws SourceRefused */
export async function* tgzEntries(
  input: Readable,
  mostPackedBytes: number,
  signal: AbortSignal,
): AsyncIterable<SourceEntry> {
  const packed = new Counted(mostPackedBytes)
  const gunzip = createGunzip()
  let unpacked = 0
  const ratio = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      unpacked += chunk.length
      try {
        checkRatio(packed.bytes, unpacked)
        done(null, chunk)
      } catch (error) {
        done(error as Error)
      }
    },
  })
  const translate = (error: unknown) => refusal(error, packed.magic === GZIP_MAGIC)
  yield* entriesOf(input, [packed, gunzip, ratio], translate, signal)
  // What gunzip leaves unread is neither its stream nor another one after it (RFC 1952, section 2.2).
  if (gunzip.bytesWritten !== packed.bytes) {
    throw new SourceRefused('trailing-data', 'there is something behind the end of the gzip stream')
  }
}

async function* entriesOf(
  input: Readable,
  stages: readonly Transform[],
  translate: (error: unknown) => unknown,
  signal: AbortSignal,
): AsyncIterable<SourceEntry> {
  const end = new EndOfTar()
  const tar = extract()
  const over = new AbortController()
  let fault: unknown
  tar.once('error', (error) => {
    fault ??= error
  })
  const fed = pipeline([input, ...stages, end, into(tar)], { signal: AbortSignal.any([signal, over.signal]) }).catch(
    (error: unknown) => {
      if (!over.signal.aborted) fault ??= error
    },
  )
  const broken = async (error: unknown) => {
    over.abort()
    await fed
    return translate(fault ?? error)
  }
  const contentOf = async function* (content: AsyncIterable<Uint8Array>) {
    try {
      yield* content
    } catch (error) {
      throw await broken(error)
    }
  }
  try {
    for await (const entry of tar) {
      yield sourceEntry(entry.header, contentOf(entry as AsyncIterable<unknown> as AsyncIterable<Uint8Array>))
      // What nobody read would stop the archive.
      entry.resume()
    }
    await fed
  } catch (error) {
    throw await broken(error)
  } finally {
    over.abort()
  }
  if (fault !== undefined) throw translate(fault)
  end.check()
}

/** The reader of tars as a stream of Node's own kind. */
function into(tar: Extract): Writable {
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      if (tar.write(chunk)) done()
      else tar.once('drain', () => done())
    },
    final(done) {
      tar.end(null)
      done()
    },
    destroy(error, done) {
      if (error !== null) tar.destroy(error)
      done(error)
    },
  })
}

/** Sees whether a tar ends as it should, and that nothing comes behind its end. */
class EndOfTar extends Transform {
  #zeros = 0
  #bytes = 0

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: (error: Error | null, data?: Buffer) => void) {
    this.#bytes += chunk.length
    let zeros = 0
    while (zeros < chunk.length && zeros < END_BYTES && chunk[chunk.length - 1 - zeros] === 0) zeros++
    this.#zeros = zeros === chunk.length ? Math.min(END_BYTES, this.#zeros + zeros) : zeros
    done(null, chunk)
  }

  check(): void {
    if (this.#bytes === 0) throw new SourceRefused('wrong-format', 'the source is empty')
    if (this.#zeros >= END_BYTES) return
    throw new SourceRefused('truncated', 'the tar has no end: it was cut off, or something was put behind it')
  }
}

function sourceEntry(header: Header, content: AsyncIterable<Uint8Array>): SourceEntry {
  const { name, size, mode, linkname, pax } = header
  const type: string | null = header.type
  if (Object.keys(pax ?? {}).some((key) => SPARSE.test(key))) {
    throw new SourceRefused('unknown-kind', `${shown(name)} is a sparse file; pack it without --sparse`)
  }
  const common = { name, executable: (mode & 0o100) !== 0, size: 0 }
  switch (type) {
    case 'file':
      return { ...common, kind: 'file', size, content }
    case 'directory':
      return { ...common, kind: 'directory' }
    case 'symlink':
    case 'link':
      return { ...common, kind: type === 'link' ? 'hardlink' : 'symlink', target: linkname ?? '' }
    case 'character-device':
    case 'block-device':
    case 'fifo':
      throw new SourceRefused('special-file', `${shown(name)} is a device or a pipe`)
    default:
      throw new SourceRefused(
        'unknown-kind',
        `${shown(name)} is of a kind that is not known (${type ?? 'no'} type of tar)`,
      )
  }
}

/** What the readers of gzip and tar throw, in our words. */
function refusal(error: unknown, isGzip = false): unknown {
  if (error instanceof SourceRefused || !(error instanceof Error)) return error
  const code = 'code' in error ? String(error.code) : ''
  const said = wording(error, 200)
  const refused = (reason: ConstructorParameters<typeof SourceRefused>[0], message: string) =>
    new SourceRefused(reason, `${message} (${said})`, { cause: error })
  if (code === 'Z_BUF_ERROR') return refused('truncated', 'the gzip stream was cut off')
  if (/incorrect (data|length) check/.test(said)) return refused('bad-checksum', 'the gzip stream is damaged')
  if (/incorrect header check/.test(said) && isGzip) {
    return refused('trailing-data', 'there is something behind the end of the gzip stream')
  }
  if (/incorrect header check/.test(said)) return refused('wrong-format', 'the source is no gzip stream')
  if (code.startsWith('Z_')) return refused('damaged', 'the gzip stream is damaged')
  if (/Unexpected end of data/.test(said)) return refused('truncated', 'the tar was cut off')
  if (/Invalid tar header|Invalid header/.test(said)) return refused('damaged', 'this is no tar, or a damaged one')
  if (/exceeds max size/.test(said)) return refused('long-path', 'the tar has a header of megabytes')
  return error
}
