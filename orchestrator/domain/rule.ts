import type { StoredParameters } from './parameter.ts'
import type { Price } from './price.ts'

/** What a rule looks at; a field that is absent matches everything, several fields must all match, one of a field's values is enough. */
export interface RuleMatch {
  /** Patterns: `*` is any text. Lower-case hex with colons, as leases show them. */
  readonly duid?: readonly string[] | undefined
  /** Whole MACs, or OUI prefixes such as `02:00:5e:*`. */
  readonly mac?: readonly string[] | undefined
  /** Patterns; `all` must be there, `none` must not. A plain list in the file means `any`. */
  readonly tags?:
    | { readonly any?: readonly string[]; readonly all?: readonly string[]; readonly none?: readonly string[] }
    | undefined
  /** Prefixes that the lease's address is in. */
  readonly subnet?: readonly string[] | undefined
  /** Prefixes that the relay's address is in; `none`: the device was not relayed. */
  readonly relay?: readonly string[] | undefined
  readonly interface?: readonly string[] | undefined
  /** Which lease server, by its host's name. */
  readonly source?: readonly string[] | undefined
  readonly hostname?: readonly string[] | undefined
  readonly mudUrl?: readonly string[] | undefined
  readonly vendorClass?: readonly string[] | undefined
  readonly userClass?: readonly string[] | undefined
  /** A window of the week in a time zone of the IANA database; `from` after `to` goes over midnight. */
  readonly time?:
    | {
        readonly days?: readonly Day[] | undefined
        readonly from?: string | undefined
        readonly to?: string | undefined
        readonly zone: string
      }
    | undefined
  /** 0 to 100: that share of owners, always the same ones, by a hash of owner and rule. */
  readonly percent?: number | undefined
}
export type Day = 'mon' | 'tue' | 'wed' | 'thu' | 'fri' | 'sat' | 'sun'

/** What a matching lease gets. */
export interface Gift {
  readonly template: string
  /** A version's number or hash; absent: the one that is rolled out. */
  readonly version?: string | number | undefined
  readonly parameters: StoredParameters
  /** Absent: the template's. */
  readonly backend?: string | undefined
  /** Backends to try, in order, when that one is full or away; absent: none. */
  readonly otherwise?: readonly string[] | undefined
  /** Absent: the template's. */
  readonly lifetime?: { readonly graceMs?: number | undefined; readonly mostMs?: number | undefined } | undefined
  /** Living instances that this rule may have at once; absent: any number. */
  readonly most?: number | undefined
  /** What the living instances of this rule may cost together; absent: anything. */
  readonly spend?: Price | undefined
}

export interface Rule {
  /** Unique among the rules. */
  readonly name: string
  readonly match: RuleMatch
  /** null: nothing; the device has a lease and no instance. */
  readonly give: Gift | null
}

/** What all may have together. */
export interface Quotas {
  /** Living instances at once; absent: any number. */
  readonly total?: number | undefined
  /** For each owner's DUID, over all its IAIDs. */
  readonly perOwner?: number | undefined
  /** What all living instances may cost together; absent: anything. */
  readonly spend?: Price | undefined
}

/** All rules, in order: the first that matches decides. Each change is a new revision. */
export interface Ruleset {
  readonly revision: number
  readonly rules: readonly Rule[]
  readonly quotas: Quotas
  readonly origin: 'directory' | 'api' | 'default'
}
