import { readdir, readFile, stat } from 'node:fs/promises'
import { basename, dirname, join, relative, resolve, sep } from 'node:path'
import { Usage } from './exit.ts'

/** Bytes and number of files that one `apply` or `check` takes: a catalog is text, images are built elsewhere. */
const MOST = { bytes: 11 * 1024 * 1024, files: 2000 } as const
/** Compose's own names for its file: such a file means its whole folder. */
const COMPOSE_FILES = new Set(['compose.yaml', 'compose.yml', 'docker-compose.yaml', 'docker-compose.yml'])

/**
 * The files that were named, by path relative to what was named, with `/`; what begins with a dot is left out.
 *
 * - a folder: all that is in it
 * - `compose.yaml`: its folder, as NAME/compose.yaml
 * - another file: that file alone
 * @param name `-`: one file called stdin.yaml from standard input
 * @throws Usage when something cannot be read, or is too much
 */
export async function readSourceFiles(name: string): Promise<ReadonlyMap<string, Uint8Array>> {
  if (name === '-') return new Map([['stdin.yaml', await standardInput()]])
  const path = resolve(name)
  const kind = await stat(path).catch((error: Error) => {
    throw new Usage(`${name} cannot be read: ${error.message}`)
  })
  const files = new Map<string, Uint8Array>()
  if (kind.isDirectory()) {
    const nested = (await readdir(path)).some((file) => COMPOSE_FILES.has(file))
    await gather(files, path, nested ? dirname(path) : path)
  } else if (COMPOSE_FILES.has(basename(path))) await gather(files, dirname(path), dirname(dirname(path)))
  else files.set(basename(path), await readFile(path))
  return files
}

async function gather(files: Map<string, Uint8Array>, folder: string, root: string): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true })
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (entry.name.startsWith('.')) continue
    const path = join(folder, entry.name)
    const kind = entry.isSymbolicLink() ? await stat(path) : entry
    if (kind.isDirectory()) await gather(files, path, root)
    else if (kind.isFile()) files.set(relative(root, path).split(sep).join('/'), await readFile(path))
    else throw new Usage(`${path} is neither a file nor a folder`)
    refuseTooMuch(files)
  }
}

function refuseTooMuch(files: ReadonlyMap<string, Uint8Array>): void {
  const bytes = [...files.values()].reduce((sum, content) => sum + content.length, 0)
  if (files.size <= MOST.files && bytes <= MOST.bytes) return
  throw new Usage(
    `expected at most ${MOST.files} files of ${MOST.bytes} bytes together: a catalog holds templates; for what belongs into an image use orctl template build`,
  )
}

async function standardInput(): Promise<Uint8Array> {
  const parts: Buffer[] = []
  for await (const part of process.stdin) parts.push(part as Buffer)
  return Buffer.concat(parts)
}
