import { randomInt } from 'node:crypto'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import type { Clock } from '../../common/clock.ts'
import { InvalidInput, OrchestratorError, wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import type { Build } from '../domain/build.ts'
import type { HostName } from '../domain/host.ts'
import type { Store } from '../store/store.ts'
import { type Archives, openArchives } from './archives.ts'
import { baseImageOf, checkReference, generatedDockerfile } from './dockerfile.ts'
import { buildFolders } from './folders.ts'
import { pruneArchives, wantedImages } from './images.ts'
import { createBuildLogs } from './logs.ts'
import { type BuildHosts, createBuildQueue } from './queue.ts'
import { withRoom } from './room.ts'
import type { BuildSettings } from './settings.ts'
import { type GitSource, gitSourceWords, withGitTar } from './sources/git.ts'
import { makeContext, type SourceFormat } from './sources/source.ts'

/** Making images out of sources that people send, and keeping them for the hosts. */
export interface Builds {
  /**
   * Takes a packed source. Resolves when it is checked and waits to be built.
   * @throws SourceRefused, InvalidInput, OrchestratorError `too-many-builds`
   */
  fromArchive(
    given: { template: string; source: string; format: SourceFormat; base: string | null },
    body: Readable,
    signal: AbortSignal,
  ): Promise<Build>
  /** Takes a repository's URL; it is fetched later. @throws as {@link fromArchive} */
  fromGit(given: { template: string; git: GitSource; base: string | null }): Promise<Build>
  /** @returns false: it has ended, or there is no such build */
  cancel(id: string): boolean
  log(id: string, follow: boolean, signal: AbortSignal): AsyncIterable<string>
  /** Whether it was taken by this orchestrator, and not by another one on the same database. */
  isOurs(id: string): Promise<boolean>
  /** Path of the context of a build that this host makes now; null: it makes none of that id. */
  contextFor(id: string, host: HostName): string | null
  /** The image that this host makes now by that build; null: none. */
  imageFor(id: string, host: HostName): string | null
  readonly archives: Archives
  /** What hosts are to have, {@link wantedImages}. */
  wanted(): ReturnType<typeof wantedImages>
  /** A host has connected: it may build. */
  wake(host: HostName): void
  /** Removes archives and folders that nothing refers to, and what builds that have ended left. */
  prune(): Promise<void>
  stop(): Promise<void>
}

export interface BuildsOptions {
  readonly store: Store
  readonly hosts: BuildHosts
  /** The state directory: `builds` and `archives` in it are ours. */
  readonly directory: string
  readonly settings: BuildSettings
  readonly clock: Clock
  readonly log: Log
  /** Called when {@link Builds.wanted} may say something else. */
  readonly changed: () => void
}

/** Sources that are checked at once, and builds that may wait: each is some hundred megabytes on the disk. */
const MOST = { checks: 4, waiting: 100 } as const
const DAY_MS = 86_400_000
/** Hex digits of the context's hash that are the tag of its image: 64 bits. */
const HASH_DIGITS = 16
const TEMPLATE = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/

/** Begins; builds that an earlier run left go on. */
export async function startBuilds(options: BuildsOptions): Promise<Builds> {
  const { store, hosts, directory, settings, clock, log, changed } = options
  const folders = buildFolders(join(directory, 'builds'))
  const logs = createBuildLogs(folders.log)
  const archives = await openArchives({
    directory: join(directory, 'archives'),
    mostBytes: settings['builds.most-image-bytes'],
    now: clock.now,
  })
  const registry = settings['builds.registry']
  const mostMs = settings['builds.most-seconds'] * 1000
  const mostLogBytes = settings['builds.most-log-bytes']
  const queue = createBuildQueue({
    ...{ store, hosts, archives, folders, logs, clock, log },
    settings: { host: settings['builds.host'], registry, mostMs, mostLogBytes },
    built: changed,
  })
  const limits = {
    packedBytes: settings['builds.most-packed-bytes'],
    unpackedBytes: settings['builds.most-unpacked-bytes'],
    entries: settings['builds.most-files'],
  }
  const protocols = settings['builds.protocols']
  /** Builds whose source is being checked. */
  const checking = new Set<string>()

  const admit = async (template: string, base: string | null): Promise<{ build: Build; dockerfile: string | null }> => {
    if (!TEMPLATE.test(template)) throw new InvalidInput('template', 'expected a DNS label: a-z, 0-9, -')
    const dockerfile = base === null ? null : generatedDockerfile(await baseImage(base))
    if (checking.size >= MOST.checks || queue.size >= MOST.waiting) {
      throw new OrchestratorError(
        'too-many-builds',
        `${queue.size} builds wait, and ${checking.size} sources are being checked; try later`,
        { retryable: true },
      )
    }
    const now = clock.now()
    const fresh = { state: 'waiting', host: null, image: null, error: null, createdAt: now, updatedAt: now } as const
    return { build: { id: newId(), template, source: '', ...fresh }, dockerfile }
  }

  const baseImage = async (base: string): Promise<string> => {
    const found = /^([a-z0-9-]{1,63})(?:@(\w+))?$/.exec(base)
    const head = (await store.heads()).find(({ name }) => name === found?.[1])
    if (head === undefined) {
      if (/[:/]/.test(base)) return checkReference('base', base)
      throw new InvalidInput('base', `there is no template ${base}; an image is named with its tag, such as ${base}:1`)
    }
    const version = found?.[2]
    const template = (await store.templates()).find(
      (t) => t.name === head.name && [t.version, String(t.number)].includes(version ?? head.version),
    )
    if (template === undefined) throw new InvalidInput('base', `template ${head.name} has no version ${version}`)
    return baseImageOf(template)
  }

  const imageName = (template: string, hash: string) =>
    `${registry === null ? '' : `${registry}/`}orchestrator/${template}:${hash.slice(0, HASH_DIGITS)}`

  /** Makes and seals the context. @returns the image's name */
  const prepare = async (
    build: Build,
    input: Readable,
    format: SourceFormat,
    dockerfile: string | null,
    signal: AbortSignal,
  ): Promise<string> => {
    const folder = await folders.make(build.id)
    const how = { format, directory: folder, limits, dockerfile }
    const context = await withRoom(directory, () => makeContext(input, how, signal))
    const image = imageName(build.template, context.hash)
    await folders.seal(build.id, image)
    return image
  }

  const prune = async () => {
    const gone = await pruneArchives(store, archives, settings['builds.keep-days'] * DAY_MS, clock.now())
    if (gone.length > 0) {
      log.info('archives.pruned', `removed ${gone.length} images that nothing refers to`, { images: gone.join(' ') })
      changed()
    }
    for (const id of await folders.all()) {
      if (!queue.isOpen(id) && !checking.has(id)) await queue.tidy(id)
    }
  }

  await queue.start()
  await prune().catch((error) => log.error('builds.prune', wording(error)))

  return {
    async fromArchive({ template, source, format, base }, body, signal) {
      const { build, dockerfile } = await admit(template, base)
      checking.add(build.id)
      let discard = folders.remove
      try {
        await prepare(build, body, format, dockerfile, signal)
        const waiting = { ...build, source }
        // A store that fails may have taken it all the same: the folder is kept as the sign that it is ours.
        discard = folders.strip
        await queue.add(waiting)
        return waiting
      } catch (error) {
        await discard(build.id)
        throw error
      } finally {
        checking.delete(build.id)
      }
    },
    async fromGit({ template, git, base }) {
      const words = gitSourceWords(git, protocols)
      const { build, dockerfile } = await admit(template, base)
      const waiting = { ...build, source: words }
      await queue.add(waiting, async (signal) => {
        const say = (line: string) => {
          logs.note(build.id, line).catch((error) => log.warn('build.log', wording(error), { build: build.id }))
        }
        const directory = folders.repository(build.id)
        say(`fetching ${words}`)
        const how = { directory, protocols, mostBytes: limits.packedBytes, say }
        return await withGitTar(git, how, signal, (tar) => prepare(build, tar, 'tar', dockerfile, signal))
      })
      return waiting
    },
    cancel: queue.cancel,
    log: logs.read,
    isOurs: folders.has,
    contextFor: (id, host) => (queue.underWay(id, host) === null ? null : folders.context(id)),
    imageFor: (id, host) => queue.underWay(id, host)?.image ?? null,
    archives,
    wanted: () => wantedImages(store, archives),
    wake: queue.wake,
    prune,
    stop: queue.stop,
  }
}

/** `b-` and 10 of a-z and 0-9: 51 bits of chance. */
function newId(): string {
  const signs = '0123456789abcdefghijklmnopqrstuvwxyz'
  return `b-${Array.from({ length: 10 }, () => signs[randomInt(signs.length)]).join('')}`
}
