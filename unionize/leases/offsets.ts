import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { writeAtomically } from '../atomic-file.ts'

const savedShape = z.object({
  /** Bytes that are stored, by identity of the file. */
  offsets: z.record(z.string(), z.number().int().nonnegative()),
  /** How often each file was found truncated, by inode and birth. */
  truncations: z.record(z.string(), z.number().int().positive()),
  /** The file that we ourselves renamed and may delete; null: none. */
  rotated: z.string().nullable(),
})
export type SavedOffsets = z.infer<typeof savedShape>

/** How far each journal file was stored, kept in one file. Losing it only means that everything is read again. */
export interface Offsets {
  /** Changes are written by {@link save}. */
  readonly saved: SavedOffsets
  /** Resolves when what is in `saved` now is on disk; several calls at once share a write. */
  save(): Promise<void>
}

/** @returns the saved offsets, and whether a file that cannot be understood was passed over */
export async function loadOffsets(path: string): Promise<{ offsets: Offsets; unreadable: boolean }> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  const read = text === null ? null : parse(text)
  const saved: SavedOffsets = read ?? { offsets: {}, truncations: {}, rotated: null }
  let writing: Promise<void> = Promise.resolve()
  let queued: Promise<void> | null = null
  const write = () => {
    queued = null
    return writeAtomically(path, JSON.stringify(saved), { mode: 0o600, durable: false })
  }
  const save = () => {
    queued ??= writing = writing.then(write, write)
    return queued
  }
  return { offsets: { saved, save }, unreadable: text !== null && read === null }
}

function parse(text: string): SavedOffsets | null {
  try {
    return savedShape.parse(JSON.parse(text))
  } catch {
    return null
  }
}
