import type { HostName } from './host.ts'

/** A target, as far as it is known without asking it. */
export interface TargetStanding {
  readonly name: HostName
  /** `answers`: nothing else is known; `trying`: one call is under way that tells whether it does again. */
  readonly state: 'answers' | 'away' | 'trying'
  /** Since when it is away, epoch ms; null: it is not, or not known. */
  readonly since: number | null
  /** When it is tried again, epoch ms; null: with the next call, or when its host connects. */
  readonly tryAt: number | null
  /** Living instances there. */
  readonly instances: number
}

export interface BackendStanding {
  readonly name: string
  /** What it is: `docker`, a kind, or the name of a package. */
  readonly kind: string
  readonly targets: readonly TargetStanding[]
  /** Living instances, also those that have no target yet. */
  readonly instances: number
}

/** How one target answered a check. */
export interface TargetReport {
  readonly target: HostName
  /** Milliseconds until it answered, or failed to. */
  readonly ms: number
  /** null: it did not answer, or refused us. */
  readonly found: {
    readonly version: string
    readonly abilities: readonly string[]
    /** What is missing, each with its remedy; empty: all is well. */
    readonly missing: readonly string[]
  } | null
  /** Why there is nothing found; null: nothing is wrong. */
  readonly error: { readonly code: string; readonly message: string } | null
}

/** How a backend answered a check; without targets there was nobody to ask. */
export interface BackendReport {
  readonly backend: string
  readonly targets: readonly TargetReport[]
}
