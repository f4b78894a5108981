import { closeSync, constants, openSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { WiringError } from '../wiring/errors.ts'
import { State } from '../wiring/interfaces/state.ts'
import { errnoName, flock, lastErrno } from '../wiring/kernel/libc.ts'

const { O_WRONLY, O_CREAT, O_NOFOLLOW } = constants
/** Of flock(2), sys/file.h. */
const LOCK_EX = 2
const LOCK_NB = 4
const PATIENCE_MS = 30_000
const PAUSE_MS = 5

/**
 * Does `work` while no other command reads what a target was to have, changes one interface of it, and writes it back: of
 * two such commands at once one would undo the other. Apart from the engine's own lock, which is held for one call only.
 * @param directory that of the state
 * @throws WiringError `busy`, `state-unwritable`
 */
export async function whileEditing<T>(directory: string, work: () => Promise<T>): Promise<T> {
  new State(directory).prepare()
  const path = join(directory, '.edit')
  const file = open(path)
  try {
    const deadline = performance.now() + PATIENCE_MS
    while (flock(file, LOCK_EX | LOCK_NB) < 0) {
      const errno = errnoName(lastErrno())
      if (!['EAGAIN', 'EWOULDBLOCK', 'EINTR'].includes(errno)) throw unlockable(path, errno)
      if (performance.now() > deadline) {
        const message = `another command has been changing wirings for ${PATIENCE_MS / 1000} s: see who holds ${path}`
        throw new WiringError('busy', message, { retryable: true })
      }
      await delay(PAUSE_MS)
    }
    return await work()
  } finally {
    closeSync(file)
  }
}

function open(path: string): number {
  try {
    return openSync(path, O_WRONLY | O_CREAT | O_NOFOLLOW, 0o600)
  } catch (thrown) {
    throw unlockable(path, (thrown as NodeJS.ErrnoException).code ?? 'EIO')
  }
}

function unlockable(path: string, errno: string): WiringError {
  return new WiringError('state-unwritable', `cannot lock ${path} (${errno}): nothing was changed`)
}
