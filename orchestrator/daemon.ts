import { join } from 'node:path'
import { Registry } from '@prometheus-io/client'
import { systemClock } from '../common/clock.ts'
import { OrchestratorError, wording } from '../common/errors.ts'
import { parsePrefix } from '../common/ipv6.ts'
import type { Log } from '../common/log.ts'
import type { HostNews } from './api/hosts/connection.ts'
import { hostsSocket } from './api/hosts/socket.ts'
import { apiMetrics } from './api/metrics.ts'
import { type Api, startApi } from './api/server.ts'
import type { Backend, LogOptions } from './backends/backend.ts'
import { dockerBackend } from './backends/docker/docker.ts'
import type { Instance } from './domain/instance.ts'
import type { Template } from './domain/template.ts'
import { createIntake } from './intake.ts'
import { controlMetrics } from './metrics.ts'
import { openAuthority } from './pki/authority.ts'
import { serverIdentity } from './pki/server-identity.ts'
import { firstApiToken } from './pki/tokens.ts'
import { type Reconciler, startReconciler } from './reconciler/reconciler.ts'
import type { Settings } from './settings.ts'
import { openStore } from './store/knex.ts'
import type { Store } from './store/store.ts'
import { chooseTemplate, readTemplates } from './templates.ts'

/** The whole daemon, as it runs. */
export interface Daemon {
  readonly port: number
  /** Reads certificate and templates again; faulty ones change nothing and throw. */
  reload(): Promise<void>
  /** Ends streams and connections, then work under way, then the store. Instances go on. */
  stop(): Promise<void>
}

const LIVENESS_MS = 15_000
const PRUNE_MS = 3_600_000
/** Characters of an event's kind that the store takes. */
const KIND_MOST = 64

/** Puts all parts together. @throws OrchestratorError when one of them cannot start; nothing is left running then */
export async function startDaemon(settings: Settings, version: string, log: Log): Promise<Daemon> {
  const clock = systemClock
  const directory = settings['state.directory']
  const authority = await openAuthority({ directory, clock, log })
  const store = await openStore(storeUrl(settings))
  const ends: (() => Promise<void>)[] = [() => store.close()]
  const stop = async () => {
    for (const end of ends.splice(0).reverse()) await end()
  }
  try {
    await store.disconnectAllHosts(clock.now())
    const token = await firstApiToken(directory, store)
    if (token.made) log.info('token.made', `the first API token was written to ${token.file}`)
    const registry = new Registry()
    const control = controlMetrics(registry, store)
    const metrics = apiMetrics(registry)
    const backends = new Map<string, Backend>()
    let template = chooseTemplate(readTemplates(settings['templates.directory']), settings['templates.default'])

    let reconciler: Reconciler | undefined
    const pool = { prefix: parsePrefix(settings['instances.prefix']), reserved: settings['instances.reserved'] }
    const intake = createIntake({ store, clock, pool, template: () => template, wake: () => reconciler?.wake() })
    const news = hostNews(() => reconciler, store, control, log)
    const hosts = hostsSocket({ store, intake, clock, log, news, version, livenessMs: LIVENESS_MS, metrics })
    for (const backend of [dockerBackend({ agents: hosts })]) backends.set(backend.name, backend)
    template = await loadTemplates(settings, store, backends)

    const started = startReconciler(
      {
        store,
        clock,
        log,
        backends,
        random: Math.random,
        actionMs: settings['reconciler.action-seconds'] * 1000,
        measured: control.action,
      },
      {
        concurrency: settings['reconciler.concurrency'],
        perHost: settings['reconciler.per-host'],
        resyncMs: settings['reconciler.resync-seconds'] * 1000,
      },
    )
    reconciler = started
    ends.push(() => started.stop())
    ends.push(pruneRegularly(store, settings['events.keep'], log))
    const names = settings['server.names']
    const api: Api = await startApi({
      address: settings['server.address'],
      port: settings['server.port'],
      name: names[0] ?? 'localhost',
      authority,
      identity: () => serverIdentity({ directory, names, authority, clock, log }),
      store,
      intake,
      logs: (instance, options, signal) => instanceLogs(backends, store, instance, options, signal),
      hosts,
      metrics,
      clock,
      log,
    })
    ends.push(() => api.stop())
    return {
      port: api.port,
      stop,
      async reload() {
        await api.reloadIdentity()
        template = await loadTemplates(settings, store, backends)
        log.info('templates.reloaded', `leases now become ${template.name}@${template.version}`)
      },
    }
  } catch (error) {
    await stop()
    throw error
  }
}

/** The database named by the settings; `sqlite:` alone is a file in the state directory. */
function storeUrl(settings: Settings): string {
  const url = settings['store.url']
  return url === 'sqlite:' ? `sqlite:${join(settings['state.directory'], 'orchestrator.db')}` : url
}

/** Checks all templates with their backends, keeps each version in the store, and returns the one that leases become. */
async function loadTemplates(
  settings: Settings,
  store: Store,
  backends: ReadonlyMap<string, Backend>,
): Promise<Template> {
  const templates = readTemplates(settings['templates.directory'])
  for (const template of templates) backends.get(template.backend)?.checkTemplate(template)
  const chosen = chooseTemplate(templates, settings['templates.default'])
  await store.transaction(async (tx) => {
    for (const template of templates) await tx.putTemplate(template)
  })
  return chosen
}

/** What hosts tell goes to the reconciler, to the events that operators read, and to the metrics. */
function hostNews(
  reconciler: () => Reconciler | undefined,
  store: Store,
  metrics: ReturnType<typeof controlMetrics>,
  log: Log,
): HostNews {
  const tell = (host: string, level: 'info' | 'warning' | 'error', kind: string, message: string) =>
    store.appendEvent({ level, kind, message, host }, systemClock.now())
  return {
    async connected(host) {
      reconciler()?.hostConnected(host)
      await tell(host, 'info', 'host.connected', `host ${host} is connected`)
    },
    async disconnected(host) {
      reconciler()?.hostDisconnected(host)
      await tell(host, 'warning', 'host.disconnected', `host ${host} is no longer connected`)
    },
    observed(_host, observed) {
      reconciler()?.observed(observed)
    },
    async notice(host, { level, code, message }) {
      metrics.notice(code, level)
      log[level === 'warning' ? 'warn' : level]('host.notice', message, { host, code })
      await tell(host, level, `host.${code}`.slice(0, KIND_MOST), message)
    },
    dropped: (host, packets) => metrics.dropped(host, packets),
  }
}

async function* instanceLogs(
  backends: ReadonlyMap<string, Backend>,
  store: Store,
  instance: Instance,
  options: LogOptions,
  signal: AbortSignal,
): AsyncIterable<string> {
  const backend = backends.get(instance.backend)
  const host = instance.host === null ? null : await store.host(instance.host)
  if (backend?.logs === undefined || host === null) {
    throw new OrchestratorError('no-logs', `instance ${instance.name} has no output: it has not been placed on a host`)
  }
  yield* backend.logs(instance.id, host, options, signal)
}

function pruneRegularly(store: Store, keep: number, log: Log): () => Promise<void> {
  const stopped = new AbortController()
  const done = (async () => {
    while (!stopped.signal.aborted) {
      await store.prune(keep, systemClock.now()).catch((error) => log.error('store.prune', wording(error)))
      await systemClock.wait(PRUNE_MS, stopped.signal).catch(() => {})
    }
  })()
  return async () => {
    stopped.abort()
    await done
  }
}
