import { createHash } from 'node:crypto'
import type { Policy } from '../../../common/wiring-policy.ts'
import { INTERNET } from './path-rules.ts'
import { chain, ICMPV6, TCP, UDP } from './rules.ts'

/**
 * Public ports and destinations of instances. Instances with the same ones share a chain, made when the first comes and
 * removed when the last goes; an instance has an element in a map that leads there. Chains are named after what they let
 * through, and hold it in sets of their own, from which it can be read back.
 */

export type PublicPort = Policy['public'][number]

/** A chain of an instance's policy. */
export interface Reach {
  /** Its name, and the beginning of its sets' names. */
  readonly name: string
  /** What makes it. Empty: it is always there. */
  readonly make: readonly string[]
  readonly remove: readonly string[]
}

/** The way to public ports; null: there are none. */
export function publicReach(ports: readonly PublicPort[]): Reach | null {
  if (ports.length === 0) return null
  const ranges = (protocol: PublicPort['protocol']) =>
    merged(ports.filter((one) => one.protocol === protocol).map(({ port, last }) => [port, last ?? port]))
  const lists = { tcp: ranges('tcp'), udp: ranges('udp') }
  const name = named('public', lists)
  const sets = (['tcp', 'udp'] as const)
    .filter((protocol) => lists[protocol].length > 0)
    .map((protocol) => ({
      set: `${name}_${protocol}`,
      type: 'inet_service',
      elements: lists[protocol].map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)),
      rule: `meta l4proto ${protocol === 'tcp' ? TCP : UDP} ct original proto-dst @${name}_${protocol} goto opened`,
    }))
  return reach(name, sets, [`ct state related meta l4proto ${ICMPV6} goto admitted`])
}

/** The way to destinations; null: there are none. */
export function egressReach(egress: Policy['egress']): Reach | null {
  if (egress === 'none') return null
  if (egress === 'internet') return { name: INTERNET, make: [], remove: [] }
  const name = named('egress', [...egress].sort())
  const rule = `ct original ip6 daddr @${name} goto begun`
  return reach(name, [{ set: name, type: 'ipv6_addr', elements: egress, rule }], [])
}

function reach(
  name: string,
  sets: readonly { set: string; type: string; elements: readonly string[]; rule: string }[],
  rules: readonly string[],
): Reach {
  return {
    name,
    make: [
      ...sets.flatMap(({ set, type, elements }) => [
        `add set inet unionize ${set} { type ${type}; flags interval; }`,
        `add element inet unionize ${set} { ${elements.join(', ')} }`,
      ]),
      ...chain('inet', name, null, [...sets.map(({ rule }) => rule), ...rules]),
    ],
    remove: [`delete chain inet unionize ${name}`, ...sets.map(({ set }) => `delete set inet unionize ${set}`)],
  }
}

/** Ranges in order, none touching another: what an interval set takes. */
function merged(ranges: readonly (readonly [number, number])[]): [number, number][] {
  const result: [number, number][] = []
  for (const [first, last] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const before = result.at(-1)
    if (before !== undefined && first <= before[1] + 1) before[1] = Math.max(before[1], last)
    else result.push([first, last])
  }
  return result
}

/** 48 bits of a hash: a name for what an operator writes, not for what anybody could choose. */
function named(kind: string, content: unknown): string {
  return `${kind}_${createHash('sha256').update(JSON.stringify(content)).digest('hex').slice(0, 12)}`
}
