import { InvalidInput } from '../../../../common/errors.ts'
import type { ServiceSpec } from '../../../../common/service-spec.ts'
import type { Order } from '../../../domain/instance.ts'
import { LOOPBACK, namesOfServices } from '../../one-network.ts'

/** What runs containers on the machine. */
export type Engine = 'docker' | 'podman'

/** How one service is started on its machine. */
export interface ContainerPlan {
  readonly name: string
  /** Variables that the client takes from its own environment: so they stand in no list of processes. */
  readonly exported: Readonly<Record<string, string>>
  /** Variables that would change the client itself, or that a shell cannot name: lines of an environment file. */
  readonly fileLines: readonly string[]
  /** Arguments after `docker create` or `podman create`. */
  readonly arguments: readonly string[]
}

/** Where the machine keeps what its services are given; root's alone. */
export const HOME = '/var/lib/orchestrator'
/** Where services find what they are given, and write what they have to tell. */
export const SHARED = '/orchestrator'

/** What a shell can name (POSIX.1-2017, Shell, 3.231), without what the engines' clients or their loader read themselves. */
const EXPORTABLE =
  /^(?!(PATH|HOME|PWD|IFS|ENV|TMPDIR|GODEBUG|NO_PROXY|HTTPS?_PROXY|ALL_PROXY)$)(?!(LD|DOCKER|CONTAINERS?|PODMAN|BUILDAH|XDG|GO|DBUS|SSL|REGISTRY|STORAGE|BUILDKIT|NOTIFY|LISTEN|WATCHDOG)_)(?!GO[A-Z]+$)[A-Za-z_][A-Za-z0-9_]*$/i
/** What is kept of the output of a service that does not say. */
const LOG = { mostBytes: 10_000_000, files: 2 }

export function containerName(service: string): string {
  return `orc-${service}`
}

/** Path of the n-th file of a service. */
export function filePath(service: string, at: number): string {
  return `${HOME}/services/${service}/files/${at}`
}

/**
 * The container of one service: on the machine's own network, which is the instance's, all else closed.
 * @throws InvalidInput naming service and key for what a command line or one machine cannot express
 */
export function planContainer(order: Order, service: ServiceSpec, engine: Engine): ContainerPlan {
  checkService(service, engine)
  const { exported, fileLines } = environmentOf(service)
  return {
    name: containerName(service.name),
    exported,
    fileLines,
    arguments: [
      ...[`--name=${containerName(service.name)}`, '--network=host', `--pull=${service.pull}`, '--restart=no'],
      ...Object.keys(exported).map((name) => `--env=${name}`),
      ...(fileLines.length > 0 ? [`--env-file=${HOME}/services/${service.name}/environment`] : []),
      ...Object.entries(service.labels).map(([name, value]) => `--label=${name}=${value}`),
      ...namesOf(order, service),
      ...limits(service),
      ...rights(service),
      ...mounts(order, service),
      ...process(service),
      ...healthcheck(service, engine),
      ...logging(service, engine),
      ...started(service),
    ],
  }
}

function checkService(service: ServiceSpec, engine: Engine): void {
  const refuse = (key: string, why: string): never => {
    throw new InvalidInput(`services.${service.name}.${key}`, why)
  }
  const kernel = Object.keys(service.sysctls).find((key) => /^net[./]/.test(key))
  if (kernel !== undefined) refuse(`sysctls.${kernel}`, "the network is the machine's own; set it in the image")
  for (const { service: other, restart } of service.dependsOn) {
    if (restart) refuse(`dependsOn.${other}.restart`, 'systemd does not pass on a restart of its own; leave it out')
  }
  if (engine === 'podman' && service.log !== undefined) refuse('log', 'podman rotates no logs; leave it out')
  const claimed = service.mounts.find(({ target }) => target === SHARED || target.startsWith(`${SHARED}/`))
  if (claimed !== undefined) refuse('mounts', `${claimed.target} is the orchestrator's; mount it elsewhere`)
  const colon = service.files.find(({ target }) => target.includes(':'))
  if (colon !== undefined) refuse('files', `${colon.target} has a colon, which separates paths on a command line`)
  for (const name of Object.keys(service.environment)) {
    const value = service.environment[name] ?? ''
    if (value.includes('\0')) refuse(`environment.${name}`, 'a variable has no NUL character')
    if (EXPORTABLE.test(name)) continue
    if (/[\s#]/.test(name)) refuse(`environment.${name}`, 'its name has white space or #')
    if (/[\r\n]/.test(value))
      refuse(`environment.${name}`, 'only a variable that a shell can name may have several lines')
  }
}

function environmentOf({ environment }: ServiceSpec): Pick<ContainerPlan, 'exported' | 'fileLines'> {
  const all = Object.entries(environment)
  return {
    exported: Object.fromEntries(all.filter(([name]) => EXPORTABLE.test(name))),
    fileLines: all.filter(([name]) => !EXPORTABLE.test(name)).map(([name, value]) => `${name}=${value}`),
  }
}

/** Services find each other by name and alias, all on one network. */
function namesOf(order: Order, service: ServiceSpec): string[] {
  const own = namesOfServices(order).map((name) => ({ name, address: LOOPBACK }))
  return [...own, ...service.hosts].map(({ name, address }) => `--add-host=${name}:${address}`)
}

function limits(service: ServiceSpec): string[] {
  return [
    ...[`--memory=${service.memoryBytes}b`, `--pids-limit=${service.pids}`],
    ...optional('memory-swap', service.memorySwapBytes, 'b'),
    ...optional('memory-reservation', service.memoryReservationBytes, 'b'),
    ...optional('cpus', service.cpus),
    ...optional('cpu-shares', service.cpuShares),
    ...optional('cpuset-cpus', service.cpuset),
    ...optional('shm-size', service.shmBytes, 'b'),
    ...optional('oom-score-adj', service.oomScoreAdjust),
    ...service.ulimits.map(({ name, soft, hard }) => `--ulimit=${name}=${soft}:${hard}`),
  ]
}

function rights(service: ServiceSpec): string[] {
  return [
    '--cap-drop=ALL',
    ...service.capabilities.map((name) => `--cap-add=${name}`),
    ...(service.privileged ? ['--privileged'] : []),
    ...(service.noNewPrivileges ? ['--security-opt=no-new-privileges'] : []),
    ...service.securityOptions.map((option) => `--security-opt=${option}`),
    ...(service.readOnly ? ['--read-only'] : []),
    ...service.devices.map(({ host, container, permissions }) => `--device=${host}:${container}:${permissions}`),
    ...Object.entries(service.sysctls).map(([name, value]) => `--sysctl=${name}=${value}`),
    ...service.groups.map((group) => `--group-add=${group}`),
    ...optional('user', service.user),
  ]
}

function mounts(order: Order, service: ServiceSpec): string[] {
  const own = service.mounts.map((one) => {
    const readonly = 'readOnly' in one && one.readOnly
    if (one.kind === 'host') return mount({ type: 'bind', source: one.source, target: one.target }, readonly)
    if (one.kind === 'volume') {
      const source = one.volume === null ? {} : { source: `orc-${one.volume}` }
      return mount({ type: 'volume', ...source, target: one.target }, readonly)
    }
    return mount({
      ...{ type: 'tmpfs', target: one.target },
      ...(one.sizeBytes !== undefined && { 'tmpfs-size': String(one.sizeBytes) }),
      ...(one.mode !== undefined && { 'tmpfs-mode': one.mode.toString(8) }),
    })
  })
  // `z` and `Z`: where the machine has SELinux, the containers may read them.
  const told = order.outputs ? [`--volume=${HOME}/told:${SHARED}:z`] : []
  return [
    ...told,
    ...own,
    ...service.files.map(({ target }, at) => `--volume=${filePath(service.name, at)}:${target}:ro,Z`),
  ]
}

/** The fields of `--mount` are one line of CSV (RFC 4180). */
function mount(fields: Readonly<Record<string, string>>, readonly = false): string {
  const parts = Object.entries(fields).map(([name, value]) => `${name}=${value}`)
  const quoted = parts.map((part) => (/[",\r\n]/.test(part) ? `"${part.replaceAll('"', '""')}"` : part))
  return `--mount=${[...quoted, ...(readonly ? ['readonly'] : [])].join(',')}`
}

function process(service: ServiceSpec): string[] {
  const { stopGraceMs } = service
  return [
    ...optional('workdir', service.workingDirectory),
    ...optional('platform', service.platform),
    ...(service.init ? ['--init'] : []),
    ...(service.tty ? ['--tty'] : []),
    ...(service.stdinOpen ? ['--interactive'] : []),
    ...(stopGraceMs === 0 ? ['--stop-signal=SIGKILL'] : optional('stop-signal', service.stopSignal)),
    `--stop-timeout=${Math.ceil(stopGraceMs / 1000)}`,
  ]
}

/** A test that is a list of words becomes the same words for the image's shell: a command line has no other way. */
function healthcheck({ healthcheck: check, name }: ServiceSpec, engine: Engine): string[] {
  if (check === undefined) return []
  if (check === 'disabled') return ['--no-healthcheck']
  const [form = '', ...words] = check.test ?? []
  if (check.test !== undefined && form !== 'CMD' && form !== 'CMD-SHELL') {
    throw new InvalidInput(`services.${name}.healthcheck.test`, `expected CMD or CMD-SHELL, not ${form}`)
  }
  const command =
    form === 'CMD-SHELL'
      ? words.join(' ')
      : engine === 'podman'
        ? JSON.stringify(['CMD', ...words])
        : words.map((one) => `'${one.replaceAll("'", "'\\''")}'`).join(' ')
  return [
    ...(check.test === undefined ? [] : [`--health-cmd=${command}`]),
    ...optional('health-interval', check.intervalMs, 'ms'),
    ...optional('health-timeout', check.timeoutMs, 'ms'),
    ...optional('health-start-period', check.startPeriodMs, 'ms'),
    ...optional('health-retries', check.retries),
  ]
}

function logging({ log }: ServiceSpec, engine: Engine): string[] {
  const { mostBytes, files } = log ?? LOG
  if (engine === 'podman') return ['--log-driver=k8s-file', `--log-opt=max-size=${LOG.mostBytes}b`]
  return ['--log-driver=json-file', `--log-opt=max-size=${mostBytes}`, `--log-opt=max-file=${files}`]
}

/** An entrypoint of several words: a command line takes one, the others come before the command. */
function started({ image, entrypoint, command }: ServiceSpec): string[] {
  const [first = '', ...others] = entrypoint ?? []
  return [...(entrypoint === undefined ? [] : [`--entrypoint=${first}`]), image, ...others, ...(command ?? [])]
}

function optional(flag: string, value: string | number | undefined, unit = ''): string[] {
  return value === undefined ? [] : [`--${flag}=${value}${unit}`]
}
