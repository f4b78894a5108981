import { Counter, Gauge, Histogram, type Registry } from '@prometheus-io/client'

/** What is counted of calls to backends. */
export interface CallMetrics {
  /** @param seconds that it took; of one that was refused here: 0 */
  call(
    labels: {
      readonly backend: string
      readonly target: string
      readonly call: string
      /** `refused`: not made, because the target is known not to answer; `ended`: by whoever had asked. */
      readonly outcome: 'ok' | 'failed' | 'unreachable' | 'ended' | 'refused'
    },
    seconds: number,
  ): void
  away(backend: string, target: string, away: boolean): void
}

/** Buckets from 10 ms to a minute. */
const SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]

export function callMetrics(registry: Registry): CallMetrics {
  const registers = [registry]
  const calls = new Counter({
    name: 'orchestrator_backend_calls_total',
    help: 'Calls to backends; outcome refused: not made, because the target has not answered for a while',
    labelNames: ['backend', 'target', 'call', 'outcome'],
    registers,
  })
  const seconds = new Histogram({
    name: 'orchestrator_backend_call_seconds',
    help: 'Time of each call to a backend, streams left out',
    labelNames: ['backend', 'target', 'call'],
    buckets: SECONDS,
    registers,
  })
  const away = new Gauge({
    name: 'orchestrator_backend_target_away',
    help: '1: the target has not answered several times in a row; 0: it answers again',
    labelNames: ['backend', 'target'],
    registers,
  })
  return {
    call({ backend, target, call, outcome }, took) {
      calls.inc({ backend, target, call, outcome })
      const streamed = call === 'watch' || call === 'logs'
      if (outcome !== 'refused' && !streamed) seconds.observe({ backend, target, call }, took)
    },
    away: (backend, target, is) => away.set({ backend, target }, is ? 1 : 0),
  }
}
