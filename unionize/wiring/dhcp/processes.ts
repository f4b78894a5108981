import { readFileSync, statSync } from 'node:fs'
import { WiringError } from '../errors.ts'
import type { Namespace } from '../interfaces/interfaces.ts'

/** One process and no other: ids are used again, but not with the same time of start. */
export interface ProcessId {
  readonly pid: number
  /** Clock ticks since the machine started (field 22 of proc_pid_stat(5)). */
  readonly startedAt: number
}

/** @returns null: there is no such process, or it has ended and waits to be reaped */
export function identify(pid: number): ProcessId | null {
  let text: string
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ESRCH') return null
    throw error
  }
  // The name before it may hold anything, spaces and brackets too.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return fields[0] === 'Z' || fields[0] === 'X' ? null : { pid, startedAt: Number(fields[19]) }
}

export function runs(process: ProcessId): boolean {
  return identify(process.pid)?.startedAt === process.startedAt
}

export function pathOf(namespace: Namespace): string {
  return 'pid' in namespace ? `/proc/${namespace.pid}/ns/net` : namespace.path
}

/**
 * Which network namespace it is (network_namespaces(7): device and inode); null: none any more.
 * @throws WiringError `not-permitted`
 */
export function namespaceId(path: string): string | null {
  try {
    const { dev, ino } = statSync(path)
    return `${dev}:${ino}`
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ESRCH') return null
    if (code === 'EACCES' || code === 'EPERM') {
      throw new WiringError(
        'not-permitted',
        `cannot look at the network namespace ${path} (${code}): CAP_SYS_PTRACE is needed`,
      )
    }
    throw error
  }
}
