import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { LabError, run, waitFor } from '../command.ts'
import type { Say } from '../engine.ts'
import { removeNamespaces } from '../namespaces.ts'
import { CACHE_DIRECTORY, runDirectory } from '../places.ts'
import { type LabProcess, launch, quoted } from '../processes.ts'
import { openStackRootfs } from './rootfs.ts'

/** Prefix of its namespace, cgroups and folders. */
const PREFIX = 'oslab'
/** Where its services listen, in its own network namespace: who wants to talk to it runs there. */
export const OPENSTACK_NAMESPACE = `${PREFIX}-os`
const ADDRESS = '10.77.0.200'
export const OPENSTACK_KEYSTONE = `http://${ADDRESS}:5000/v3`

const CGROUPS = '/sys/fs/cgroup'
/** Milliseconds from power-on until it is set up: 100 s on a quiet machine with two cores. */
const PATIENCE_MS = 900_000

/** A systemd machine with a whole OpenStack in it, whose Nova has the fake driver: its machines are records that run nothing. */
export interface OpenStackMachine {
  /** Its root file system without what was set up. */
  readonly rootfs: string
  /** Ends it as a power cut would and removes all that it left. */
  close(): Promise<void>
}

/** Boots and sets up a new one; what a killed run left is removed first. @throws LabError with the end of its log */
export async function openStackMachine(say: Say, signal?: AbortSignal): Promise<OpenStackMachine> {
  const rootfs = await openStackRootfs(say, signal)
  await removeOpenStackMachine()
  const began = performance.now()
  say('setting up OpenStack (minutes) …')
  await makeNamespace(signal)
  const machine = boot(rootfs)
  try {
    await setUp(machine, signal)
  } catch (error) {
    await removeOpenStackMachine()
    throw error
  }
  say(`OpenStack is set up after ${((performance.now() - began) / 1000).toFixed(0)} s`)
  return { rootfs, close: removeOpenStackMachine }
}

/** Its disk, apart from the packages. */
function stateDirectory(): string {
  return join(CACHE_DIRECTORY, 'openstack-state')
}

/** The bridges' agent wants an address of an interface; a pair with both ends here is one that leads nowhere else. */
async function makeNamespace(signal: AbortSignal | undefined): Promise<void> {
  await run('ip', ['netns', 'add', OPENSTACK_NAMESPACE], { signal })
  const lines = `link set dev lo up
    link add name os0 type veth peer name os1
    address add ${ADDRESS}/24 dev os0
    link set dev os0 up
    link set dev os1 up
    `
  await run('ip', ['-n', OPENSTACK_NAMESPACE, '-batch', '-'], { input: lines, signal })
}

/** setup.sh as the machine's first service: its output and outcome go to a file that is seen from outside. */
const UNIT = `[Unit]
After=mariadb.service rabbitmq-server.service
Wants=mariadb.service rabbitmq-server.service
[Service]
Type=oneshot
ExecStart=/bin/bash /lab/setup.sh ${ADDRESS}
StandardOutput=append:/lab/log
StandardError=append:/lab/log
ExecStopPost=/bin/sh -c 'echo "outcome: $SERVICE_RESULT" >>/lab/log'
[Install]
WantedBy=multi-user.target
`

function boot(rootfs: string): LabProcess {
  const state = stateDirectory()
  const units = join(state, 'upper', 'etc', 'systemd', 'system')
  for (const folder of [join(state, 'work'), join(state, 'root'), join(units, 'multi-user.target.wants')]) {
    mkdirSync(folder, { recursive: true })
  }
  writeFileSync(join(units, 'lab-setup.service'), UNIT)
  const shared = runDirectory(PREFIX, 'shared')
  copyFileSync(join(import.meta.dirname, 'setup.sh'), join(shared, 'setup.sh'))
  writeFileSync(join(shared, 'log'), '')
  const root = join(state, 'root')
  const overlay = `lowerdir=${rootfs},upperdir=${state}/upper,workdir=${state}/work`
  // A group of its own in every hierarchy: systemd inside must not meddle with ours.
  const prepare = `mkdir -p /run/systemd/nspawn
    mount -t tmpfs tmpfs /run/systemd/nspawn
    mount -t overlay overlay -o ${quoted(overlay)} ${quoted(root)}
    cd ${quoted(`${root}/etc`)}
    ln -sf /etc/systemd/system/lab-setup.service systemd/system/multi-user.target.wants/
    echo ${OPENSTACK_NAMESPACE} >hostname
    tr -d - </proc/sys/kernel/random/uuid >machine-id
    cd /
    for hierarchy in ${CGROUPS}/*; do
      group=$hierarchy/${OPENSTACK_NAMESPACE}
      mkdir -p "$group"
      for own in cpuset.cpus cpuset.mems; do
        [ ! -e "$hierarchy/$own" ] || cat "$hierarchy/$own" >"$group/$own"
      done
      echo $$ >"$group/cgroup.procs"
    done`
  return launch(PREFIX, {
    name: 'openstack',
    namespace: OPENSTACK_NAMESPACE,
    prepare,
    environment: { SYSTEMD_NSPAWN_API_VFS_WRITABLE: 'network' },
    command: [
      ...(['systemd-nspawn', '--quiet', '--register=no', '--keep-unit', `--machine=${OPENSTACK_NAMESPACE}`] as const),
      ...[`--network-namespace-path=/run/netns/${OPENSTACK_NAMESPACE}`, `--directory=${root}`, '--capability=all'],
      ...['--system-call-filter=add_key keyctl bpf', '--link-journal=no', '--resolv-conf=off', '--timezone=off'],
      ...['--console=pipe', `--bind=${shared}:/lab`, '--boot'],
    ],
  })
}

async function setUp(machine: LabProcess, signal: AbortSignal | undefined): Promise<void> {
  const log = join(runDirectory(PREFIX, 'shared'), 'log')
  const outcome = await waitFor(
    'OpenStack to be set up',
    () => {
      if (!machine.running) throw new LabError('ended', `the machine ended; its console says:\n${machine.log()}`)
      return /^outcome: (.*)$/m.exec(readFileSync(log, 'utf8'))?.[1]
    },
    { timeoutMs: PATIENCE_MS, everyMs: 200, signal },
  )
  if (outcome === 'success') return
  throw new LabError('setup-failed', `OpenStack: ${outcome}; its log ends:\n${readFileSync(log, 'utf8').slice(-3000)}`)
}

/** Removes it with all that it left; also what a killed run left. */
export async function removeOpenStackMachine(): Promise<void> {
  await removeNamespaces(PREFIX)
  const groups = existsSync(CGROUPS) ? readdirSync(CGROUPS).map((name) => join(CGROUPS, name, OPENSTACK_NAMESPACE)) : []
  // What was killed leaves its group a moment later.
  await waitFor('the end of its control groups', () => groups.every((group) => removeGroup(group)))
  rmSync(stateDirectory(), { recursive: true, force: true })
  rmSync(runDirectory(PREFIX), { recursive: true, force: true })
}

/** @returns whether it is gone, with all that are in it */
function removeGroup(path: string): boolean {
  if (!existsSync(path)) return true
  const below = readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  if (!below.map((entry) => removeGroup(join(path, entry.name))).every((gone) => gone)) return false
  try {
    rmdirSync(path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EBUSY') return false
    throw error
  }
}
