import type { HostName } from './host.ts'

/** The making of one image from a source that somebody sent. */
export interface Build {
  /** `b-` and 10 characters. */
  readonly id: string
  /** Name of the template that the image is for. */
  readonly template: string
  /** What it was made from, for people: `directory site`, `https://…/repo.git#main`. Without credentials. */
  readonly source: string
  readonly state: 'waiting' | 'building' | 'done' | 'failed'
  /** The host that builds; null: none chosen yet. */
  readonly host: HostName | null
  /** What it made, `orchestrator/NAME:HASH` or with the registry's name before it; null: nothing yet. */
  readonly image: string | null
  /** Why it failed; null: it did not. */
  readonly error: string | null
  readonly createdAt: number
  readonly updatedAt: number
}

/** An image that hosts are to have before a lease asks for it. */
export interface WantedImage {
  /** Reference as in a template. */
  readonly image: string
  /** How a host that lacks it gets it: from the registry that the reference names, or from us, by the SHA-256 of its archive. */
  readonly from:
    | { readonly kind: 'registry' }
    | { readonly kind: 'archive'; readonly sha256: string; readonly bytes: number }
}
