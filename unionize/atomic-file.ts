import { randomUUID } from 'node:crypto'
import { open, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/**
 * Writes a whole file so that a reader, or a crash, sees the old content or the new, never a part. The interim file's name
 * begins with a dot.
 * @param options `mode`: permission bits; `durable`: wait until it survives a power cut
 */
export async function writeAtomically(
  path: string,
  content: string | Uint8Array,
  options: { mode: number; durable: boolean },
): Promise<void> {
  const interim = join(dirname(path), `.${basename(path)}.${randomUUID()}`)
  try {
    const file = await open(interim, 'wx', options.mode)
    try {
      await file.writeFile(content)
      // Whatever the umask says.
      await file.chmod(options.mode)
      if (options.durable) await file.datasync()
    } finally {
      await file.close()
    }
    await rename(interim, path)
  } catch (error) {
    await rm(interim, { force: true })
    throw error
  }
}
