import { OrchestratorError } from '../../common/errors.ts'

/** What the Docker engine refused or failed to do. */
export class ContainerFailure extends OrchestratorError {}

/** Whether the engine failed in this way. */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof ContainerFailure && error.code === code
}

/** Codes of failures after which it may have been done all the same. */
const UNCLEAR: readonly string[] = ['engine-unreachable', 'engine-failed', 'start-raced']

/** Whether the engine itself said no: after a lost connection, a cancel or a deadline it may have done it all the same. */
export function isRefusal(error: unknown): boolean {
  return error instanceof OrchestratorError && !UNCLEAR.includes(error.code)
}

/**
 * What a start says of a container whose task, shim or runc state outlived a killed engine that no longer knows of it:
 * containerd's "task ID: already exists", its shim's "mkdir …: file exists", runc's "container with given ID already exists",
 * the engine's own "id already in use" (moby, libcontainerd).
 */
const KILLED_TRACES = /\b((already|file) exists|id already in use)\b/i

/** What a start says of a container whose removal a killed engine had begun (moby, daemon/start.go): "dead" in lists. */
const HALF_REMOVED = /marked for removal/i

/** What runc says now and then of a container that nobody else starts or stops; the next start finds it as it should be. */
const START_RACED = /cannot start (an already running container|a (stopped|container that has stopped)\b)/i

/** What a creation says when the image of that name is there, but for another platform (moby, daemon/images). */
const OTHER_PLATFORM = /does not match the specified platform|does not provide the specified platform/i

/** What dockerode throws: an HTTP status, or a system error without one. */
interface EngineAnswer {
  readonly statusCode?: number
  readonly code?: string
  readonly message?: string
  readonly json?: { readonly message?: string } | string
}

/**
 * Gives an engine's failure its code: `engine-unreachable`, `image-missing`, `not-found`, `name-conflict`,
 * `removal-under-way`, `not-modified`, `not-startable` (this container never will be again), `start-raced` (it will be at
 * once), `engine-refused` (a request that will be refused again) or `engine-failed`.
 */
export function engineError(what: string, socketPath: string, cause: unknown): ContainerFailure {
  const answer = (typeof cause === 'object' && cause !== null ? cause : {}) as EngineAnswer
  const said =
    typeof answer.json === 'object' && answer.json?.message ? answer.json.message : (answer.message ?? String(cause))
  const status = answer.statusCode
  if (status === undefined) return unreachable(what, socketPath, answer, cause)
  const failure = (code: string, message: string, retryable = false) =>
    new ContainerFailure(code, message, { retryable, cause })
  if (status === 304) return failure('not-modified', `${what}: nothing to do`)
  if (status === 404 && /no such image/i.test(said)) {
    const image = /no such image: (\S+)/i.exec(said)?.[1] ?? 'the image'
    const remedy = `load it with "docker pull ${image}" or "docker load", or correct the template`
    return failure('image-missing', `image ${image} is not on this host: ${remedy}`)
  }
  if (status === 404 && OTHER_PLATFORM.test(said)) return failure('image-missing', `${what}: ${said}`)
  if (status === 404) return failure('not-found', `${what}: ${said}`)
  if (status === 409 && /already in use/i.test(said)) return failure('name-conflict', `${what}: ${said}`)
  if (status === 409 && /removal of container .* is already in progress/i.test(said)) {
    return failure('removal-under-way', `${what}: ${said}`, true)
  }
  if ((status >= 500 && KILLED_TRACES.test(said)) || (status === 409 && HALF_REMOVED.test(said))) {
    return failure(
      'not-startable',
      `${what}: the engine was killed while it had to do with it; it must be made anew`,
      true,
    )
  }
  if (status >= 500 && START_RACED.test(said)) return failure('start-raced', `${what} failed: ${said}`, true)
  if (status === 409 || status >= 500) return failure('engine-failed', `${what} failed: ${said}`, true)
  return failure('engine-refused', `the engine refused to ${what}: ${said}`)
}

function unreachable(what: string, socketPath: string, answer: EngineAnswer, cause: unknown): ContainerFailure {
  const hint =
    answer.code === 'EACCES'
      ? `; this user may not open ${socketPath}: put it into the group that owns the socket`
      : answer.code === 'ENOENT' || answer.code === 'ECONNREFUSED'
        ? `; is the Docker engine running, and is docker.socket (${socketPath}) right?`
        : ''
  return new ContainerFailure(
    'engine-unreachable',
    `the Docker engine does not answer (${what}): ${answer.message ?? String(cause)}${hint}`,
    { retryable: true, cause },
  )
}
