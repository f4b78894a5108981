import type { DropCounts } from '../../../common/drop-reasons.ts'
import type { HubRest, HubShare } from '../private/share.ts'
import type { Strays } from '../strays.ts'
import type { HostNetwork, Passage, Placement, SandboxLink, Source, Way } from '../wiring.ts'

/** What the kernel can be asked to do, and with what. */
export interface Calls {
  readonly prepare: HostNetwork
  readonly attach: SandboxLink
  readonly place: Placement
  readonly open: Passage
  readonly close: Passage
  readonly lead: Way
  readonly unlead: Pick<Way, 'owner' | 'address'>
  readonly unplace: Placement
  readonly forget: { readonly links: readonly string[] }
  readonly links: object
  readonly guard: object
  readonly counters: object
  readonly replace: { readonly paths: readonly (Passage | Way)[]; readonly sources: readonly Source[] }
  readonly removeRules: object
  readonly detach: { readonly links: readonly string[] }
  readonly connect: HubShare
  /** Sandboxes whose links were ports of a bridge that is no more. */
  readonly strays: object
  /** Makes a stray a port again, and what it may send from a neighbour; nothing when it is none any more. */
  readonly rejoin: SandboxLink
}

/** What it answers. */
export type Answers = {
  readonly [V in Verb]: V extends 'links'
    ? readonly string[]
    : V extends 'connect'
      ? HubRest
      : V extends 'counters'
        ? DropCounts
        : V extends 'strays'
          ? Strays
          : undefined
}

export type Verb = keyof Calls

/** One call on its way to a worker. */
export type Call = { readonly [V in Verb]: { readonly verb: V; readonly args: Calls[V] } }[Verb]

/** Who carries out calls, in order. */
export interface Caller {
  /** What a worker that takes the place of a dead one is told before any other call. */
  greeting: Call | null
  call<V extends Verb>(verb: V, args: Calls[V]): Promise<Answers[V]>
  /** Resolves when the calls under way are done. */
  stop(): Promise<void>
}
