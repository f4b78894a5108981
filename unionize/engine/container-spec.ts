import type { WireService } from '../contract.ts'

/** What is shown at a place of a container's file system. */
export type Mount =
  /** Of the engine's keeping. `name` null: nobody else's, and gone with the container. */
  | {
      readonly kind: 'volume'
      readonly name: string | null
      readonly target: string
      readonly readOnly: boolean
      /** They count when the engine makes it, which it does for the first container that names it. */
      readonly labels?: Readonly<Record<string, string>>
      /** A memory file system with these options of mount(8), instead of a folder. */
      readonly tmpfs?: string
    }
  /** A path of this machine, which must exist. */
  | { readonly kind: 'host'; readonly source: string; readonly target: string; readonly readOnly: boolean }
  | Extract<WireService['mounts'][number], { readonly kind: 'tmpfs' }>

/** What is taken from a service as it is; common/service-spec.ts tells what each means. */
type OfService =
  | 'platform'
  | 'entrypoint'
  | 'command'
  | 'environment'
  | 'workingDirectory'
  | 'user'
  | 'groups'
  | 'memorySwapBytes'
  | 'memoryReservationBytes'
  | 'cpus'
  | 'cpuShares'
  | 'cpuset'
  | 'shmBytes'
  | 'oomScoreAdjust'
  | 'privileged'
  | 'noNewPrivileges'
  | 'securityOptions'
  | 'readOnly'
  | 'devices'
  | 'sysctls'
  | 'ulimits'
  | 'init'
  | 'tty'
  | 'stdinOpen'
  | 'stopSignal'
  | 'healthcheck'

/** How a container is made; everything that is not said here is closed: no network of its own, no capability, no restart. */
export interface ContainerSpec extends Readonly<Partial<Pick<WireService, OfService>>> {
  readonly name: string
  readonly image: string
  readonly labels: Readonly<Record<string, string>>
  /** `none`: an empty namespace of its own; else the id of the container whose namespace is joined. */
  readonly network: 'none' | { readonly namespaceOf: string }
  /** Only with a namespace of its own. */
  readonly hostname?: string
  readonly dns?: readonly string[]
  readonly mounts?: readonly Mount[]
  /** Linux capability names without CAP_; all others are dropped. */
  readonly capabilities: readonly string[]
  readonly memoryBytes: number
  readonly pids: number
  /** Milliseconds between asking it to end and killing it, also when the engine itself stops; 0: killed at once. */
  readonly stopGraceMs: number
  /** What the engine keeps of its output: bytes of one file, and how many files; null: nothing. */
  readonly output: WireService['log'] | null
}

/** What is kept of the output of a service that does not say. */
const OUTPUT = { mostBytes: 10_000_000, files: 2 }

/** Docker's own description of a container (Engine API 1.41, ContainerCreate). */
export function describe(spec: ContainerSpec): Record<string, unknown> {
  return {
    Image: spec.image,
    Labels: spec.labels,
    Entrypoint: spec.entrypoint,
    Cmd: spec.command,
    Env: Object.entries(spec.environment ?? {}).map(([name, value]) => `${name}=${value}`),
    WorkingDir: spec.workingDirectory,
    User: spec.user,
    Hostname: spec.hostname,
    Tty: spec.tty ?? false,
    OpenStdin: spec.stdinOpen ?? false,
    ...stopping(spec),
    Healthcheck: healthcheck(spec.healthcheck),
    HostConfig: {
      NetworkMode: spec.network === 'none' ? 'none' : `container:${spec.network.namespaceOf}`,
      ...(spec.network === 'none' ? { IpcMode: 'none' } : {}),
      ...(spec.dns ? { Dns: spec.dns, DnsSearch: ['.'] } : {}),
      ...limits(spec),
      ...rights(spec),
      Mounts: (spec.mounts ?? []).map(mount),
      Sysctls: spec.sysctls,
      Init: spec.init ?? false,
      // After a restart of the engine the sandbox must come first: we start them again, in order.
      RestartPolicy: { Name: 'no' },
      LogConfig: logging(spec.output),
    },
  }
}

function stopping({ stopGraceMs, stopSignal }: ContainerSpec) {
  if (stopGraceMs === 0) return { StopSignal: 'SIGKILL' }
  return { StopSignal: stopSignal, StopTimeout: Math.ceil(stopGraceMs / 1000) }
}

/** Nothing said about a time: the image's own. */
function healthcheck(check: ContainerSpec['healthcheck']) {
  if (check === undefined) return undefined
  if (check === 'disabled') return { Test: ['NONE'] }
  const nanoseconds = (ms: number | undefined) => (ms === undefined ? 0 : ms * 1_000_000)
  return {
    Test: check.test ?? [],
    Interval: nanoseconds(check.intervalMs),
    Timeout: nanoseconds(check.timeoutMs),
    StartPeriod: nanoseconds(check.startPeriodMs),
    Retries: check.retries ?? 0,
  }
}

function limits(spec: ContainerSpec) {
  return {
    Memory: spec.memoryBytes,
    MemorySwap: spec.memorySwapBytes,
    MemoryReservation: spec.memoryReservationBytes,
    NanoCpus: spec.cpus === undefined ? undefined : Math.round(spec.cpus * 1e9),
    CpuShares: spec.cpuShares,
    CpusetCpus: spec.cpuset,
    PidsLimit: spec.pids,
    ShmSize: spec.shmBytes,
    OomScoreAdj: spec.oomScoreAdjust,
    Ulimits: spec.ulimits?.map(({ name, soft, hard }) => ({ Name: name, Soft: soft, Hard: hard })),
  }
}

function rights(spec: ContainerSpec) {
  return {
    CapDrop: ['ALL'],
    CapAdd: spec.capabilities,
    Privileged: spec.privileged ?? false,
    SecurityOpt: [...(spec.noNewPrivileges === false ? [] : ['no-new-privileges']), ...(spec.securityOptions ?? [])],
    GroupAdd: spec.groups,
    ReadonlyRootfs: spec.readOnly ?? false,
    Devices: spec.devices?.map(({ host, container, permissions }) => ({
      PathOnHost: host,
      PathInContainer: container,
      CgroupPermissions: permissions,
    })),
  }
}

function logging(output: ContainerSpec['output']) {
  if (output === null) return { Type: 'none', Config: {} }
  const { mostBytes, files } = output ?? OUTPUT
  return { Type: 'json-file', Config: { 'max-size': String(mostBytes), 'max-file': String(files) } }
}

/** As `Mounts` and not as `Binds`: those make a folder of whatever is not there. */
function mount(one: Mount): Record<string, unknown> {
  switch (one.kind) {
    case 'host':
      return { Type: 'bind', Source: one.source, Target: one.target, ReadOnly: one.readOnly }
    case 'tmpfs':
      return { Type: 'tmpfs', Target: one.target, TmpfsOptions: { SizeBytes: one.sizeBytes, Mode: one.mode } }
    case 'volume': {
      const driver = { Name: 'local', Options: { type: 'tmpfs', device: 'tmpfs', o: one.tmpfs } }
      const options =
        one.tmpfs === undefined ? { Labels: one.labels } : { Labels: one.labels, NoCopy: true, DriverConfig: driver }
      return {
        ...{ Type: 'volume', Source: one.name ?? '', Target: one.target, ReadOnly: one.readOnly },
        VolumeOptions: options,
      }
    }
  }
}
