import { closeSync, lstatSync, mkdirSync, openSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import koffi from 'koffi'
import { WiringError } from '../errors.ts'
import { errnoName, lastErrno, setns } from './libc.ts'

/*
 * A root file system of its own for a program that runs in somebody else's network namespace. It holds what a program of
 * the system needs to run and one folder to write to; so the program can change no file of the host, such as
 * /etc/resolv.conf, and keeps no mount of the host alive, such as another container's.
 */

const library = koffi.load('libc.so.6')
const unshare = library.func('int unshare(int flags)') as (flags: number) => number
const chdir = library.func('int chdir(const char *path)') as (path: string) => number
const umount2 = library.func('int umount2(const char *target, int flags)') as (target: string, flags: number) => number
const mount = library.func(
  'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
) as (source: string, target: string, type: string | null, flags: number, data: string | null) => number
const pivotRoot = library.func('long syscall(long number, const char *newRoot, const char *putOld)') as (
  number: number,
  newRoot: string,
  putOld: string,
) => number

/** Numbers of linux/sched.h and linux/mount.h. */
const CLONE_NEWNS = 0x20000
const CLONE_NEWNET = 0x40000000
const MS_RDONLY = 0x1
const MS_NOSUID = 0x2
const MS_NODEV = 0x4
const MS_NOEXEC = 0x8
const MS_REMOUNT = 0x20
const MS_BIND = 0x1000
const MS_REC = 0x4000
const MS_PRIVATE = 0x40000
const MNT_DETACH = 0x2
/** pivot_root(2) has no function in the C library; its number by architecture (asm/unistd.h). */
const SYS_PIVOT_ROOT: Readonly<Partial<Record<NodeJS.Architecture, number>>> = { x64: 155, arm64: 41 }

/** Where the program sees its folder. */
export const OWN_FOLDER = '/client'

/**
 * Moves the calling thread, and what it starts from then on, to a root of its own and into a network namespace. There is
 * no way back: the thread is to end soon. Needs CAP_SYS_ADMIN.
 * @param namespace path of the network namespace
 * @param folder is seen as {@link OWN_FOLDER} and may be written to; it has an empty folder `root`
 * @param links symbolic links to make, `/run` → `/client/run`
 * @throws WiringError `namespace-gone`, `not-permitted`, `kernel-refused`
 */
export function seclude(namespace: string, folder: string, links: Readonly<Record<string, string>>): void {
  const network = openNamespace(namespace)
  try {
    checked('have mounts of its own', unshare(CLONE_NEWNS))
    checked('make its mounts private', mount('none', '/', null, MS_REC | MS_PRIVATE, null))
    const root = join(folder, 'root')
    checked('mount its root', mount('tmpfs', root, 'tmpfs', MS_NOSUID | MS_NODEV, 'mode=0755,size=256k'))
    populate(root, folder)
    for (const [path, to] of Object.entries(links)) {
      mkdirSync(join(root, path, '..'), { recursive: true })
      symlinkSync(to, join(root, path))
    }
    checked('go to its root', chdir(root))
    const number = SYS_PIVOT_ROOT[process.arch]
    if (number === undefined) throw new WiringError('not-supported', `not made for processors of type ${process.arch}`)
    checked('change its root', pivotRoot(number, '.', '.'))
    checked('leave the root of the host', umount2('.', MNT_DETACH))
    checked('go to its root', chdir('/'))
    checked('enter the network namespace', setns(network, CLONE_NEWNET))
  } finally {
    closeSync(network)
  }
}

function populate(root: string, folder: string): void {
  for (const path of ['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64']) {
    const found = lstatSync(path, { throwIfNoEntry: false })
    if (found?.isSymbolicLink()) symlinkSync(readlinkSync(path), join(root, path))
    else if (found?.isDirectory()) bind(path, root, MS_RDONLY | MS_NOSUID)
  }
  for (const path of ['/etc/ld.so.cache', '/dev/null', '/dev/urandom']) {
    if (lstatSync(path, { throwIfNoEntry: false }) === undefined) continue
    mkdirSync(join(root, path, '..'), { recursive: true })
    writeFileSync(join(root, path), '')
    checked(`show it ${path}`, mount(path, join(root, path), null, MS_BIND, null))
  }
  mkdirSync(join(root, 'proc'))
  // For /proc/net and /proc/sys/net, which show the namespace of whoever looks; no processes but its own.
  const flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
  checked('mount its /proc', mount('proc', join(root, 'proc'), 'proc', flags, 'hidepid=2'))
  mkdirSync(join(root, OWN_FOLDER))
  checked('show it its folder', mount(folder, join(root, OWN_FOLDER), null, MS_BIND, null))
}

function bind(path: string, root: string, flags: number): void {
  const target = join(root, path)
  mkdirSync(target, { recursive: true })
  checked(`show it ${path}`, mount(path, target, null, MS_BIND | MS_REC, null))
  if (flags !== 0) checked(`protect ${path}`, mount('none', target, null, MS_BIND | MS_REMOUNT | flags, null))
}

function openNamespace(path: string): number {
  try {
    return openSync(path, 'r')
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException
    const denied = code === 'EACCES' || code === 'EPERM'
    const words = denied ? 'CAP_SYS_ADMIN and CAP_SYS_PTRACE are needed' : 'it is gone'
    throw new WiringError(denied ? 'not-permitted' : 'namespace-gone', `cannot open ${path} (${code}): ${words}`)
  }
}

function checked(purpose: string, result: number): void {
  if (result >= 0) return
  const errno = errnoName(lastErrno())
  const denied = errno === 'EPERM' || errno === 'EACCES'
  throw new WiringError(
    denied ? 'not-permitted' : 'kernel-refused',
    `the DHCP client cannot ${purpose} (${errno})${denied ? ': CAP_SYS_ADMIN is needed' : ''}`,
  )
}
