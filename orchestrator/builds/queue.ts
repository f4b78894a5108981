import type { Clock } from '../../common/clock.ts'
import { HostUnreachable, OrchestratorError, wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import type { Build } from '../domain/build.ts'
import type { HostName } from '../domain/host.ts'
import type { Store } from '../store/store.ts'
import type { Archives } from './archives.ts'
import type { BuildFolders } from './folders.ts'
import type { BuildLogs } from './logs.ts'

/** What a host is asked to build; its context is fetched from us. */
export interface BuildOrder {
  readonly build: string
  readonly image: string
  readonly arguments: Record<string, string>
  /** To a registry; else its archive is put to us. */
  readonly push: boolean
  readonly mostMs: number
  readonly mostLogBytes: number
}

/** The hosts as builds need them. Yields what the build prints; rejects with HostUnreachable, or with why it failed. */
export interface BuildHosts {
  /** Those that may be asked now, by this orchestrator. */
  connected(): readonly HostName[]
  build(host: HostName, order: BuildOrder, signal: AbortSignal): AsyncIterable<string>
}

export interface QueueOptions {
  readonly store: Pick<Store, 'transaction' | 'builds' | 'build'>
  readonly hosts: BuildHosts
  readonly archives: Pick<Archives, 'of' | 'renew'>
  readonly folders: BuildFolders
  readonly logs: BuildLogs
  readonly settings: {
    readonly host: string | null
    readonly registry: string | null
    readonly mostMs: number
    readonly mostLogBytes: number
  }
  readonly clock: Clock
  readonly log: Log
  /** Called when an image has come to be. */
  readonly built: (image: string) => void
}

/** Builds one after the other on each host, in the order in which they came. */
export interface BuildQueue {
  /** Takes up what an earlier run of this orchestrator left; never what another one on the same database has. */
  start(): Promise<void>
  /** What is there of a build of ours that is not open here: removed, but for the log of one that the store knows. */
  tidy(id: string): Promise<void>
  /**
   * Puts a build in. @param fetch makes its context, where that is yet to be done, and resolves with the image's name;
   * else the context is there and sealed. When the store fails, nothing of it is left in the queue
   */
  add(build: Build, fetch?: (signal: AbortSignal) => Promise<string>): Promise<void>
  /** Ends a build that waits or is under way. @returns false: there is no such */
  cancel(id: string): boolean
  /** The build that this host makes now, if that is the one. */
  underWay(id: string, host: HostName): { readonly image: string } | null
  /** Whether it waits or is under way. */
  isOpen(id: string): boolean
  /** How many wait or are under way. */
  readonly size: number
  /** A host has connected: looks again. */
  wake(host: HostName): void
  /** Resolves when nothing is under way; what was begins anew at the next start. */
  stop(): Promise<void>
}

interface Entry {
  build: Build
  /** The image that it makes; null: its context is yet to be fetched. */
  image: string | null
  readonly fetch: ((signal: AbortSignal) => Promise<string>) | null
  readonly over: AbortController
  /** What is done at present; `entering`: the store has yet to take it. */
  step: 'entering' | 'waiting' | 'fetching' | 'building'
  attempts: number
  done: Promise<void>
}

/** How often a build is begun whose host is lost in the middle of it. */
const ATTEMPTS = 3
/** Milliseconds that a host has to say that it ended a build that took too long. */
const ANSWER_MS = 30_000
/** Milliseconds until a step is tried again that the store or the disk did not allow. */
const AGAIN_MS = 10_000
/** Builds that are looked at after a start. */
const LOOK_BACK = 10_000
/** Repositories fetched at once. */
const FETCHES = 2

class Stopping extends Error {}

export function createBuildQueue(options: QueueOptions): BuildQueue {
  const { store, hosts, archives, folders, logs, settings, clock, log, built } = options
  const entries = new Map<string, Entry>()
  const stopping = new AbortController()
  /** Hosts whose connection ended while they built, and may still look connected, until they connect. */
  const lost = new Set<HostName>()
  /** How often each host has connected. */
  const connections = new Map<HostName, number>()

  const put = async (entry: Entry, change: Partial<Build>) => {
    const build = { ...entry.build, ...change, updatedAt: clock.now() }
    await store.transaction(async (tx) => {
      await tx.putBuild(build)
      const { id, state, template, host, error, image } = build
      if (state !== 'done' && state !== 'failed') return
      const message =
        state === 'done' ? `build ${id} of ${template} made ${image}` : `build ${id} of ${template} failed: ${error}`
      const level = state === 'done' ? 'info' : 'warning'
      await tx.appendEvent({ level, kind: `build.${state}`, message, ...(host === null ? {} : { host }) }, clock.now())
    })
    entry.build = build
  }

  const finish = async (entry: Entry, change: Pick<Build, 'state'> & Partial<Build>) => {
    const { id } = entry.build
    if (change.error) await logs.note(id, `failed: ${change.error}`)
    if (change.image) await logs.note(id, `the image is ${change.image}`)
    // Before its context goes: after a crash between the two it has ended, and is not lost. What is left prune() takes.
    await put(entry, change)
    entries.delete(id)
    logs.end(id)
    if (change.image) built(change.image)
    await folders.strip(id).catch((error) => log.warn('build.not-stripped', wording(error), { build: id }))
  }

  const failed = async (entry: Entry, error: unknown) => {
    if (stopping.signal.aborted) return
    log.warn('build.failed', `build ${entry.build.id} failed`, { error: wording(error) })
    await finish(entry, { state: 'failed', error: wording(error) })
  }

  const fetched = async (entry: Entry, fetch: (signal: AbortSignal) => Promise<string>) => {
    try {
      entry.image = await fetch(AbortSignal.any([entry.over.signal, tooLong(settings.mostMs)]))
      entry.step = 'waiting'
    } catch (error) {
      await failed(entry, error)
    }
  }

  const make = async (entry: Entry, host: HostName, image: string) => {
    const { id } = entry.build
    const { mostMs, mostLogBytes, registry } = settings
    const order = { build: id, image, arguments: {}, push: registry !== null, mostMs, mostLogBytes }
    const full = new AbortController()
    const before = connections.get(host)
    try {
      await put(entry, { state: 'building', host })
      await logs.note(id, `host ${host} builds ${image}`)
      const signal = AbortSignal.any([entry.over.signal, full.signal, tooLong(mostMs + ANSWER_MS)])
      for await (const text of hosts.build(host, order, signal)) {
        if (await logs.print(id, text)) continue
        full.abort(
          new OrchestratorError('log-too-long', `it printed more than ${mostLogBytes} bytes (builds.most-log-bytes)`),
        )
      }
      full.signal.throwIfAborted()
      if (registry === null && archives.of(image) === null) {
        throw new OrchestratorError('archive-missing', `host ${host} built the image, but its archive did not come`)
      }
    } catch (error) {
      // What it printed may have been written for so long that the host is back by now: then nobody would wake us again.
      if (error instanceof HostUnreachable && connections.get(host) === before) lost.add(host)
      if (!(error instanceof HostUnreachable) || ++entry.attempts >= ATTEMPTS || entry.over.signal.aborted) {
        await failed(entry, error)
      } else if (!stopping.signal.aborted) {
        await logs.note(id, `${wording(error)}; it begins anew`)
        await put(entry, { state: 'waiting', host: null })
        entry.step = 'waiting'
      }
      return
    }
    await finish(entry, { state: 'done', image })
  }

  const repeat = async (entry: Entry, image: string) => {
    try {
      if (!(await archives.renew(image))) {
        entry.step = 'waiting' // it was removed meanwhile
        return
      }
    } catch (error) {
      return await failed(entry, error)
    }
    await logs.note(entry.build.id, 'the same source was built before')
    await finish(entry, { state: 'done', image })
  }

  /** A step of a build, and then a look for the next ones. */
  const begin = (entry: Entry, step: Entry['step'], work: () => Promise<void>) => {
    entry.step = step
    entry.done = work().then(look, (error) => {
      log.error('build.broken', `build ${entry.build.id} could not go on and is tried again: ${wording(error)}`)
      void clock.wait(AGAIN_MS, stopping.signal).then(
        () => {
          entry.step = 'waiting'
          look()
        },
        () => {}, // stopping: the next start takes it up
      )
    })
  }

  /** Begins whatever can be begun. */
  const look = () => {
    if (stopping.signal.aborted) return
    const free = hosts.connected().filter((name) => (settings.host ?? name) === name && !lost.has(name))
    const all = [...entries.values()]
    const busy = new Set<string | null>(all.filter((e) => e.step === 'building').map((e) => e.build.host))
    const making = new Set(all.filter((e) => e.step === 'building').map((e) => e.image))
    let fetching = all.filter((e) => e.step === 'fetching').length
    for (const entry of all.filter((e) => e.step === 'waiting')) {
      const { image, fetch } = entry
      if (entry.over.signal.aborted) begin(entry, 'building', () => failed(entry, entry.over.signal.reason))
      else if (image === null && fetch !== null) {
        if (fetching++ < FETCHES) begin(entry, 'fetching', () => fetched(entry, fetch))
      } else if (image !== null && settings.registry === null && archives.of(image) !== null) {
        begin(entry, 'building', () => repeat(entry, image))
      } else if (image !== null && !making.has(image)) {
        const host = free.find((name) => !busy.has(name))
        if (host === undefined) continue
        busy.add(host)
        making.add(image)
        entry.build = { ...entry.build, host }
        begin(entry, 'building', () => make(entry, host, image))
      }
    }
  }

  const take = (build: Build, image: string | null, fetch: Entry['fetch']): Entry => {
    const over = new AbortController()
    stopping.signal.addEventListener('abort', () => over.abort(stopping.signal.reason), { signal: over.signal })
    const entry: Entry = { build, image, fetch, over, step: 'entering', attempts: 0, done: Promise.resolve() }
    entries.set(build.id, entry)
    logs.begin(build.id, settings.mostLogBytes)
    return entry
  }

  /** Has the store take it. @throws what that throws; it is not in the queue then */
  const enter = async (entry: Entry, work: () => Promise<void>) => {
    try {
      await work()
      entry.step = 'waiting'
    } catch (error) {
      entries.delete(entry.build.id)
      logs.end(entry.build.id)
      throw error
    }
  }

  const takeUp = async (build: Build) => {
    const { id } = build
    const image = await folders.sealed(id)
    const entry = take({ ...build, state: 'waiting', host: null }, image, null)
    await enter(entry, async () => {
      if (image === null) {
        const why = 'the orchestrator was restarted, or its store failed, before the source was there; build it again'
        return await failed(entry, new OrchestratorError('build-lost', why))
      }
      await logs.note(id, 'the orchestrator was restarted; the build begins anew')
      await put(entry, {})
    })
  }

  return {
    async start() {
      const ours = new Set(await folders.all())
      const rows = (await store.builds({ limit: LOOK_BACK })).filter(
        ({ id, state }) => ours.has(id) && isUnended(state),
      )
      for (const row of rows.reverse()) await takeUp(row)
      look()
    },
    async tidy(id) {
      const build = await store.build(id)
      if (build === null) return await folders.remove(id)
      await folders.strip(id)
      // The store took it in, though it said that it failed: its source is gone.
      if (isUnended(build.state)) await takeUp(build)
    },
    async add(build, fetch) {
      const image = fetch === undefined ? await folders.sealed(build.id) : null
      const entry = take(build, image, fetch ?? null)
      await enter(entry, async () => {
        await folders.make(build.id)
        await put(entry, {})
      })
      look()
    },
    cancel(id) {
      const entry = entries.get(id)
      entry?.over.abort(new OrchestratorError('build-cancelled', 'it was cancelled'))
      look()
      return entry !== undefined
    },
    underWay(id, host) {
      const entry = entries.get(id)
      const isThis = entry?.step === 'building' && entry.build.host === host && entry.image !== null
      return isThis ? { image: entry.image ?? '' } : null
    },
    isOpen: (id) => entries.has(id),
    get size() {
      return entries.size
    },
    wake(host) {
      connections.set(host, (connections.get(host) ?? 0) + 1)
      lost.delete(host)
      look()
    },
    async stop() {
      stopping.abort(new Stopping('the orchestrator stops'))
      await Promise.all([...entries.values()].map(({ done }) => done))
      for (const id of entries.keys()) logs.end(id)
    },
  }
}

function isUnended(state: Build['state']): boolean {
  return state === 'waiting' || state === 'building'
}

/** Aborts after that time, saying so. */
function tooLong(ms: number): AbortSignal {
  const over = new AbortController()
  const seconds = Math.round(ms / 1000)
  const reason = new OrchestratorError('build-too-long', `it took more than ${seconds} s (builds.most-seconds)`)
  setTimeout(() => over.abort(reason), ms).unref()
  return over.signal
}
