import { crc32, deflateRawSync } from 'node:zlib'

/** One entry of a tar, byte by byte: what no honest packer writes can be written too. */
export interface TarEntry {
  readonly name: string
  readonly type?: string
  readonly content?: string | Uint8Array
  readonly mode?: number
  readonly link?: string
  /** Told instead of the content's. */
  readonly size?: number
  readonly prefix?: string
  readonly magic?: string
  readonly checksum?: number
}

const BLOCK = 512
export const TAR_END = Buffer.alloc(2 * BLOCK)

export function tarEntry(entry: TarEntry): Buffer {
  const content = Buffer.from(entry.content ?? '')
  const header = Buffer.alloc(BLOCK)
  const octal = (value: number, at: number, length: number) =>
    header.write(
      value
        .toString(8)
        .padStart(length - 1, '0')
        .slice(-(length - 1)),
      at,
    )
  header.write(entry.name, 0, 100)
  octal(entry.mode ?? 0o644, 100, 8)
  octal(0, 108, 8)
  octal(0, 116, 8)
  octal(entry.size ?? content.length, 124, 12)
  octal(0, 136, 12)
  header.write(entry.type ?? '0', 156)
  header.write(entry.link ?? '', 157, 100)
  header.write(entry.magic ?? 'ustar\x0000', 257, 'latin1')
  header.write(entry.prefix ?? '', 345, 155)
  header.fill(' ', 148, 156)
  octal(entry.checksum ?? header.reduce((sum, byte) => sum + byte, 0), 148, 7)
  return Buffer.concat([header, content, Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK)])
}

/** A tar with its end. */
export function tar(...entries: (TarEntry | Buffer)[]): Buffer {
  return Buffer.concat([...entries.map((e) => (Buffer.isBuffer(e) ? e : tarEntry(e))), TAR_END])
}

/** A pax header (type `x`, or `g` for all that follow) that overrides what the next header says. */
export function pax(records: Readonly<Record<string, string>>, type = 'x'): Buffer {
  const lines = Object.entries(records).map(([key, value]) => {
    const rest = ` ${key}=${value}\n`
    let length = Buffer.byteLength(rest)
    while (String(length).length + Buffer.byteLength(rest) !== length) {
      length = String(length).length + Buffer.byteLength(rest)
    }
    return `${length}${rest}`
  })
  return tarEntry({ name: 'PaxHeader', type, content: lines.join('') })
}

/** One entry of a zip, byte by byte. */
export interface ZipEntry {
  readonly name: string | Buffer
  readonly content?: string | Uint8Array
  /** Permission bits and type, as on Unix; absent: made elsewhere. */
  readonly mode?: number
  readonly stored?: boolean
  readonly flags?: number
  readonly method?: number
  readonly crc?: number
  /** Told instead of the true ones. */
  readonly size?: number
  readonly packedSize?: number
  /** Name in the header where the data lies; absent: the same. */
  readonly localName?: string
  /** Where the directory says that it lies; absent: where it does. */
  readonly at?: number
  /** Sizes in a zip64 extra field, 0xffffffff in their own places. */
  readonly zip64?: boolean
  /** In the directory only: no data of its own. */
  readonly directoryOnly?: boolean
}

export interface ZipOptions {
  /** Number of entries that the end record tells. */
  readonly count?: number
  readonly before?: Buffer
  readonly after?: Buffer
  /** Bytes that the directory is moved back by: into the data before it. */
  readonly directoryBack?: number
}

export function zip(entries: readonly ZipEntry[], options: ZipOptions = {}): Buffer {
  const parts: Buffer[] = options.before ? [options.before] : []
  const directory: Buffer[] = []
  let at = options.before?.length ?? 0
  for (const entry of entries) {
    const { local, central } = zipEntry(entry, at)
    directory.push(central)
    if (entry.directoryOnly) continue
    parts.push(local)
    at += local.length
  }
  const list = Buffer.concat(directory)
  const end = Buffer.alloc(22)
  end.writeUInt32LE(0x06054b50, 0)
  end.writeUInt16LE(options.count ?? entries.length, 8)
  end.writeUInt16LE(options.count ?? entries.length, 10)
  end.writeUInt32LE(list.length, 12)
  end.writeUInt32LE(at - (options.directoryBack ?? 0), 16)
  return Buffer.concat([...parts, list, end, ...(options.after ? [options.after] : [])])
}

function zipEntry(entry: ZipEntry, at: number): { local: Buffer; central: Buffer } {
  const content = Buffer.from(entry.content ?? '')
  const data = entry.stored ? content : deflateRawSync(content)
  const name = Buffer.from(entry.name)
  const localName = Buffer.from(entry.localName ?? entry.name)
  const method = entry.method ?? (entry.stored ? 0 : 8)
  const sizes = { packed: entry.packedSize ?? data.length, size: entry.size ?? content.length }
  const extra = entry.zip64 ? zip64Extra(sizes) : Buffer.alloc(0)
  const told = entry.zip64 ? { packed: 0xffffffff, size: 0xffffffff } : sizes
  const common = Buffer.alloc(26)
  common.writeUInt16LE(20, 0)
  common.writeUInt16LE(entry.flags ?? 0x800, 2)
  common.writeUInt16LE(method, 4)
  common.writeUInt32LE(entry.crc ?? crc32(content), 10)
  common.writeUInt32LE(told.packed, 14)
  common.writeUInt32LE(told.size, 18)
  common.writeUInt16LE(extra.length, 24)
  const localHead = Buffer.from(common)
  localHead.writeUInt16LE(localName.length, 22)
  const local = Buffer.concat([Buffer.from('PK\x03\x04', 'latin1'), localHead, localName, extra, data])
  common.writeUInt16LE(name.length, 22)
  const tail = Buffer.alloc(14)
  tail.writeUInt32LE(((entry.mode ?? 0) << 16) >>> 0, 6)
  tail.writeUInt32LE(entry.at ?? at, 10)
  const madeBy = Buffer.from([20, entry.mode === undefined ? 0 : 3])
  const central = Buffer.concat([Buffer.from('PK\x01\x02', 'latin1'), madeBy, common, tail, name, extra])
  return { local, central }
}

function zip64Extra({ packed, size }: { packed: number; size: number }): Buffer {
  const extra = Buffer.alloc(20)
  extra.writeUInt16LE(0x0001, 0)
  extra.writeUInt16LE(16, 2)
  extra.writeBigUInt64LE(BigInt(size), 4)
  extra.writeBigUInt64LE(BigInt(packed), 12)
  return extra
}
