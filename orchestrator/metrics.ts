import { Counter, collectDefaultMetrics, Gauge, Histogram, type Registry } from '@prometheus-io/client'
import type { Store } from './store/store.ts'

/** What the reconciler and the hosts tell that is worth counting. */
export interface ControlMetrics {
  action(kind: string, outcome: 'ok' | 'failed', seconds: number): void
  notice(code: string, level: string): void
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
  return {
    action: (kind, outcome, seconds) => actions.observe({ action: kind, outcome }, seconds),
    notice: (code, level) => notices.inc({ code, level }),
  }
}
