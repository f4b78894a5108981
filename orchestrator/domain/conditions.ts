import { hostBits, type Prefix, parsePrefix } from '../../common/ipv6.ts'
import { compilePattern, type Pattern } from './pattern.ts'
import type { Rule, RuleMatch } from './rule.ts'
import { drawOf, standing } from './share.ts'
import { beginningKey, type Prepared, prefixKey } from './subject.ts'
import { compileWindow, DAYS } from './time-window.ts'

/** One field of one rule. */
export interface Condition {
  readonly field: string
  holds(lease: Prepared): boolean
  /** Why it does not hold, in words; asked only then. */
  mismatch(lease: Prepared): string
  /** Keys of which a lease must have at least one for this to hold; null: nothing so simple decides. */
  readonly keys: readonly string[] | null
}

/** The conditions of a rule, in the order in which they are explained. Fields that are absent are none. */
export function conditionsOf(rule: Rule): readonly Condition[] {
  const { match } = rule
  const found: (Condition | null)[] = [
    texts('duid', match.duid, (lease) => lease.duid, lower),
    texts('mac', match.mac, (lease) => lease.mac, lower),
    ...tagConditions(match.tags),
    prefixes(
      'subnet',
      match.subnet,
      'address',
      (lease) => lease.address(),
      (lease) => lease.addressText,
    ),
    relays(match.relay),
    texts('interface', match.interface, (lease) => lease.interface),
    texts('source', match.source, (lease) => lease.source),
    texts('hostname', match.hostname, (lease) => lease.hostname, lower),
    texts('mud-url', match.mudUrl, (lease) => lease.mudUrl),
    texts('vendor-class', match.vendorClass, (lease) => lease.vendorClass),
    lists('user-class', match.userClass, (lease) => lease.userClasses),
    windows(match.time),
    shares(match.percent, rule.name),
  ]
  return found.filter((condition) => condition !== null)
}

const lower = (text: string): string => text.toLowerCase()

function texts(
  field: string,
  wanted: readonly string[] | undefined,
  value: (lease: Prepared) => string | undefined,
  normal = (text: string) => text,
): Condition | null {
  if (wanted === undefined) return null
  const patterns = wanted.map((text) => compilePattern(normal(text)))
  return {
    field,
    keys: textKeys(field, patterns),
    holds(lease) {
      const told = value(lease)
      return told !== undefined && matchesAny(patterns, told)
    },
    mismatch(lease) {
      const told = value(lease)
      return told === undefined ? unknown(field, wanted) : `${field} ${told} is none of ${some(wanted)}`
    },
  }
}

/** A lease with several values needs one that matches. */
function lists(
  field: string,
  wanted: readonly string[] | undefined,
  values: (lease: Prepared) => readonly string[],
): Condition | null {
  if (wanted === undefined) return null
  const patterns = wanted.map(compilePattern)
  return {
    field,
    keys: textKeys(field, patterns),
    holds: (lease) => values(lease).some((told) => matchesAny(patterns, told)),
    mismatch(lease) {
      const told = values(lease)
      return told.length === 0 ? unknown(field, wanted) : `${field} ${some(told)}: none of ${some(wanted)} is there`
    },
  }
}

function tagConditions(match: RuleMatch['tags']): (Condition | null)[] {
  if (match === undefined) return []
  const none = match.none?.map(compilePattern) ?? []
  const shuns: Condition = {
    field: 'tags',
    keys: null,
    holds: (lease) => !lease.tags.some((tag) => matchesAny(none, tag)),
    mismatch: (lease) => `tags: ${lease.tags.find((tag) => matchesAny(none, tag))} must not be there`,
  }
  return [
    lists('tags', match.any, (lease) => lease.tags),
    ...(match.all ?? []).map((text) => tagCondition(compilePattern(text))),
    none.length === 0 ? null : shuns,
  ]
}

function tagCondition(pattern: Pattern): Condition {
  return {
    field: 'tags',
    keys: textKeys('tags', [pattern]),
    holds: (lease) => lease.tags.some((tag) => pattern.matches(tag)),
    mismatch: (lease) => `tags: ${pattern.text} is not there; there are ${tagText(lease)}`,
  }
}

function tagText({ tags }: Prepared): string {
  return tags.length === 0 ? 'none' : some(tags)
}

function prefixes(
  field: 'subnet' | 'relay',
  wanted: readonly string[] | undefined,
  what: string,
  value: (lease: Prepared) => bigint | null,
  text: (lease: Prepared) => string | undefined,
): Condition | null {
  if (wanted === undefined) return null
  const compiled = wanted.map((prefix) => compilePrefix(parsePrefix(prefix, field)))
  return {
    field,
    keys: compiled.map(({ base, length }) => prefixKey(field, base, length)),
    holds(lease) {
      const address = value(lease)
      return address !== null && compiled.some(({ base, shift }) => address >> shift === base >> shift)
    },
    mismatch(lease) {
      const told = text(lease)
      return told === undefined ? unknown(what, wanted) : `${what} ${told} is in none of ${some(wanted)}`
    },
  }
}

function compilePrefix(prefix: Prefix): { base: bigint; shift: bigint; length: number } {
  return { base: hostBits(prefix.base, 0), shift: BigInt(128 - prefix.length), length: prefix.length }
}

/** `none` stands for a device that was not relayed. */
function relays(wanted: readonly string[] | undefined): Condition | null {
  if (wanted === undefined) return null
  const relayed = wanted.filter((one) => one !== 'none')
  const direct = relayed.length < wanted.length
  const within = prefixes(
    'relay',
    relayed,
    'relay',
    (lease) => lease.relay(),
    (lease) => lease.relayText,
  )
  return {
    field: 'relay',
    keys: [...(within?.keys ?? []), ...(direct ? ['relay=none'] : [])],
    holds: (lease) => (lease.relayText === undefined ? direct : within?.holds(lease) === true),
    mismatch: (lease) =>
      lease.relayText === undefined
        ? `relay: the device was not relayed; the rule wants one in ${some(wanted)}`
        : `relay ${lease.relayText} is in none of ${some(wanted)}`,
  }
}

function windows(match: RuleMatch['time']): Condition | null {
  if (match === undefined) return null
  const window = compileWindow(match)
  return {
    field: 'time',
    keys: null,
    holds: (lease) => window.contains(lease.wall(window.zone, lease.now)),
    mismatch(lease) {
      const { day, minute } = lease.wall(window.zone, lease.now)
      const clock = [Math.floor(minute / 60), minute % 60].map((n) => String(n).padStart(2, '0')).join(':')
      return `time ${DAYS[day]} ${clock} is not within ${window.text}`
    },
  }
}

function shares(percent: number | undefined, rule: string): Condition | null {
  if (percent === undefined) return null
  const draw = drawOf(rule)
  return {
    field: 'percent',
    keys: null,
    holds: ({ ownerKey }) => ownerKey !== undefined && standing(draw, ownerKey) < percent,
    mismatch: ({ ownerKey }) =>
      ownerKey === undefined
        ? `percent: the owner is not known; it takes a DUID and an IAID to tell whether it is among the ${percent} percent`
        : `percent: this owner is not among the ${percent} percent that the rule takes`,
  }
}

function textKeys(field: string, patterns: readonly Pattern[]): string[] | null {
  const keys: string[] = []
  for (const { text, exact, beginning } of patterns) {
    if (exact) keys.push(`${field}=${text}`)
    else if (beginning !== '') keys.push(beginningKey(field, beginning))
    else return null
  }
  return keys
}

function matchesAny(patterns: readonly Pattern[], value: string): boolean {
  for (const pattern of patterns) if (pattern.matches(value)) return true
  return false
}

function unknown(what: string, wanted: readonly string[]): string {
  return `${what} is not known; the rule wants ${wanted.length === 1 ? '' : 'one of '}${some(wanted)}`
}

/** Values named in a sentence at most. */
const NAMED = 4

function some(values: readonly string[]): string {
  if (values.length <= NAMED) return values.join(', ')
  return `${values.slice(0, NAMED).join(', ')} and ${values.length - NAMED} more`
}
