import { InvalidInput } from '../../../common/errors.ts'
import type { ServiceInput } from '../../../common/service-spec.ts'
import { fieldsOf, given, integerOf, isMap, type JsonMap, mapOf, pairsOf, type Remarks } from './reading.ts'

export type Ulimit = NonNullable<ServiceInput['ulimits']>[number]

/** Those of getrlimit(2), as Docker names them. */
const ULIMITS = 'core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack'.split(
  ' ',
)
/** With these a process takes processor time from others of the host. */
const PRIORITIES = ['nice', 'rtprio']

/** `ulimits` of a service; -1 is no limit. */
export function ulimitsOfService(service: JsonMap, key: string, remarks: Remarks): Ulimit[] {
  return Object.entries(mapOf(given(service, 'ulimits') ?? null, `${key}.ulimits`)).map(([name, value]) => {
    const at = `${key}.ulimits.${name}`
    if (!ULIMITS.includes(name))
      throw new InvalidInput(at, `there is no such limit: expected one of ${ULIMITS.join(', ')}`)
    const fields = isMap(value) ? fieldsOf(value, at, ['soft', 'hard']) : { soft: value, hard: value }
    const [soft, hard] = (['soft', 'hard'] as const).map((which) =>
      integerOf(fields[which] ?? null, isMap(value) ? `${at}.${which}` : at, -1, Number.MAX_SAFE_INTEGER),
    ) as [number, number]
    if (hard !== -1 && (soft === -1 || soft > hard)) throw new InvalidInput(at, 'expected soft not above hard')
    if (PRIORITIES.includes(name) && hard !== 0) remarks.weaken(at)
    return { name, soft, hard }
  })
}

/** Settings of the kernel that each container has of its own: its IPC (ipc_namespaces(7)), its network (`net.`). */
const SYSCTLS =
  /^(kernel\.(msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced)|fs\.mqueue\.[a-z_]+|net\.[a-z0-9_.*/-]+)$/i

/** `sysctls` of a service. @throws InvalidInput for those that are the host's */
export function sysctlsOfService(service: JsonMap, key: string): Record<string, string> {
  const value = given(service, 'sysctls')
  const pairs = value === undefined ? [] : pairsOf(value, `${key}.sysctls`)
  return Object.fromEntries(
    pairs.map(({ name, value: setting, key: at }) => {
      if (!SYSCTLS.test(name)) {
        throw new InvalidInput(
          at,
          `${name} is not a setting of a container: expected net.…, fs.mqueue.… or one of System V IPC`,
        )
      }
      if (setting === null || setting === '') throw new InvalidInput(at, 'expected a value')
      return [name, setting]
    }),
  )
}
