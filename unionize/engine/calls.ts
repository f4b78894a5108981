import type { Readable } from 'node:stream'
import type Docker from 'dockerode'
import { jsonLines, logStream } from '../../common/engine-streams.ts'
import { type ContainerEvent, eventOf, logText } from './answers.ts'
import { type ContainerSpec, describe } from './container-spec.ts'
import { ContainerFailure, engineError } from './failure.ts'

/** Milliseconds after which a call is given up: the engine may be busy, but not for ever. */
export const DEADLINE_MS = 60_000
/** Engine API from which on ContainerCreate knows `platform`; an older engine would pass over it. */
const PLATFORM_API = '1.41'

/** How a registry knows us (Engine API 1.41, "Authentication"). */
export interface RegistryCredentials {
  readonly username: string
  readonly password: string
  readonly serveraddress: string
}

export interface PullOptions {
  /** OS/ARCH[/VARIANT]; absent: the engine's own. */
  readonly platform?: string | undefined
  /** For the registry; absent: none are shown. */
  readonly credentials?: RegistryCredentials | undefined
  /** Told in the engine's words how far it is. */
  readonly progress: (text: string) => void
}

/** Makes a container. The library's own call does not tell what the engine remarks. @throws code engine-refused */
export async function made(docker: Docker, spec: ContainerSpec, abortSignal: AbortSignal): Promise<Made> {
  const { name, platform } = spec
  if (platform !== undefined) await mustKnowPlatforms(docker, name, abortSignal)
  // Without _query and _body the whole description would also be sent as the query of the URL.
  const options = { _query: { name, ...(platform === undefined ? {} : { platform }) }, _body: describe(spec) }
  const statusCodes = { 201: true, 400: 'bad parameter', 404: 'not found', 409: 'conflict', 500: 'server error' }
  const request = { path: '/containers/create?', method: 'POST', options, abortSignal, statusCodes }
  const { promise, resolve, reject } = Promise.withResolvers<unknown>()
  docker.modem.dial(request as never, (error, answer) => (error ? reject(error) : resolve(answer)))
  const { Id: id, Warnings: remarks } = (await promise) as { Id: string; Warnings?: readonly string[] | null }
  return { id, remarks: remarks ?? [] }
}
/** A container that was made. */
interface Made {
  readonly id: string
  /** What the engine remarks of it, such as a limit that its kernel cannot keep. */
  readonly remarks: readonly string[]
}

async function mustKnowPlatforms(docker: Docker, container: string, abortSignal: AbortSignal): Promise<void> {
  const { ApiVersion: api } = await versionOf(docker, abortSignal)
  if (!isBefore(api, PLATFORM_API)) return
  const remedy = `this engine speaks ${api}; take "platform" out of the template, or update the engine`
  const message = `container ${container}: "platform" needs Engine API ${PLATFORM_API}; ${remedy}`
  throw new ContainerFailure('engine-refused', message)
}

/** Whether a version of the engine's API is an earlier one: 1.9 is before 1.41. */
function isBefore(api: string, least: string): boolean {
  const [major = 0, minor = 0] = api.split('.').map(Number)
  const [leastMajor = 0, leastMinor = 0] = least.split('.').map(Number)
  return major < leastMajor || (major === leastMajor && minor < leastMinor)
}

export async function versionOf(
  docker: Docker,
  abortSignal: AbortSignal,
): Promise<{ Version: string; ApiVersion: string }> {
  // The typings do not know that it takes options.
  const typed = docker as unknown as { version(options: object): Promise<{ Version: string; ApiVersion: string }> }
  return typed.version({ abortSignal })
}

/** The engine's events; see `Engine.events`. */
export async function* eventsOf(
  docker: Docker,
  socketPath: string,
  labels: Readonly<Record<string, string>>,
  since: number,
  signal: AbortSignal,
): AsyncGenerator<ContainerEvent> {
  try {
    const filter = { type: ['container'], label: filters(labels) }
    const query = { since: (since / 1000).toFixed(3), filters: filter, abortSignal: signal }
    const stream = (await docker.getEvents(query as object)) as Readable
    for await (const line of jsonLines(stream)) yield eventOf(line)
  } catch (cause) {
    if (signal.aborted) throw signal.reason
    throw engineError('events', socketPath, cause)
  }
  throw engineError('events', socketPath, new Error('the engine ended the stream'))
}

/** What a container prints; see `Engine.logs`. */
export async function* logsOf(
  docker: Docker,
  socketPath: string,
  id: string,
  options: { follow: boolean; tail: number },
  signal: AbortSignal,
): AsyncGenerator<string> {
  try {
    const container = docker.getContainer(id)
    const terminal = (await container.inspect({ abortSignal: signal })).Config.Tty
    const query = { stdout: true, stderr: true, tail: options.tail, abortSignal: signal }
    if (!options.follow) {
      yield logText(await container.logs({ ...query, follow: false }), terminal)
      return
    }
    const answer = (await container.logs({ ...query, follow: true })) as Readable
    yield* logStream(answer, terminal, (from, into) => docker.modem.demuxStream(from, into, into))
  } catch (cause) {
    if (signal.aborted) throw signal.reason
    throw engineError(`logs of ${id}`, socketPath, cause)
  }
}

/** Fetches an image; each piece of the engine's progress must come within the usual deadline. */
export async function pulled(
  docker: Docker,
  socketPath: string,
  image: string,
  { platform, credentials, progress }: PullOptions,
  signal: AbortSignal | undefined,
): Promise<void> {
  const call = <T>(work: (signal: AbortSignal) => Promise<T>) =>
    bounded(`pull ${image}`, socketPath, signal, DEADLINE_MS, work)
  const query = {
    ...(platform === undefined ? {} : { platform }),
    ...(credentials === undefined ? {} : { authconfig: credentials }),
  }
  const begun = call((abortSignal) => docker.pull(image, { ...query, abortSignal }) as Promise<Readable>)
  const stream = await begun.catch((error) => {
    if (signal?.aborted || error.code === 'engine-unreachable') throw error
    throw pullFailure(image, error.message, error.code === 'engine-failed')
  })
  const lines = jsonLines(stream)
  try {
    for (;;) {
      const next = await call(() => lines.next())
      if (next.done) return
      const { error, status } = next.value as { readonly error?: string; readonly status?: string }
      if (error !== undefined) throw pullFailure(image, error, true)
      if (status !== undefined) progress(status)
    }
  } finally {
    stream.destroy()
  }
}

/** What registries say that will say the same again (distribution, registry/api/errcode). */
const FINAL = /denied|unauthorized|not found|manifest unknown|no matching manifest|invalid reference/i

function pullFailure(image: string, why: string, mayPass: boolean): ContainerFailure {
  const retryable = mayPass && !FINAL.test(why)
  return new ContainerFailure('pull-failed', `image ${image} cannot be pulled: ${why}`, { retryable })
}

/** Labels as a filter of the engine's lists. */
export function filters(labels: Readonly<Record<string, string>>): string[] {
  return Object.entries(labels).map(([name, value]) => `${name}=${value}`)
}

/**
 * Runs one call with a deadline. The race is needed: when the engine dies in the middle of an answer, the client library's
 * promise stays pending for ever.
 */
export async function bounded<T>(
  what: string,
  socketPath: string,
  signal: AbortSignal | undefined,
  deadlineMs: number,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted()
  const controller = new AbortController()
  const { promise: ended, reject } = Promise.withResolvers<never>()
  const end = (reason: unknown) => {
    reject(reason)
    controller.abort(reason)
  }
  const onAbort = () => end(signal?.reason)
  signal?.addEventListener('abort', onAbort, { once: true })
  const timer = setTimeout(() => end(new Error(`no answer within ${deadlineMs / 1000} s`)), deadlineMs)
  try {
    const running = work(controller.signal)
    running.catch(() => {})
    return await Promise.race([running, ended])
  } catch (cause) {
    if (signal?.aborted) throw signal.reason
    throw cause instanceof ContainerFailure ? cause : engineError(what, socketPath, cause)
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
  }
}
