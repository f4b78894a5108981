import type { DropReason } from '../../../common/drop-reasons.ts'

/** How the parts of the ruleset are written: the language of nft(8). */

export type Family = 'inet' | 'bridge' | 'arp'

/** Our table in each family, and the only ones ever touched. */
export const TABLES = ['inet unionize', 'bridge unionize', 'arp unionize'] as const

/** Protocols by number: their names are looked up in /etc/protocols, which a small system does not have. */
export const TCP = 6
export const UDP = 17
export const ICMPV6 = 58

/** Name of the counter of a reason, the same in each table. */
export const COUNTER_PREFIX = 'dropped-'

/** Counts and drops. */
export function drop(reason: DropReason): string {
  return `counter name "${COUNTER_PREFIX}${reason}" drop`
}

/** A chain with exactly these rules, whatever it had before. `hook`: null if only other chains lead to it. */
export function chain(family: Family, name: string, hook: string | null, rules: readonly string[]): string[] {
  const specification = hook === null ? '' : ` { type ${hook}; policy accept; }`
  return [
    `add chain ${family} unionize ${name}${specification}`,
    `flush chain ${family} unionize ${name}`,
    ...rules.map((rule) => `add rule ${family} unionize ${name} ${rule}`),
  ]
}

/** The counters that these rules name. A counter that is there keeps its count. */
export function countersOf(family: Family, rules: readonly string[]): string[] {
  const names = rules.flatMap((rule) => [...rule.matchAll(/counter name "([^"]+)"/g)].map((match) => match[1]))
  return [...new Set(names)].map((name) => `add counter ${family} unionize ${name}`)
}
