import { createReadStream } from 'node:fs'
import { lstat, readdir, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { pack } from 'tar-stream'
import { Usage } from './exit.ts'

/** Version control's own folders: large, and no part of what is built. */
const LEFT_OUT = new Set(['.git', '.hg', '.svn'])

/** A folder as a tar, made while it is read. Files, folders and symbolic links; owners and times are not told. */
export function packed(folder: string): Readable {
  const tar = pack()
  addFolder(tar, folder, '').then(
    () => tar.finalize(),
    (error) => tar.destroy(error as Error),
  )
  return Readable.from(tar)
}

async function addFolder(tar: ReturnType<typeof pack>, folder: string, prefix: string): Promise<void> {
  const names = (await readdir(folder)).filter((name) => !LEFT_OUT.has(name)).sort()
  for (const name of names) {
    const path = join(folder, name)
    const kind = await lstat(path)
    const mode = kind.mode & 0o777
    const header = { name: `${prefix}${name}`, mode, mtime: new Date(0) }
    if (kind.isDirectory()) {
      await new Promise<void>((resolve, reject) =>
        tar.entry({ ...header, type: 'directory' }, (error) => (error ? reject(error) : resolve())),
      )
      await addFolder(tar, path, `${prefix}${name}/`)
    } else if (kind.isSymbolicLink()) {
      const linkname = await readlink(path)
      await new Promise<void>((resolve, reject) =>
        tar.entry({ ...header, type: 'symlink', linkname }, (error) => (error ? reject(error) : resolve())),
      )
    } else if (kind.isFile()) await pipeline(createReadStream(path), tar.entry({ ...header, size: kind.size }))
    else throw new Usage(`${path} is neither a file, a folder nor a link`)
  }
}
