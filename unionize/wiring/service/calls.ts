import { InvalidInput } from '../../../common/errors.ts'
import type { Interfaces, Namespace, Target } from '../interfaces/interfaces.ts'
import type { Wiring } from '../wiring.ts'

/** What the wiring process offers to its clients. */
export interface Hosted {
  readonly wiring: Wiring
  /** The engine behind declared wirings, started when first asked for. */
  readonly interfaces: () => Promise<Interfaces>
}

/** The verbs of `Wiring`, with the number of their arguments; each checks its arguments itself. */
const WIRING_VERBS = {
  prepare: 1,
  attach: 1,
  place: 1,
  open: 1,
  close: 1,
  lead: 1,
  unlead: 1,
  unplace: 1,
  detach: 1,
  connect: 1,
  links: 0,
  replacePassages: 2,
  guard: 0,
  counters: 0,
  teardown: 0,
} as const satisfies Record<Exclude<keyof Wiring, 'stop'>, number>

/** Characters of a target's key or label: a path has at most 4096 (PATH_MAX of linux/limits.h). */
const MAX_NAME = 4200

/**
 * Carries out one call. Arguments come from another process: nothing is taken for granted.
 * @throws InvalidInput naming the verb or the field, and whatever the verb throws
 */
export async function carryOut(hosted: Hosted, verb: string, args: readonly unknown[]): Promise<unknown> {
  if (Object.hasOwn(WIRING_VERBS, verb)) {
    const name = verb as keyof typeof WIRING_VERBS
    if (args.length !== WIRING_VERBS[name]) throw refused('args', `"${verb}" takes ${WIRING_VERBS[name]} of them`)
    return (hosted.wiring[name] as (...args: readonly unknown[]) => Promise<unknown>)(...args)
  }
  switch (verb) {
    case 'interfaces.plan':
    case 'interfaces.wire': {
      // Only here: the shapes' library is large, and a host without declared wirings does without it.
      const { wiringShape } = await import('../../../common/wiring-spec.ts')
      const target = parseTarget(args[0])
      const spec = wiringShape.safeParse(args[1])
      if (!spec.success) {
        const issue = spec.error.issues[0]
        throw refused(issue?.path.map(String).join('.') || 'spec', issue?.message ?? 'not a wiring')
      }
      const interfaces = await hosted.interfaces()
      return verb === 'interfaces.plan' ? interfaces.plan(target, spec.data) : interfaces.wire(target, spec.data)
    }
    case 'interfaces.check':
      return (await hosted.interfaces()).check(parseName(args[0], 'key'))
    case 'interfaces.unwire': {
      return (await hosted.interfaces()).unwire(parseName(args[0], 'key'), parseNames(args[1], 'names'))
    }
    case 'interfaces.show':
      return (await hosted.interfaces()).show(parseNames(args[0], 'keys'))
    default:
      throw refused('verb', `there is no ${JSON.stringify(verb.slice(0, 64))}`)
  }
}

function parseTarget(value: unknown): Target {
  const { key, label, namespace, peers } = (value ?? {}) as Record<string, unknown>
  const target = {
    key: parseName(key, 'target.key'),
    label: parseName(label, 'target.label'),
    namespace: parseNamespace(namespace, 'target.namespace'),
  }
  if (peers === undefined || peers === null) return target
  const entries = Object.entries(peers)
  if (entries.length > 64) throw refused('target.peers', 'expected at most 64 of them')
  const parsed = entries.map(
    ([name, at]) => [parseName(name, 'target.peers'), parseNamespace(at, 'target.peers')] as const,
  )
  return { ...target, peers: Object.fromEntries(parsed) }
}

function parseNamespace(value: unknown, field: string): Namespace {
  const { pid, path } = (value ?? {}) as Record<string, unknown>
  if (path !== undefined) {
    const text = parseName(path, `${field}.path`)
    if (!text.startsWith('/')) throw refused(`${field}.path`, 'expected an absolute path')
    return { path: text }
  }
  if (!Number.isInteger(pid) || (pid as number) < 1) throw refused(field, 'expected a pid or a path')
  return { pid: pid as number }
}

/** Absent: all. */
function parseNames(value: unknown, field: string): string[] | undefined {
  if (value === undefined || value === null) return undefined
  if (!Array.isArray(value) || value.length > 64) throw refused(field, `expected at most 64 ${field}`)
  return value.map((name) => parseName(name, field))
}

function parseName(value: unknown, field: string): string {
  if (typeof value === 'string' && value.length > 0 && value.length <= MAX_NAME && !value.includes('\0')) return value
  throw refused(field, `expected a text of 1 to ${MAX_NAME} characters`)
}

function refused(field: string, message: string): InvalidInput {
  return new InvalidInput(field, message)
}
