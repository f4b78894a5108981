import type { ServiceSpec } from '../../../common/service-spec.ts'
import { TASK_ROLE, type TaskPlace } from '../../../common/task-place.ts'
import type { Order } from '../../domain/instance.ts'
import type { ServiceSpecification } from './answers.ts'
import { hashed, LABEL, labelsOf, nameOf, secretName, wordsOf } from './names.ts'
import { parseOptions } from './options.ts'
import type { SwarmSettings } from './settings.ts'
import { knowsNewPrivileges } from './support.ts'

/** What an order becomes in a swarm, before any of it exists: ids are filled in by {@link specification}. */
export interface Plan {
  readonly name: string
  /** Of all that is made for it. */
  readonly labels: Readonly<Record<string, string>>
  /** Name, and content in base64. */
  readonly secrets: readonly {
    readonly name: string
    readonly content: string
    readonly file: ServiceSpec['files'][number]
  }[]
  /** Names of overlay networks, beside its own. */
  readonly networks: readonly string[]
  /** Hash of what its task is made of. */
  readonly spec: string
  readonly order: Order
}

/** Nanoseconds of a millisecond: what the API counts in. */
const NS = 1_000_000

/** @throws InvalidInput naming the option */
export function planOf(order: Order, installation: string, settings: SwarmSettings, api: string): Plan {
  const { networks } = parseOptions(order.options, 'options')
  const secrets = (order.services[0]?.files ?? []).map((file) => ({
    ...{ name: secretName(installation, order.instance, `${file.target}\0${file.mode}\0${file.content}`) },
    ...{ content: file.content, file },
  }))
  const draft = {
    ...{ name: nameOf(installation, order.instance), labels: labelsOf(installation, order.instance) },
    ...{ secrets, networks, spec: '', order },
  }
  const task = taskTemplate(draft, settings, api, () => '')
  return { ...draft, spec: hashed(JSON.stringify([task, networks, secrets.map(({ name }) => name)])).slice(0, 32) }
}

/** @param idOf id of a network or a secret, by its name */
export function specification(
  plan: Plan,
  settings: SwarmSettings,
  api: string,
  idOf: (name: string) => string,
): ServiceSpecification {
  const change = {
    ...{ Parallelism: 1, FailureAction: 'rollback', Monitor: settings.monitorSeconds * 1000 * NS, MaxFailureRatio: 0 },
    // Its address is one: the old task ends before the new one begins.
    ...{ Delay: 0, Order: 'stop-first' },
  }
  return {
    Name: plan.name,
    Labels: { ...plan.labels, ...wordsOf(plan.order, plan.spec) },
    TaskTemplate: taskTemplate(plan, settings, api, idOf),
    Mode: { Replicated: { Replicas: 1 } },
    UpdateConfig: change,
    RollbackConfig: { ...change, FailureAction: 'pause' },
    // No virtual address: nobody asks a service for its instance, and it would need IPVS.
    EndpointSpec: { Mode: 'dnsrr' },
  }
}

function taskTemplate(
  plan: Plan,
  settings: SwarmSettings,
  api: string,
  idOf: (name: string) => string,
): ServiceSpecification['TaskTemplate'] {
  const service = plan.order.services[0] as ServiceSpec
  const { placement } = parseOptions(plan.order.options, 'options')
  const [os = '', architecture = ''] = service.platform?.split('/') ?? []
  return {
    ContainerSpec: { ...containerSpec(plan, service), ...rightsOf(service, api), Secrets: secretsOf(plan, idOf) },
    Resources: {
      Limits: {
        MemoryBytes: service.memoryBytes,
        Pids: service.pids,
        ...(service.cpus === undefined ? {} : { NanoCPUs: Math.round(service.cpus * 1e9) }),
      },
      ...(service.memoryReservationBytes === undefined
        ? {}
        : { Reservations: { MemoryBytes: service.memoryReservationBytes } }),
    },
    RestartPolicy: { Condition: CONDITION[service.restart], Delay: 1000 * NS, MaxAttempts: 0 },
    Placement: {
      Constraints: [...settings.constraints, ...placement.constraints],
      ...(service.platform === undefined ? {} : { Platforms: [{ OS: os, Architecture: architecture }] }),
    },
    Networks: [plan.name, ...plan.networks].map((name) => ({ Target: idOf(name), Aliases: [service.name] })),
    LogDriver: { Name: 'json-file', Options: loggingOf(service) },
  }
}

const CONDITION = { always: 'any', 'on-failure': 'on-failure', no: 'none' } as const

function loggingOf({ log }: ServiceSpec): Record<string, string> {
  const { mostBytes, files } = log ?? { mostBytes: 10_000_000, files: 2 }
  return { 'max-size': String(mostBytes), 'max-file': String(files) }
}

function containerSpec({ order, labels, spec }: Plan, service: ServiceSpec): Record<string, unknown> {
  return {
    Image: service.image,
    Labels: {
      ...service.labels,
      ...labels,
      [LABEL.spec]: spec,
      [LABEL.role]: TASK_ROLE,
      [LABEL.place]: JSON.stringify(placeOf(order)),
    },
    Hostname: order.name,
    ...(service.entrypoint === undefined ? {} : { Command: service.entrypoint }),
    ...(service.command === undefined ? {} : { Args: service.command }),
    Env: Object.entries(service.environment).map(([name, value]) => `${name}=${value}`),
    ...(service.workingDirectory === undefined ? {} : { Dir: service.workingDirectory }),
    ...(service.user === undefined ? {} : { User: service.user }),
    Groups: service.groups,
    TTY: service.tty,
    OpenStdin: service.stdinOpen,
    Init: service.init,
    Mounts: mountsOf(service),
    Hosts: service.hosts.map(({ name, address }) => `${address} ${name}`),
    ...stoppingOf(service),
    ...healthOf(service),
  }
}

/** Where it belongs, for the `unionize` of the node that runs it. */
function placeOf({ instance, address, ownerAddress: owner, home, wiring }: Order): TaskPlace {
  return { instance, address, owner, home: { ...home }, ...(wiring?.policy ? { policy: wiring.policy } : {}) }
}

function stoppingOf({ stopGraceMs, stopSignal }: ServiceSpec): Record<string, unknown> {
  if (stopGraceMs === 0) return { StopSignal: 'SIGKILL', StopGracePeriod: NS }
  return { ...(stopSignal === undefined ? {} : { StopSignal: stopSignal }), StopGracePeriod: stopGraceMs * NS }
}

function healthOf({ healthcheck: check }: ServiceSpec): Record<string, unknown> {
  if (check === undefined) return {}
  if (check === 'disabled') return { HealthCheck: { Test: ['NONE'] } }
  const ns = (ms: number | undefined) => (ms ?? 0) * NS
  return {
    HealthCheck: {
      ...{ Test: check.test ?? [], Interval: ns(check.intervalMs), Timeout: ns(check.timeoutMs) },
      ...{ StartPeriod: ns(check.startPeriodMs), Retries: check.retries ?? 0 },
    },
  }
}

function rightsOf(service: ServiceSpec, api: string): Record<string, unknown> {
  const privileges = service.noNewPrivileges && knowsNewPrivileges(api) ? { Privileges: { NoNewPrivileges: true } } : {}
  return {
    CapabilityDrop: ['ALL'],
    CapabilityAdd: service.capabilities.map((name) => `CAP_${name}`),
    ReadOnly: service.readOnly,
    // The engine switches IPv6 off in a namespace whose networks have none, and the instance's address is of that kind.
    Sysctls: {
      ...{ 'net.ipv6.conf.all.disable_ipv6': '0', 'net.ipv6.conf.default.disable_ipv6': '0' },
      ...service.sysctls,
    },
    Ulimits: service.ulimits.map(({ name, soft, hard }) => ({ Name: name, Soft: soft, Hard: hard })),
    ...privileges,
  }
}

function mountsOf(service: ServiceSpec): object[] {
  const shm = service.shmBytes === undefined ? [] : [tmpfs('/dev/shm', service.shmBytes, 0o1777)]
  const mounts = service.mounts.map((one) => {
    if (one.kind === 'tmpfs') return tmpfs(one.target, one.sizeBytes, one.mode)
    const { target: Target, readOnly: ReadOnly } = one
    return one.kind === 'host'
      ? { Type: 'bind', Source: one.source, Target, ReadOnly }
      : { Type: 'volume', Target, ReadOnly }
  })
  return [...shm, ...mounts]
}

function tmpfs(target: string, size: number | undefined, mode: number | undefined): object {
  const options = { ...(size === undefined ? {} : { SizeBytes: size }), ...(mode === undefined ? {} : { Mode: mode }) }
  return { Type: 'tmpfs', Target: target, TmpfsOptions: options }
}

function secretsOf(
  { secrets }: Pick<Plan, 'secrets'>,
  idOf: (name: string) => string,
): { SecretID: string; SecretName: string }[] {
  return secrets.map(({ name, file }) => ({
    ...{ SecretID: idOf(name), SecretName: name },
    File: { Name: file.target, UID: '0', GID: '0', Mode: file.mode },
  }))
}
