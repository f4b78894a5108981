import type { SentError } from './errors.ts'
import type { HostNetwork, Passage, Placement, SandboxLink, Source } from './wiring.ts'

/** What a worker can be asked to do, and with what. */
export interface Calls {
  readonly prepare: HostNetwork
  readonly attach: SandboxLink
  readonly place: Placement
  readonly open: Passage
  readonly close: Passage
  readonly unplace: Placement
  readonly forget: { readonly link: string }
  readonly links: object
  readonly guard: object
  readonly replace: { readonly passages: readonly Passage[]; readonly sources: readonly Source[] }
  readonly removeRules: object
  readonly detach: { readonly links: readonly string[] }
}

/** What it answers. */
export type Answers = { readonly [V in Verb]: V extends 'links' ? readonly string[] : undefined }

export type Verb = keyof Calls

/** One call on its way to a worker. */
export type Call = { readonly [V in Verb]: { readonly verb: V; readonly args: Calls[V] } }[Verb]

export type ToWorker = (Call & { readonly id: number }) | 'stop'

/** From a worker: that it is there, the end of a call, or something for the log. */
export type FromWorker =
  | { readonly loaded: true }
  | { readonly id: number; readonly answer: unknown }
  | { readonly id: number; readonly error: SentError }
  | { readonly warning: string }
