import { readDocument } from '../compose/document.ts'
import type { Fault } from '../compose/faults.ts'
import { patternTime } from '../compose/parameters.ts'
import { isSealed, type StoredParameters } from '../domain/parameter.ts'
import { type Price, priceText } from '../domain/price.ts'
import type { Gift, Quotas, Rule, RuleMatch, Ruleset } from '../domain/rule.ts'
import type { Json } from '../domain/template.ts'
import type { Seal } from '../pki/seal.ts'
import { type RulesKnown, readGift, writtenGift } from './rule-gift.ts'
import { readMatch, writtenMatch } from './rule-match.ts'
import { type RuleReading, ruleReading } from './rule-reading.ts'

export type { RulesKnown } from './rule-gift.ts'

/** What a rules file means: a ruleset before it is kept. */
export type RulesContent = Pick<Ruleset, 'rules' | 'quotas'>

/** Some ten thousand rules, with room. */
const RULES_FILE = { name: 'a rules file', expected: 'a map with `rules`', bytes: 8 * 1024 * 1024, values: 500_000 }
const RULE_NAME = /^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/
const QUOTAS = { total: 'total', 'per-owner': 'perOwner' } as const

/**
 * Reads a rules file. Every fault is told, with its line; secrets of the templates' parameters come back sealed.
 * @returns content null: there are faults
 */
export function readRules(
  source: { readonly file: string; readonly text: string },
  known: RulesKnown,
): { readonly content: RulesContent | null; readonly faults: readonly Fault[]; readonly notes: readonly Fault[] } {
  const { document, faults } = readDocument(source.file, source.text, RULES_FILE)
  if (document === null) return { content: null, faults, notes: [] }
  const reading = ruleReading(source.file, document.places)
  const fields = reading.fields([], document.tree, ['rules', 'quotas'])
  const rules = readList(reading, fields?.get('rules'), known)
  const quotas = readQuotas(reading, fields?.get('quotas'))
  noteUnreachable(reading, rules)
  const content = reading.faults.length === 0 ? { rules, quotas } : null
  return { content, faults: reading.faults, notes: content === null ? [] : reading.notes }
}

function readList(reading: RuleReading, value: Json | undefined, known: RulesKnown): Rule[] {
  if (!Array.isArray(value)) {
    reading.fault(['rules'], 'expected a list of rules; without any, write []')
    return []
  }
  const first = new Map<string, number>()
  const rules: Rule[] = []
  const time = patternTime()
  for (const [index, item] of (value as readonly Json[]).entries()) {
    const path = ['rules', index]
    const fields = reading.fields(path, item, ['name', 'match', 'give'])
    if (fields === null) continue
    const name = readName(reading, path, fields.get('name'))
    const match = readMatch(reading, [...path, 'match'], fields.get('match'))
    const give = readGift(reading, [...path, 'give'], fields.get('give'), known, time)
    const before = first.get(name)
    if (name !== '' && before !== undefined) {
      reading.fault(
        [...path, 'name'],
        `${name} is the name of rule ${before + 1} already: each rule has a name of its own`,
      )
    } else first.set(name, index)
    rules.push({ name, match, give: give ?? null })
  }
  return rules
}

function readName(reading: RuleReading, path: readonly (string | number)[], value: Json | undefined): string {
  if (typeof value === 'string' && RULE_NAME.test(value)) return value
  reading.fault(
    [...path, 'name'],
    'expected a name of letters, digits, . _ and -, at most 63, which tells the rule from all others',
  )
  return ''
}

function readQuotas(reading: RuleReading, value: Json | undefined): Quotas {
  if (value === undefined) return {}
  const quotas: { total?: number; perOwner?: number; spend?: Price } = {}
  for (const [name, given] of reading.fields(['quotas'], value, [...Object.keys(QUOTAS), 'spend']) ?? []) {
    if (name === 'spend') {
      const spend = reading.price(['quotas', name], given)
      if (spend !== null) quotas.spend = spend
      continue
    }
    const limit = reading.count(['quotas', name], given)
    if (limit !== null) quotas[QUOTAS[name as keyof typeof QUOTAS]] = limit
  }
  return quotas
}

/** A rule that matches every lease leaves nothing to those after it. */
function noteUnreachable(reading: RuleReading, rules: readonly Rule[]): void {
  const all = rules.findIndex(({ match }) => matchesEverything(match))
  const last = rules[all]
  for (let index = all + 1; last !== undefined && index < rules.length; index++) {
    reading.note(
      ['rules', index],
      `${rules[index]?.name} is never reached: rule ${last.name} before it matches every lease`,
    )
  }
}

/** Every lease has an owner, an address and a source; all else may be missing. */
function matchesEverything({ subnet, source, duid, percent, ...others }: RuleMatch): boolean {
  if (Object.values(others).some((field) => field !== undefined)) return false
  const any = (patterns: readonly string[] | undefined, all: string) => patterns === undefined || patterns.includes(all)
  return any(subnet, '::/0') && any(source, '*') && any(duid, '*') && (percent === undefined || percent >= 100)
}

/**
 * A ruleset as its file would have it, for people: to be compared with another, or shown.
 * @param secret what stands in the place of the secret of that rule and parameter
 * @param isSecret whether a value that was none when it was stored is a secret now, and not to be shown
 */
export function writtenRules(
  { rules, quotas }: RulesContent,
  secret: (rule: string, parameter: string) => string,
  isSecret?: (give: Gift, parameter: string) => boolean,
): Json {
  const written = rules.map(({ name, match, give }) => {
    const shown = writtenMatch(match)
    return {
      name,
      ...(Object.keys(shown).length === 0 ? {} : { match: shown }),
      give: writtenGift(give, (parameter) => secret(name, parameter), isSecret),
    }
  })
  const limits = Object.entries(QUOTAS).flatMap(([name, field]): [string, number | string][] => {
    const limit = quotas[field]
    return limit === undefined ? [] : [[name, limit]]
  })
  if (quotas.spend !== undefined) limits.push(['spend', priceText(quotas.spend)])
  return {
    rules: written,
    ...(limits.length === 0 ? {} : { quotas: Object.fromEntries(limits) as Record<string, Json> }),
  }
}

/**
 * The same rules, with the sealed values of `former` wherever they hold the same secrets: sealing the same secret again
 * gives another text, and what is the same must look the same.
 */
export function keepSeals(content: RulesContent, former: RulesContent, seal: Pick<Seal, 'open'>): RulesContent {
  const before = new Map(former.rules.map(({ name, give }) => [name, give]))
  const rules = content.rules.map((rule) => {
    const give = before.get(rule.name)
    return rule.give === null || !give
      ? rule
      : { ...rule, give: { ...rule.give, parameters: kept(rule.give, give, seal) } }
  })
  return { ...content, rules }
}

function kept(give: Gift, former: Gift, seal: Pick<Seal, 'open'>): StoredParameters {
  const entries = Object.entries(give.parameters).map(([name, value]) => {
    const old = Object.hasOwn(former.parameters, name) ? former.parameters[name] : undefined
    if (old === undefined || !isSealed(value) || !isSealed(old)) return [name, value]
    return [name, seal.open(name, value) === seal.open(name, old) ? old : value]
  })
  return Object.fromEntries(entries) as StoredParameters
}
