import { createReadStream } from 'node:fs'
import { readdir, readFile, realpath, stat } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path'
import type { Readable } from 'node:stream'
import { wording } from '../../common/errors.ts'
import { isBeside } from '../catalog/sources.ts'
import { Usage } from './exit.ts'

/** Bytes and number of files that one `apply` or `check` takes: a catalog is text, images are built elsewhere. */
const MOST = { bytes: 11 * 1024 * 1024, files: 2000 } as const
/** Compose's own names for its file: such a file means its whole folder. */
const COMPOSE_FILES = new Set(['compose.yaml', 'compose.yml', 'docker-compose.yaml', 'docker-compose.yml'])
const STDIN = 'stdin.yaml'

/** Files that a person named. */
export interface SourceFiles {
  /** Bytes by path relative to what was named, with `/`. */
  readonly files: ReadonlyMap<string, Uint8Array>
  /** Such a path as that person would find it from where they are; of standard input `<stdin>`. */
  shown(path: string): string
}

/**
 * The files that were named. What editors and version control leave beside files is left out; links are followed.
 *
 * - a folder: all that is in it
 * - `compose.yaml`: its folder, as NAME/compose.yaml
 * - another file: that file alone
 * - `-`: one file, stdin.yaml, from standard input; so is what is no file, such as a pipe
 * @throws Usage when something cannot be read, comes twice, or is too much
 */
export async function readSourceFiles(names: readonly string[]): Promise<SourceFiles> {
  const reading = new Reading()
  for (const name of names) await reading.name(name)
  return { files: reading.files, shown: (path) => reading.places.get(path) ?? path }
}

class Reading {
  readonly files = new Map<string, Uint8Array>()
  readonly places = new Map<string, string>()
  #bytes = 0

  async name(name: string): Promise<void> {
    if (name === '-') return await this.#stream(STDIN, '<stdin>', process.stdin)
    const path = resolve(name)
    const kind = await readable(name, () => stat(path))
    const shown = (file: string) => (isAbsolute(name) ? file : relative('', file))
    if (kind.isDirectory()) {
      const nested = (await readable(name, () => readdir(path))).some((file) => COMPOSE_FILES.has(file))
      await this.#gather(path, nested ? dirname(path) : path, shown, [])
    } else if (!kind.isFile()) await this.#stream(STDIN, name, createReadStream(path))
    else if (COMPOSE_FILES.has(basename(path))) await this.#gather(dirname(path), dirname(dirname(path)), shown, [])
    else await this.#file(path, basename(path), shown(path), kind.size)
  }

  async #gather(folder: string, root: string, shown: (path: string) => string, above: readonly string[]) {
    const real = await readable(shown(folder), () => realpath(folder))
    if (above.includes(real)) throw new Usage(`${shown(folder)} leads back into a folder that it lies in`)
    const names = (await readable(shown(folder), () => readdir(folder))).filter((name) => !isBeside(name)).sort()
    for (const name of names) {
      const path = join(folder, name)
      const kind = await readable(shown(path), () => stat(path))
      if (kind.isDirectory()) await this.#gather(path, root, shown, [...above, real])
      else if (kind.isFile()) await this.#file(path, relative(root, path).split(sep).join('/'), shown(path), kind.size)
      else throw new Usage(`${shown(path)} is neither a file nor a folder`)
    }
  }

  async #file(path: string, key: string, shown: string, size: number): Promise<void> {
    this.#refuseTooMuch(size)
    this.#keep(key, shown, await readable(shown, () => readFile(path)))
  }

  async #stream(key: string, shown: string, stream: Readable): Promise<void> {
    const parts: Buffer[] = []
    let bytes = 0
    await readable(shown, async () => {
      for await (const part of stream) {
        bytes += (part as Buffer).length
        this.#refuseTooMuch(bytes)
        parts.push(part as Buffer)
      }
    })
    this.#keep(key, shown, Buffer.concat(parts))
  }

  #keep(key: string, shown: string, content: Uint8Array): void {
    const before = this.places.get(key)
    if (before !== undefined) {
      throw new Usage(before === shown ? `${shown} was named twice` : `${shown} and ${before} are both ${key}`)
    }
    this.#refuseTooMuch(content.length)
    this.files.set(key, content)
    this.places.set(key, shown)
    this.#bytes += content.length
  }

  #refuseTooMuch(more: number): void {
    if (this.files.size < MOST.files && this.#bytes + more <= MOST.bytes) return
    throw new Usage(
      `expected at most ${MOST.files} files of ${MOST.bytes / 1024 / 1024} MiB together: a catalog holds templates; for what belongs into an image use orctl template build`,
    )
  }
}

async function readable<T>(shown: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (error) {
    if (error instanceof Usage) throw error
    throw new Usage(`${shown} cannot be read: ${wording(error)}`)
  }
}
