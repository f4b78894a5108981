import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { Log } from './log.ts'

/** How long the main thread kept others waiting, since the last look. Milliseconds. */
export interface RuntimeDelay {
  readonly p50: number
  readonly p99: number
  readonly max: number
}

/** Watches the main thread's delay; the probe's own interval is taken off. */
export interface RuntimeWatch {
  /** The delays since the last call, which begins anew. */
  take(): RuntimeDelay
  stop(): void
}

/** Finer would itself keep an idle daemon busy. */
const RESOLUTION_MS = 4
const NS_PER_MS = 1e6

export function watchRuntime(): RuntimeWatch {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  histogram.enable()
  const ms = (ns: number) => Math.max(0, Math.round((ns / NS_PER_MS - RESOLUTION_MS) * 100) / 100)
  return {
    take() {
      const { max } = histogram
      const delay = { p50: ms(histogram.percentile(50)), p99: ms(histogram.percentile(99)), max: ms(max) }
      histogram.reset()
      return delay
    },
    stop: () => void histogram.disable(),
  }
}

/** Writes delay and memory to the log (message id `runtime.delay`) and begins a new measurement. */
export function logRuntime(log: Log, watch: RuntimeWatch): void {
  const rssMib = Math.round(process.memoryUsage().rss / 1024 / 1024)
  log.info('runtime.delay', 'delay of the main thread since the last such line', { ...watch.take(), rssMib })
}
