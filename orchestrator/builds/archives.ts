import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { z } from 'zod'
import { InvalidInput, OrchestratorError } from '../../common/errors.ts'
import { withRoom } from './room.ts'

/** An image as an engine saves it, kept for the hosts. */
export interface Archive {
  readonly image: string
  /** SHA-256 of its bytes, hex: its name. */
  readonly sha256: string
  readonly bytes: number
  /** Epoch ms at which it came, or was told last to somebody who had the same built. */
  readonly at: number
}

/** Archives of images where there is no registry: each a file, named by its content. */
export interface Archives {
  all(): readonly Archive[]
  /** The newest of an image; null: there is none. */
  of(image: string): Archive | null
  /**
   * Takes an archive: all of it, checked, or nothing. The same again is success.
   * @throws InvalidInput when it is not what its name says, OrchestratorError `archive-too-large`, `storage-full`
   */
  receive(told: { image: string; sha256: string; bytes: number }, input: Readable, signal: AbortSignal): Promise<void>
  /** The newest of an image counts as having come now. @returns false: there is none @throws OrchestratorError `storage-full` */
  renew(image: string): Promise<boolean>
  /** Its bytes; null: it is not here. */
  open(sha256: string): { bytes: number; stream: Readable } | null
  /** Removes those of which `isKept` says no. @returns their images */
  keepOnly(isKept: (archive: Archive) => boolean): Promise<readonly string[]>
}

const note = z.object({
  image: z.string(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  bytes: z.number(),
  at: z.number(),
})

/** Opens a folder of archives; what a crash left half done there goes away. */
export async function openArchives(options: {
  readonly directory: string
  /** Bytes of one archive at most. */
  readonly mostBytes: number
  readonly now: () => number
}): Promise<Archives> {
  const { directory, mostBytes, now } = options
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const file = (sha256: string, kind: 'tar' | 'json') => join(directory, `${sha256}.${kind}`)
  const archives = await load(directory)
  let drafts = 0
  const draftOf = (sha256: string) => join(directory, `${sha256}.${++drafts}.part`)
  const newest = (image: string) =>
    [...archives.values()].filter((archive) => archive.image === image).sort((a, b) => b.at - a.at)[0] ?? null

  let turn: Promise<unknown> = Promise.resolve()
  /** One after the other: an archive and its note come and go together. */
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const done = turn.then(work)
    turn = done.catch(() => {}) // whoever asked for it is told
    return done
  }

  const keepNote = async (archive: Archive, draft: string) => {
    await writeFile(draft, JSON.stringify(archive), { mode: 0o600 })
    await rename(draft, file(archive.sha256, 'json'))
    await sync(directory)
    archives.set(archive.sha256, archive)
  }
  const remove = async (sha256: string) => {
    archives.delete(sha256)
    // The note first: an archive without one goes at the next start.
    await rm(file(sha256, 'json'), { force: true })
    await rm(file(sha256, 'tar'), { force: true })
  }

  return {
    all: () => [...archives.values()],
    of: newest,
    async receive({ image, sha256, bytes }, input, signal) {
      if (bytes > mostBytes) {
        throw new OrchestratorError(
          'archive-too-large',
          `the image has ${bytes} bytes; builds.most-image-bytes allows ${mostBytes}`,
        )
      }
      const draft = draftOf(sha256)
      try {
        await withRoom(directory, async () => {
          const hash = createHash('sha256')
          await pipeline(input, counted(hash, bytes), createWriteStream(draft, { mode: 0o600 }), { signal })
          const found = hash.digest('hex')
          if (found !== sha256) {
            throw new InvalidInput('archive', `its SHA-256 is ${found}, and not ${sha256} as its name says`)
          }
          await sync(draft)
          await inTurn(async () => {
            await rename(draft, file(sha256, 'tar'))
            await keepNote({ image, sha256, bytes, at: now() }, draft)
          })
        })
      } finally {
        await rm(draft, { force: true })
      }
    },
    renew: (image) =>
      inTurn(async () => {
        const archive = newest(image)
        if (archive === null) return false
        const draft = draftOf(archive.sha256)
        try {
          await withRoom(directory, () => keepNote({ ...archive, at: now() }, draft))
          return true
        } finally {
          await rm(draft, { force: true })
        }
      }),
    open(sha256) {
      const archive = archives.get(sha256)
      return archive === undefined ? null : { bytes: archive.bytes, stream: createReadStream(file(sha256, 'tar')) }
    },
    keepOnly: (isKept) =>
      inTurn(async () => {
        const gone = [...archives.values()].filter((archive) => !isKept(archive))
        for (const { sha256 } of gone) await remove(sha256)
        return gone.map(({ image }) => image)
      }),
  }
}

/** Whole archives with their notes; everything else in the folder is removed. */
async function load(directory: string): Promise<Map<string, Archive>> {
  const archives = new Map<string, Archive>()
  const names = await readdir(directory)
  for (const name of names.filter((n) => n.endsWith('.json'))) {
    const archive = await readNote(directory, name)
    if (archive !== null) archives.set(archive.sha256, archive)
  }
  for (const name of names) {
    const [sha256 = '', kind] = name.split('.')
    const known = archives.has(sha256) && name === `${sha256}.${kind}` && (kind === 'tar' || kind === 'json')
    if (!known) await rm(join(directory, name), { force: true, recursive: true })
  }
  return archives
}

async function readNote(directory: string, name: string): Promise<Archive | null> {
  try {
    const archive = note.parse(JSON.parse(await readFile(join(directory, name), 'utf8')))
    const { size } = await stat(join(directory, `${archive.sha256}.tar`))
    return size === archive.bytes && name === `${archive.sha256}.json` ? archive : null
  } catch {
    return null // half written, or without its archive: it is made anew by a build
  }
}

function counted(hash: ReturnType<typeof createHash>, bytes: number): Transform {
  let seen = 0
  const wrong = () => new InvalidInput('archive', `expected ${bytes} bytes`)
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      seen += chunk.length
      hash.update(chunk)
      if (seen > bytes) done(wrong())
      else done(null, chunk)
    },
    flush: (done) => done(seen === bytes ? null : wrong()),
  })
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
