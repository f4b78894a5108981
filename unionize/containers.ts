import type { Readable } from 'node:stream'
import { PassThrough } from 'node:stream'
import Docker from 'dockerode'
import { ContainerFailure, engineError } from './engine-error.ts'

/** How a container is made; everything that is not said here is closed: no network of its own, no capability, no restart. */
export interface ContainerSpec {
  readonly name: string
  readonly image: string
  readonly labels: Readonly<Record<string, string>>
  /** `none`: an empty namespace of its own; else the id of the container whose namespace is joined. */
  readonly network: 'none' | { readonly namespaceOf: string }
  readonly command?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly user?: string
  /** Only with a namespace of its own. */
  readonly hostname?: string
  readonly dns?: readonly string[]
  readonly readOnly?: boolean
  /** Kernel settings of a namespace of its own. */
  readonly sysctls?: Readonly<Record<string, string>>
  /** A file of this machine that is seen, and cannot be changed, as /etc/hosts. Only in a namespace that is joined. */
  readonly hostsFile?: string
  /** Linux capability names without CAP_; all others are dropped. */
  readonly capabilities: readonly string[]
  readonly memoryBytes: number
  readonly pids: number
  /** Milliseconds between asking it to end and killing it, also when the engine itself stops; 0: killed at once. */
  readonly stopGraceMs: number
  /** Whether the engine keeps its output. */
  readonly keepOutput: boolean
}

/** A container as the engine lists it. */
export interface ListedContainer {
  readonly id: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly running: boolean
  /** Id of the container whose network namespace it uses; null: its own. */
  readonly namespaceOf: string | null
}

/** One event of a container of ours. */
export interface ContainerEvent {
  readonly action: string
  readonly id: string
  readonly labels: Readonly<Record<string, string>>
}

/** The Docker engine, as much of it as we use. Every call ends: by answer, by its signal, or by its deadline. */
export interface Engine {
  /** Name and version of the engine. */
  version(signal?: AbortSignal): Promise<string>
  /** Makes a container and returns its id. @throws code name-conflict, image-missing, engine-unreachable, … */
  create(spec: ContainerSpec, signal?: AbortSignal): Promise<string>
  /**
   * Started already is success. Cannot be cancelled: the engine goes on with a start whose caller went away, and a removal
   * that comes into it can leave a process of which the engine knows no more.
   */
  start(id: string): Promise<void>
  /** Asks to end, kills after `graceMs`. Stopped or gone already is success. */
  stop(id: string, graceMs: number, signal?: AbortSignal): Promise<void>
  /** Kills and removes. Gone already is success. */
  remove(id: string, signal?: AbortSignal): Promise<void>
  /** @throws code not-found */
  inspect(id: string, signal?: AbortSignal): Promise<ListedContainer & { readonly pid: number }>
  /** All containers, running or not, that bear all of these labels. */
  list(labels: Readonly<Record<string, string>>, signal?: AbortSignal): Promise<readonly ListedContainer[]>
  /**
   * Events of containers with these labels since `since` (epoch ms); ends by an error when the connection is lost, or
   * when aborted.
   */
  events(labels: Readonly<Record<string, string>>, since: number, signal: AbortSignal): AsyncIterable<ContainerEvent>
  /** Output and error output of a container, as text. */
  logs(id: string, options: { follow: boolean; tail: number }, signal: AbortSignal): AsyncIterable<string>
  hasImage(image: string, signal?: AbortSignal): Promise<boolean>
  /** Makes an image out of the tar of a root file system. `changes` are Dockerfile lines. */
  importImage(
    tar: Readable,
    image: { name: string; tag: string; changes: readonly string[] },
    signal?: AbortSignal,
  ): Promise<void>
}

/** Milliseconds after which a call is given up: the engine may be busy, but not for ever. */
const DEADLINE_MS = 60_000

/** Connects lazily to the engine behind a unix socket. */
export function dockerEngine(socketPath: string): Engine {
  const docker = new Docker({ socketPath })
  const call = <T>(what: string, signal: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<T>) =>
    bounded(what, socketPath, signal, DEADLINE_MS, work)

  return {
    version: (signal) =>
      call('version', signal, async (abortSignal) => {
        // The typings do not know that it takes options.
        const typed = docker as unknown as { version(options: object): Promise<{ Version: string }> }
        return `Docker ${(await typed.version({ abortSignal })).Version}`
      }),
    create: (spec, signal) =>
      call(`create ${spec.name} of image ${spec.image}`, signal, async (abortSignal) => {
        // Without _query and _body the whole description would also be sent as the query of the URL.
        const request = { _query: { name: spec.name }, _body: describe(spec), abortSignal }
        return (await docker.createContainer(request as never)).id
      }),
    start: (id) =>
      call(`start ${id}`, undefined, (abortSignal) => docker.getContainer(id).start({ abortSignal })).then(
        () => {},
        unless('not-modified'),
      ),
    stop: (id, graceMs, signal) =>
      bounded(`stop ${id}`, socketPath, signal, DEADLINE_MS + graceMs, (abortSignal) =>
        docker.getContainer(id).stop({ t: Math.ceil(graceMs / 1000), abortSignal }),
      ).then(() => {}, unless('not-modified', 'not-found')),
    remove: (id, signal) =>
      call(`remove ${id}`, signal, (abortSignal) =>
        docker.getContainer(id).remove({ force: true, v: true, abortSignal }),
      ).then(() => {}, unless('not-found', 'removal-under-way')),
    inspect: (id, signal) =>
      call(`inspect ${id}`, signal, async (abortSignal) => {
        const c = await docker.getContainer(id).inspect({ abortSignal })
        return {
          id: c.Id,
          name: c.Name.replace(/^\//, ''),
          labels: c.Config.Labels ?? {},
          running: c.State.Running,
          namespaceOf: namespaceOf(c.HostConfig.NetworkMode),
          pid: c.State.Pid,
        }
      }),
    list: (labels, signal) =>
      call('list', signal, async (abortSignal) => {
        const found = await docker.listContainers({ all: true, filters: { label: filters(labels) }, abortSignal })
        return found.map((c) => ({
          id: c.Id,
          name: c.Names[0]?.replace(/^\//, '') ?? '',
          labels: c.Labels,
          running: c.State === 'running',
          namespaceOf: namespaceOf(c.HostConfig.NetworkMode),
        }))
      }),
    events: (labels, since, signal) => eventsOf(docker, socketPath, labels, since, signal),
    logs: (id, options, signal) => logsOf(docker, socketPath, id, options, signal),
    hasImage: (image, signal) =>
      call(`look for image ${image}`, signal, (abortSignal) =>
        docker.getImage(image).inspect({ abortSignal } as object),
      )
        .then(() => true, unless('not-found', 'image-missing'))
        .then((found) => found === true),
    importImage: (tar, image, signal) =>
      call(`import image ${image.name}:${image.tag}`, signal, async (abortSignal) => {
        const query = { repo: image.name, tag: image.tag, changes: [...image.changes], abortSignal }
        const answer = await docker.importImage(tar, query)
        for await (const chunk of answer) {
          const fault = /"error":"([^"]*)"/.exec(String(chunk))
          if (fault) throw new ContainerFailure('engine-failed', fault[1] ?? 'import failed', { retryable: true })
        }
      }),
  }
}

/** Docker's own description of a container. */
function describe(spec: ContainerSpec): Record<string, unknown> {
  const alone = spec.network === 'none'
  return {
    Image: spec.image,
    Labels: spec.labels,
    ...(spec.command ? { Cmd: spec.command } : {}),
    ...(spec.environment ? { Env: Object.entries(spec.environment).map(([k, v]) => `${k}=${v}`) } : {}),
    ...(spec.user ? { User: spec.user } : {}),
    ...(spec.stopGraceMs === 0 ? { StopSignal: 'SIGKILL' } : { StopTimeout: Math.ceil(spec.stopGraceMs / 1000) }),
    ...(spec.hostname ? { Hostname: spec.hostname } : {}),
    HostConfig: {
      NetworkMode: spec.network === 'none' ? 'none' : `container:${spec.network.namespaceOf}`,
      ...(spec.dns ? { Dns: spec.dns, DnsSearch: ['.'] } : {}),
      ...(spec.sysctls ? { Sysctls: spec.sysctls } : {}),
      // A name given to the engine (ExtraHosts) is refused for a container that joins a namespace.
      ...(spec.hostsFile ? { Binds: [`${spec.hostsFile}:/etc/hosts:ro`] } : {}),
      CapDrop: ['ALL'],
      CapAdd: spec.capabilities,
      SecurityOpt: ['no-new-privileges'],
      ReadonlyRootfs: spec.readOnly ?? false,
      Memory: spec.memoryBytes,
      PidsLimit: spec.pids,
      Init: false,
      // After a restart of the engine the sandbox must come first: we start them again, in order.
      RestartPolicy: { Name: 'no' },
      LogConfig: spec.keepOutput
        ? { Type: 'json-file', Config: { 'max-size': '10m', 'max-file': '2' } }
        : { Type: 'none', Config: {} },
      ...(alone ? { IpcMode: 'none' } : {}),
    },
  }
}

async function* eventsOf(
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
    let rest = ''
    for await (const chunk of stream.setEncoding('utf8')) {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines.filter((l) => l !== '')) {
        const event = JSON.parse(line) as { Action: string; Actor: { ID: string; Attributes: Record<string, string> } }
        yield { action: event.Action, id: event.Actor.ID, labels: event.Actor.Attributes }
      }
    }
  } catch (cause) {
    if (signal.aborted) throw signal.reason
    throw engineError('events', socketPath, cause)
  }
  throw engineError('events', socketPath, new Error('the engine ended the stream'))
}

async function* logsOf(
  docker: Docker,
  socketPath: string,
  id: string,
  options: { follow: boolean; tail: number },
  signal: AbortSignal,
): AsyncGenerator<string> {
  try {
    const query = { stdout: true, stderr: true, tail: options.tail, abortSignal: signal }
    if (!options.follow) {
      yield demultiplex(await docker.getContainer(id).logs({ ...query, follow: false }))
      return
    }
    const answer = (await docker.getContainer(id).logs({ ...query, follow: true })) as Readable
    const text = new PassThrough()
    docker.modem.demuxStream(answer, text, text)
    answer.on('end', () => text.end())
    answer.on('error', (error) => text.destroy(error))
    for await (const chunk of text.setEncoding('utf8')) yield chunk as string
  } catch (cause) {
    if (signal.aborted) throw signal.reason
    throw engineError(`logs of ${id}`, socketPath, cause)
  }
}

/** Text of a whole answer in the engine's frames: 8 bytes of header (stream, 0, 0, 0, big-endian length), then that many bytes. */
function demultiplex(answer: Buffer): string {
  const parts: Buffer[] = []
  for (let at = 0; at + 8 <= answer.length; ) {
    const length = answer.readUInt32BE(at + 4)
    parts.push(answer.subarray(at + 8, at + 8 + length))
    at += 8 + length
  }
  return Buffer.concat(parts).toString('utf8')
}

function filters(labels: Readonly<Record<string, string>>): string[] {
  return Object.entries(labels).map(([name, value]) => `${name}=${value}`)
}

function namespaceOf(networkMode: string | undefined): string | null {
  return networkMode?.startsWith('container:') ? networkMode.slice('container:'.length) : null
}

/** Lets these codes count as success. */
function unless(...codes: string[]): (error: unknown) => undefined {
  return (error) => {
    if (error instanceof ContainerFailure && codes.includes(error.code)) return undefined
    throw error
  }
}

/**
 * Runs one call with a deadline. The race is needed: when the engine dies in the middle of an answer, the client library's
 * promise stays pending for ever.
 */
async function bounded<T>(
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
