import { closeSync, constants, fstatSync, openSync, statSync } from 'node:fs'
import { WiringError } from '../errors.ts'
import { abort, close, errnoName, errnoOf, lastErrno, pidfdOpen, poll, setns } from './libc.ts'
import { RouteSocket } from './route-socket.ts'

const CLONE_NEWNET = 0x40000000
const POLLIN = 1
const OWN_NAMESPACE = '/proc/thread-self/ns/net'

/** A network namespace: that of a process, or of a file such as `/run/netns/x`. */
export type Where = { readonly pid: number } | { readonly path: string }

/** A sandbox's network namespace while it is being worked on. Never kept: an open one outlives its container. */
export interface Sandbox {
  /** File descriptor of the namespace. */
  readonly namespace: number
  /** By which the kernel tells namespaces apart while they exist. */
  readonly inode: number
  /** rtnetlink inside it. */
  readonly route: RouteSocket
  /**
   * Calls `work` with the thread itself in the namespace: for its settings in /proc/sys/net, and for sockets of other
   * kinds. Nothing in it may be asynchronous.
   */
  inside<T>(work: () => T): T
}

/** A namespace's file descriptor, to be closed, and inode. */
interface Opened {
  readonly namespace: number
  readonly inode: number
}

/** The way from this worker's network namespace, the host's, into those of sandboxes and back. */
export class Namespaces {
  readonly #home = openSync(OWN_NAMESPACE, 'r')
  readonly #homeInode = fstatSync(this.#home).ino

  /**
   * Calls `work` with a network namespace; a number is a process. The thread itself is away only for the making of a
   * socket, which stays in the namespace where it was made.
   * @throws WiringError `sandbox-gone` (a process), `namespace-gone` (a file), `not-isolated`, `not-permitted`
   */
  visit<T>(place: number | Where, work: (sandbox: Sandbox) => T): T {
    const where = typeof place === 'number' ? { pid: place } : place
    const { namespace, inode } = 'pid' in where ? this.#openProcess(where) : this.#openFile(where)
    try {
      const inside = <R>(work: () => R): R => this.#inside(namespace, where, work)
      const route = inside(() => new RouteSocket())
      try {
        return work({ namespace, inode, route: route.configure(), inside })
      } finally {
        route.close()
      }
    } finally {
      closeSync(namespace)
    }
  }

  /** The pidfd proves that the process named by `pid` was still the same one after its namespace had been opened. */
  #openProcess(where: { readonly pid: number }): Opened {
    const process = pidfdOpen(where.pid, 0)
    if (process < 0) throw cannotEnter(where, errnoName(lastErrno()))
    let namespace: number | undefined
    try {
      namespace = openNamespace(where, `/proc/${where.pid}/ns/net`)
      if (hasExited(process)) throw cannotEnter(where, 'ESRCH')
      return { namespace, inode: this.#refuseHome(namespace, where) }
    } catch (thrown) {
      if (namespace !== undefined) closeSync(namespace)
      throw thrown
    } finally {
      close(process)
    }
  }

  #openFile(where: { readonly path: string }): Opened {
    const namespace = openNamespace(where, where.path)
    try {
      return { namespace, inode: this.#refuseHome(namespace, where) }
    } catch (thrown) {
      closeSync(namespace)
      throw thrown
    }
  }

  /** @returns its inode */
  #refuseHome(namespace: number, where: Where): number {
    const { ino } = fstatSync(namespace)
    if (ino !== this.#homeInode) return ino
    const message =
      'pid' in where
        ? `process ${where.pid} has no network namespace of its own but the host's`
        : `${where.path} is the host's own network namespace`
    throw new WiringError('not-isolated', message)
  }

  #inside<T>(namespace: number, where: Where, work: () => T): T {
    if (setns(namespace, CLONE_NEWNET) < 0) throw cannotEnter(where, errnoName(lastErrno()))
    try {
      return work()
    } finally {
      if (setns(this.#home, CLONE_NEWNET) < 0 || statSync(OWN_NAMESPACE).ino !== this.#homeInode) abort()
    }
  }
}

/** Not waiting: the path may be that of a pipe. */
function openNamespace(where: Where, path: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (thrown) {
    throw cannotEnter(where, (thrown as NodeJS.ErrnoException).code ?? 'EIO')
  }
}

/** A pidfd becomes readable when its process has exited (pidfd_open(2)). A signal meanwhile says nothing about that. */
function hasExited(pidfd: number): boolean {
  const entry = Buffer.alloc(8)
  entry.writeInt32LE(pidfd, 0)
  entry.writeInt16LE(POLLIN, 4)
  for (;;) {
    const ready = poll(entry, 1, 0)
    if (ready >= 0 || lastErrno() !== errnoOf('EINTR')) return ready !== 0
  }
}

/** setns(2) answers EINVAL for a file that is no network namespace, such as one of `ip netns` after its unmount. */
function cannotEnter(where: Where, errno: string): WiringError {
  const what = 'pid' in where ? `the network namespace of process ${where.pid}` : `network namespace ${where.path}`
  if (errno === 'EPERM' || errno === 'EACCES') {
    return new WiringError(
      'not-permitted',
      `cannot enter ${what} (${errno}): CAP_SYS_ADMIN and CAP_SYS_PTRACE are needed`,
    )
  }
  const gone = errno === 'ESRCH' || errno === 'ENOENT' || errno === 'EINVAL'
  if (!gone) return new WiringError('kernel-refused', `cannot enter ${what} (${errno})`)
  return 'pid' in where
    ? new WiringError('sandbox-gone', `cannot enter ${what} (${errno}): the process is gone`)
    : new WiringError('namespace-gone', `cannot enter ${what} (${errno}): it is gone`)
}
