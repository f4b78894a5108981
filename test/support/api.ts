import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Registry } from '@prometheus-io/client'
import { type Clock, systemClock } from '../../common/clock.ts'
import type { DropCounts } from '../../common/drop-reasons.ts'
import type { Log } from '../../common/log.ts'
import type { HostNotice } from '../../orchestrator/api/hosts/connection.ts'
import { type HostsSocket, hostsSocket } from '../../orchestrator/api/hosts/socket.ts'
import { apiMetrics } from '../../orchestrator/api/metrics.ts'
import type { InstanceLogs } from '../../orchestrator/api/routes/instances.ts'
import { type Api, startApi } from '../../orchestrator/api/server.ts'
import type { Observed } from '../../orchestrator/domain/instance.ts'
import { createIntake, type Intake } from '../../orchestrator/intake.ts'
import { type Authority, openAuthority } from '../../orchestrator/pki/authority.ts'
import { serverIdentity } from '../../orchestrator/pki/server-identity.ts'
import { firstApiToken } from '../../orchestrator/pki/tokens.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { pool, silent, template } from './fixtures.ts'

/** The API on a free port, over a store, with nothing behind it that acts. */
export interface TestApi extends AsyncDisposable {
  readonly api: Api
  readonly directory: string
  readonly url: string
  readonly token: string
  readonly authority: Authority
  readonly store: Store
  readonly intake: Intake
  readonly hosts: HostsSocket
  /** What hosts told, in order. */
  readonly news: string[]
  readonly observed: Observed[]
  readonly notices: HostNotice[]
  readonly dropped: [host: string, packets: DropCounts][]
}

export interface TestApiOptions {
  readonly store: Store
  readonly clock?: Clock
  readonly log?: Log
  readonly names?: string[]
  readonly livenessMs?: number
  readonly intake?: (real: Intake) => Intake
  readonly logs?: InstanceLogs
}

async function* noLogs(): AsyncIterable<string> {}

export async function testApi(options: TestApiOptions): Promise<TestApi> {
  const { store, clock = systemClock, log = silent, names = ['localhost', '127.0.0.1', '::1'] } = options
  const directory = mkdtempSync('/tmp/orchestrator-api-')
  const authority = await openAuthority({ directory, clock, log })
  await firstApiToken(directory, store)
  const real = createIntake({ store, clock, pool, template: () => template, wake: () => {} })
  const intake = options.intake?.(real) ?? real
  const metrics = apiMetrics(new Registry())
  const news: string[] = []
  const observed: Observed[] = []
  const notices: HostNotice[] = []
  const dropped: [host: string, packets: DropCounts][] = []
  const hosts = hostsSocket({
    store,
    intake,
    clock,
    log,
    metrics,
    version: '0.0.0-test',
    livenessMs: options.livenessMs ?? 15_000,
    news: {
      connected: (host) => void news.push(`${host} connected`),
      disconnected: (host) => void news.push(`${host} disconnected`),
      observed: (_host, what) => void observed.push(what),
      notice: (_host, notice) => void notices.push(notice),
      dropped: (host, packets) => void dropped.push([host, packets]),
    },
  })
  const api = await startApi({
    address: '127.0.0.1',
    port: 0,
    name: 'localhost',
    authority,
    identity: () => serverIdentity({ directory, names, authority, clock, log }),
    store,
    intake,
    logs: options.logs ?? noLogs,
    hosts,
    metrics,
    clock,
    log,
  })
  return {
    api,
    directory,
    url: `https://127.0.0.1:${api.port}`,
    token: readFileSync(join(directory, 'api-token'), 'utf8').trim(),
    authority,
    store,
    intake,
    hosts,
    news,
    observed,
    notices,
    dropped,
    async [Symbol.asyncDispose]() {
      await api.stop()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}
