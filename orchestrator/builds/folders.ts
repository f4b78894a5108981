import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CONTEXT_FILE } from './sources/source.ts'

/**
 * The folders of builds: each has its log and, until it has ended, its context. A build is this orchestrator's, and not of
 * another one on the same database, when its folder is here.
 */
export interface BuildFolders {
  /** Makes the folder. @returns its path */
  make(id: string): Promise<string>
  /** The context is complete: it is for an image of that name. */
  seal(id: string, image: string): Promise<void>
  /** The image that a complete context is for; null: there is none. */
  sealed(id: string): Promise<string | null>
  context(id: string): string
  log(id: string): string
  /** Where git keeps what it fetches. */
  repository(id: string): string
  /** Removes everything but the log. */
  strip(id: string): Promise<void>
  remove(id: string): Promise<void>
  has(id: string): Promise<boolean>
  all(): Promise<readonly string[]>
}

export function buildFolders(directory: string): BuildFolders {
  const path = (id: string, ...below: string[]) => join(directory, id, ...below)
  const all = async () => {
    await mkdir(directory, { recursive: true, mode: 0o700 })
    return await readdir(directory)
  }
  return {
    async make(id) {
      await mkdir(path(id), { recursive: true, mode: 0o700 })
      return path(id)
    },
    async seal(id, image) {
      await writeFile(path(id, 'image.part'), image, { mode: 0o600 })
      await rename(path(id, 'image.part'), path(id, 'image'))
    },
    async sealed(id) {
      try {
        await stat(path(id, CONTEXT_FILE))
        return await readFile(path(id, 'image'), 'utf8')
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
        throw error
      }
    },
    context: (id) => path(id, CONTEXT_FILE),
    log: (id) => path(id, 'log'),
    repository: (id) => path(id, 'git'),
    async strip(id) {
      const names = await readdir(path(id)).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return []
        throw error
      })
      for (const name of names) if (name !== 'log') await rm(path(id, name), { recursive: true, force: true })
    },
    remove: (id) => rm(path(id), { recursive: true, force: true }),
    has: async (id) => (await all()).includes(id),
    all,
  }
}
