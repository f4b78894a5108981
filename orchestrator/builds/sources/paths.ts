import { PATH_MOST } from './limits.ts'
import { SourceRefused, shown } from './refused.ts'

/** What stands at a path of a source. */
export type EntryKind = 'file' | 'directory' | 'symlink' | 'hardlink'

/**
 * The one way to write a path of a source: relative, with `/`, without `.` and empty names. `''` is the source's root.
 * @throws SourceRefused for everything that could mean another place than it says, on this system or another
 */
export function plainPath(name: string): string {
  refuseCharacters(name)
  if (name.startsWith('/')) throw new SourceRefused('absolute-path', `${shown(name)} is an absolute path`)
  if (/^[A-Za-z]:/.test(name)) throw new SourceRefused('drive-letter', `${shown(name)} begins with a drive letter`)
  const names = name.split('/').filter((part) => part !== '' && part !== '.')
  if (names.includes('..')) throw new SourceRefused('parent-path', `${shown(name)} leads out of the source by ".."`)
  if (Buffer.byteLength(name) > PATH_MOST.path || names.some((part) => Buffer.byteLength(part) > PATH_MOST.name)) {
    throw new SourceRefused(
      'long-path',
      `${shown(name)} is longer than ${PATH_MOST.path} bytes, or a name in it than ${PATH_MOST.name}`,
    )
  }
  if (names.length > PATH_MOST.depth) {
    throw new SourceRefused('deep-path', `${shown(name)} is more than ${PATH_MOST.depth} folders deep`)
  }
  return names.join('/')
}

function refuseCharacters(name: string): void {
  if (/\p{Cc}/u.test(name)) {
    throw new SourceRefused('control-character', `${shown(name)} has a control character (NUL, a line's end …) in it`)
  }
  if (name.includes('\\')) throw new SourceRefused('backslash', `${shown(name)} has a backslash in it`)
  if (name.includes('\ufffd')) throw new SourceRefused('not-text', `${shown(name)} is not UTF-8`)
}

/** All paths of one source, each once, and where its links lead. */
export interface PathBook {
  /** Notes a path. @returns false: it is a folder that was there already @throws SourceRefused */
  add(path: string, kind: EntryKind, target?: string): boolean
  /** Looks at the links when all paths are known. @throws SourceRefused for one that leads out or over another link */
  close(): void
  /** How many there are, with the folders that the paths of others imply. */
  readonly size: number
}

export function createPathBook(): PathBook {
  const kinds = new Map<string, EntryKind>()
  /** Paths as a file system sees them that knows no case, with the path that was first. */
  const folded = new Map<string, string>()
  const targets = new Map<string, string>()

  const claim = (path: string, kind: EntryKind) => {
    const key = path.normalize('NFC').toLowerCase()
    const first = folded.get(key)
    if (first !== undefined && first !== path) {
      throw new SourceRefused('case-clash', `${shown(path)} and ${shown(first)} are the same name on some systems`)
    }
    folded.set(key, path)
    kinds.set(path, kind)
  }

  return {
    add(path, kind, target) {
      for (const folder of foldersOf(path)) {
        const found = kinds.get(folder)
        if (found === undefined) claim(folder, 'directory')
        else if (found === 'symlink') {
          throw new SourceRefused('link-over-link', `${shown(path)} lies beyond the link ${shown(folder)}`)
        } else if (found !== 'directory') {
          throw new SourceRefused('duplicate', `${shown(folder)} is a file, and ${shown(path)} needs it as a folder`)
        }
      }
      const found = kinds.get(path)
      if (found === 'directory' && kind === 'directory') return false
      if (found !== undefined) throw new SourceRefused('duplicate', `${shown(path)} is there twice`)
      if (kind === 'hardlink' && kinds.get(target ?? '') !== 'file') {
        throw new SourceRefused(
          'link-over-link',
          `the hard link ${shown(path)} leads to ${shown(target ?? '')}, which is no file before it`,
        )
      }
      claim(path, kind)
      if (kind === 'symlink') targets.set(path, resolvedTarget(path, target ?? ''))
      return true
    },
    close() {
      for (const [path, target] of targets) {
        const way = [...foldersOf(target), target]
        const other = way.find((step) => kinds.get(step) === 'symlink')
        if (other === undefined) continue
        throw new SourceRefused('link-over-link', `the link ${shown(path)} leads over another link, ${shown(other)}`)
      }
    },
    get size() {
      return kinds.size
    },
  }
}

/** `a/b/c` -> `a`, `a/b` */
function foldersOf(path: string): string[] {
  const names = path.split('/').slice(0, -1)
  return names.map((_, index) => names.slice(0, index + 1).join('/'))
}

/** Where a symbolic link leads, as a path of the source. @throws SourceRefused when that is outside */
function resolvedTarget(path: string, target: string): string {
  const leadsOut = () =>
    new SourceRefused('link-leads-out', `the link ${shown(path)} leads out of the source, to ${shown(target)}`)
  refuseCharacters(target)
  if (target === '' || target.startsWith('/') || /^[A-Za-z]:/.test(target)) throw leadsOut()
  const names = path.split('/').slice(0, -1)
  for (const part of target.split('/')) {
    if (part === '' || part === '.') continue
    if (part !== '..') names.push(part)
    else if (names.pop() === undefined) throw leadsOut()
  }
  return names.join('/')
}
