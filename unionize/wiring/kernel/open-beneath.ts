import { constants } from 'node:fs'
import koffi from 'koffi'
import { errnoName, lastErrno } from './libc.ts'

const library = koffi.load('libc.so.6')
const syscall = library.func('long syscall(long number, int folder, const char *path, void *how, size_t size)') as (
  number: number,
  folder: number,
  path: string,
  how: Buffer,
  size: number,
) => number

/** openat2(2), the same number on every architecture since Linux 5.6; numbers of linux/openat2.h. */
const SYS_OPENAT2 = 437
const RESOLVE_NO_MAGICLINKS = 0x2n
const RESOLVE_NO_SYMLINKS = 0x4n
const RESOLVE_BENEATH = 0x8n
const OPEN_HOW = 24

/**
 * Opens a file of somebody who is not trusted, for reading and writing: below `folder`, through no symbolic link, never a
 * device or pipe that would hold us up.
 * @param folder file descriptor of a folder
 * @returns the file descriptor, or the name of the error
 */
export function openBeneath(folder: number, path: string): number | string {
  const how = Buffer.alloc(OPEN_HOW)
  const flags = constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY | O_CLOEXEC
  how.writeBigUInt64LE(BigInt(flags), 0)
  how.writeBigUInt64LE(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS, 16)
  const opened = syscall(SYS_OPENAT2, folder, path, how, how.length)
  return opened < 0 ? errnoName(lastErrno()) : opened
}

/** asm-generic/fcntl.h; Node does not tell it. */
const O_CLOEXEC = 0o2000000
