import { type Estimate, microsOf, type Price, priceText } from './price.ts'
import type { Quotas } from './rule.ts'

/** A limit on living instances that an owner, a rule or all have in common. */
export interface Limit {
  /** What is counted: all, those of a rule, those of a DUID. */
  readonly of: { readonly rule?: string; readonly duid?: string }
  /** 0 and more. */
  readonly most: number
  /** Why there is none for this lease when the limit is reached: for whoever looks at the lease, and the same as long as it is so. */
  readonly refusal: string
}

/** The limits that hold for one more instance, the widest first. */
export function limitsFor(
  quotas: Quotas,
  rule: { name: string; most?: number | undefined } | null,
  duid: string,
): Limit[] {
  const limits: Limit[] = []
  const { total, perOwner } = quotas
  if (total !== undefined) {
    const refusal = `there is no room: all ${total} instances that there may be at once are taken (quotas.total); it follows when one of them is gone`
    limits.push({ of: {}, most: total, refusal })
  }
  if (perOwner !== undefined) {
    const refusal = `the device has all ${perOwner} instances that one may have at once (quotas.per-owner); it follows when one of them is gone`
    limits.push({ of: { duid }, most: perOwner, refusal })
  }
  if (rule?.most !== undefined) {
    const refusal = `there is no room: all ${rule.most} instances that rule ${rule.name} may have at once are taken (most); it follows when one of them is gone`
    limits.push({ of: { rule: rule.name }, most: rule.most, refusal })
  }
  return limits
}

/** A limit on what living instances of a rule, or all of them, may cost together. */
export interface SpendLimit {
  readonly of: { readonly rule?: string }
  readonly most: Price
  /** Who may spend that, for people: `rule lab`. */
  readonly who: string
  /** Where the limit is written. */
  readonly key: string
}

/** The limits that hold for what one more instance costs, the widest first. */
export function spendLimitsFor(quotas: Quotas, rule: { name: string; spend?: Price | undefined } | null): SpendLimit[] {
  const limits: SpendLimit[] = []
  if (quotas.spend !== undefined) limits.push({ of: {}, most: quotas.spend, who: 'all together', key: 'quotas.spend' })
  if (rule?.spend !== undefined) {
    limits.push({ of: { rule: rule.name }, most: rule.spend, who: `rule ${rule.name}`, key: 'spend' })
  }
  return limits
}

/**
 * Why an instance cannot be paid under a limit; null: it can. What costs nothing always can. The words stay the same for as
 * long as it is so: what is spent by now is shown beside them, not in them.
 * @param spent what the living ones cost, each currency once
 */
export function overspent(
  { most, who, key }: SpendLimit,
  spent: readonly Price[],
  estimate: Estimate,
  backend: string,
): string | null {
  if (estimate === 'free') return null
  const limit = `${who} may spend ${priceText(most)} (${key})`
  if (estimate === 'unknown') {
    return `${limit}, and backend ${backend} does not know what this instance would cost: give it prices in its settings`
  }
  if (estimate.currency !== most.currency) {
    return `${limit}, and backend ${backend} tells prices in ${estimate.currency}: write the limit in ${estimate.currency}`
  }
  if (microsOf(estimate) === 0 || fits(spent, estimate, most)) return null
  return `there is no room: ${limit}, of which too little is left for ${priceText(estimate)} on ${backend}; it follows when one of them is gone`
}

function fits(spent: readonly Price[], estimate: Price, most: Price): boolean {
  const already = spent.find(({ currency }) => currency === most.currency)
  return (already === undefined ? 0 : microsOf(already)) + microsOf(estimate) <= microsOf(most)
}
