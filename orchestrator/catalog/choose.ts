import { parseDuid } from '../../common/duid.ts'
import { InvalidInput } from '../../common/errors.ts'
import { parseIpv6 } from '../../common/ipv6.ts'
import { settleParameters } from '../compose/parameters.ts'
import type { Lease, LeaseFacts } from '../domain/lease.ts'
import { isSealed, type ParameterValue, type StoredParameters } from '../domain/parameter.ts'
import { dearer, type Estimate, type Price } from '../domain/price.ts'
import { limitsFor, overspent, type SpendLimit, spendLimitsFor } from '../domain/quota.ts'
import type { Gift, Quotas, Rule } from '../domain/rule.ts'
import {
  type CompiledRules,
  type Considered,
  compileRules,
  decide,
  explain,
  type Subject,
  subjectOf,
} from '../domain/ruling.ts'
import type { Template } from '../domain/template.ts'
import type { Seal } from '../pki/seal.ts'
import type { Transaction } from '../store/store.ts'
import { distrust } from './trust.ts'

/** What a lease becomes. */
export type Choice =
  | {
      readonly kind: 'instance'
      /** null: the default, without rules. */
      readonly rule: string | null
      readonly template: Template
      /** Complete: defaults are among them, and secrets are sealed. */
      readonly parameters: StoredParameters
      readonly backend: string
      /** Backends to try, in order, when that one is full or away. */
      readonly otherwise: readonly string[]
      /** What it costs at most, wherever of these it will be; null: nothing, or not known. */
      readonly price: Price | null
      readonly graceMs: number
      /** Milliseconds that it lives at most; null: as long as its lease. */
      readonly mostMs: number | null
    }
  /** A rule says that it becomes nothing: that is no fault, and stays so until the lease is granted anew. */
  | { readonly kind: 'nothing'; readonly rule: string }
  /** It should become something, and cannot now. The reason is for whoever looks at the lease. */
  | { readonly kind: 'refused'; readonly reason: string }

/** Decides what leases become, by the rules in force at that moment. */
export interface Chooser {
  /** Reads and decides in the caller's transaction: two of them never exceed a quota together. @param now epoch ms */
  choose(tx: Transaction, lease: Lease, now: number): Promise<Choice>
  /** What {@link choose} would say of a lease as it might be, and why. Changes nothing. @throws InvalidInput naming the field */
  explain(tx: Transaction, guess: LeaseGuess, now: number): Promise<Explanation>
}

/** A lease as it might be, as a person wrote it; what is left out is unknown to the rules. */
export interface LeaseGuess extends LeaseFacts {
  readonly duid?: string | undefined
  readonly iaid?: number | undefined
  readonly address?: string | undefined
  readonly source?: string | undefined
}

/** Why a lease becomes what it becomes. */
export interface Explanation {
  /** Name of the rule that decides; null: none matches, or there are none. */
  readonly rule: string | null
  /** null: nothing, or a template that is not there. */
  readonly template: Template | null
  /** Those that would be tried, in order; empty: it would be refused, or gets nothing. */
  readonly backends: readonly string[]
  /** What it would cost at most; null: nothing, or not known. */
  readonly price: Price | null
  /** Limits on money that hold for it, and what is spent of each by now. */
  readonly spending: readonly { readonly who: string; readonly most: Price; readonly spent: Price }[]
  /** Why it would be refused all the same; null: it would not. */
  readonly refusal: string | null
  readonly considered: readonly Considered[]
}

export interface ChooserOptions {
  /** Name of the template that every lease becomes while there are no rules: the setting `templates.default`. */
  readonly fallback: () => string
  /** Names of templates that may weaken isolation: the setting `templates.trusted`. */
  readonly trusted: readonly string[]
  readonly seal: Pick<Seal, 'seal'>
  /** What an instance of a template would cost at a backend. */
  readonly price: (backend: string, template: Template) => Estimate
}

const NO_RULE =
  'no rule matches this lease; `orctl rule test` tells why, and a last rule without `match` would give the others something or nothing'

/** Rules in force: the compiled ones, and what came with them. */
interface Rules {
  readonly revision: number
  /** null: there are none. */
  readonly compiled: CompiledRules | null
  readonly quotas: Quotas
}

/** Keeps the compiled rules in memory for as long as their revision is the one in force. */
export function createChooser(options: ChooserOptions): Chooser {
  let kept: Rules = { revision: 0, compiled: null, quotas: {} }
  const current = async (tx: Transaction): Promise<Rules> => {
    const revision = await tx.rulesRevision()
    if (revision === kept.revision) return kept
    const ruleset = await tx.ruleset()
    const rules = ruleset?.rules ?? []
    const compiled = rules.length === 0 ? null : compileRules(rules)
    kept = { revision: ruleset?.revision ?? 0, compiled, quotas: ruleset?.quotas ?? {} }
    return kept
  }
  return {
    async choose(tx, lease, now) {
      const rules = await current(tx)
      if (rules.compiled === null) return give(tx, options, rules, null, lease.owner.duid)
      const rule = decide(rules.compiled, subjectOf(lease), now)
      return rule === null ? { kind: 'refused', reason: NO_RULE } : give(tx, options, rules, rule, lease.owner.duid)
    },

    async explain(tx, guess, now) {
      const subject = subjectFrom(guess)
      const rules = await current(tx)
      const told = rules.compiled === null ? { rule: null, considered: [] } : explain(rules.compiled, subject, now)
      if (rules.compiled !== null && told.rule === null) {
        const none = { template: null, backends: [], price: null, spending: [] }
        return { rule: null, ...none, refusal: NO_RULE, considered: told.considered }
      }
      // Without a DUID nothing is known of what its owner has: such a one has nothing yet.
      const choice = await give(tx, options, rules, told.rule, subject.owner?.duid ?? subject.duid ?? '')
      const template =
        choice.kind === 'instance' ? choice.template : await templateOf(tx, giftOf(told.rule, options.fallback()))
      const refusal = choice.kind === 'refused' ? choice.reason : null
      const given = choice.kind === 'instance' ? choice : null
      const backends = given === null ? [] : [given.backend, ...given.otherwise]
      const spending = await spendingOf(tx, rules.quotas, told.rule)
      const where = { template, backends, price: given?.price ?? null, spending }
      return { rule: told.rule?.name ?? null, ...where, refusal, considered: told.considered }
    },
  }
}

/** What a rule gives to a lease of this DUID. @param rule null: the default */
async function give(
  tx: Transaction,
  { fallback, trusted, seal, price }: ChooserOptions,
  { quotas }: Rules,
  rule: Rule | null,
  duid: string,
): Promise<Choice> {
  const gift = giftOf(rule, fallback())
  if (gift === null) return { kind: 'nothing', rule: rule?.name ?? '' }
  const template = await templateOf(tx, gift)
  const by = rule === null ? 'the setting templates.default' : `rule ${rule.name}`
  if (template === null) {
    const pinned = gift.version === undefined ? '' : `@${gift.version}`
    return { kind: 'refused', reason: `${by} gives template ${gift.template}${pinned}, which is not there` }
  }
  // It was trusted when it was applied, and may be no longer.
  const distrusted = distrust(template, trusted)
  if (distrusted !== null) return { kind: 'refused', reason: `${by} gives what is not trusted: ${distrusted}` }
  const settled = settle(template, gift.parameters, seal)
  if ('fault' in settled) {
    return {
      kind: 'refused',
      reason: `${by} does not fit template ${template.name}@${template.number}: ${settled.fault}`,
    }
  }
  for (const { of, most, refusal } of limitsFor(quotas, rule && { name: rule.name, most: gift.most }, duid)) {
    if ((await tx.countLive(of)) >= most) return { kind: 'refused', reason: refusal }
  }
  const named = gift.backend === undefined ? [template.backend] : [gift.backend, ...(gift.otherwise ?? [])]
  const limits = moneyFor(quotas, rule)
  const paid = await affordable(tx, limits, named, (backend) => price(backend, template))
  if ('refusal' in paid) return { kind: 'refused', reason: paid.refusal }
  const [backend = template.backend, ...otherwise] = paid.backends
  return {
    kind: 'instance',
    rule: rule?.name ?? null,
    template,
    parameters: settled.parameters,
    backend,
    otherwise,
    price: paid.price,
    graceMs: gift.lifetime?.graceMs ?? template.lifetime.graceMs,
    mostMs: gift.lifetime?.mostMs ?? template.lifetime.mostMs,
  }
}

/** Those of the backends that the limits leave money for, and what the dearest of them takes; else why there is none. */
async function affordable(
  tx: Transaction,
  limits: readonly SpendLimit[],
  named: readonly string[],
  price: (backend: string) => Estimate,
): Promise<{ readonly backends: readonly string[]; readonly price: Price | null } | { readonly refusal: string }> {
  const spent = await Promise.all(limits.map(({ of }) => tx.spentLive(of)))
  const backends: string[] = []
  const refusals: string[] = []
  let dearest: Price | null = null
  for (const backend of named) {
    const estimate = price(backend)
    const refusal = limits.map((limit, index) => overspent(limit, spent[index] ?? [], estimate, backend)).find(Boolean)
    if (typeof refusal === 'string') {
      refusals.push(refusal)
      continue
    }
    backends.push(backend)
    dearest = dearer(dearest, typeof estimate === 'string' ? null : estimate)
  }
  return backends.length === 0 ? { refusal: refusals.join('; ') } : { backends, price: dearest }
}

function moneyFor(quotas: Quotas, rule: Rule | null): SpendLimit[] {
  return spendLimitsFor(quotas, rule && { name: rule.name, spend: rule.give?.spend })
}

/** What is spent by now of each limit that holds for a rule, in the limit's currency. */
async function spendingOf(tx: Transaction, quotas: Quotas, rule: Rule | null): Promise<Explanation['spending']> {
  const limits = moneyFor(quotas, rule)
  return await Promise.all(
    limits.map(async ({ of, most, who }) => {
      const { currency } = most
      const spent = (await tx.spentLive(of)).find((sum) => sum.currency === currency)
      return { who, most, spent: spent ?? { perHour: 0, currency } }
    }),
  )
}

/** null: nothing. */
function giftOf(rule: Rule | null, fallback: string): Gift | null {
  return rule === null ? { template: fallback, parameters: {} } : rule.give
}

/** The version that is named, else the one that is rolled out; null: there is none. */
async function templateOf(tx: Transaction, gift: Gift | null): Promise<Template | null> {
  if (gift === null) return null
  const { template: name, version } = gift
  if (typeof version === 'number') {
    return (await tx.templateVersions(name)).find(({ number }) => number === version) ?? null
  }
  const hash = version ?? (await tx.head(name))?.version
  return hash === undefined ? null : tx.template({ name, version: hash })
}

/** Values for all of a template's parameters. A secret is checked when the rules are applied, and is not opened here. */
function settle(
  { parameters: declared }: Template,
  given: StoredParameters,
  seal: Pick<Seal, 'seal'>,
): { readonly parameters: StoredParameters } | { readonly fault: string } {
  const sealed = Object.entries(given).filter(([, value]) => isSealed(value))
  const plain = Object.entries(given).filter((entry): entry is [string, ParameterValue] => !isSealed(entry[1]))
  const isSecret = (name: string) => declared.some((one) => one.name === name && one.type === 'secret')
  const misfit = sealed.find(([name]) => !isSecret(name))
  if (misfit !== undefined)
    return { fault: `parameters.${misfit[0]}: is a secret in the rule, and none in the template` }
  try {
    const open = declared.filter(({ name }) => !sealed.some(([one]) => one === name))
    const settled = Object.entries(settleParameters(open, Object.fromEntries(plain))).map(([name, value]) => [
      name,
      isSecret(name) ? seal.seal(name, String(value)) : value,
    ])
    return { parameters: Object.fromEntries([...settled, ...sealed]) as StoredParameters }
  } catch (error) {
    if (!(error instanceof InvalidInput)) throw error
    return { fault: error.message }
  }
}

/** @throws InvalidInput naming the field */
function subjectFrom({ duid, iaid, address, source, ...facts }: LeaseGuess): Subject {
  const known = duid === undefined ? undefined : parseDuid(duid)
  return {
    owner: known === undefined || iaid === undefined ? undefined : { duid: known, iaid },
    duid: known,
    address: address === undefined ? undefined : parseIpv6(address),
    source,
    facts,
  }
}
