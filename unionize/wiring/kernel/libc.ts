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

const SOL_SOCKET = 1
const SO_ATTACH_FILTER = 26
const sockFprog = koffi.struct('sock_fprog', { len: 'uint16_t', filter: 'void *' })
const setsockoptProgram = library.func('setsockopt', 'int', [
  'int',
  'int',
  'int',
  koffi.pointer(sockFprog),
  'uint32_t',
]) as (fd: number, level: number, name: number, program: { len: number; filter: Buffer }, length: number) => number

/** SO_ATTACH_FILTER of socket(7). @param program of so many struct sock_filter of linux/filter.h */
export function attachFilter(fd: number, program: Buffer, instructions: number): number {
  const fprog = { len: instructions, filter: program }
  return setsockoptProgram(fd, SOL_SOCKET, SO_ATTACH_FILTER, fprog, koffi.sizeof(sockFprog))
}

/** connect(2). Blocks; SO_SNDTIMEO of the socket is its limit. */
export const connect = library.func('int connect(int fd, const void *address, uint32_t length)') as (
  fd: number,
  address: Buffer,
  length: number,
) => number

export const send = library.func('intptr_t send(int fd, const void *bytes, size_t length, int flags)') as (
  fd: number,
  bytes: Buffer,
  length: number,
  flags: number,
) => number

export const sendto = library.func(
  'intptr_t sendto(int fd, const void *bytes, size_t length, int flags, const void *to, uint32_t toLength)',
) as (fd: number, bytes: Buffer, length: number, flags: number, to: Buffer, toLength: number) => number

export const bind = library.func('int bind(int fd, const void *address, uint32_t length)') as (
  fd: number,
  address: Buffer,
  length: number,
) => number

/** eventfd(2): a number in the kernel; reading takes it, and waits while it is 0. */
export const eventfd = library.func('int eventfd(unsigned int initial, int flags)') as (
  initial: number,
  flags: number,
) => number

export const recv = library.func('intptr_t recv(int fd, void *bytes, size_t length, int flags)') as (
  fd: number,
  bytes: Buffer,
  length: number,
  flags: number,
) => number

export const read = library.func('intptr_t read(int fd, void *bytes, size_t length)') as (
  fd: number,
  bytes: Buffer,
  length: number,
) => number

export const close = library.func('int close(int fd)') as (fd: number) => number

export const getsockopt = library.func(
  'int getsockopt(int fd, int level, int name, void *value, uint32_t *length)',
) as (fd: number, level: number, name: number, value: Buffer, length: Buffer) => number

/** flock(2). The kernel lets go of it when the process ends, however it ends. */
export const flock = library.func('int flock(int fd, int operation)') as (fd: number, operation: number) => number

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

/** Second names of errors that have another on Linux (asm-generic/errno.h). */
const ALIASES = new Set(['EWOULDBLOCK', 'ENOTSUP', 'EDEADLOCK'])
const namesByErrno = new Map(
  Object.entries(koffi.os.errno)
    .filter(([name]) => !ALIASES.has(name))
    .map(([name, errno]) => [errno, name]),
)
