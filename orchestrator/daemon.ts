import { join } from 'node:path'
import { Registry } from '@prometheus-io/client'
import { systemClock } from '../common/clock.ts'
import { suggestion } from '../common/config.ts'
import { InvalidInput, OrchestratorError, wording } from '../common/errors.ts'
import { parsePrefix } from '../common/ipv6.ts'
import type { Log } from '../common/log.ts'
import { type Access, openAccess } from './access/access.ts'
import { hostsSocket } from './api/hosts/socket.ts'
import { apiMetrics } from './api/metrics.ts'
import { startApi } from './api/server.ts'
import type { Backend, LogOptions } from './backends/backend.ts'
import { dockerBackend } from './backends/docker/docker.ts'
import { kinds } from './backends/kinds.ts'
import { type Builds, startBuilds } from './builds/builds.ts'
import type { CatalogContext } from './catalog/apply.ts'
import { createCatalog } from './catalog/catalog.ts'
import { createChooser } from './catalog/choose.ts'
import { followDirectory } from './catalog/directory.ts'
import type { Instance } from './domain/instance.ts'
import { estimateOf } from './domain/price.ts'
import type { Template } from './domain/template.ts'
import { hostNews } from './host-news.ts'
import { createIntake, type Intake } from './intake.ts'
import { machinesOf, startMachines } from './machines.ts'
import { type ControlMetrics, controlMetrics } from './metrics.ts'
import { openAuthority } from './pki/authority.ts'
import { openSeal, type Seal } from './pki/seal.ts'
import { serverIdentity } from './pki/server-identity.ts'
import { firstApiToken } from './pki/tokens.ts'
import { type Preparation, startPreparation } from './preparation.ts'
import { pruneRegularly } from './pruning.ts'
import type { Ways } from './reconciler/context.ts'
import { type Reconciler, startReconciler } from './reconciler/reconciler.ts'
import type { Settings } from './settings.ts'
import { openStore } from './store/knex.ts'
import type { Store } from './store/store.ts'

/** The whole daemon, as it runs. */
export interface Daemon {
  readonly port: number
  /** Reads certificate and catalog directory again; faulty ones change nothing and throw. */
  reload(): Promise<void>
  /** Ends streams and connections, then work under way, then the store. Instances go on. */
  stop(): Promise<void>
}

const LIVENESS_MS = 15_000

/** What everything else stands on. */
interface Ground {
  readonly settings: Settings
  readonly version: string
  readonly log: Log
  readonly store: Store
  readonly seal: Seal
  readonly registry: Registry
  readonly control: ControlMetrics
  /** What is to be ended at the stop, last one first. */
  readonly ends: (() => Promise<void>)[]
}

/** Those who act. */
interface Actors {
  readonly reconciler: Reconciler
  readonly preparation: Preparation
  readonly builds: Builds
}

/** Puts all parts together. @throws OrchestratorError when one of them cannot start; nothing is left running then */
export async function startDaemon(settings: Settings, version: string, log: Log): Promise<Daemon> {
  const directory = settings['state.directory']
  const seal = await openSeal(directory)
  const store = await openStore(storeUrl(settings))
  const ends: Ground['ends'] = [() => store.close()]
  const stop = async () => {
    for (const end of ends.splice(0).reverse()) await end()
  }
  try {
    const registry = new Registry()
    const control = controlMetrics(registry, store)
    return { ...(await compose({ settings, version, log, store, seal, registry, control, ends })), stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function compose(ground: Ground): Promise<Omit<Daemon, 'stop'>> {
  const { settings, version, log, store, seal, registry, control, ends } = ground
  const clock = systemClock
  const directory = settings['state.directory']
  await store.disconnectAllHosts(clock.now())
  const authority = await openAuthority({ directory, clock, log })
  const token = await firstApiToken(directory, store)
  if (token.made) log.info('token.made', `the first API token was written to ${token.file}`)
  const metrics = apiMetrics(registry)

  let actors: Actors | undefined
  let access: Access | undefined
  const chooser = createChooser({
    fallback: () => settings['templates.default'],
    trusted: settings['templates.trusted'],
    seal,
    price: (backend, template) => estimateOf(access?.backends.get(backend), template),
  })
  const pool = { prefix: parsePrefix(settings['instances.prefix']), reserved: settings['instances.reserved'] }
  const intake = createIntake({ store, clock, pool, chooser, wake: () => actors?.reconciler.wake() })
  const news = hostNews({ acting: () => actors, store, metrics: control, clock, log })
  const hosts = hostsSocket({ store, intake, clock, log, news, version, livenessMs: LIVENESS_MS, metrics })
  access = await openAccess({
    ...{ store, seal, clock, log, registry, kinds },
    setting: settings.backends,
    packages: settings['packages.directory'],
    beside: [dockerBackend({ agents: hosts })],
    wake: () => actors?.reconciler.wake(),
  })
  const { backends, opened, desk } = access
  // They end after everything that uses them.
  ends.push(access.close)

  const context = catalogContext(ground, backends, () => {
    actors?.preparation.changed()
    retry(intake, log)
  })
  const catalog = createCatalog(context, chooser)
  const catalogDirectory = await followDirectory(settings['catalog.directory'], context, log)
  ends.push(() => catalogDirectory.stop())
  const builds = await startBuilds({
    ...{ store, hosts, directory, settings, clock, log },
    changed: () => actors?.preparation.changed(),
  })
  ends.push(() => builds.stop())
  actors = startActors(ground, backends, hosts.ways, intake, builds)
  const machines = machinesOf(opened)
  startMachines(machines, { store, clock, wake: () => actors?.reconciler.wake() })
  const prune = async () => {
    await store.prune(settings['events.keep'], clock.now())
    await builds.prune()
  }
  ends.push(pruneRegularly(prune, clock, log))

  const names = settings['server.names']
  const api = await startApi({
    address: settings['server.address'],
    port: settings['server.port'],
    name: names[0] ?? 'localhost',
    authority,
    identity: () => serverIdentity({ directory, names, authority, clock, log }),
    store,
    intake,
    catalog,
    builds,
    backends: desk.backends,
    credentials: desk.credentials,
    machines,
    logs: (instance, options, signal) => instanceLogs(backends, store, instance, options, signal),
    hosts,
    metrics,
    clock,
    log,
  })
  ends.push(() => api.stop())
  // What was refused before the stop may fit by now: rules, templates and settings may have changed.
  retry(intake, log)
  return {
    port: api.port,
    async reload() {
      await api.reloadIdentity()
      await catalogDirectory.reload()
      log.info('catalog.reloaded', 'the catalog directory was read again')
    },
  }
}

function startActors(
  ground: Ground,
  backends: ReadonlyMap<string, Backend>,
  ways: Ways,
  intake: Intake,
  builds: Builds,
): Actors {
  const { settings, store, log, seal, control, ends } = ground
  const clock = systemClock
  const preparation = startPreparation({ store, clock, log, backends, wanted: builds.wanted })
  ends.push(() => preparation.stop())
  const reconciler = startReconciler(
    {
      store,
      clock,
      log,
      backends,
      ways,
      open: seal.openAll,
      random: Math.random,
      actionMs: settings['reconciler.action-seconds'] * 1000,
      measured: control.action,
      expire: intake.expire,
      freed: () => {
        preparation.freed()
        retry(intake, log)
      },
    },
    {
      concurrency: settings['reconciler.concurrency'],
      perHost: settings['reconciler.per-host'],
      resyncMs: settings['reconciler.resync-seconds'] * 1000,
    },
  )
  ends.push(() => reconciler.stop())
  return { reconciler, preparation, builds }
}

/** @param changed called when a lease may become something else */
function catalogContext(
  { settings, store, seal, control }: Ground,
  backends: ReadonlyMap<string, Backend>,
  changed: () => void,
): CatalogContext {
  return {
    store,
    clock: systemClock,
    seal,
    backends: [...backends.keys()],
    trusted: settings['templates.trusted'],
    checkTemplate: (template) => checkTemplate(backends, template),
    changed,
    counted: control.applied,
  }
}

/** @throws InvalidInput naming what the template's backend cannot honour */
function checkTemplate(backends: ReadonlyMap<string, Backend>, template: Template): void {
  const backend = backends.get(template.backend)
  if (backend === undefined) {
    const known = [...backends.keys()].join(', ')
    throw new InvalidInput('x-orchestrator.backend', `there is no backend ${template.backend}; there is ${known}`)
  }
  backend.checkTemplate(template)
  for (const name of Object.keys(template.options ?? {})) {
    if (!backends.has(name)) {
      const known = [...backends.keys()]
      throw new InvalidInput(`x-orchestrator.options.${name}`, `there is no backend ${name}${suggestion(name, known)}`)
    }
  }
}

/** There may be room now, or other rules. */
function retry(intake: Intake, log: Log): void {
  intake.retryRefused().catch((error) => log.error('leases.not-retried', wording(error)))
}

/** The database named by the settings; `sqlite:` alone is a file in the state directory. */
function storeUrl(settings: Settings): string {
  const url = settings['store.url']
  return url === 'sqlite:' ? `sqlite:${join(settings['state.directory'], 'orchestrator.db')}` : url
}

async function* instanceLogs(
  backends: ReadonlyMap<string, Backend>,
  store: Store,
  instance: Instance,
  options: LogOptions,
  signal: AbortSignal,
): AsyncIterable<string> {
  const backend = backends.get(instance.backend)
  const host =
    instance.host === null ? null : backend?.targets ? { name: instance.host } : await store.host(instance.host)
  if (backend !== undefined && backend.logs === undefined) {
    throw new OrchestratorError('no-logs', `backend ${backend.name} cannot show what instances print`)
  }
  if (backend?.logs === undefined || host === null) {
    throw new OrchestratorError('no-logs', `instance ${instance.name} has no output: it has not been placed on a host`)
  }
  yield* backend.logs(instance.id, host, options, signal)
}
