import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { writeAtomically } from '../atomic-file.ts'

/** An image that is here because of us. */
export interface OurImage {
  readonly how: 'pulled' | 'loaded' | 'built'
  /** Epoch ms at which it was last asked for. */
  readonly at: number
}

/** Which images of the engine are ours to take away: what was there before us is not in it. */
export interface ImageRecord {
  all(): ReadonlyMap<string, OurImage>
  put(image: string, entry: OurImage): Promise<void>
  /** It was asked for again. */
  touch(image: string, at: number): void
  forget(image: string): Promise<void>
}

const shape = z.record(z.string(), z.object({ how: z.enum(['pulled', 'loaded', 'built']), at: z.number() }))

/** Reads the record. One that cannot be read counts as empty: then nothing is taken away. */
export async function loadImageRecord(path: string, unreadable: (error: unknown) => void): Promise<ImageRecord> {
  const images = new Map<string, OurImage>()
  try {
    const found = shape.parse(JSON.parse(await readFile(path, 'utf8')))
    for (const [image, entry] of Object.entries(found)) images.set(image, entry)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') unreadable(error)
  }
  let saved: Promise<void> = Promise.resolve()
  const save = () => {
    saved = saved
      .catch(() => {})
      .then(() => writeAtomically(path, JSON.stringify(Object.fromEntries(images)), { mode: 0o600, durable: true }))
    return saved
  }
  return {
    all: () => images,
    put(image, entry) {
      images.set(image, entry)
      return save()
    },
    touch(image, at) {
      const entry = images.get(image)
      if (entry !== undefined) images.set(image, { ...entry, at })
    },
    forget(image) {
      return images.delete(image) ? save() : Promise.resolve()
    },
  }
}
