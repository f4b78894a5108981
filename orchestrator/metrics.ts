import { Counter, collectDefaultMetrics, Gauge, Histogram, type Registry } from '@prometheus-io/client'
import type { DropCounts } from '../common/drop-reasons.ts'
import type { HostName } from './domain/host.ts'
import type { Origin } from './domain/template.ts'
import type { Store } from './store/store.ts'

/** What the reconciler and the hosts tell that is worth counting. */
export interface ControlMetrics {
  action(kind: string, outcome: 'ok' | 'failed', seconds: number): void
  notice(code: string, level: string): void
  /** What a host's firewall has dropped since its kernel began to count. */
  dropped(host: HostName, packets: DropCounts): void
  /** Files were applied, by a person or from the watched directory. */
  applied(origin: Origin, outcome: 'changed' | 'unchanged' | 'faulty'): void
}

/** Buckets from 5 ms to a minute. */
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60]

export function controlMetrics(registry: Registry, store: Pick<Store, 'counts'>): ControlMetrics {
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  const actions = new Histogram({
    name: 'orchestrator_action_seconds',
    help: 'Time of each action of the reconciler; outcome failed counts the failures',
    labelNames: ['action', 'outcome'],
    buckets: SECONDS,
    registers,
  })
  const notices = new Counter({
    name: 'orchestrator_host_notices_total',
    help: 'Notices that hosts sent, by code: a full lease table, an engine that is away',
    labelNames: ['code', 'level'],
    registers,
  })
  new Gauge({
    name: 'orchestrator_instances',
    help: 'Living instances by state',
    labelNames: ['state'],
    registers,
    async collect() {
      const { pending, running } = await store.counts()
      this.set({ state: 'pending' }, pending)
      this.set({ state: 'running' }, running)
    },
  })
  new Gauge({
    name: 'orchestrator_leases',
    help: 'Active leases',
    registers,
    async collect() {
      this.set((await store.counts()).leases)
    },
  })
  const drops = new Counter({
    name: 'orchestrator_dropped_packets_total',
    help: 'Packets of and to instances that a host dropped, by reason; see docs/isolation.md',
    labelNames: ['host', 'reason'],
    registers,
  })
  const applies = new Counter({
    name: 'orchestrator_catalog_applies_total',
    help: 'Times that templates and rules were applied; outcome faulty: nothing of it came into force',
    labelNames: ['origin', 'outcome'],
    registers,
  })
  new Gauge({
    name: 'orchestrator_refused_leases',
    help: 'Active leases that were refused an instance: a quota, a full address pool, rules that fit none',
    registers,
    async collect() {
      this.set((await store.counts()).refused)
    },
  })
  const told = new Map<HostName, DropCounts>()
  return {
    action: (kind, outcome, seconds) => actions.observe({ action: kind, outcome }, seconds),
    notice: (code, level) => notices.inc({ code, level }),
    dropped(host, packets) {
      for (const [reason, more] of growth(told.get(host) ?? {}, packets)) drops.inc({ host, reason }, more)
      told.set(host, packets)
    },
    applied: (origin, outcome) => applies.inc({ origin, outcome }),
  }
}

/**
 * How much each number has grown. One that is smaller than before began anew, so all
 * of it is new; so is what a host says first.
 */
export function growth(before: DropCounts, after: DropCounts): [reason: string, more: number][] {
  return Object.entries(after).map(([reason, now]) => {
    const was = before[reason as keyof DropCounts] ?? 0
    return [reason, now < was ? now : now - was]
  })
}
