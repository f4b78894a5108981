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
