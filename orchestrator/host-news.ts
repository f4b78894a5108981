import type { Clock } from '../common/clock.ts'
import type { Log } from '../common/log.ts'
import type { HostNews } from './api/hosts/connection.ts'
import type { Builds } from './builds/builds.ts'
import type { ControlMetrics } from './metrics.ts'
import type { Preparation } from './preparation.ts'
import type { Reconciler } from './reconciler/reconciler.ts'
import type { Store } from './store/store.ts'

/** Characters of an event's kind that the store takes. */
const KIND_MOST = 64

export interface HostNewsOptions {
  /** Those who act upon it; undefined while the daemon starts. */
  readonly acting: () =>
    | { readonly reconciler: Reconciler; readonly preparation: Preparation; readonly builds: Pick<Builds, 'wake'> }
    | undefined
  readonly store: Store
  readonly metrics: ControlMetrics
  readonly clock: Clock
  readonly log: Log
}

/** What hosts tell goes to those who act upon it, to the events that operators read, and to the metrics. */
export function hostNews({ acting, store, metrics, clock, log }: HostNewsOptions): HostNews {
  const tell = (host: string, level: 'info' | 'warning' | 'error', kind: string, message: string) =>
    store.appendEvent({ level, kind, message, host }, clock.now())
  return {
    async connected(host) {
      acting()?.reconciler.hostConnected(host)
      acting()?.preparation.hostConnected(host)
      acting()?.builds.wake(host)
      await tell(host, 'info', 'host.connected', `host ${host} is connected`)
    },
    async disconnected(host) {
      acting()?.reconciler.hostDisconnected(host)
      acting()?.preparation.hostDisconnected(host)
      await tell(host, 'warning', 'host.disconnected', `host ${host} is no longer connected`)
    },
    observed(_host, observed) {
      acting()?.reconciler.observed(observed)
    },
    async notice(host, { level, code, message }) {
      metrics.notice(code, level)
      log[level === 'warning' ? 'warn' : level]('host.notice', message, { host, code })
      await tell(host, level, `host.${code}`.slice(0, KIND_MOST), message)
    },
    dropped: (host, packets) => metrics.dropped(host, packets),
  }
}
