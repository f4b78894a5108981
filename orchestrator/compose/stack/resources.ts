import { InvalidInput } from '../../../common/errors.ts'
import type { ServiceInput } from '../../../common/service-spec.ts'
import type { Json } from '../../domain/template.ts'
import { fieldsOf, given, integerOf, type JsonMap, numberOf, type Remarks, textOf } from './reading.ts'
import { sizeOf } from './sizes.ts'

const MIB = 1024 * 1024
/** Docker's least (daemon/daemon_unix.go: linuxMinMemory). */
const LEAST_MEMORY = 6 * MIB
const DEFAULT_MEMORY = 256 * MIB
const DEFAULT_PIDS = 256
/** The kernel's own limit of process ids on 64-bit machines (include/linux/threads.h: PID_MAX_LIMIT). */
const MOST_PIDS = 4_194_304

type Resources = Pick<
  ServiceInput,
  | 'memoryBytes'
  | 'memorySwapBytes'
  | 'memoryReservationBytes'
  | 'cpus'
  | 'cpuShares'
  | 'cpuset'
  | 'pids'
  | 'shmBytes'
  | 'oomScoreAdjust'
>
type Reader = (value: Json, key: string) => number

/** Limits of a service, in both spellings: `mem_limit`, `cpus`, `pids_limit`, `mem_reservation`, and `deploy.resources`. */
export function resourcesOfService(service: JsonMap, key: string, remarks: Remarks): Resources {
  const deploy = `${key}.deploy.resources`
  const { limits, reservations } = deployed(service, key)
  const one = (name: string, inDeploy: Json | undefined, deployKey: string, read: Reader) =>
    either({ value: given(service, name), key: `${key}.${name}` }, { value: inDeploy, key: deployKey }, read)
  const memoryBytes = one('mem_limit', given(limits, 'memory'), `${deploy}.limits.memory`, memoryOf) ?? DEFAULT_MEMORY
  const reserved = `${deploy}.reservations.memory`
  const reservation = one('mem_reservation', given(reservations, 'memory'), reserved, sizeOf)
  if (reservation !== undefined && reservation > memoryBytes) {
    const at = given(service, 'mem_reservation') === undefined ? reserved : `${key}.mem_reservation`
    throw new InvalidInput(at, `expected no more than the memory limit, ${memoryBytes} bytes`)
  }
  const cpus = one('cpus', given(limits, 'cpus'), `${deploy}.limits.cpus`, (value, at) => numberOf(value, at, 0, 4096))
  const pids = one('pids_limit', given(limits, 'pids'), `${deploy}.limits.pids`, pidsOf)
  return {
    memoryBytes,
    ...optional('memorySwapBytes', swapOf(service, key, memoryBytes)),
    ...optional('memoryReservationBytes', reservation || undefined),
    ...optional('cpus', cpus || undefined),
    ...optional('cpuShares', sharesOf(service, key)),
    ...optional('cpuset', cpusetOf(service, key)),
    pids: pids ?? DEFAULT_PIDS,
    ...optional('shmBytes', read(service, key, 'shm_size', sizeOf)),
    ...optional('oomScoreAdjust', scoreOf(service, key, remarks)),
  }
}

/** `deploy` of a service, as far as it is about resources; what else it may say is checked here. */
function deployed(service: JsonMap, key: string): { limits: JsonMap; reservations: JsonMap } {
  const at = `${key}.deploy`
  const deploy = fieldsOf(given(service, 'deploy') ?? null, at, ['mode', 'replicas', 'resources', 'restart_policy'])
  const mode = given(deploy, 'mode')
  if (mode !== undefined && mode !== 'replicated')
    throw new InvalidInput(`${at}.mode`, 'expected replicated: a service is one container')
  for (const [value, where] of [
    [given(deploy, 'replicas'), `${at}.replicas`],
    [given(service, 'scale'), `${key}.scale`],
  ] as const) {
    if (value !== undefined && !says(value, 1)) throw new InvalidInput(where, 'expected 1: a service is one container')
  }
  const resources = fieldsOf(given(deploy, 'resources') ?? null, `${at}.resources`, ['limits', 'reservations'])
  const limits = given(resources, 'limits') ?? null
  const reservations = given(resources, 'reservations') ?? null
  return {
    limits: fieldsOf(limits, `${at}.resources.limits`, ['cpus', 'memory', 'pids']),
    reservations: fieldsOf(reservations, `${at}.resources.reservations`, ['memory']),
  }
}

/** Whether a value is that number, or a text that means it. */
function says(value: Json, number: number): boolean {
  return value === number || value === String(number)
}

interface Placed {
  readonly value: Json | undefined
  readonly key: string
}

/** Of two spellings the one that is given. @throws InvalidInput where both are, and differ */
function either(short: Placed, long: Placed, read: Reader): number | undefined {
  const [a, b] = [short, long].map(({ value, key }) => (value === undefined ? undefined : read(value, key)))
  if (a !== undefined && b !== undefined && a !== b) {
    throw new InvalidInput(long.key, `says something else than ${short.key}: say one of them`)
  }
  return a ?? b
}

function memoryOf(value: Json, key: string): number {
  const bytes = sizeOf(value, key)
  if (bytes < LEAST_MEMORY) throw new InvalidInput(key, 'expected at least 6m: every service has a limit')
  return bytes
}

function pidsOf(value: Json, key: string): number {
  if (says(value, -1) || says(value, 0)) {
    throw new InvalidInput(key, `every service has a limit of processes: expected 1 to ${MOST_PIDS}`)
  }
  return integerOf(value, key, 1, MOST_PIDS)
}

/** Memory and swap together; 0 is Docker's default: as much swap as memory. */
function swapOf(service: JsonMap, key: string, memoryBytes: number): number | undefined {
  const value = given(service, 'memswap_limit')
  if (value === undefined) return undefined
  const at = `${key}.memswap_limit`
  if (says(value, -1)) throw new InvalidInput(at, 'swap without limit is not given: expected a size, memory included')
  const bytes = sizeOf(value, at)
  if (bytes === 0) return undefined
  if (bytes < memoryBytes)
    throw new InvalidInput(at, `expected no less than the memory limit, ${memoryBytes} bytes: it includes it`)
  return bytes
}

/** 0 is the kernel's default, as in Docker. */
function sharesOf(service: JsonMap, key: string): number | undefined {
  const shares = read(service, key, 'cpu_shares', (value, at) => integerOf(value, at, 0, 262_144))
  if (shares === 1) throw new InvalidInput(`${key}.cpu_shares`, 'expected a whole number from 2 to 262144, or 0')
  return shares || undefined
}

function cpusetOf(service: JsonMap, key: string): string | undefined {
  const value = given(service, 'cpuset')
  if (value === undefined) return undefined
  const text = textOf(value, `${key}.cpuset`).replaceAll(' ', '')
  const backwards = text.split(',').some((part) => {
    const [from, to = from] = part.split('-').map(Number)
    return (to ?? 0) < (from ?? 0)
  })
  if (!/^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(text) || backwards) {
    throw new InvalidInput(`${key}.cpuset`, 'expected processors such as 0-2,4')
  }
  return text
}

/** Below 0 the kernel ends others of the host before it. */
function scoreOf(service: JsonMap, key: string, remarks: Remarks): number | undefined {
  const score = read(service, key, 'oom_score_adj', (value, at) => integerOf(value, at, -1000, 1000))
  if (score !== undefined && score < 0) remarks.weaken(`${key}.oom_score_adj`)
  return score
}

function read(service: JsonMap, key: string, name: string, reader: Reader): number | undefined {
  const value = given(service, name)
  return value === undefined ? undefined : reader(value, `${key}.${name}`)
}

function optional<T extends string, V>(name: T, value: V | undefined): Partial<Record<T, V>> {
  return value === undefined ? {} : ({ [name]: value } as Record<T, V>)
}
