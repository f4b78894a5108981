import { closeSync, constants, fstatSync, ftruncateSync, openSync, readFileSync, statSync, writeSync } from 'node:fs'
import { WiringError } from '../errors.ts'
import { openBeneath } from '../kernel/open-beneath.ts'
import { identify } from './processes.ts'

/**
 * The /etc/resolv.conf of a container, seen through a process of it. The engine mounts the file into the container, so it
 * is written in place: a new file beside it would not be seen.
 */

const PATH = 'etc/resolv.conf'
/** Longest that is kept and put back; a real one has some hundred bytes. */
const MAX_BYTES = 64 * 1024

/** Why a container's resolver is left as it is. */
export type LeftAlone =
  /** It is the host's own file: names there are the host's business. */
  | 'host'
  /** There is none, or it is a link or no plain file. */
  | 'unsuitable'
  /** The process is gone. */
  | 'gone'

/**
 * Reads the file and, when `change` gives a new text, writes that.
 * @returns what was there, or why nothing was done
 * @throws WiringError `not-permitted`
 */
export function changeResolver(
  pid: number,
  change: (former: string) => string | null,
): { readonly former: string } | LeftAlone {
  const before = identify(pid)
  const root = before === null ? null : rootOf(pid)
  if (before === null || root === null) return 'gone'
  try {
    if (identify(pid)?.startedAt !== before.startedAt) return 'gone'
    const file = openBeneath(root, PATH)
    if (typeof file === 'string') {
      if (file === 'EACCES' || file === 'EPERM') throw denied(pid, file)
      return 'unsuitable'
    }
    try {
      return rewrite(file, change)
    } finally {
      closeSync(file)
    }
  } finally {
    closeSync(root)
  }
}

function rewrite(file: number, change: (former: string) => string | null): { former: string } | LeftAlone {
  const found = fstatSync(file)
  if (!found.isFile() || found.size > MAX_BYTES) return 'unsuitable'
  const host = statSync('/etc/resolv.conf', { throwIfNoEntry: false })
  if (host !== undefined && host.dev === found.dev && host.ino === found.ino) return 'host'
  const former = readFileSync(file, 'utf8')
  const text = change(former)
  if (text !== null && text !== former) {
    // A reader may see a part for a moment; longer first, so that a full disk leaves the old text whole.
    const bytes = Buffer.from(text)
    writeSync(file, bytes, 0, bytes.length, 0)
    ftruncateSync(file, bytes.length)
  }
  return { former }
}

function rootOf(pid: number): number | null {
  try {
    return openSync(`/proc/${pid}/root`, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch (thrown) {
    const { code = 'EIO' } = thrown as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ESRCH') return null
    throw denied(pid, code)
  }
}

function denied(pid: number, errno: string): WiringError {
  return new WiringError(
    'not-permitted',
    `cannot write the resolv.conf of process ${pid} (${errno}): CAP_DAC_OVERRIDE and CAP_SYS_PTRACE are needed`,
  )
}
