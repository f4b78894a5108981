import { InvalidInput } from '../../common/errors.ts'
import { contains, formatPrefix, type Prefix, parsePrefix } from '../../common/ipv6.ts'
import type { Policy } from '../../common/wiring-policy.ts'

/** Public ports, and prefixes, of one policy at most: each is an element of a set. */
const MOST = 64
/** Per second. The least bandwidth is a full frame; the most of any is far beyond what a link carries. */
const RANGES = {
  packets: [1, 10_000_000],
  connections: [1, 1_000_000],
  upload: [8_000, 1_000_000_000_000],
  download: [8_000, 1_000_000_000_000],
} as const

/**
 * A policy as another process sent it. Checked here again, by hand: what is behind puts it into firewall text, and the
 * shapes' library is too large for the wiring.
 * @throws InvalidInput naming the field
 */
export function parsePolicy(policy: Policy): Policy {
  const { public: ports, egress, limits } = fieldsOf(policy, 'policy')
  return {
    public: listOf(ports, 'policy.public').map(parsePort),
    egress: parseEgress(egress),
    limits: parseLimits(fieldsOf(limits, 'policy.limits')),
  }
}

/** Those that are within no other, each once, in an order that follows from them: what an interval set takes. */
export function outermost(prefixes: readonly Prefix[]): Prefix[] {
  const bySize = [...prefixes].sort((a, b) => a.length - b.length || (a.base < b.base ? -1 : 1))
  const result: Prefix[] = []
  for (const prefix of bySize) if (!result.some((wide) => contains(wide, prefix.base))) result.push(prefix)
  return result
}

function parsePort(value: unknown): Policy['public'][number] {
  const { protocol, port, last } = fieldsOf(value, 'policy.public')
  if (protocol !== 'tcp' && protocol !== 'udp') throw refused('policy.public.protocol', '"tcp" or "udp"', protocol)
  const first = numberOf(port, [1, 65535], 'policy.public.port')
  if (last === undefined) return { protocol, port: first }
  return { protocol, port: first, last: numberOf(last, [first, 65535], 'policy.public.last') }
}

function parseEgress(value: unknown): Policy['egress'] {
  if (value === 'none' || value === 'internet') return value
  const prefixes = listOf(value, 'policy.egress').map((text) => {
    if (typeof text !== 'string') throw refused('policy.egress', 'IPv6 prefixes', text)
    return parsePrefix(text, 'policy.egress')
  })
  if (prefixes.length === 0) throw refused('policy.egress', '"none", "internet" or prefixes', value)
  return outermost(prefixes).map(formatPrefix)
}

function parseLimits(limits: Record<string, unknown>): Policy['limits'] {
  const names = Object.keys(RANGES) as (keyof typeof RANGES)[]
  const given = names.filter((name) => limits[name] !== undefined)
  return Object.fromEntries(given.map((name) => [name, numberOf(limits[name], RANGES[name], `policy.limits.${name}`)]))
}

function numberOf(value: unknown, [least, most]: readonly [number, number], field: string): number {
  if (Number.isInteger(value) && (value as number) >= least && (value as number) <= most) return value as number
  throw refused(field, `a whole number from ${least} to ${most}`, value)
}

function listOf(value: unknown, field: string): unknown[] {
  if (Array.isArray(value) && value.length <= MOST) return value
  throw refused(field, `a list of at most ${MOST}`, value)
}

function fieldsOf(value: unknown, field: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  throw refused(field, 'an object', value)
}

function refused(field: string, expected: string, value: unknown): InvalidInput {
  return new InvalidInput(field, `expected ${expected}, got ${(JSON.stringify(value) ?? 'nothing').slice(0, 200)}`)
}
