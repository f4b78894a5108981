import { closeSync, constants, fchownSync, openSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { WiringError } from '../errors.ts'
import { errnoName, flock, lastErrno } from '../kernel/libc.ts'

const { O_WRONLY, O_CREAT, O_NOFOLLOW } = constants
/** Of flock(2), sys/file.h. */
const LOCK_EX = 2
const LOCK_NB = 4
/** A wiring takes milliseconds; who holds the lock longer than this is stuck. */
const PATIENCE_MS = 30_000
const PAUSE_MS = 1

const never = new Int32Array(new SharedArrayBuffer(4))

/**
 * Does `work` while nobody else, in any process, changes a wiring that is kept in this directory. One lock for all
 * namespaces: bridges and parents are shared among them, and the kernel changes one thing at a time anyway.
 * @throws WiringError `busy`, `state-unwritable`
 */
export function locked<T>(directory: string, work: () => T): T {
  const path = join(directory, '.lock')
  let file: number
  try {
    file = openFor(path, directory)
  } catch (thrown) {
    const errno = (thrown as NodeJS.ErrnoException).code ?? 'EIO'
    throw new WiringError('state-unwritable', `cannot lock ${path} (${errno}): nothing was changed`, { cause: thrown })
  }
  try {
    take(file, path)
    return work()
  } finally {
    closeSync(file)
  }
}

/** The command runs as root and the daemon does not: both must be able to open it. */
function openFor(path: string, directory: string): number {
  // Not through a link: whoever owns the directory would be given what it leads to.
  const file = openSync(path, O_WRONLY | O_CREAT | O_NOFOLLOW, 0o600)
  if (process.getuid?.() === 0) {
    const { uid, gid } = statSync(directory)
    fchownSync(file, uid, gid)
  }
  return file
}

function take(file: number, path: string): void {
  const deadline = performance.now() + PATIENCE_MS
  while (flock(file, LOCK_EX | LOCK_NB) < 0) {
    const errno = errnoName(lastErrno())
    if (errno !== 'EAGAIN' && errno !== 'EWOULDBLOCK' && errno !== 'EINTR') {
      throw new WiringError('state-unwritable', `cannot lock ${path} (${errno}): nothing was changed`)
    }
    if (performance.now() > deadline) {
      const message = `another process has been changing wirings for ${PATIENCE_MS / 1000} s: see who holds ${path}`
      throw new WiringError('busy', message, { retryable: true })
    }
    Atomics.wait(never, 0, 0, PAUSE_MS)
  }
}
