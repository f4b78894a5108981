import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { chmod, mkdir, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { received, type SentError, WiringError } from '../errors.ts'
import { type DhcpInterface, dhcpcdConfiguration, HOOK } from './configuration.ts'

export interface Launching {
  /** Path of the network namespace. */
  readonly namespace: string
  /** The client's folder on the host. */
  readonly folder: string
  readonly interfaceName: string
}

export interface Launched {
  readonly code: number | null
  readonly signal: string | null
  readonly said: string
}

const PROGRAM = '/usr/sbin/dhcpcd'
/** The running file is TypeScript or what was compiled from it; `new URL` is not rewritten by the compiler. */
const WORKER = new URL(import.meta.url.endsWith('.ts') ? './launch-worker.ts' : './launch-worker.js', import.meta.url)

/**
 * Starts dhcpcd in a network namespace, with a root of its own (see kernel/seclusion.ts). It goes on when this process
 * ends, and finds its former lease in the folder.
 * @returns the id of its process
 * @throws WiringError `dhcp-client-missing`, `dhcp-client-failed`, `namespace-gone`, `not-permitted`, `kernel-refused`
 */
export async function launchClient(namespace: string, folder: string, wanted: DhcpInterface): Promise<number> {
  if (!existsSync(PROGRAM)) {
    throw new WiringError('dhcp-client-missing', `${PROGRAM} is missing: install it with "apt install dhcpcd-base"`)
  }
  await prepare(folder, wanted)
  const data: Launching = { namespace, folder, interfaceName: wanted.name }
  const worker = new Worker(WORKER, { workerData: data, trackUnmanagedFds: false })
  try {
    const [message] = (await once(worker, 'message')) as [{ launched: Launched } | { error: SentError }]
    if ('error' in message) throw received(message.error)
    return pidOf(folder, wanted.name, message.launched)
  } finally {
    await worker.terminate()
  }
}

async function prepare(folder: string, wanted: DhcpInterface): Promise<void> {
  for (const below of ['root', 'db', 'run']) await mkdir(join(folder, below), { recursive: true, mode: 0o700 })
  await rm(join(folder, 'run'), { recursive: true })
  await mkdir(join(folder, 'run', 'dhcpcd'), { recursive: true, mode: 0o700 })
  await writeFile(join(folder, 'dhcpcd.conf'), dhcpcdConfiguration(wanted))
  await writeFile(join(folder, 'hook'), HOOK)
  await chmod(join(folder, 'hook'), 0o700)
  await writeFile(join(folder, 'log'), '', { flag: 'a' })
  await truncate(join(folder, 'log'))
}

function pidOf(folder: string, name: string, { code, signal, said }: Launched): number {
  const pid = code === 0 ? Number(readIfThere(join(folder, 'run', 'dhcpcd', `${name}.pid`))) : 0
  if (Number.isInteger(pid) && pid > 0) return pid
  const words = [said, readIfThere(join(folder, 'log'))].join(' ').replaceAll(/\s+/g, ' ').trim()
  const how = signal === null ? `ended with ${code}` : `was ended by ${signal}`
  throw new WiringError('dhcp-client-failed', `dhcpcd for ${name} ${how}: ${words || 'it said nothing'}`, {
    retryable: true,
  })
}

function readIfThere(path: string): string {
  return existsSync(path) ? readFileSync(path, 'utf8') : ''
}
