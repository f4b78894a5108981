import { WiringError } from '../errors.ts'
import { close, errnoName, eventfd, lastErrno, pidfdOpen, poll, read } from './libc.ts'

const EFD_CLOEXEC_NONBLOCK = 0o2000000 | 0o4000
const POLLIN = 1
/** struct pollfd of poll(2). */
const ENTRY = 8

/** Blocks until one of a changing set of processes has exited, or it is woken, or time is up. Holds no namespace open. */
export class Exits {
  /**
   * An event descriptor: eight bytes, a number that is not 0, written to it by any thread end {@link wait}. {@link close}
   * leaves it open: whoever writes to it closes it, so that what is written late goes to nobody else's file.
   */
  readonly wake: number
  readonly #pidfds = new Map<number, number>()

  constructor() {
    this.wake = eventfd(0, EFD_CLOEXEC_NONBLOCK)
    if (this.wake < 0)
      throw new WiringError('kernel-refused', `cannot make an event descriptor (${errnoName(lastErrno())})`)
  }

  /** @returns false: there is no such process */
  add(pid: number): boolean {
    if (this.#pidfds.has(pid)) return true
    const opened = pidfdOpen(pid, 0)
    if (opened >= 0) {
      this.#pidfds.set(pid, opened)
      return true
    }
    const errno = errnoName(lastErrno())
    if (errno === 'ESRCH') return false
    throw new WiringError('kernel-refused', `cannot watch process ${pid} (${errno})`)
  }

  remove(pid: number): void {
    const opened = this.#pidfds.get(pid)
    if (opened === undefined) return
    this.#pidfds.delete(pid)
    close(opened)
  }

  /** The processes that have exited, which are watched no more; none when it was woken or these milliseconds have passed. */
  wait(longestMs: number): number[] {
    const watched = [...this.#pidfds]
    const entries = Buffer.alloc(ENTRY * (watched.length + 1))
    for (const [at, fd] of [this.wake, ...watched.map(([, fd]) => fd)].entries()) {
      entries.writeInt32LE(fd, at * ENTRY)
      entries.writeInt16LE(POLLIN, at * ENTRY + 4)
    }
    if (poll(entries, watched.length + 1, longestMs) < 0) return []
    if (entries.readInt16LE(6) !== 0) read(this.wake, Buffer.alloc(8), 8)
    const exited = watched.filter((_, at) => entries.readInt16LE((at + 1) * ENTRY + 6) !== 0).map(([pid]) => pid)
    for (const pid of exited) this.remove(pid)
    return exited
  }

  close(): void {
    for (const pid of this.#pidfds.keys()) this.remove(pid)
  }
}
