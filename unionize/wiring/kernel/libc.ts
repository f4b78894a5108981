import koffi from 'koffi'

/**
 * The calls of the C library that Node does not offer. Each is synchronous, acts on the calling thread and returns -1
 * after a failure, whose number `lastErrno` tells when it is asked at once.
 */
const library = koffi.load('libc.so.6')

export const socket = library.func('int socket(int family, int type, int protocol)') as (
  family: number,
  type: number,
  protocol: number,
) => number

export const setsockopt = library.func(
  'int setsockopt(int fd, int level, int name, const void *value, uint32_t length)',
) as (fd: number, level: number, name: number, value: Buffer, length: number) => number

export const send = library.func('intptr_t send(int fd, const void *bytes, size_t length, int flags)') as (
  fd: number,
  bytes: Buffer,
  length: number,
  flags: number,
) => number

export const recv = library.func('intptr_t recv(int fd, void *bytes, size_t length, int flags)') as (
  fd: number,
  bytes: Buffer,
  length: number,
  flags: number,
) => number

export const close = library.func('int close(int fd)') as (fd: number) => number

/** setns(2). Moves the calling thread only. */
export const setns = library.func('int setns(int fd, int type)') as (fd: number, type: number) => number

/** pidfd_open(2), in the C library since glibc 2.36. */
export const pidfdOpen = library.func('int pidfd_open(int pid, unsigned int flags)') as (
  pid: number,
  flags: number,
) => number

export const poll = library.func('int poll(void *entries, unsigned long count, int timeout)') as (
  entries: Buffer,
  count: number,
  timeoutMs: number,
) => number

/** Ends the whole process at once: for a state in which nothing that follows could be trusted. */
export const abort = library.func('void abort(void)') as unknown as () => never

/** errno of the last call on this thread. */
export function lastErrno(): number {
  return koffi.errno()
}

/** `ENOENT` for 2, and so on. */
export function errnoName(errno: number): string {
  return namesByErrno.get(errno) ?? `errno ${errno}`
}

/** The number of a name such as `ENOENT` on this machine. */
export function errnoOf(name: string): number {
  const errno = koffi.os.errno[name]
  if (errno === undefined) throw new Error(`this system has no ${name}`)
  return errno
}

const namesByErrno = new Map(Object.entries(koffi.os.errno).map(([name, errno]) => [errno, name]))
