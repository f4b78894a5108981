import { InvalidInput } from '../../../common/errors.ts'
import type { ServiceSpec } from '../../../common/service-spec.ts'
import type { InstanceId, Order } from '../../domain/instance.ts'
import { LOOPBACK, namesOfServices } from '../one-network.ts'
import { PLACES, volumeOf, wireOf } from './names.ts'
import { shellLine } from './quoting.ts'

export type Engine = 'podman' | 'docker'

/** Bytes of one line of an environment file: what reads it takes no longer ones (bufio.MaxScanTokenSize of Go). */
const LONGEST_LINE = 60_000

/**
 * How `docker run` and `podman run` (docker-run(1), podman-run(1)) make the container of a service: inside the network
 * namespace of the instance, all else closed. Neither environment nor files are in it: arguments are seen by everybody.
 * @throws InvalidInput naming service and key for what cannot be said on a command line
 */
export function containerFlags(order: Order, service: ServiceSpec, engine: Engine): string[] {
  const { instance } = order
  return [
    ...['--network', `container:${wireOf(instance)}`, '--pull', 'never', '--log-driver', 'none'],
    ...labels({ ...service.labels, ...ownLabels(order), 'org.orchestrator.service': service.name }),
    ...['--env-file', `${PLACES.kept}/${instance}/${service.name}.env`],
    ...limits(service),
    ...rights(service),
    ...one('--workdir', service.workingDirectory),
    ...one('--user', service.user),
    ...service.groups.flatMap((group) => ['--group-add', group]),
    ...one('--platform', service.platform),
    ...(service.init ? ['--init'] : []),
    ...(service.tty ? ['--tty'] : []),
    ...(service.stdinOpen ? ['--interactive'] : []),
    ...one('--stop-signal', service.stopSignal),
    ...['--stop-timeout', String(Math.ceil(service.stopGraceMs / 1000))],
    ...health(service, engine),
    ...mounts(order, service, engine),
    ...(service.entrypoint === undefined ? [] : ['--entrypoint', service.entrypoint[0] ?? '']),
  ]
}

/** What follows the image: the rest of the entrypoint, and the command. */
export function containerArguments({ entrypoint, command }: ServiceSpec): string[] {
  return [...(entrypoint ?? []).slice(1), ...(command ?? [])]
}

/** Labels of all containers of an instance. Its generation is not among them: a newer one may go on with the same containers. */
export function ownLabels(order: Order): Record<string, string> {
  return { 'org.orchestrator.instance': order.instance }
}

export function labels(all: Readonly<Record<string, string>>): string[] {
  return Object.entries(all).flatMap(([name, value]) => ['--label', `${name}=${value}`])
}

/** The environment of a service as `--env-file` reads it: a line each, everything after `=` as it is. @throws InvalidInput */
export function environmentFile(service: ServiceSpec): string {
  return Object.entries(service.environment)
    .map(([name, value]) => {
      const field = `services.${service.name}.environment.${name}`
      const remedy = 'give it in a file (configs or secrets) instead'
      if (/[\s#]/.test(name)) throw new InvalidInput(field, 'this backend takes no names with spaces or #')
      if (/[\r\n]/.test(value))
        throw new InvalidInput(field, `this backend takes no values of several lines: ${remedy}`)
      if (Buffer.byteLength(value) > LONGEST_LINE) {
        throw new InvalidInput(field, `this backend takes at most ${LONGEST_LINE} bytes: ${remedy}`)
      }
      return `${name}=${value}\n`
    })
    .join('')
}

/** Where the `index`-th file of a service is on the machine. */
export function filePath(instance: InstanceId, service: string, index: number): string {
  return `${PLACES.memory}/${instance}/files/${service}/${index}`
}

/**
 * /etc/hosts of a service: the services of its instance, itself included, and its own further lines. Null: it is alone, on
 * no network, and has none of its own, so that the file that the engine makes will do.
 */
export function hostsFile(order: Order, service: ServiceSpec): string | null {
  const isAlone = order.services.length === 1 && service.networks === undefined
  if (isAlone && service.hosts.length === 0) return null
  // The name of the host is in the engine's file, too, which this one takes the place of.
  const names = isAlone ? [] : new Set([order.name, ...namesOfServices(order)])
  const lines = [...names].map((name) => `${LOOPBACK} ${name}`)
  const further = service.hosts.map(({ name, address }) => `${address} ${name}`)
  return `${['127.0.0.1 localhost', '::1 localhost ip6-localhost', ...lines, ...further].join('\n')}\n`
}

function limits(service: ServiceSpec): string[] {
  const { memoryBytes, memorySwapBytes, memoryReservationBytes, cpus, cpuShares, cpuset, pids } = service
  return [
    ...['--memory', `${memoryBytes}b`, '--pids-limit', String(pids)],
    ...one('--memory-swap', memorySwapBytes === undefined ? undefined : `${memorySwapBytes}b`),
    ...one('--memory-reservation', memoryReservationBytes === undefined ? undefined : `${memoryReservationBytes}b`),
    ...one('--cpus', cpus),
    ...one('--cpu-shares', cpuShares),
    ...one('--cpuset-cpus', cpuset),
    ...one('--shm-size', service.shmBytes === undefined ? undefined : `${service.shmBytes}b`),
    ...one('--oom-score-adj', service.oomScoreAdjust),
    ...service.ulimits.flatMap(({ name, soft, hard }) => ['--ulimit', `${name}=${soft}:${hard}`]),
  ]
}

function rights(service: ServiceSpec): string[] {
  const { capabilities, privileged, noNewPrivileges, securityOptions, readOnly, devices, sysctls } = service
  return [
    ...['--cap-drop', 'ALL', ...capabilities.flatMap((name) => ['--cap-add', name])],
    ...(privileged ? ['--privileged'] : []),
    ...(noNewPrivileges ? ['--security-opt', 'no-new-privileges'] : []),
    ...securityOptions.flatMap((option) => ['--security-opt', option]),
    ...(readOnly ? ['--read-only'] : []),
    ...devices.flatMap(({ host, container, permissions }) => ['--device', `${host}:${container}:${permissions}`]),
    // Those of the network are set where the namespace is made.
    ...Object.entries(sysctls)
      .filter(([name]) => !isOfNetwork(name))
      .flatMap(([name, value]) => ['--sysctl', `${name}=${value}`]),
  ]
}

export function isOfNetwork(sysctl: string): boolean {
  return /^net[./]/.test(sysctl)
}

/** Podman takes a command as JSON; Docker's command line knows shell commands only. */
function health({ healthcheck }: ServiceSpec, engine: Engine): string[] {
  if (healthcheck === undefined) return []
  if (healthcheck === 'disabled') return ['--no-healthcheck']
  const { test, intervalMs, timeoutMs, startPeriodMs, retries } = healthcheck
  const ms = (value: number | undefined) => (value === undefined ? undefined : `${value}ms`)
  const [kind, ...words] = test ?? []
  const shell = kind === 'CMD-SHELL' ? (words[0] ?? '') : engine === 'podman' ? JSON.stringify(words) : shellLine(words)
  return [
    ...(test === undefined ? [] : kind === 'NONE' ? ['--no-healthcheck'] : ['--health-cmd', shell]),
    ...one('--health-interval', ms(intervalMs)),
    ...one('--health-timeout', ms(timeoutMs)),
    ...one('--health-start-period', ms(startPeriodMs)),
    ...one('--health-retries', retries),
  ]
}

function mounts(order: Order, service: ServiceSpec, engine: Engine): string[] {
  const { instance } = order
  const all = service.mounts.map((mount, index): Mount => {
    const { target } = mount
    switch (mount.kind) {
      case 'host':
        return { target, options: { type: 'bind', source: mount.source, ...readOnly(mount.readOnly) } }
      case 'volume': {
        const source = volumeOf(instance, mount.volume ?? `${service.name}.${index}`)
        return { target, options: { type: 'volume', source, ...readOnly(mount.readOnly) } }
      }
      case 'tmpfs': {
        const size = mount.sizeBytes === undefined ? {} : { 'tmpfs-size': String(mount.sizeBytes) }
        const mode = mount.mode === undefined ? {} : { 'tmpfs-mode': mount.mode.toString(8) }
        // Podman fills it with what the image has there, Docker does not.
        const empty = engine === 'podman' ? { notmpcopyup: null } : {}
        return { target, options: { type: 'tmpfs', ...size, ...mode, ...empty } }
      }
      default:
        return mount satisfies never
    }
  })
  for (const [index, { target }] of service.files.entries()) {
    all.push({ target, options: { type: 'bind', source: filePath(instance, service.name, index), ...readOnly(true) } })
  }
  if (hostsFile(order, service) !== null) {
    const source = `${PLACES.kept}/${instance}/${service.name}.hosts`
    all.push({ target: '/etc/hosts', options: { type: 'bind', source, ...readOnly(true) } })
  }
  if (order.outputs) {
    const source = `${PLACES.memory}/${instance}/outputs`
    all.push({ target: '/orchestrator', options: { type: 'bind', source } })
  }
  return all.flatMap(({ target, options }) => {
    const fields = Object.entries({ ...options, target })
    const strange = fields.find(([, value]) => value !== null && /[,"\n]/.test(value))
    if (strange !== undefined) {
      throw new InvalidInput(
        `services.${service.name}.mounts`,
        `this backend takes no paths with commas, quotes or line breaks: ${JSON.stringify(strange[1])}`,
      )
    }
    return ['--mount', fields.map(([name, value]) => (value === null ? name : `${name}=${value}`)).join(',')]
  })
}

/** @property options null: the word alone */
interface Mount {
  readonly target: string
  readonly options: Readonly<Record<string, string | null>>
}

function readOnly(is: boolean): Record<string, null> {
  return is ? { ro: null } : {}
}

function one(flag: string, value: string | number | undefined): string[] {
  return value === undefined ? [] : [flag, String(value)]
}
