import { once } from 'node:events'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import express, { type Express, type NextFunction, type Request, type Response } from 'express'
import type { Clock } from '../../common/clock.ts'
import { OrchestratorError, wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import type { Catalog } from '../catalog/catalog.ts'
import type { Intake } from '../intake.ts'
import type { Authority } from '../pki/authority.ts'
import type { ServerIdentity } from '../pki/server-identity.ts'
import type { Store } from '../store/store.ts'
import { FailureLimit, requireToken } from './auth.ts'
import { bodyInTime } from './body-time.ts'
import { EventStreams } from './events-stream.ts'
import { type HostArchives, hostArchivesRoutes } from './hosts/archives.ts'
import { type HostContexts, hostBuildsRoutes } from './hosts/builds.ts'
import { joinRoutes } from './hosts/join.ts'
import type { HostsSocket } from './hosts/socket.ts'
import { type ApiMetrics, countRequests } from './metrics.ts'
import { answerProblems, Problem } from './problem.ts'
import { applyRoutes } from './routes/apply.ts'
import { type BackendDesk, backendsRoutes } from './routes/backends.ts'
import { type BuildDesk, buildsRoutes } from './routes/builds.ts'
import { type CredentialDesk, credentialsRoutes } from './routes/credentials.ts'
import { eventsRoutes } from './routes/events.ts'
import { fleetRoutes } from './routes/fleet.ts'
import { healthRoutes } from './routes/health.ts'
import { type InstanceLogs, instancesRoutes } from './routes/instances.ts'
import { joinTokensRoutes, serverUrl } from './routes/join-tokens.ts'
import { leasesRoutes } from './routes/leases.ts'
import { type MachineDesk, machinesRoutes } from './routes/machines.ts'
import { rulesRoutes } from './routes/rules.ts'
import { schemasRoutes } from './routes/schemas.ts'
import { templatesRoutes } from './routes/templates.ts'
import { API_PREFIX } from './wire.ts'

export interface ApiOptions {
  readonly address: string
  /** 0: a free one. */
  readonly port: number
  /** What hosts are told to dial. */
  readonly name: string
  readonly authority: Authority
  /** The identity as it should be now; asked at the start and once a day. */
  readonly identity: () => Promise<ServerIdentity>
  readonly store: Store
  readonly intake: Pick<Intake, 'dismiss'>
  readonly catalog: Catalog
  readonly builds: BuildDesk &
    HostContexts &
    Pick<HostArchives, 'imageFor'> & { readonly archives: Omit<HostArchives, 'imageFor'> }
  readonly backends: BackendDesk
  readonly credentials: CredentialDesk
  /** By the name of their backend. */
  readonly machines: ReadonlyMap<string, MachineDesk>
  readonly logs: InstanceLogs
  readonly hosts: HostsSocket
  readonly metrics: ApiMetrics
  readonly clock: Clock
  readonly log: Log
}

/** The API as it listens. */
export interface Api {
  readonly port: number
  /** Takes the identity anew now (a renewed certificate, other names) without dropping a connection. */
  reloadIdentity(): Promise<void>
  /** Accepts nothing more, ends streams and hosts' connections, and resolves when all is closed. */
  stop(): Promise<void>
}

const BODY_LIMIT = '64kb'
/** Of `POST /v1/apply`, which carries files. */
const APPLY_LIMIT = '16mb'
const IDENTITY_CHECK_MS = 86_400_000
/** Milliseconds that requests under way have at a stop before they are cut off. */
const STOP_WITHIN_MS = 3_000

/** Starts the one TLS port of REST and hosts. @throws OrchestratorError `cannot-listen` */
export async function startApi(options: ApiOptions): Promise<Api> {
  const { log, clock, hosts, authority } = options
  const stopping = new AbortController()
  let identity = await options.identity()
  let port = options.port
  const app = apiApp(options, stopping.signal, () => serverUrl(options.name, port))
  const server = createServer(tlsOptions(identity, authority), app)
  server.headersTimeout = 10_000
  // Of the body alone, which may be large: see bodyInTime.
  server.requestTimeout = 0
  server.on('upgrade', (request, socket, head) => hosts.upgrade(request, socket, head))
  server.on('tlsClientError', (error) => log.debug('api.tls', wording(error)))
  server.on('clientError', (error, socket) => {
    log.debug('api.client', wording(error))
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n')
    else socket.destroy()
  })
  const sockets = new Set<Duplex>()
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  port = await listen(server, options)

  const reloadIdentity = async () => {
    const next = await options.identity()
    if (next.chain === identity.chain && next.key === identity.key) return
    identity = next
    server.setSecureContext(tlsOptions(identity, authority))
    log.info('server.certificate-reloaded', 'the server shows its new certificate')
  }
  const renewal = renewDaily(reloadIdentity, clock, log, stopping.signal)
  log.info('api.listening', `the API listens on port ${port}`, { address: options.address, port })
  return {
    port,
    reloadIdentity,
    async stop() {
      if (stopping.signal.aborted) return
      const closed = once(server, 'close')
      server.close()
      stopping.abort(new OrchestratorError('stopping', 'the orchestrator stops', { retryable: true }))
      await hosts.stop()
      server.closeIdleConnections()
      const cut = setTimeout(() => sockets.forEach((socket) => void socket.destroy()), STOP_WITHIN_MS)
      await closed
      clearTimeout(cut)
      await renewal
    },
  }
}

/** The express app: parsing, tokens, routes, problems. */
function apiApp(options: ApiOptions, stopping: AbortSignal, url: () => string): Express {
  const { store, clock, log, metrics, intake, catalog, builds, logs, authority, hosts } = options
  const limit = new FailureLimit(clock)
  const app = express()
  app.disable('x-powered-by')
  app.set('etag', false)
  app.set('query parser', 'simple')
  app.use(countRequests(metrics))
  app.use(plainHeaders)
  app.use(healthRoutes({ store, log, metrics, stopping }))
  app.use(bodyInTime)
  const body = express.json({ limit: BODY_LIMIT, strict: true })
  app.use('/v1/hosts/join', body)
  app.use(joinRoutes({ store, clock, log, authority, limit, metrics, hosts }))
  const archives: HostArchives = { ...builds.archives, imageFor: builds.imageFor }
  app.use(hostArchivesRoutes({ store, archives, log }))
  app.use(hostBuildsRoutes({ store, contexts: builds }))
  app.use(API_PREFIX, requireToken({ store, clock, limit, metrics }))
  app.use('/v1/apply', express.json({ limit: APPLY_LIMIT, strict: true }))
  app.use(API_PREFIX, body)
  app.use(leasesRoutes(store))
  app.use(instancesRoutes({ store, clock, intake, logs, metrics, stopping }))
  app.use(fleetRoutes(store))
  app.use(templatesRoutes({ store, catalog }))
  app.use(applyRoutes(catalog))
  app.use(rulesRoutes({ store, catalog, clock }))
  app.use(buildsRoutes({ store, builds, clock, metrics, stopping }))
  app.use(backendsRoutes({ backends: options.backends, stopping }))
  app.use(credentialsRoutes({ credentials: options.credentials, stopping }))
  app.use(machinesRoutes({ desks: options.machines, clock, metrics, stopping }))
  app.use(schemasRoutes())
  app.use(eventsRoutes(store, new EventStreams({ store, clock, log, metrics, stopping })))
  app.use(joinTokensRoutes({ store, clock, authority, url }))
  app.use((request) => {
    throw new Problem(404, 'not-found', `there is nothing at ${request.method} ${request.path.slice(0, 200)}`)
  })
  app.use(answerProblems(log))
  return app
}

/** Headers that keep a browser from doing anything with our answers but showing them. */
function plainHeaders(_request: Request, response: Response, next: NextFunction): void {
  response.set({
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
    'Referrer-Policy': 'no-referrer',
    'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
    'Strict-Transport-Security': 'max-age=31536000',
    'Cache-Control': 'no-store',
  })
  next()
}

function tlsOptions(identity: ServerIdentity, authority: Authority) {
  return {
    key: identity.key,
    cert: identity.chain,
    ca: authority.pem,
    requestCert: true,
    // REST needs a token, not a certificate; the hosts' socket checks the certificate itself.
    rejectUnauthorized: false,
    minVersion: 'TLSv1.3',
    handshakeTimeout: 10_000,
  } as const
}

async function listen(server: Server, options: ApiOptions): Promise<number> {
  const { address, port } = options
  try {
    server.listen({ host: address, port, backlog: 1024 })
    await once(server, 'listening')
  } catch (cause) {
    throw new OrchestratorError('cannot-listen', `cannot listen on ${address} port ${port}: ${wording(cause)}`, {
      cause,
    })
  }
  return (server.address() as AddressInfo).port
}

async function renewDaily(renew: () => Promise<void>, clock: Clock, log: Log, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await clock.wait(IDENTITY_CHECK_MS, signal)
      await renew()
    } catch (error) {
      if (signal.aborted) return
      log.error('server.certificate-failed', `the server certificate cannot be renewed: ${wording(error)}`)
    }
  }
}
