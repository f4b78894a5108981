import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { LabError, run, waitFor } from './command.ts'

/** The lab's fixed addresses: two bridges in the host's namespace, one for each side. */
export const LAB_NETWORK = {
  clientsBridge: 'br-clients',
  clientsGateway: 'fd00:c::1',
  clientsPrefix: 'fd00:c::/64',
  instancesBridge: 'br-instances',
  instancesGateway: 'fd00:1::1',
  instancesPrefix: 'fd00:1::/64',
  /** Outside both prefixes, so that packets to it pass the router. */
  myAddress: 'fd00:1:0:ffff::1',
  domain: 'instance',
} as const

const NAMESPACES = '/run/netns'

/** Name of the namespace that plays the Docker host. */
export function hostNamespace(prefix: string): string {
  return `${prefix}-host`
}
/** Name of the namespace of client number `n`, from 1. */
export function clientNamespace(prefix: string, n: number): string {
  return `${prefix}-c${n}`
}
/** The command that runs `command` in a network namespace without touching its mounts (`ip netns exec` would hide cgroups). */
export function inNamespace(name: string, command: readonly string[]): string[] {
  return ['nsenter', `--net=${NAMESPACES}/${name}`, '--', ...command]
}

/**
 * Makes the host's namespace: both bridges with pinned MAC addresses (the neighbour entries of sandboxes name them),
 * forwarding on, no duplicate address detection.
 * @throws LabError 'namespace-exists' when there is one already
 */
export async function makeHost(prefix: string, signal?: AbortSignal): Promise<string> {
  const name = hostNamespace(prefix)
  await addNamespace(name, signal)
  const bridge = (bridgeName: string, mac: string, gateway: string): string =>
    `link add name ${bridgeName} address ${mac} type bridge mcast_snooping 0
     link set dev ${bridgeName} up
     address add ${gateway}/64 dev ${bridgeName} nodad
    `
  await settings(name, ['conf/default/accept_dad=0', 'conf/all/forwarding=1', 'conf/default/accept_ra=0'], signal)
  await batch(
    name,
    bridge(LAB_NETWORK.clientsBridge, '02:00:00:00:00:0c', LAB_NETWORK.clientsGateway) +
      bridge(LAB_NETWORK.instancesBridge, '02:00:00:00:00:01', LAB_NETWORK.instancesGateway),
    signal,
  )
  return name
}

/**
 * Makes client `n`'s namespace with `eth0`, its own link into the clients' bridge; the link is up, without an address.
 * @param detectDuplicates false: its addresses can be used at once, without the second that RFC 4862 asks for
 */
export async function makeClient(
  prefix: string,
  n: number,
  detectDuplicates: boolean,
  signal?: AbortSignal,
): Promise<string> {
  const name = clientNamespace(prefix, n)
  await addNamespace(name, signal)
  if (!detectDuplicates) await settings(name, ['conf/all/accept_dad=0', 'conf/default/accept_dad=0'], signal)
  const mac = `02:00:00:01:${(n >> 8).toString(16).padStart(2, '0')}:${(n & 255).toString(16).padStart(2, '0')}`
  await batch(
    hostNamespace(prefix),
    `link add name c${n} type veth peer name eth0 address ${mac} netns ${name}
     link set dev c${n} master ${LAB_NETWORK.clientsBridge} up
    `,
    signal,
  )
  await batch(name, 'link set dev eth0 up\n', signal)
  return name
}

/** Names of the lab's namespaces that exist. */
export function listNamespaces(prefix: string): string[] {
  try {
    return readdirSync(NAMESPACES).filter((name) => name.startsWith(`${prefix}-`))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** Processes whose network namespace is the named one, whoever started them. */
export function processesIn(name: string): number[] {
  const wanted = statSync(`${NAMESPACES}/${name}`).ino
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => networkOf(pid) === wanted)
    .map(Number)
}

/** What a process is, for people: its command line, at most 120 characters; empty when it has gone. */
export function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim().slice(0, 120)
  } catch {
    return '' // it ended meanwhile
  }
}

/**
 * Ends every process in the lab's namespaces and removes them with their links. Also right after a run that was killed,
 * and when nothing is there.
 */
export async function removeNamespaces(prefix: string, keep: readonly string[] = []): Promise<void> {
  for (const name of listNamespaces(prefix).filter((n) => !keep.includes(n))) await removeNamespace(name)
}

/** Ends every process in one namespace and removes it. */
export async function removeNamespace(name: string): Promise<void> {
  if (!isNamespace(name)) {
    await run('rm', ['-f', `${NAMESPACES}/${name}`]) // a run was killed between making the file and mounting it
    return
  }
  await waitFor(`the end of the processes in ${name}`, () => {
    const left = processesIn(name)
    for (const pid of left) endProcess(pid)
    return left.length === 0
  })
  await run('ip', ['netns', 'delete', name])
}

function isNamespace(name: string): boolean {
  const { dev } = statSync(`${NAMESPACES}/${name}`)
  return dev === statSync('/proc/self/ns/net').dev
}

function endProcess(pid: number): void {
  if (pid === process.pid) throw new LabError('inside', 'this process itself is in the namespace that it should remove')
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

function networkOf(pid: string): number | undefined {
  try {
    return Number(/\[(\d+)\]/.exec(readlinkSync(`/proc/${pid}/ns/net`))?.[1])
  } catch {
    return undefined // it ended meanwhile
  }
}

async function addNamespace(name: string, signal: AbortSignal | undefined): Promise<void> {
  if (listNamespaces(name.slice(0, name.indexOf('-'))).includes(name)) {
    throw new LabError(
      'namespace-exists',
      `network namespace ${name} is there already: another lab, or remove it first`,
    )
  }
  await run('ip', ['netns', 'add', name], { signal })
  await batch(name, 'link set dev lo up\n', signal)
}

async function batch(name: string, lines: string, signal: AbortSignal | undefined): Promise<void> {
  await run('ip', ['-n', name, '-batch', '-'], { input: lines, signal })
}

async function settings(name: string, assignments: readonly string[], signal: AbortSignal | undefined): Promise<void> {
  const pairs = assignments.map((a) => `net.ipv6.${a.replaceAll('/', '.')}`)
  const [file = '', ...args] = inNamespace(name, ['sysctl', '-qw', ...pairs])
  await run(file, args, { signal })
}
