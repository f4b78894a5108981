import { closeSync, existsSync, openSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import koffi from 'koffi'
import { cgroupProcesses, removeCgroup } from './cgroups.ts'
import { LabError, run } from './command.ts'
import type { Say } from './engine.ts'
import { cgroupOf, diskFolder, LabMachine } from './machine.ts'
import { type MachineImage, machineImage } from './machine-image.ts'
import { commandLine, inNamespace, listNamespaces, removeNamespace } from './namespaces.ts'
import { runDirectory } from './places.ts'

export interface MachinesOptions {
  readonly image?: MachineImage
  readonly say?: Say
  readonly signal?: AbortSignal
  /** Network namespace that gets the bridge of the machines; a new one of the lab unless told. */
  readonly lan?: string
  /** MiB of each one's disk; 3,000 unless told. It takes room only as it is used. */
  readonly diskMiB?: number
  /** Units to enable at the first boot, such as `docker.service`; none unless told. */
  readonly services?: readonly string[]
  /** Shell commands at the first boot of a machine, before systemd: `$ROOT` is its root file system. */
  readonly firstBoot?: (machine: { readonly name: string; readonly address: string }) => string
  /** False: they are made, but not powered on. */
  readonly start?: boolean
}

/** The network that machines share. */
export const MACHINES_NETWORK = { bridge: 'br-machines', gateway: 'fd00:5::1', prefix: 'fd00:5::/64' } as const

/** Most machines of one lab. */
const MOST = 64

/**
 * Machines with systemd, sshd and container engines, as real as they get without virtualisation: systemd-nspawn on an own
 * disk, each in its own network namespace on a bridge. Nothing is added to the machine's own network.
 */
export class LabMachines {
  readonly prefix: string
  /** Network namespace with the bridge: from here machines are reached. */
  readonly lan: string
  readonly machines: readonly LabMachine[]
  /** File of the private key that root of each machine lets in (Ed25519, OpenSSH's format, no passphrase). */
  readonly key: string

  private constructor(prefix: string, lan: string, machines: readonly LabMachine[], key: string) {
    this.prefix = prefix
    this.lan = lan
    this.machines = machines
    this.key = key
  }

  /**
   * Clears what a killed run left, makes `n` machines (`PREFIX-m1` …, fd00:5::11 …) and powers them on; resolves when
   * they let us in.
   */
  static async open(prefix: string, n: number, options: MachinesOptions = {}): Promise<LabMachines> {
    if (!(n >= 1 && n <= MOST)) throw new LabError('too-many', `${n} machines: 1 to ${MOST} are possible`)
    const { signal } = options
    await clearMachines(prefix)
    const image = await machineImage(options.image ?? {}, options.say ?? (() => undefined), signal)
    const lan = options.lan ?? `${prefix}-lan`
    if (options.lan === undefined) await run('ip', ['netns', 'add', lan], { signal })
    await makeBridge(lan, signal)
    const key = join(runDirectory(prefix, 'machines'), 'key')
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'lab', '-f', key], { signal })
    const machines: LabMachine[] = []
    for (let i = 1; i <= n; i++) {
      const name = `${prefix}-m${i}`
      const address = `fd00:5::${(16 + i).toString(16)}`
      await plug(name, address, lan, i, signal)
      const { diskMiB = 3000, services = [] } = options
      const firstBoot = options.firstBoot?.({ name, address }) ?? ''
      const shape = { prefix, name, address, namespace: name, lan, image, key, diskMiB, services, firstBoot }
      machines.push(new LabMachine(shape))
    }
    const opened = new LabMachines(prefix, lan, machines, key)
    try {
      if (options.start !== false) await Promise.all(machines.map((machine) => machine.start(signal)))
    } catch (error) {
      await opened.close()
      throw error
    }
    return opened
  }

  /** Machine number `n`, from 1. */
  machine(n: number): LabMachine {
    const found = this.machines[n - 1]
    if (found === undefined) throw new LabError('no-machine', `no machine ${n}`)
    return found
  }

  /**
   * Moves this process into the network of the machines: sockets that it opens from now on are there. Worker threads and
   * sockets that exist stay where they are. @returns what moves it back
   */
  enter(): () => void {
    return enterNamespace(this.lan)
  }

  /** Ends and removes everything, also what was killed. */
  async close(): Promise<void> {
    await clearMachines(this.prefix)
  }
}

/** Removes everything that {@link LabMachines} of this prefix made but the cached image. Nothing there is fine. */
export async function clearMachines(prefix: string): Promise<void> {
  const own = new RegExp(`^${prefix}-(m\\d+|lan)$`)
  for (const name of listNamespaces(prefix).filter((n) => own.test(n))) await removeNamespace(name)
  await removeCgroup(cgroupOf(prefix))
  rmSync(diskFolder(prefix), { recursive: true, force: true })
  rmSync(runDirectory(prefix, 'machines'), { recursive: true, force: true })
}

/** Everything of a lab's machines that is still there, in words. */
export function machinesLeft(prefix: string): string[] {
  const processes = cgroupProcesses(cgroupOf(prefix)).map((pid) => `process ${pid} of a machine: ${commandLine(pid)}`)
  return existsSync(diskFolder(prefix)) ? [...processes, `folder ${diskFolder(prefix)}`] : processes
}

async function makeBridge(lan: string, signal: AbortSignal | undefined): Promise<void> {
  const { bridge, gateway } = MACHINES_NETWORK
  await run('ip', ['-n', lan, '-batch', '-'], {
    input: `link set dev lo up
link add name ${bridge} address 02:00:00:00:00:05 type bridge mcast_snooping 0
link set dev ${bridge} up
address add ${gateway}/64 dev ${bridge} nodad
`,
    signal,
  })
  await sysctl(lan, ['net.ipv6.conf.all.forwarding=1'], signal)
}

/** The namespace of a machine with its `eth0` on the bridge. */
async function plug(name: string, address: string, lan: string, i: number, signal: AbortSignal | undefined) {
  await run('ip', ['netns', 'add', name], { signal })
  const mac = `02:00:00:05:00:${(16 + i).toString(16).padStart(2, '0')}`
  await run('ip', ['-n', lan, '-batch', '-'], {
    input: `link add name m${i} type veth peer name eth0 address ${mac} netns ${name}
link set dev m${i} master ${MACHINES_NETWORK.bridge} up
`,
    signal,
  })
  await sysctl(name, ['net.ipv6.conf.all.forwarding=1', 'net.ipv6.conf.default.accept_dad=0'], signal)
  await run('ip', ['-n', name, '-batch', '-'], {
    input: `link set dev lo up
link set dev eth0 up
address add ${address}/64 dev eth0 nodad
route add default via ${MACHINES_NETWORK.gateway}
`,
    signal,
  })
}

async function sysctl(namespace: string, pairs: readonly string[], signal: AbortSignal | undefined): Promise<void> {
  const [file = '', ...args] = inNamespace(namespace, ['sysctl', '-qw', ...pairs])
  await run(file, args, { signal })
}

const CLONE_NEWNET = 0x4000_0000

function enterNamespace(name: string): () => void {
  const setns = koffi.load('libc.so.6').func('int setns(int fd, int type)') as (fd: number, type: number) => number
  const enter = (fd: number, where: string): void => {
    if (setns(fd, CLONE_NEWNET) !== 0) throw new LabError('cannot-enter', `cannot enter the network of ${where}`)
  }
  const home = openSync('/proc/self/ns/net', 'r')
  const there = openSync(`/run/netns/${name}`, 'r')
  enter(there, name)
  closeSync(there)
  return () => {
    enter(home, 'the machine')
    closeSync(home)
  }
}
