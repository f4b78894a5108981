import { posix } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { InvalidInput } from '../../common/errors.ts'
import { sandboxOf } from '../../common/private-networks.ts'
import { LABEL, type WireOrder, type WireService } from '../contract.ts'
import type { ContainerSpec, Mount } from '../engine/container-spec.ts'
import { isMember } from '../networks/plan.ts'
import { withoutSecrets } from './orders.ts'
import { outputsVolume, volumeLabels, volumeName } from './volumes.ts'

/** Where an instance finds what it was given, and writes what it has to tell. */
export const ORCHESTRATOR_DIRECTORY = '/orchestrator'
/** With which all labels begin that are ours to give. */
const OUR_LABELS = 'org.orchestrator.'
/**
 * Kernel settings that a container has of its own (namespaces(7), ipc_namespaces(7); runc, libcontainer/configs/validate).
 * All others are those of the whole machine.
 */
const NAMESPACED = /^(net|fs[./]mqueue)[./]|^kernel[./](sem|msgmax|msgmnb|msgmni|shmall|shmmax|shmmni|shm_rmid_forced)$/

/** Limits of setrlimit(2) that the engine knows (docker/go-units, ulimit.go). */
const ULIMITS: ReadonlySet<string> = new Set([
  ...['core', 'cpu', 'data', 'fsize', 'locks', 'memlock', 'msgqueue', 'nice', 'nofile', 'nproc'],
  ...['rss', 'rtprio', 'rttime', 'sigpending', 'stack'],
])
/** What the engine takes (moby, daemon/daemon_unix.go, parseSecurityOpt), beside no-new-privileges. */
const SECURITY_OPTION = /^(seccomp|apparmor|label)[=:]./

/** Where the container of a service is made, and what of this host it sees. */
export interface Place {
  readonly host: string
  /** Id of its sandbox. */
  readonly sandbox: string
  readonly hostsFile: string | null
  /** Paths of its files, in their order. */
  readonly files: readonly string[]
}

/** Name of a service's container: the engine lets it exist once, so it is the key that makes a repeated create harmless. */
export function serviceContainerName(instance: string, service: string): string {
  return `orc-${instance}-${service}`
}

/**
 * How the container of one service of an instance is made: inside the sandbox's namespace, all else closed.
 * @throws InvalidInput naming service and key for what no engine can do
 */
export function serviceSpec(order: WireOrder, service: WireService, place: Place): ContainerSpec {
  checkSettings(service)
  return {
    ...ofService(service),
    name: serviceContainerName(order.instance, service.name),
    labels: {
      ...Object.fromEntries(Object.entries(service.labels).filter(([name]) => !name.startsWith(OUR_LABELS))),
      [LABEL.role]: 'service',
      [LABEL.host]: place.host,
      [LABEL.instance]: order.instance,
      [LABEL.service]: service.name,
      [LABEL.generation]: String(order.generation),
      [LABEL.order]: JSON.stringify(withoutSecrets(order)),
    },
    network: { namespaceOf: place.sandbox },
    mounts: mountsOf(order, service, place),
    output: service.log,
  }
}

/** What the engine is told of a service word for word. */
function ofService(service: WireService) {
  const { name: _name, labels: _labels, mounts: _mounts, files: _files, log: _log, ...rest } = service
  const { pull: _pull, dependsOn: _dependsOn, restart: _restart, hosts: _hosts, ...settings } = rest
  const { sandbox: _sandbox, networks: _networks, ...taken } = settings
  return taken
}

/** What the engine would find out too late, when the container is started, and then again and again. */
function checkSettings({ name, sysctls, ulimits, securityOptions }: WireService): void {
  const refuse = (key: string, why: string): never => {
    throw new InvalidInput(`services.${name}.${key}`, why)
  }
  for (const key of Object.keys(sysctls)) {
    const why = 'it is a setting of the whole machine, which no container has of its own; take it out of the template'
    if (!NAMESPACED.test(key)) refuse(`sysctls.${key}`, why)
  }
  for (const { name: limit, soft, hard } of ulimits) {
    if (!ULIMITS.has(limit)) refuse(`ulimits.${limit}`, `expected one of ${[...ULIMITS].join(', ')}`)
    if (hard !== -1 && (soft === -1 || soft > hard))
      refuse(`ulimits.${limit}`, 'expected a soft limit within the hard one')
  }
  for (const option of securityOptions) {
    if (!SECURITY_OPTION.test(option))
      refuse('securityOptions', `expected seccomp=…, apparmor=… or label=…, not ${option}`)
  }
}

function mountsOf(order: WireOrder, service: WireService, { host, hostsFile, files }: Place): Mount[] {
  const mounts = service.mounts.map((mount): Mount => {
    if (mount.kind !== 'volume') return mount
    const { volume, target, readOnly } = mount
    if (volume === null) return { kind: 'volume', name: null, target, readOnly }
    const labels = volumeLabels(host, order.instance)
    return { kind: 'volume', name: volumeName(order.instance, volume), labels, target, readOnly }
  })
  if (order.outputs) mounts.push(outputsVolume(host, order.instance, ORCHESTRATOR_DIRECTORY))
  for (const [at, { target }] of service.files.entries()) {
    const source = files[at]
    if (source === undefined) throw new InvalidInput(`services.${service.name}.files.${at}`, 'it was not written')
    mounts.push({ kind: 'host', source, target, readOnly: true })
  }
  // A name given to the engine (ExtraHosts) is refused for a container that joins a namespace.
  if (hostsFile !== null) mounts.push({ kind: 'host', source: hostsFile, target: '/etc/hosts', readOnly: true })
  const targets = mounts.map(({ target }) => posix.join(target, '.'))
  const twice = targets.find((target, at) => targets.indexOf(target) < at)
  if (twice !== undefined) {
    const message = `two things are mounted at ${twice}; /etc/hosts and ${ORCHESTRATOR_DIRECTORY} are the orchestrator's`
    throw new InvalidInput(`services.${service.name}.mounts`, message)
  }
  return mounts
}

/**
 * Whether a container that was made for the service of that name in one order serves in another. What it was made with
 * must be the same; but environment values and what is in files never make one unfit, nor do other names on its private
 * networks, nor when and how often it is started.
 */
export function sameService(made: WireOrder | null, wanted: WireOrder, name: string): boolean {
  const before = made === null ? null : essence(made, name)
  return before !== null && isDeepStrictEqual(before, essence(wanted, name))
}

/** What is fixed when the container of a service is made; null: there is no such service. */
function essence(order: WireOrder, name: string): unknown {
  const service = order.services.find((one) => one.name === name)
  if (service === undefined) return null
  const { environment: _environment, pull: _pull, dependsOn: _dependsOn, restart: _restart, ...fixed } = service
  const { networks: _networks, ...rest } = fixed
  const essentials = {
    ...rest,
    sandbox: sandboxOf(service),
    member: isMember(order, sandboxOf(service)),
    outputs: order.outputs,
    capabilities: [...service.capabilities].sort(),
    files: service.files.map(({ target, mode }) => ({ target, mode })),
    hosts: service.hosts.length > 0,
  }
  // What is absent and what is undefined are the same.
  return JSON.parse(JSON.stringify(essentials))
}
