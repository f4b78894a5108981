import { createHash } from 'node:crypto'
import { readdir, readFile, realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { InvalidInput, wording } from '../../common/errors.ts'
import { isBeside } from './sources.ts'

/** Bytes of all files of the catalog directory at most, and how many folders deep it is read: the limits of an apply. */
const MOST_BYTES = 16 * 1024 * 1024
export const MOST_DEPTH = 8
const MOST_FILES = 10_000

/** All files of a folder, as they are now. */
export interface DirectoryContent {
  /** Bytes by path, with `/`. */
  readonly files: ReadonlyMap<string, Uint8Array>
  /** The same for the same paths and bytes. */
  readonly fingerprint: string
}

/**
 * Reads all files of a folder and the folders in it; links are followed, what editors leave beside files is not read.
 * @throws InvalidInput `catalog.directory` naming what cannot be read or is too much
 */
export async function readDirectory(directory: string): Promise<DirectoryContent> {
  const files = new Map<string, Uint8Array>()
  let bytes = 0
  const read = async (folder: string, path: string, above: readonly string[]): Promise<void> => {
    const real = await realpath(folder)
    if (above.includes(real) || above.length > MOST_DEPTH) {
      throw new InvalidInput('catalog.directory', `the folder ${folder} leads back into itself, or lies too deep`)
    }
    const names = (await readdir(folder)).filter((name) => !isBeside(name)).sort()
    for (const name of names) {
      const [full, below] = [join(folder, name), path === '' ? name : `${path}/${name}`]
      const stats = await stat(full)
      if (stats.isDirectory()) await read(full, below, [...above, real])
      if (!stats.isFile()) continue
      bytes += stats.size
      if (bytes > MOST_BYTES || files.size >= MOST_FILES) {
        throw new InvalidInput('catalog.directory', `${directory} holds more than 16 MiB or ${MOST_FILES} files`)
      }
      files.set(below, await readFile(full))
    }
  }
  try {
    await read(directory, '', [])
  } catch (cause) {
    if (cause instanceof InvalidInput) throw cause
    throw new InvalidInput('catalog.directory', `${directory} cannot be read: ${wording(cause)}`, { cause })
  }
  return { files, fingerprint: fingerprintOf(files) }
}

function fingerprintOf(files: ReadonlyMap<string, Uint8Array>): string {
  const hash = createHash('sha256')
  for (const [path, bytes] of files) hash.update(`${path}\0${bytes.length}\0`).update(bytes)
  return hash.digest('hex')
}
