import { closeSync, fstatSync, openSync, statSync } from 'node:fs'
import { WiringError } from '../errors.ts'
import { abort, close, errnoName, lastErrno, pidfdOpen, poll, setns } from './libc.ts'
import { RouteSocket } from './route-socket.ts'

const CLONE_NEWNET = 0x40000000
const POLLIN = 1
const OWN_NAMESPACE = '/proc/thread-self/ns/net'

/** A sandbox's network namespace while it is being worked on. Never kept: an open one outlives its container. */
export interface Sandbox {
  /** File descriptor of the namespace. */
  readonly namespace: number
  /** rtnetlink inside it. */
  readonly route: RouteSocket
}

/** The way from this worker's network namespace, the host's, into those of sandboxes and back. */
export class Namespaces {
  readonly #home = openSync(OWN_NAMESPACE, 'r')
  readonly #homeInode = fstatSync(this.#home).ino

  /**
   * Calls `work` with the network namespace of process `pid`. The thread itself is away only for the making of a
   * socket, which stays in the namespace where it was made.
   * @throws WiringError `sandbox-gone`, `not-isolated`, `not-permitted`
   */
  visit<T>(pid: number, work: (sandbox: Sandbox) => T): T {
    const namespace = this.#open(pid)
    try {
      const route = this.#socketIn(namespace, pid)
      try {
        return work({ namespace, route: route.configure() })
      } finally {
        route.close()
      }
    } finally {
      closeSync(namespace)
    }
  }

  /** The pidfd proves that the process named by `pid` was still the same one after its namespace had been opened. */
  #open(pid: number): number {
    const process = pidfdOpen(pid, 0)
    if (process < 0) throw cannotEnter(pid, errnoName(lastErrno()))
    let namespace: number | undefined
    try {
      namespace = openNamespace(pid)
      if (hasExited(process)) throw cannotEnter(pid, 'ESRCH')
      if (fstatSync(namespace).ino === this.#homeInode) {
        throw new WiringError('not-isolated', `process ${pid} has no network namespace of its own but the host's`)
      }
      return namespace
    } catch (thrown) {
      if (namespace !== undefined) closeSync(namespace)
      throw thrown
    } finally {
      close(process)
    }
  }

  #socketIn(namespace: number, pid: number): RouteSocket {
    if (setns(namespace, CLONE_NEWNET) < 0) throw cannotEnter(pid, errnoName(lastErrno()))
    try {
      return new RouteSocket()
    } finally {
      if (setns(this.#home, CLONE_NEWNET) < 0 || statSync(OWN_NAMESPACE).ino !== this.#homeInode) abort()
    }
  }
}

function openNamespace(pid: number): number {
  try {
    return openSync(`/proc/${pid}/ns/net`, 'r')
  } catch (thrown) {
    throw cannotEnter(pid, (thrown as NodeJS.ErrnoException).code ?? 'EIO')
  }
}

/** A pidfd becomes readable when its process has exited (pidfd_open(2)). */
function hasExited(pidfd: number): boolean {
  const entry = Buffer.alloc(8)
  entry.writeInt32LE(pidfd, 0)
  entry.writeInt16LE(POLLIN, 4)
  return poll(entry, 1, 0) !== 0
}

function cannotEnter(pid: number, errno: string): WiringError {
  if (errno === 'EPERM' || errno === 'EACCES') {
    return new WiringError(
      'not-permitted',
      `cannot enter the network namespace of process ${pid} (${errno}): CAP_SYS_ADMIN and CAP_SYS_PTRACE are needed`,
    )
  }
  const gone = errno === 'ESRCH' || errno === 'ENOENT' || errno === 'EINVAL'
  return new WiringError(
    gone ? 'sandbox-gone' : 'kernel-refused',
    `cannot enter the network namespace of process ${pid} (${errno})${gone ? ': the process is gone' : ''}`,
  )
}
