/** What the engine's health checks say; `none`: it has none. */
export type Health = 'none' | 'starting' | 'healthy' | 'unhealthy'

/** A container as the engine lists it. */
export interface ListedContainer {
  readonly id: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly running: boolean
  /** Id of the container whose network namespace it uses; null: its own. */
  readonly namespaceOf: string | null
  /** Of its last end; null: it runs, or never ran. */
  readonly exitCode: number | null
  readonly health: Health
}

/** A container in all detail. Times are epoch ms; null: it never was. */
export interface InspectedContainer extends ListedContainer {
  readonly pid: number
  readonly startedAt: number | null
  readonly finishedAt: number | null
  /** What the last health check said, as the engine keeps it (4 KiB at most); '': nothing. */
  readonly healthOutput: string
}

/** One event of a container of ours. */
export interface ContainerEvent {
  readonly action: string
  readonly id: string
  readonly labels: Readonly<Record<string, string>>
}

/** What is at a path inside a container, links not followed. */
export interface PathStat {
  readonly kind: 'file' | 'directory' | 'link' | 'other'
  /** Bytes. */
  readonly size: number
  /** As the engine writes it, to the nanosecond. */
  readonly modifiedAt: string
}

/** One entry of the engine's list (Engine API 1.41, ContainerList). */
interface Entry {
  readonly Id: string
  readonly Names: readonly string[]
  readonly Labels: Readonly<Record<string, string>>
  readonly State: string
  readonly Status: string
  readonly HostConfig: { readonly NetworkMode?: string | undefined }
}

/** What the engine says of one container (Engine API 1.41, ContainerInspect). */
interface Inspection {
  readonly Id: string
  readonly Name: string
  readonly Config: { readonly Labels?: Readonly<Record<string, string>> }
  readonly HostConfig: { readonly NetworkMode?: string | undefined }
  readonly State: {
    readonly Running: boolean
    readonly Pid: number
    readonly ExitCode: number
    readonly StartedAt: string
    readonly FinishedAt: string
    readonly Health?: { readonly Status: string; readonly Log?: readonly { readonly Output: string }[] } | undefined
  }
}

export function listed(c: Entry): ListedContainer {
  return {
    id: c.Id,
    name: c.Names[0]?.replace(/^\//, '') ?? '',
    labels: c.Labels,
    running: c.State === 'running',
    namespaceOf: namespaceOf(c.HostConfig.NetworkMode),
    ...standingOf(c.Status),
  }
}

/**
 * How a container stands, from the words of the engine's list: `Exited (1) 2 minutes ago`, `Up 3 hours (unhealthy)`,
 * `Up 1 second (health: starting)` (moby, container/state.go and container/health.go).
 */
function standingOf(status: string): Pick<ListedContainer, 'exitCode' | 'health'> {
  const exit = /^Exited \((\d+)\)/.exec(status)?.[1]
  const health = /^Up .*\((?:health: )?(starting|healthy|unhealthy)\)$/.exec(status)?.[1] as Health | undefined
  return { exitCode: exit === undefined ? null : Number(exit), health: health ?? 'none' }
}

export function inspected(c: Inspection): InspectedContainer {
  const { State: state } = c
  const startedAt = epochMs(state.StartedAt)
  return {
    id: c.Id,
    name: c.Name.replace(/^\//, ''),
    labels: c.Config.Labels ?? {},
    running: state.Running,
    namespaceOf: namespaceOf(c.HostConfig.NetworkMode),
    pid: state.Pid,
    exitCode: state.Running || startedAt === null ? null : state.ExitCode,
    health: state.Running ? ((state.Health?.Status as Health | undefined) ?? 'none') : 'none',
    startedAt,
    finishedAt: epochMs(state.FinishedAt),
    healthOutput: state.Health?.Log?.at(-1)?.Output ?? '',
  }
}

/** The engine writes the first day of the year 1 for what never was. */
function epochMs(time: string): number | null {
  const ms = Date.parse(time)
  return ms > 0 ? ms : null
}

function namespaceOf(networkMode: string | undefined): string | null {
  return networkMode?.startsWith('container:') ? networkMode.slice('container:'.length) : null
}

/** Bits of a file's mode in Go (io/fs, ModeDir, ModeSymlink, ModeType): others than those of POSIX. */
const GO_MODE = { directory: 2 ** 31, link: 2 ** 27, types: 0x8f28_0000 }

/** Reads the header X-Docker-Container-Path-Stat: base64 of JSON (Engine API 1.41, ContainerArchiveInfo). */
export function pathStatOf(header: string): PathStat {
  const stat = JSON.parse(Buffer.from(header, 'base64').toString('utf8')) as {
    readonly size: number
    readonly mode: number
    readonly mtime: string
  }
  const has = (bits: number) => (BigInt(stat.mode) & BigInt(bits)) !== 0n
  const kind = has(GO_MODE.directory) ? 'directory' : has(GO_MODE.link) ? 'link' : has(GO_MODE.types) ? 'other' : 'file'
  return { kind, size: stat.size, modifiedAt: stat.mtime }
}

/** One line of the engine's events (Engine API 1.41, SystemEvents). */
export function eventOf(line: unknown): ContainerEvent {
  const event = line as { Action: string; Actor: { ID: string; Attributes: Record<string, string> } }
  return { action: event.Action, id: event.Actor.ID, labels: event.Actor.Attributes }
}

/**
 * Text of a whole log in the engine's frames: 8 bytes of header (stream, 0, 0, 0, big-endian length), then that many
 * bytes. That of a terminal has no frames.
 */
export function logText(answer: Buffer, terminal: boolean): string {
  if (terminal) return answer.toString('utf8')
  const parts: Buffer[] = []
  for (let at = 0; at + 8 <= answer.length; ) {
    const length = answer.readUInt32BE(at + 4)
    parts.push(answer.subarray(at + 8, at + 8 + length))
    at += 8 + length
  }
  return Buffer.concat(parts).toString('utf8')
}
