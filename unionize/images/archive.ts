import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { type Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { extract } from 'tar-stream'
import { z } from 'zod'
import { OrchestratorError } from '../../common/errors.ts'

/** Bytes of the list of images in an archive; it has one line of JSON for each image. */
const MANIFEST_MOST = 1024 * 1024
/** What an archive says of its images (Docker Image Specification v1.2, "Combined Image JSON + Filesystem Changeset Format"). */
const manifest = z.array(z.object({ RepoTags: z.array(z.string()).nullable() })).length(1)

/** Writes a stream to a file. @returns SHA-256, hex, and bytes @throws code archive-too-large */
export async function writeHashed(
  stream: Readable,
  file: string,
  mostBytes: number,
  signal: AbortSignal,
): Promise<{ sha256: string; bytes: number }> {
  const hash = createHash('sha256')
  let bytes = 0
  const count = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length
      hash.update(chunk)
      if (bytes <= mostBytes) return done(null, chunk)
      done(new OrchestratorError('archive-too-large', `the image has more than ${mostBytes} bytes`))
    },
  })
  await pipeline(stream, count, createWriteStream(file, { mode: 0o600 }), { signal })
  return { sha256: hash.digest('hex'), bytes }
}

/**
 * Looks whether an archive brings this one image under this one name: loading another would change what other names here
 * mean. @throws code archive-of-another
 */
export async function checkArchive(file: string, image: string, signal: AbortSignal): Promise<void> {
  const names = await namesIn(file, signal)
  if (names?.length === 1 && names[0] === image) return
  const found = names === null ? 'no list of its images' : names.join(', ').slice(0, 300) || 'no name'
  throw new OrchestratorError('archive-of-another', `the archive of ${image} has ${found} in it`)
}

async function namesIn(file: string, signal: AbortSignal): Promise<readonly string[] | null> {
  const source = createReadStream(file)
  const tar = extract()
  source.on('data', (chunk) => {
    if (!tar.write(chunk as Buffer)) source.pause()
  })
  tar.on('drain', () => source.resume())
  source.on('end', () => tar.end(null))
  source.on('error', (error) => tar.destroy(error))
  let names: readonly string[] | null = null
  try {
    for await (const entry of tar) {
      signal.throwIfAborted()
      if (entry.header.name !== 'manifest.json') {
        entry.resume()
        continue
      }
      // A second list would be the one that the engine reads.
      if (names !== null || entry.header.size > MANIFEST_MOST) return null
      const parts: Buffer[] = []
      for await (const part of entry) parts.push(part as Buffer)
      const parsed = manifest.safeParse(safeJson(Buffer.concat(parts).toString('utf8')))
      if (!parsed.success) return null
      names = parsed.data.flatMap(({ RepoTags: tags }) => tags ?? [])
    }
    return names
  } finally {
    source.destroy()
  }
}

function safeJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // told by the caller
  }
}
