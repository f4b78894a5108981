import type { Clock } from '../../common/clock.ts'
import type { Log } from '../../common/log.ts'
import type { Backend } from '../backends/backend.ts'
import type { Instance } from '../domain/instance.ts'
import type { Parameters, StoredParameters } from '../domain/parameter.ts'
import type { Action } from '../domain/plan.ts'
import type { Store } from '../store/store.ts'

/** What the reconciler works with. */
export interface ReconcilerContext {
  readonly store: Store
  readonly clock: Clock
  readonly log: Log
  readonly backends: ReadonlyMap<string, Backend>
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
