import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { makeCgroup, removeCgroup } from './cgroups.ts'
import { LabError, run, waitFor } from './command.ts'
import { inNamespace, processesIn } from './namespaces.ts'
import { CACHE_DIRECTORY, runDirectory } from './places.ts'
import { type LabProcess, launch, quoted } from './processes.ts'

/** What one machine of the lab is made of. */
export interface MachineShape {
  readonly prefix: string
  readonly name: string
  /** IPv6 address of its `eth0`, and the namespaces: its own, and the one that its bridge is in. */
  readonly address: string
  readonly namespace: string
  readonly lan: string
  /** Folder that its disk is laid over. */
  readonly image: string
  /** File of the private key that its root lets in. */
  readonly key: string
  readonly diskMiB: number
  /** Units to enable at the first boot. */
  readonly services: readonly string[]
  /** Shell commands at the first boot, before systemd: `$ROOT` is the machine's root file system. */
  readonly firstBoot: string
}

/** Exit code by which systemd-nspawn tells that the machine wants to be started again. */
const REBOOT = 133
const BOOT_MS = 120_000

/**
 * A machine with systemd as its first process, its own disk, network, control groups and SSH server; see
 * {@link LabMachines}. What is on its disk lasts until {@link remove}.
 */
export class LabMachine {
  readonly name: string
  readonly address: string
  /** Its network namespace, as `ip netns` names it. */
  readonly namespace: string
  readonly #shape: MachineShape
  #process: LabProcess | undefined

  constructor(shape: MachineShape) {
    this.name = shape.name
    this.address = shape.address
    this.namespace = shape.namespace
    this.#shape = shape
  }

  get running(): boolean {
    return this.#process?.running ?? false
  }
  /** File with all that its console printed. */
  get console(): string {
    return join(runDirectory(this.#shape.prefix, 'log'), `${this.name}.log`)
  }
  /** File of the private key for root. */
  get key(): string {
    return this.#shape.key
  }
  /** `SHA256:…` of its SSH host key, as ssh-keygen(1) shows it. */
  async hostKey(): Promise<string> {
    const shown = await run('ssh-keygen', ['-l', '-f', `${this.#keys('host')}.pub`])
    return shown.split(' ')[1] ?? ''
  }

  /** Its SSH host key as known_hosts has it: `ssh-ed25519 AAAA…`. */
  hostPublicKey(): string {
    return readFileSync(`${this.#keys('host')}.pub`, 'utf8')
      .split(' ')
      .slice(0, 2)
      .join(' ')
      .trim()
  }

  /** Powers it on; resolves when its SSH server lets us in. @throws LabError with the end of its console */
  async start(signal?: AbortSignal): Promise<void> {
    if (this.running) return
    const { prefix, name, namespace } = this.#shape
    if (!existsSync(`${this.#keys('host')}.pub`)) await this.newHostKey()
    const disk = this.#disk()
    if (!existsSync(disk)) {
      await run('truncate', ['-s', `${this.#shape.diskMiB}M`, disk], { signal })
      await run('mkfs.ext4', ['-q', '-F', '-m', '0', disk], { signal })
    }
    this.#process = launch(prefix, { name, namespace, prepare: this.#prepare(), command: ['sh', '-c', this.#boot()] })
    await this.#process.ready(() => this.#answers(), BOOT_MS, signal)
  }

  /** Runs a program in it as root, not over SSH: works also when that does not. @returns its standard output */
  async run(
    command: readonly string[],
    options: { readonly input?: string | Buffer; readonly timeoutMs?: number } = {},
  ) {
    const init = await waitFor(`the first process of ${this.name}`, () => this.#init())
    // Not its network by /proc: that of `ip netns` is the same.
    return await run('nsenter', ['--target', String(init), '--all', '--', ...command], options)
  }

  /** The same for a line of shell. */
  async sh(
    line: string,
    options: { readonly input?: string | Buffer; readonly timeoutMs?: number } = {},
  ): Promise<string> {
    return await this.run(['sh', '-ec', line], options)
  }

  /** The command that runs `command` in it over SSH as root, from the lab's network. */
  sshCommand(...command: string[]): string[] {
    const options = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'ConnectTimeout=5', 'BatchMode=yes']
    const flags = ['-q', '-i', this.key, ...options.flatMap((option) => ['-o', option])]
    return inNamespace(this.#shape.lan, ['ssh', ...flags, `root@${this.address}`, ...command])
  }

  /** Powers it off as its administrator would. */
  async stop(): Promise<void> {
    if (!this.running) return
    const init = this.#init()
    if (init !== undefined)
      await this.run(['systemctl', 'poweroff', '--no-block']).catch(ignoreEnd(() => !this.running))
    const timer = setTimeout(() => void this.kill(), 60_000)
    await this.#process?.ended
    clearTimeout(timer)
    await removeCgroup(this.#cgroup())
  }

  /** Power loss: everything in it ends at once, its disk is as it is. */
  async kill(): Promise<void> {
    this.#process?.signal('SIGKILL')
    await this.#process?.ended
    await waitFor(`the end of ${this.name}`, () => {
      const left = processesIn(this.namespace)
      for (const pid of left) {
        try {
          process.kill(pid, 'SIGKILL')
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
        }
      }
      return left.length === 0
    })
    await removeCgroup(this.#cgroup())
  }

  /** Restarts it from inside; resolves when it lets us in again. */
  async reboot(): Promise<void> {
    const before = this.#init()
    await this.run(['systemctl', 'reboot', '--no-block'])
    await waitFor(`${this.name} to go down`, () => this.#init() !== before, { timeoutMs: BOOT_MS })
    await this.#process?.ready(() => this.#answers(), BOOT_MS)
  }

  /** Fills its disk to the last byte; {@link freeDisk} undoes it. */
  async fillDisk(): Promise<void> {
    await this.sh(
      'fallocate -l "$(df --output=avail -B1 / | tail -n 1)" /var/filler || true; cat /dev/zero >/var/filler2 2>/dev/null || true',
    )
  }
  async freeDisk(): Promise<void> {
    await this.run(['rm', '-f', '/var/filler', '/var/filler2'])
  }

  /** Another SSH host key: holds from the next connection on. */
  async newHostKey(): Promise<void> {
    const key = this.#keys('host')
    for (const file of [key, `${key}.pub`]) rmSync(file, { force: true })
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', this.name, '-f', key])
    if (!this.running) return
    await this.sh('umask 077; cat >/etc/ssh/ssh_host_ed25519_key', { input: readFileSync(key, 'utf8') })
    await this.run(['systemctl', 'restart', 'ssh'])
  }

  /** Takes it away with its disk. */
  async remove(): Promise<void> {
    await this.kill()
    rmSync(this.#disk(), { force: true })
  }

  async #answers(): Promise<boolean> {
    const [file = '', ...args] = this.sshCommand('true')
    try {
      await run(file, args, { timeoutMs: 5000 })
      return true
    } catch {
      return false // still starting: for this question the same
    }
  }

  /** Its first process: the child of systemd-nspawn, which is a child of ours. */
  #init(): number | undefined {
    if (!this.running) return undefined
    const nspawn = childOf(this.#process?.pid)
    const init = childOf(nspawn)
    return init !== undefined && isFirst(init) ? init : undefined
  }

  #disk(): string {
    const folder = diskFolder(this.#shape.prefix)
    mkdirSync(folder, { recursive: true })
    return join(folder, `${this.name}.img`)
  }
  #keys(which: 'host'): string {
    return join(runDirectory(this.#shape.prefix, 'machines'), `${this.name}.${which}-key`)
  }
  #cgroup(): string {
    return join(cgroupOf(this.#shape.prefix), this.name)
  }

  /** Mounts the disk, lays the root over the image, and writes what tells this machine from others. */
  #prepare(): string {
    const { image, name, services, firstBoot, key } = this.#shape
    const disk = join(runDirectory(this.#shape.prefix, 'machines'), name)
    return `mkdir -p /run/systemd/nspawn ${quoted(disk)}
mount -t tmpfs tmpfs /run/systemd/nspawn
D=${quoted(disk)}; ROOT=$D/root; export ROOT
mount -o loop ${quoted(this.#disk())} $D
mkdir -p $D/upper $D/work $D/root $D/docker $D/containers
mount -t overlay overlay -o lowerdir=${quoted(image)},upperdir=$D/upper,workdir=$D/work $ROOT
umask 077
cat ${quoted(this.#keys('host'))} >$ROOT/etc/ssh/ssh_host_ed25519_key
umask 022
if [ ! -e $D/booted ]; then
  echo ${quoted(name)} >$ROOT/etc/hostname
  echo ${randomBytes(16).toString('hex')} >$ROOT/etc/machine-id
  mkdir -p -m 700 $ROOT/root/.ssh
  cat ${quoted(`${key}.pub`)} >$ROOT/root/.ssh/authorized_keys
  ${services.map((unit) => `chroot $ROOT systemctl --quiet enable ${quoted(unit)}`).join('\n  ')}
  ${firstBoot.replaceAll('\n', '\n  ')}
  touch $D/booted
fi
${makeCgroup(this.#cgroup())
  .map((folder) => `echo $$ >${quoted(join(folder, 'cgroup.procs'))}`)
  .join('\n')}`
  }

  /** systemd-nspawn, again for each reboot. Only its network settings are writable: with all of /sys, systemd waits for udev. */
  #boot(): string {
    const { namespace, name, prefix } = this.#shape
    const disk = join(runDirectory(prefix, 'machines'), name)
    const nspawn = [
      ...['systemd-nspawn', '--quiet', '--register=no', '--keep-unit', '--kill-signal=SIGRTMIN+4', `--machine=${name}`],
      ...[`--network-namespace-path=/run/netns/${namespace}`, '--directory', join(disk, 'root'), '--capability=all'],
      ...['--system-call-filter=add_key keyctl bpf', '--link-journal=no', '--resolv-conf=off', '--timezone=off'],
      ...['--console=read-only', `--bind=${join(disk, 'docker')}:/var/lib/docker`],
      ...[`--bind=${join(disk, 'containers')}:/var/lib/containers`, '--boot'],
    ]
    return `export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
while :; do
  ${nspawn.map(quoted).join(' ')}
  code=$?
  [ $code = ${REBOOT} ] || exit $code
done`
  }
}

/** Folder with the disks of a lab's machines: on a real file system, as overlays on overlays are refused. */
export function diskFolder(prefix: string): string {
  return join(CACHE_DIRECTORY, 'machines', `disks-${prefix}`)
}
/** The control group that a lab's machines are in, in each hierarchy. */
export function cgroupOf(prefix: string): string {
  return `orchestrator-machines-${prefix}`
}

function childOf(pid: number | undefined): number | undefined {
  if (pid === undefined) return undefined
  try {
    const first = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ')[0]
    return first === undefined || first === '' ? undefined : Number(first)
  } catch {
    return undefined // it ended meanwhile
  }
}

/** Is it the first process of a process namespace? */
function isFirst(pid: number): boolean {
  try {
    return /^NSpid:.*\t1$/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false // it ended meanwhile
  }
}

/** For `catch`: a command in a machine that goes down may be ended with it. */
function ignoreEnd(ended: () => boolean): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof LabError) && !ended()) throw error
  }
}
