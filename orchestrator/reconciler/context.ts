import type { Clock } from '../../common/clock.ts'
import type { Ipv6 } from '../../common/ipv6.ts'
import type { Log } from '../../common/log.ts'
import type { Backend } from '../backends/backend.ts'
import type { HostName } from '../domain/host.ts'
import type { Instance, Reach } from '../domain/instance.ts'
import type { Parameters, StoredParameters } from '../domain/parameter.ts'
import type { Action } from '../domain/plan.ts'
import type { SettleChange, Store } from '../store/store.ts'

/** How a host leads an owner to an instance that does not run on it. */
export interface Way {
  readonly instance: Instance['id']
  readonly generation: number
  /** The owner's address, and the instance's own. */
  readonly owner: Ipv6
  readonly address: Ipv6
  readonly reach: Reach
}

/** The ways that hosts keep. Every call may be repeated, and rejects with HostUnreachable when the host is not connected. */
export interface Ways {
  open(host: HostName, way: Way, signal: AbortSignal): Promise<void>
  /** Not there is success. */
  close(host: HostName, instance: Instance['id'], generation: number, signal: AbortSignal): Promise<void>
  /** Makes these the only ones of that host. */
  set(host: HostName, ways: readonly Way[], signal: AbortSignal): Promise<void>
}

/** What the reconciler works with. */
export interface ReconcilerContext {
  readonly store: Store
  readonly clock: Clock
  readonly log: Log
  readonly backends: ReadonlyMap<string, Backend>
  readonly ways: Ways
  /** Opens the secrets among an instance's parameters. @throws OrchestratorError `seal-broken` */
  readonly open: (stored: StoredParameters) => Parameters
  /** Milliseconds after which an action is given up and tried again later. */
  readonly actionMs: number
  /** 0 to 1; for jitter. */
  readonly random: () => number
  /** Told of each action's end, for metrics. */
  readonly measured: (action: Action['kind'], outcome: 'ok' | 'failed', seconds: number) => void
  /** Asks intake to want an instance gone whose own time is over. */
  readonly expire: (id: Instance['id']) => Promise<void>
  /** Told when an instance is gone: there may be room for one that was refused. */
  readonly freed: () => void
}

/** Tells operators of something that happened to an instance. */
export async function tell(
  context: ReconcilerContext,
  instance: Instance,
  event: { level: 'info' | 'warning' | 'error'; kind: string; message: string },
): Promise<void> {
  const { id, owner, host } = instance
  await context.store.appendEvent({ ...event, instance: id, owner, host: host ?? undefined }, context.clock.now())
}

/** Records what came of an action, unless somebody changed the instance since it was read. @returns whether it was */
export function settle(context: ReconcilerContext, instance: Instance, change: SettleChange): Promise<boolean> {
  return context.store.settle(instance, change, context.clock.now())
}
