import { Counter, Gauge, Histogram, type Registry } from '@prometheus-io/client'
import type { NextFunction, Request, Response } from 'express'

/** What the API counts. */
export interface ApiMetrics {
  readonly registry: Registry
  readonly requests: Counter<'method' | 'route' | 'status'>
  readonly requestSeconds: Histogram<'route'>
  readonly authFailures: Counter
  readonly eventStreams: Gauge
  readonly slowReaders: Counter
  readonly hostRefusals: Counter<'reason'>
  readonly hostRequestSeconds: Histogram<'type' | 'outcome'>
  /** Gives the gauge of connected hosts its source. */
  countHosts(count: () => number): void
}

/** Buckets from a millisecond to half a minute. */
const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

export function apiMetrics(registry: Registry): ApiMetrics {
  const registers = [registry]
  return {
    registry,
    requests: new Counter({
      name: 'orchestrator_http_requests_total',
      help: 'Answered requests of the REST API',
      labelNames: ['method', 'route', 'status'],
      registers,
    }),
    requestSeconds: new Histogram({
      name: 'orchestrator_http_request_seconds',
      help: 'Time from a request to the end of its answer, streams left out',
      labelNames: ['route'],
      buckets: SECONDS,
      registers,
    }),
    authFailures: new Counter({
      name: 'orchestrator_http_auth_failures_total',
      help: 'Requests without a valid token',
      registers,
    }),
    eventStreams: new Gauge({ name: 'orchestrator_event_streams', help: 'Open event streams', registers }),
    slowReaders: new Counter({
      name: 'orchestrator_slow_readers_total',
      help: 'Streams ended because their reader was too slow',
      registers,
    }),
    hostRefusals: new Counter({
      name: 'orchestrator_host_refusals_total',
      help: 'Connections of hosts that were refused',
      labelNames: ['reason'],
      registers,
    }),
    hostRequestSeconds: new Histogram({
      name: 'orchestrator_host_request_seconds',
      help: 'Time from a request to a host to its answer',
      labelNames: ['type', 'outcome'],
      buckets: SECONDS,
      registers,
    }),
    countHosts(count) {
      new Gauge({
        name: 'orchestrator_hosts_connected',
        help: 'Hosts connected to this orchestrator',
        registers,
        collect() {
          this.set(count())
        },
      })
    },
  }
}

/** Counts each answer by its route's pattern, never by its path: the number of series stays small. */
export function countRequests(metrics: ApiMetrics) {
  return (request: Request, response: Response, next: NextFunction): void => {
    const begun = performance.now()
    response.once('close', () => {
      const path: unknown = request.route?.path
      const route = typeof path === 'string' ? path : 'none'
      metrics.requests.inc({ method: request.method, route, status: response.statusCode })
      const streamed = response.getHeader('Transfer-Encoding') === 'chunked'
      if (!streamed) metrics.requestSeconds.observe({ route }, (performance.now() - begun) / 1000)
    })
    next()
  }
}
