import type { Readable } from 'node:stream'
import Docker from 'dockerode'
import { jsonLines, logStream } from '../../../common/engine-streams.ts'
import { HostUnreachable, OrchestratorError, wording } from '../../../common/errors.ts'
import { unlessAborted } from '../../../common/unless-aborted.ts'
import type { Info, Named, Node, Service, ServiceSpecification, SwarmEvent, Task, Version } from './answers.ts'
import type { Tls } from './settings.ts'
import { trustFault } from './trust.ts'

/** What a manager refused: `status` is that of HTTP. */
export class Refused extends OrchestratorError {
  readonly status: number
  constructor(status: number, message: string, cause: unknown) {
    super('swarm-refused', message, { retryable: status >= 500 || status === 409, cause })
    this.status = status
  }
}

/** Labels that are asked for; all must be there. */
export type Labels = Readonly<Record<string, string>>

/**
 * A swarm through its managers. Each call asks the manager that answered last, and the others when it does not. A call that
 * changes something goes on when its caller has given up: see {@link SwarmEngine.quiet}.
 *
 * Every call throws HostUnreachable when no manager answers, or none can decide because the swarm has no leader; OrchestratorError
 * `credential-refused` when all refuse our certificate, or show one that is not believed; Refused when one said no; the
 * signal's reason when that is aborted.
 */
export interface SwarmEngine {
  version(signal: AbortSignal): Promise<Version>
  /** `manager`: the one that was asked; `swarm`: id of the swarm that it is of. */
  about(signal: AbortSignal): Promise<{ manager: string; swarm: string }>
  services(labels: Labels, signal: AbortSignal): Promise<readonly Service[]>
  /** By id or name; null: there is none. */
  service(id: string, signal: AbortSignal): Promise<Service | null>
  /** @returns its id */
  createService(spec: ServiceSpecification, signal: AbortSignal): Promise<string>
  updateService(service: Service, spec: ServiceSpecification, signal: AbortSignal): Promise<void>
  tasks(filter: Readonly<Record<string, readonly string[]>>, signal: AbortSignal): Promise<readonly Task[]>
  nodes(signal: AbortSignal): Promise<readonly Node[]>
  networks(
    filter: { readonly label?: readonly string[]; readonly name?: readonly string[] },
    signal: AbortSignal,
  ): Promise<readonly Named[]>
  /** An overlay network that leads nowhere but to its own containers. @returns its id */
  createNetwork(name: string, labels: Labels, signal: AbortSignal): Promise<string>
  secrets(labels: Labels, signal: AbortSignal): Promise<readonly Named[]>
  /** @param data base64 @returns its id */
  createSecret(name: string, labels: Labels, data: string, signal: AbortSignal): Promise<string>
  /** Gone already is success. */
  remove(kind: 'services' | 'networks' | 'secrets', id: string, signal: AbortSignal): Promise<void>
  /** Addresses of all managers that we know. */
  readonly managers: readonly string[]
  /** Events of services and nodes that one manager tells, since then (epoch ms); ends by an error. */
  events(manager: string, since: number, signal: AbortSignal): AsyncIterable<SwarmEvent>
  /** @param terminal whether its tasks have one: then the text has no frames */
  logs(
    service: string,
    options: { follow: boolean; tail: number; terminal: boolean },
    signal: AbortSignal,
  ): AsyncIterable<string>
  /** Resolves when no change is under way that nobody waits for any more; a caller gives up by its signal. */
  quiet(signal?: AbortSignal): Promise<void>
}

/** What a manager says when it cannot decide, since too few of them agree (swarmkit, manager/state/raft; moby, daemon/cluster). */
const NO_QUORUM =
  /does not have a leader|lost leader status|no leader|too few managers|raft: (failed|no elected)|lost quorum|deadline exceeded|context canceled|connection (refused|error)|transport is closing|Unavailable/i
/** What an engine says that is no manager, or no more (moby, daemon/cluster/errors.go). */
const NO_MANAGER =
  /not a swarm manager|not part of a swarm|swarm is encrypted|needs to be unlocked|has been stopped|being demoted/i

/** How one call is sent. */
interface Request {
  readonly what: string
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly path: string
  readonly query?: Readonly<Record<string, string>>
  readonly body?: unknown
  readonly stream?: boolean
}

export function swarmEngine(options: {
  /** Of the target, for errors. */
  readonly name: string
  readonly managers: readonly string[]
  readonly tls: () => Promise<Tls>
  readonly callMs: number
  /** Looks whether a swarm is the one that is meant; asked once for each manager that is turned to. @throws why it is not */
  readonly mustBe: (swarm: string, manager: string) => Promise<void>
}): SwarmEngine {
  const { name, managers, callMs } = options
  let [kept = ''] = managers
  /** Managers that were seen to be of the swarm that is meant. */
  const trusted = new Set<string>()
  const underWay = new Set<Promise<unknown>>()

  const connect = async (manager: string): Promise<Docker> => {
    if (manager.startsWith('unix://')) return new Docker({ socketPath: manager.slice('unix://'.length) })
    const { hostname, port } = new URL(manager.replace('tcp:', 'http:'))
    // With the scheme in it, the library takes an IPv6 address for what it is.
    return new Docker({ protocol: 'https', host: `https://${hostname}`, port: Number(port), ...(await options.tls()) })
  }
  const bounded = async <T>(signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> => {
    signal.throwIfAborted()
    const limit = AbortSignal.timeout(callMs)
    const both = AbortSignal.any([signal, limit])
    const { promise: ended, reject } = Promise.withResolvers<never>()
    const onAbort = () => reject(signal.aborted ? signal.reason : new Error(`no answer within ${callMs / 1000} s`))
    both.addEventListener('abort', onAbort, { once: true })
    try {
      const running = work(both)
      running.catch(() => {})
      return await Promise.race([running, ended])
    } finally {
      both.removeEventListener('abort', onAbort)
    }
  }
  const ask = async <T>(manager: string, request: Request, signal: AbortSignal): Promise<T> =>
    bounded(signal, async (both) => sent<T>(await connect(manager), request, both))

  const trust = async (manager: string, signal: AbortSignal): Promise<void> => {
    if (trusted.has(manager)) return
    const info = await ask<Info>(manager, { what: 'info', method: 'GET', path: '/info' }, signal)
    await options.mustBe(swarmOf(info, manager), manager)
    trusted.add(manager)
  }
  /** Asks one manager after the other, the kept one first. */
  const call = async <T>(request: Request, signal: AbortSignal): Promise<T> => {
    const reasons: string[] = []
    let distrust = 0
    for (const manager of [kept, ...managers.filter((one) => one !== kept)]) {
      try {
        await trust(manager, signal)
        const answer = await ask<T>(manager, request, signal)
        kept = manager
        return answer
      } catch (error) {
        if (signal.aborted) throw signal.reason
        const fault = trustFault(error)
        const why = fault ?? awayBecause(error)
        if (why === null) throw error
        trusted.delete(manager)
        reasons.push(`${manager}: ${why}`)
        if (fault !== null) distrust++
      }
    }
    if (distrust === reasons.length) {
      throw new OrchestratorError('credential-refused', `no manager of ${name} can be talked to: ${reasons.join('; ')}`)
    }
    const lost = reasons.some((reason) => NO_QUORUM.test(reason))
    const what = lost
      ? 'the swarm has lost its quorum: too few of its managers are there to decide; what runs goes on'
      : 'none of its managers answers'
    throw new HostUnreachable(name, `${what} (${reasons.join('; ')})`)
  }
  /** A change is not broken off: half of it might come later, when somebody has looked and found nothing. */
  const change = async <T>(request: Request, signal: AbortSignal): Promise<T> => {
    signal.throwIfAborted()
    const work = call<T>(request, new AbortController().signal)
    const settled = work.catch(() => {}).then(() => void underWay.delete(settled))
    underWay.add(settled)
    return await unlessAborted(work, signal)
  }
  const list = async <T>(what: string, path: string, filters: object, signal: AbortSignal): Promise<readonly T[]> => {
    const query = { filters: JSON.stringify(filters) }
    const answer = await call<unknown>({ what, method: 'GET', path, query }, signal)
    if (Array.isArray(answer)) return answer as T[]
    throw new OrchestratorError('swarm-answer', `${what}: the manager did not answer with a list`, { retryable: true })
  }

  return {
    managers,
    version: (signal) => call({ what: 'version', method: 'GET', path: '/version' }, signal),
    async about(signal) {
      const info = await call<Info>({ what: 'info', method: 'GET', path: '/info' }, signal)
      return { manager: kept, swarm: swarmOf(info, kept) }
    },
    services: (labels, signal) => list('list services', '/services', { label: pairs(labels) }, signal),
    async service(id, signal) {
      try {
        return await call<Service>({ what: `service ${id}`, method: 'GET', path: `/services/${id}` }, signal)
      } catch (error) {
        if (isStatus(error, 404)) return null
        throw error
      }
    },
    async createService(body, signal) {
      const what = `create service ${body.Name}`
      return (await change<{ ID: string }>({ what, method: 'POST', path: '/services/create', body }, signal)).ID
    },
    async updateService({ ID, Version: { Index } }, body, signal) {
      const query = { version: String(Index) }
      await change({ what: `update ${body.Name}`, method: 'POST', path: `/services/${ID}/update`, query, body }, signal)
    },
    tasks: (filter, signal) => list('list tasks', '/tasks', filter, signal),
    nodes: (signal) => list('list nodes', '/nodes', {}, signal),
    async networks(filter, signal) {
      const filters = { ...filter, scope: ['swarm'] }
      const found = await list<{ Id: string; Name: string; Labels?: Labels | null }>(
        'list networks',
        '/networks',
        filters,
        signal,
      )
      return found.map(({ Id: id, Name, Labels: labels }) => ({ id, name: Name, labels: labels ?? {} }))
    },
    async createNetwork(networkName, labels, signal) {
      const body = {
        ...{ Name: networkName, Driver: 'overlay', Internal: true, CheckDuplicate: true, Labels: labels },
        // Options are for the engine to refuse; there are none.
        ...{ Attachable: false, Ingress: false, EnableIPv6: false },
      }
      const request = { what: `create network ${networkName}`, method: 'POST', path: '/networks/create', body } as const
      return (await change<{ Id: string }>(request, signal)).Id
    },
    async secrets(labels, signal) {
      const found = await list<{ ID: string; Spec: { Name: string; Labels?: Labels | null } }>(
        'list secrets',
        '/secrets',
        { label: pairs(labels) },
        signal,
      )
      return found.map(({ ID: id, Spec }) => ({ id, name: Spec.Name, labels: Spec.Labels ?? {} }))
    },
    async createSecret(secretName, labels, Data, signal) {
      const body = { Name: secretName, Labels: labels, Data }
      const request = { what: `create secret ${secretName}`, method: 'POST', path: '/secrets/create', body } as const
      return (await change<{ ID: string }>(request, signal)).ID
    },
    async remove(kind, id, signal) {
      const request = { what: `remove ${id} of ${kind}`, method: 'DELETE', path: `/${kind}/${id}` } as const
      try {
        await change(request, signal)
      } catch (error) {
        // A network that goes at this very moment is "not found" with status 500.
        if (!isStatus(error, 404) && !(error instanceof Refused && /not found/i.test(error.message))) throw error
      }
    },
    async *events(manager, since, signal) {
      await trust(manager, signal)
      const filters = JSON.stringify({ type: ['service', 'node'] })
      const query = { since: (since / 1000).toFixed(3), filters }
      const request: Request = { what: 'events', method: 'GET', path: '/events', query, stream: true }
      yield* jsonLines<SwarmEvent>(await sent<Readable>(await connect(manager), request, signal))
      throw new Error(`${manager} ended its events`)
    },
    async *logs(service, { follow, tail, terminal }, signal) {
      const query = { stdout: '1', stderr: '1', follow: follow ? '1' : '0', tail: String(tail) }
      const request: Request = { what: 'logs', method: 'GET', path: `/services/${service}/logs`, query, stream: true }
      // Finds one that answers; what comes over a stream has no deadline.
      await call({ what: 'version', method: 'GET', path: '/version' }, signal)
      const docker = await connect(kept)
      const answer = await sent<Readable>(docker, request, signal)
      yield* logStream(answer, terminal, (from, into) => docker.modem.demuxStream(from, into, into))
    },
    async quiet(signal) {
      while (underWay.size > 0) await unlessAborted(Promise.all(underWay), signal)
    },
  }
}

/** @throws Refused with what the manager said; whatever the network throws */
async function sent<T>(
  docker: Docker,
  { what, method, path, query, body, stream }: Request,
  abortSignal: AbortSignal,
): Promise<T> {
  const options = { ...(query ? { _query: query } : {}), ...(body === undefined ? {} : { _body: body }) }
  const statusCodes = { 200: true, 201: true, 204: true }
  const request = {
    path: query ? `${path}?` : path,
    method,
    options,
    abortSignal,
    statusCodes,
    isStream: stream ?? false,
  }
  const { promise, resolve, reject } = Promise.withResolvers<T>()
  docker.modem.dial(request as never, (error, answer) => (error ? reject(error) : resolve(answer as T)))
  try {
    return await promise
  } catch (cause) {
    const { statusCode, json, message } = cause as { statusCode?: number; json?: { message?: string }; message: string }
    if (statusCode === undefined) throw cause
    throw new Refused(statusCode, `the swarm refused to ${what}: ${json?.message ?? message}`, cause)
  }
}

/** Why another manager may do better; null: it would say the same. */
function awayBecause(error: unknown): string | null {
  if (error instanceof Refused) {
    const away =
      error.status === 503 || NO_MANAGER.test(error.message) || (error.status >= 500 && NO_QUORUM.test(error.message))
    return away ? error.message : null
  }
  return error instanceof OrchestratorError && !(error instanceof HostUnreachable) ? null : wording(error, 300)
}

/** Id of the swarm that a manager is of. @throws Refused when it is none */
function swarmOf({ Swarm }: Info, manager: string): string {
  const { LocalNodeState, ControlAvailable, Error: fault, Cluster } = Swarm
  if (LocalNodeState !== 'active') throw new Refused(503, `${manager} is not part of a swarm (${LocalNodeState})`, null)
  if (!ControlAvailable) throw new Refused(503, `${manager} is not a swarm manager`, null)
  if (Cluster?.ID) return Cluster.ID
  throw new Refused(503, `${manager} cannot say which swarm it is of: ${fault || 'no leader'}`, null)
}

export function isStatus(error: unknown, status: number): boolean {
  return error instanceof Refused && error.status === status
}

function pairs(labels: Labels): string[] {
  return Object.entries(labels).map(([name, value]) => `${name}=${value}`)
}
