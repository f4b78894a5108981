import type { Clock } from '../../../common/clock.ts'
import type { Log } from '../../../common/log.ts'
import type { Price } from '../../domain/price.ts'
import type { TargetCheck } from '../backend.ts'
import type { Pace } from './pace.ts'

/** Keys of the tags (labels, metadata) by which our machines are found again. Their values are plain: a-z, 0-9, `-`. */
export const TAG = {
  installation: 'orchestrator-installation',
  instance: 'orchestrator-instance',
  generation: 'orchestrator-generation',
  owner: 'orchestrator-owner',
} as const

/** A machine of ours at a provider. */
export interface CloudMachine {
  /** The provider's own id. */
  readonly id: string
  readonly instance: string
  readonly generation: number
  /** `ending`: it is being deleted; `failed`: the provider could not make it, and says why in `detail`. */
  readonly state: 'starting' | 'running' | 'stopped' | 'ending' | 'failed'
  /** Where it can be reached; null: not known yet, or it has none of IPv6. */
  readonly address: string | null
  /** Epoch ms. */
  readonly createdAt: number
  readonly detail?: string | undefined
  /** Of `failed`: the provider has no room for it, so that another place may be tried. */
  readonly noRoom?: boolean | undefined
  /** Of `failed`: another was made for its instance, and neither works: all of them go, and one is made anew. */
  readonly spoiled?: boolean | undefined
}

/** A machine that is to be. */
export interface MachineOrder {
  readonly instance: string
  readonly generation: number
  /** DNS label. */
  readonly name: string
  /** {@link TAG} keys with their values. */
  readonly tags: Readonly<Record<string, string>>
  /** Cloud-init's or Ignition's text, as it is, not yet base64. */
  readonly bootData: string
  /** The provider's own names: of its size (flavor, instance type) and of its image. */
  readonly size: string
  readonly image: string
  /** The only address that may begin anything with it, a /128: that of the host that the owner comes from. */
  readonly admit: string
  /** Bought at the market's price, where the provider has one and it can be taken away: false unless the template asks. */
  readonly spot: boolean
  /**
   * To be awaited right before the request that makes the machine: from then on it may be there although nobody is told. What
   * is made beside it is found again in any case.
   */
  asking(): Promise<void>
}

/**
 * One region of one provider, for one installation of the orchestrator. Every call may be repeated. Failures: `HostUnreachable`
 * when it did not answer (also 5xx and timeouts), `NoRoom` for quotas and sold-out sizes, `InvalidInput` naming
 * `settings.X` or `options.X` for an image, size or region that it does not know, OrchestratorError `credential-refused` and
 * `not-permitted` (naming the missing right), `rate-limited` with `retryAfterMs` from the provider's own hint.
 */
export interface Provider {
  /** Our machines, every page, also those that are being made or deleted. */
  list(signal: AbortSignal): Promise<readonly CloudMachine[]>
  /**
   * Makes it, with what it needs beside it (port, security group; network and subnet where none are given). Asked twice for the
   * same instance and generation, there is one: by the provider's own token where it has one, else by its tags.
   */
  create(order: MachineOrder, signal: AbortSignal): Promise<CloudMachine>
  /** Deletes it and what was made for it alone. Gone already is success; resolves when the provider no longer bills it. */
  delete(id: string, signal: AbortSignal): Promise<void>
  /** Deletes what was made for machines and is used by none any more: ports, groups, and the network with the last one. */
  tidy(signal: AbortSignal): Promise<void>
  /** The end of what it printed to its console; null: the provider has none to read. */
  console(id: string, signal: AbortSignal): Promise<string | null>
  /** From the settings or what it last heard; null: not known. */
  price(size: string): Price | null
  check(signal: AbortSignal): Promise<TargetCheck>
  close(): Promise<void>
}

/** What a provider is given for one region. */
export interface ProviderContext {
  /** Name of the target, for errors. */
  readonly target: string
  /** The value of {@link TAG}.installation: 16 hex digits that no other target of any orchestrator has. */
  readonly installation: string
  /** The fields of the stored credential, asked anew each time: it may be rotated. @throws InvalidInput when the settings name none */
  credential(): Promise<Readonly<Record<string, string>>>
  /** Its name; null: the settings name none, and the provider's own ways are used, where it has some. */
  readonly credentialName: string | null
  /** Prices that the operator states, by size. */
  readonly prices: Readonly<Record<string, Price>>
  /** Shared by all regions of the account. {@link createHttp} minds it; an SDK's calls are each preceded by its `turn`. */
  readonly pace: Pace
  readonly clock: Clock
  readonly log: Log
}

/** What `providers/NAME/NAME.ts` exports as `provider`. */
export interface ProviderKind {
  /** Bytes of boot data at most, as text, before base64. */
  readonly bootBytes: number
  /** Reaches for nothing yet. @param settings `settings.provider` without `kind`, a region's own over it. @throws InvalidInput naming `settings.provider.X` */
  create(settings: unknown, context: ProviderContext): Provider
}
