import { InvalidInput } from '../../../common/errors.ts'
import type { ServiceInput } from '../../../common/service-spec.ts'
import type { Json } from '../../domain/template.ts'
import { capabilitiesOfService } from './capabilities.ts'
import { dependenciesOfService } from './dependencies.ts'
import { devicesOfService } from './devices.ts'
import { durationOf } from './durations.ts'
import { environmentOfService, labelsOfService } from './environment.ts'
import { extraHostsOfService } from './extra-hosts.ts'
import { type FileSection, filesOfService } from './files.ts'
import { healthcheckOfService } from './healthcheck.ts'
import { imageOfService, pullPolicyOfService } from './image.ts'
import { sysctlsOfService, ulimitsOfService } from './limits.ts'
import { loggingOfService } from './logging.ts'
import { checkTargets, mountsOfService } from './mounts.ts'
import { type DeclaredNetwork, networksOfService } from './networks.ts'
import { portsOfService } from './ports.ts'
import {
  type Attempt,
  booleanOf,
  fieldsOf,
  given,
  isMap,
  type JsonMap,
  listOf,
  pathOf,
  type Remarks,
  scalarOf,
  type TemplateFiles,
  textOf,
  type Variables,
} from './reading.ts'
import { resourcesOfService } from './resources.ts'
import { restartOfService } from './restart.ts'
import { securityOfService } from './security.ts'
import { commandOf } from './words.ts'

/** What is known of the stack around a service. */
export interface ServiceSurroundings {
  readonly entry: string
  /** Of all services. */
  readonly names: readonly string[]
  readonly files: TemplateFiles
  readonly variables: Variables
  readonly networks: ReadonlyMap<string, DeclaredNetwork>
  readonly volumes: readonly string[]
  /** Contents of the top-level sections, base64, by name. */
  readonly contents: Readonly<Record<FileSection, ReadonlyMap<string, string>>>
  readonly remarks: Remarks
  readonly attempt: Attempt
}

export interface ReadService {
  readonly service: ServiceInput
  /** Whether it names no network. */
  readonly implicit: boolean
}

/** Every key that is read here. */
const FIELDS = (
  'image pull_policy platform command entrypoint working_dir environment env_file label_file labels user group_add init tty ' +
  'stdin_open stop_signal stop_grace_period restart container_name depends_on healthcheck expose logging extra_hosts scale ' +
  'mem_limit pids_limit mem_reservation memswap_limit cpus cpu_shares cpuset shm_size oom_score_adj ulimits deploy cap_add ' +
  'cap_drop privileged security_opt read_only sysctls devices ports network_mode networks tmpfs volumes configs secrets'
).split(' ')

/** One service of a stack. @throws InvalidInput unless `attempt` takes it */
export function readService(name: string, value: Json, surroundings: ServiceSurroundings): ReadService {
  const { entry, files, variables, remarks, attempt, names, networks } = surroundings
  const key = `services.${name}`
  attempt(() => fieldsOf(value, key, FIELDS), {})
  const service: JsonMap = isMap(value) ? value : {}
  attempt(() => portsOfService(service, key, name === entry, remarks), [])
  const placed = attempt(() => networksOfService(service, key, entry, networks, remarks), {
    sandbox: name === entry ? 'instance' : 'own',
    memberships: {},
    implicit: false,
  })
  return {
    implicit: placed.implicit,
    service: {
      name,
      image: attempt(() => imageOfService(service, key), 'x'),
      ...defined(
        'pull',
        attempt(() => pullPolicyOfService(service, key), undefined),
      ),
      ...processOf(service, key, attempt, remarks),
      environment: attempt(() => environmentOfService(service, key, files, variables), {}),
      ...filled(
        'labels',
        attempt(() => labelsOfService(service, key, files, variables), {}),
      ),
      ...attempt(() => resourcesOfService(service, key, remarks), LEAST),
      capabilities: attempt(() => capabilitiesOfService(service, key, remarks), []),
      ...attempt(() => securityOfService(service, key, remarks), {}),
      ...storageOf(service, key, surroundings),
      ...filled(
        'devices',
        attempt(() => devicesOfService(service, key, remarks), []),
      ),
      ...filled(
        'sysctls',
        attempt(() => sysctlsOfService(service, key), {}),
      ),
      ...filled(
        'ulimits',
        attempt(() => ulimitsOfService(service, key, remarks), []),
      ),
      ...defined(
        'healthcheck',
        attempt(() => healthcheckOfService(service, key), undefined),
      ),
      ...filled(
        'dependsOn',
        attempt(() => dependenciesOfService(service, key, names), []),
      ),
      ...defined(
        'restart',
        attempt(() => restartOfService(service, key, remarks), undefined),
      ),
      ...defined(
        'log',
        attempt(() => loggingOfService(service, key), undefined),
      ),
      ...filled(
        'hosts',
        attempt(() => extraHostsOfService(service, key), []),
      ),
      ...(placed.sandbox === 'own' ? { sandbox: placed.sandbox } : {}),
      ...filled('networks', placed.memberships),
    },
  }
}

/** What a service whose limits are wrong has instead, while its other keys are read. */
const LEAST = { memoryBytes: 6 * 1024 * 1024, pids: 1 }

/** What its first process is, and how it is started and stopped. */
function processOf(service: JsonMap, key: string, attempt: Attempt, remarks: Remarks) {
  const read = <T>(name: string, reader: (value: Json, key: string) => T): T | undefined => {
    const value = given(service, name)
    return value === undefined ? undefined : attempt<T | undefined>(() => reader(value, `${key}.${name}`), undefined)
  }
  const [stopSignal, stopGraceMs] = [read('stop_signal', scalarOf), read('stop_grace_period', stopGraceOf) ?? 0]
  if (stopSignal !== undefined && stopGraceMs === 0) {
    remarks.note(`${key}.stop_signal`, 'is never sent: without stop_grace_period, containers are killed at once')
  }
  const groups = read('group_add', (value, at) => listOf(value, at).map((item, i) => scalarOf(item, `${at}[${i}]`)))
  return {
    ...defined('platform', read('platform', textOf)),
    ...defined('entrypoint', read('entrypoint', commandOf)),
    ...defined('command', read('command', commandOf)),
    ...defined(
      'workingDirectory',
      read('working_dir', (value, at) => workingDirectoryOf(textOf(value, at), at)),
    ),
    ...defined('user', read('user', scalarOf)),
    ...filled('groups', groups ?? []),
    ...flag('init', read('init', booleanOf)),
    ...flag('tty', read('tty', booleanOf)),
    ...flag('stdinOpen', read('stdin_open', booleanOf)),
    ...flag('readOnly', read('read_only', booleanOf)),
    ...defined('stopSignal', stopSignal),
    stopGraceMs,
  }
}

/** Milliseconds that an instance may outlive its lease by, and keep its host from shutting down. */
const MOST_STOP_GRACE_MS = 600_000

function stopGraceOf(value: Json, key: string): number {
  const ms = durationOf(value, key)
  if (ms > MOST_STOP_GRACE_MS) throw new InvalidInput(key, 'expected 10m at most: so long it outlives its lease')
  return ms
}

function workingDirectoryOf(text: string, key: string): string {
  return text === '/' ? text : pathOf(text, key)
}

/** What is mounted, and which files stand where. */
function storageOf(service: JsonMap, key: string, { volumes, contents, remarks, attempt }: ServiceSurroundings) {
  const mounts = attempt(() => mountsOfService(service, key, volumes, remarks), [])
  const files = (['configs', 'secrets'] as const).flatMap((section) =>
    attempt(() => filesOfService(service, key, section, contents[section], remarks), []),
  )
  const places = [
    ...mounts.map((one) => ({ ...one.mount, key: one.key })),
    ...files.map((one) => ({ ...one.file, key: one.key })),
  ]
  attempt(() => checkTargets(places), undefined)
  return {
    ...filled(
      'mounts',
      mounts.map(({ mount }) => mount),
    ),
    ...filled(
      'files',
      files.map(({ file }) => file),
    ),
  }
}

function defined<T extends string, V>(name: T, value: V | undefined): Partial<Record<T, V>> {
  return value === undefined ? {} : ({ [name]: value } as Record<T, V>)
}

/** A list or map that has something in it. */
function filled<T extends string, V extends object>(name: T, value: V): Partial<Record<T, V>> {
  return Object.keys(value).length === 0 ? {} : ({ [name]: value } as Record<T, V>)
}

function flag<T extends string>(name: T, value: boolean | undefined): Partial<Record<T, boolean>> {
  return value === true ? ({ [name]: value } as Record<T, boolean>) : {}
}
