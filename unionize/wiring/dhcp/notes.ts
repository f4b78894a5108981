import { readFileSync, statSync, watch } from 'node:fs'
import { join } from 'node:path'

/** What our hook wrote last about a family in a client's folder (see configuration.ts). */
export interface Note {
  /** The dhcpcd that had it written: one before the present one, unless a server has answered since. */
  readonly client: number
  /** Another one after each writing. */
  readonly version: string
}

/** @returns null: no lease of this family is held */
export function readNote(folder: string, family: 'ipv4' | 'ipv6'): Note | null {
  const path = join(folder, family === 'ipv4' ? 'lease4' : 'lease6')
  try {
    const { ino, mtimeNs } = statSync(path, { bigint: true })
    return { client: Number(/^pid=(\d+)$/m.exec(readFileSync(path, 'utf8'))?.[1] ?? 0), version: `${ino}:${mtimeNs}` }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

/** Resolves true once that holds of a folder's contents, or false when it has not within this many milliseconds. */
export async function awaitInFolder(folder: string, holds: () => boolean, withinMs: number): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>()
  const look = (): void => {
    try {
      if (holds()) resolve(true)
    } catch (error) {
      reject(error)
    }
  }
  const watcher = watch(folder, look)
  watcher.on('error', reject)
  const timer = setTimeout(() => resolve(false), withinMs)
  look()
  try {
    return await promise
  } finally {
    clearTimeout(timer)
    watcher.close()
  }
}
