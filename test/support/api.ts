import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Registry } from '@prometheus-io/client'
import { type Clock, systemClock } from '../../common/clock.ts'
import type { DropCounts } from '../../common/drop-reasons.ts'
import type { Log } from '../../common/log.ts'
import { type Access, openAccess } from '../../orchestrator/access/access.ts'
import type { HostNotice } from '../../orchestrator/api/hosts/connection.ts'
import { type HostsSocket, hostsSocket } from '../../orchestrator/api/hosts/socket.ts'
import { apiMetrics } from '../../orchestrator/api/metrics.ts'
import type { InstanceLogs } from '../../orchestrator/api/routes/instances.ts'
import type { MachineDesk } from '../../orchestrator/api/routes/machines.ts'
import { type Api, startApi } from '../../orchestrator/api/server.ts'
import type { Backend } from '../../orchestrator/backends/backend.ts'
import type { BackendsSetting, KindTable } from '../../orchestrator/backends/load.ts'
import { type Builds, startBuilds } from '../../orchestrator/builds/builds.ts'
import { type BuildSettings, buildSettings } from '../../orchestrator/builds/settings.ts'
import { type Catalog, createCatalog } from '../../orchestrator/catalog/catalog.ts'
import { createChooser } from '../../orchestrator/catalog/choose.ts'
import type { Observed } from '../../orchestrator/domain/instance.ts'
import { createIntake, type Intake } from '../../orchestrator/intake.ts'
import { type Authority, openAuthority } from '../../orchestrator/pki/authority.ts'
import { openSeal, type Seal } from '../../orchestrator/pki/seal.ts'
import { serverIdentity } from '../../orchestrator/pki/server-identity.ts'
import { firstApiToken } from '../../orchestrator/pki/tokens.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { pool, rollOut, silent } from './fixtures.ts'

/** The API on a free port, over a store that has at least the sample template, with nothing behind it that acts. */
export interface TestApi extends AsyncDisposable {
  readonly api: Api
  readonly directory: string
  readonly url: string
  readonly token: string
  readonly authority: Authority
  readonly store: Store
  readonly intake: Intake
  readonly catalog: Catalog
  readonly builds: Builds
  readonly seal: Seal
  readonly access: Access
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
  readonly machines?: ReadonlyMap<string, MachineDesk>
  readonly builds?: Partial<BuildSettings>
  /** Backends by their settings, those of these kinds, and those that are there without settings. */
  readonly setting?: BackendsSetting
  readonly kinds?: KindTable
  readonly beside?: readonly Backend[]
}

/** Those that hold when nobody says otherwise. */
export const defaultBuildSettings = Object.fromEntries(
  Object.entries(buildSettings).map(([name, setting]) => [name, setting.default]),
) as unknown as BuildSettings

async function* noLogs(): AsyncIterable<string> {}

export async function testApi(options: TestApiOptions): Promise<TestApi> {
  const { store, clock = systemClock, log = silent, names = ['localhost', '127.0.0.1', '::1'] } = options
  const directory = mkdtempSync('/tmp/orchestrator-api-')
  const authority = await openAuthority({ directory, clock, log })
  await firstApiToken(directory, store)
  const seal = await openSeal(directory)
  if ((await store.heads()).length === 0) await rollOut(store)
  const trusted = ['trusted']
  const chooser = createChooser({ fallback: () => 'sample', trusted, seal, price: () => 'free' })
  const limits = { trusted, checkTemplate: () => {}, backends: ['fake', 'docker'] }
  const catalog = createCatalog({ store, clock, seal, ...limits, changed: () => {}, counted: () => {} }, chooser)
  const real = createIntake({ store, clock, pool, chooser, wake: () => {} })
  const intake = options.intake?.(real) ?? real
  const registry = new Registry()
  const metrics = apiMetrics(registry)
  const { setting = {}, kinds = {}, beside = [] } = options
  const access = await openAccess({
    ...{ store, seal, clock, log, registry, setting, kinds, beside, packages: directory },
    wake: () => {},
  })
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
  const builds = await startBuilds({
    ...{ store, hosts, directory, clock, log },
    settings: { ...defaultBuildSettings, ...options.builds },
    changed: () => {},
  })
  const api = await startApi({
    address: '127.0.0.1',
    port: 0,
    name: 'localhost',
    authority,
    identity: () => serverIdentity({ directory, names, authority, clock, log }),
    store,
    intake,
    catalog,
    builds,
    backends: access.desk.backends,
    credentials: access.desk.credentials,
    logs: options.logs ?? noLogs,
    machines: options.machines ?? new Map(),
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
    catalog,
    builds,
    seal,
    access,
    hosts,
    news,
    observed,
    notices,
    dropped,
    async [Symbol.asyncDispose]() {
      await api.stop()
      await builds.stop()
      await access.close()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}
