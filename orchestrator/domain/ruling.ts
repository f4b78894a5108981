import { type Condition, conditionsOf } from './conditions.ts'
import type { Lease } from './lease.ts'
import type { Rule } from './rule.ts'
import { type KeyLengths, keysOf, lengthOf, type Prepared, prepare, type Subject } from './subject.ts'
import { wallClock } from './time-window.ts'

export type { Subject } from './subject.ts'

/**
 * Rules made ready once. A rule that can hold only for leases with a certain MAC, tag, subnet … stands under that key, so a
 * lease looks at its own keys' rules and at those without a key, in order.
 */
export interface CompiledRules {
  readonly rules: readonly CompiledRule[]
  /** Positions of rules by key, ascending. */
  readonly byKey: ReadonlyMap<string, readonly number[]>
  /** Positions of the rules that stand under no key, ascending. */
  readonly keyless: readonly number[]
  readonly lengths: KeyLengths
  readonly wall: Prepared['wall']
}

interface CompiledRule {
  readonly rule: Rule
  readonly conditions: readonly Condition[]
}

/** One rule that was looked at. `mismatch`: the first field that does not match, in words; null: it matches. */
export interface Considered {
  readonly name: string
  readonly mismatch: string | null
}

/** What rules see of a lease. */
export function subjectOf(lease: Lease): Subject {
  const { owner, address, source, facts } = lease
  return { owner, address, source, facts }
}

/** Compiles rules once for any number of leases. @throws InvalidInput when a prefix is none; rules-file.ts lets none in */
export function compileRules(rules: readonly Rule[]): CompiledRules {
  const compiled = rules.map((rule) => ({ rule, conditions: conditionsOf(rule) }))
  const crowd = new Map<string, number>()
  for (const { conditions } of compiled) {
    for (const { keys } of conditions) for (const key of keys ?? []) crowd.set(key, (crowd.get(key) ?? 0) + 1)
  }
  const byKey = new Map<string, number[]>()
  const keyless: number[] = []
  for (const [position, { conditions }] of compiled.entries()) {
    const keys = rarest(conditions, crowd)
    if (keys === null) keyless.push(position)
    for (const key of new Set(keys)) {
      const positions = byKey.get(key)
      if (positions === undefined) byKey.set(key, [position])
      else positions.push(position)
    }
  }
  return { rules: compiled, byKey, keyless, lengths: lengthsIn(byKey.keys()), wall: wallClock() }
}

/** Of a rule's fields with keys the one whose keys are shared with the fewest rules. */
function rarest(conditions: readonly Condition[], crowd: ReadonlyMap<string, number>): readonly string[] | null {
  let best: readonly string[] | null = null
  let least = Number.POSITIVE_INFINITY
  for (const { keys } of conditions) {
    const size = keys?.reduce((sum, key) => sum + (crowd.get(key) ?? 0), 0) ?? Number.POSITIVE_INFINITY
    if (keys === null || size >= least) continue
    best = keys
    least = size
  }
  return best
}

function lengthsIn(keys: Iterable<string>): KeyLengths {
  const found = new Map<string, Set<number>>()
  for (const key of keys) {
    const used = lengthOf(key)
    if (used === null) continue
    const lengths = found.get(used.field) ?? new Set()
    found.set(used.field, lengths.add(used.length))
  }
  return new Map([...found].map(([field, lengths]) => [field, [...lengths]]))
}

/** The first rule that matches; null: none does. @param now epoch ms */
export function decide(compiled: CompiledRules, subject: Subject, now: number): Rule | null {
  const { rules, byKey, keyless } = compiled
  const lease = prepare(subject, now, compiled.wall)
  let first = rules.length
  const look = (positions: readonly number[]): void => {
    for (const position of positions) {
      if (position >= first) return
      const candidate = rules[position]
      if (candidate !== undefined && holds(candidate, lease)) first = position
    }
  }
  for (const key of keysOf(lease, compiled.lengths)) look(byKey.get(key) ?? [])
  look(keyless)
  return rules[first]?.rule ?? null
}

function holds({ conditions }: CompiledRule, lease: Prepared): boolean {
  for (const condition of conditions) if (!condition.holds(lease)) return false
  return true
}

/** Each rule up to the one that decides, with what does not match; the last one is the deciding one, if any matches. */
export function explain(
  compiled: CompiledRules,
  subject: Subject,
  now: number,
): { readonly rule: Rule | null; readonly considered: readonly Considered[] } {
  const lease = prepare(subject, now, compiled.wall)
  const considered: Considered[] = []
  for (const { rule, conditions } of compiled.rules) {
    const failed = conditions.find((condition) => !condition.holds(lease))
    considered.push({ name: rule.name, mismatch: failed?.mismatch(lease) ?? null })
    if (failed === undefined) return { rule, considered }
  }
  return { rule: null, considered }
}
