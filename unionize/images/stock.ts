import { randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { OrchestratorError, wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import { unlessAborted } from '../../common/unless-aborted.ts'
import { archivePath, type WireWantedImage } from '../contract.ts'
import type { Engine } from '../engine/containers.ts'
import { ContainerFailure } from '../engine/failure.ts'
import { checkArchive, writeHashed } from './archive.ts'
import { credentialsFor, registryOf } from './credentials.ts'
import type { ImageEngine } from './engine.ts'
import type { OrchestratorFiles } from './orchestrator.ts'
import type { ImageRecord } from './record.ts'

type Level = 'info' | 'warning' | 'error'

/** The images that this host keeps ready. */
export interface ImageStock {
  /**
   * Fetches an image, from the orchestrator if that said that it has it, else from its registry. One that the
   * orchestrator has, and that is here, is what it always was: nothing is fetched.
   * @throws code pull-failed
   */
  readonly pull: Engine['pull']
  /**
   * Makes these the images that are to be here: fetches what is missing, and takes away what came by us and is neither
   * wanted nor used. A later call takes the place of an earlier one.
   * @throws code images-missing when some of them cannot be had, `replaced`, or the signal's reason
   */
  keep(wanted: readonly WireWantedImage[], signal: AbortSignal): Promise<void>
  /** Takes away what is not needed any more; nothing as long as nobody has said by {@link keep} what is. */
  prune(): Promise<void>
  /** Ends what is being fetched. */
  stop(): Promise<void>
}

export interface ImageStockParts {
  readonly engine: ImageEngine
  readonly orchestrator: Pick<OrchestratorFiles, 'get'>
  readonly record: ImageRecord
  /** For archives on their way. */
  readonly directory: string
  /** Docker's config.json with the names and passwords of registries; null: none. */
  readonly credentialsFile: string | null
  /** Milliseconds that an image stays after it was last asked for, though nothing wants or uses it. */
  readonly keepMs: number
  readonly log: Log
  readonly notice: (level: Level, code: string, message: string) => void
  readonly now: () => number
}

/** Images fetched at once: more only share the same line. */
const PARALLEL = 2
/** Milliseconds between the attempts of one call. */
const PAUSES_MS = [1_000, 5_000] as const
/** Names that only we give; in Docker's own registry they would be somebody else's. */
const OURS = /^orchestrator\//

export function createImageStock(parts: ImageStockParts): ImageStock {
  const { engine, orchestrator, record, directory, credentialsFile, keepMs, log, notice, now } = parts
  /** null: not told since we run. */
  let wanted: ReadonlyMap<string, WireWantedImage['from']> | null = null
  let keeping: AbortController | null = null
  const stopping = new AbortController()
  const underWay = new Map<string, Promise<string | null>>()
  /** What was told of an image: once until it is there. */
  const told = new Map<string, string>()
  /** Images on their way, each with how many fetch it, and whether it is ours also when they fail. */
  const arrivals = new Map<string, { fetching: number; ours: boolean }>()

  /** Notes that an image comes by us before it is here: after a crash nothing else would tell. What does not come is forgotten. */
  const coming = async (image: string, how: 'pulled' | 'loaded', work: () => Promise<void>): Promise<void> => {
    const arrival = arrivals.get(image) ?? { fetching: 0, ours: record.all().has(image) }
    arrivals.set(image, arrival)
    arrival.fetching++
    try {
      await record.put(image, { how, at: now() })
      await work()
      arrival.ours = true
    } finally {
      arrival.fetching--
      if (arrival.fetching === 0) {
        arrivals.delete(image)
        if (!arrival.ours) await record.forget(image)
      }
    }
  }

  const load = async (image: string, from: { sha256: string; bytes: number }, signal: AbortSignal): Promise<void> => {
    await mkdir(directory, { recursive: true, mode: 0o700 })
    const file = join(directory, `${randomUUID()}.tar`)
    try {
      const stream = await orchestrator.get(archivePath(from.sha256), signal)
      const { sha256 } = await writeHashed(stream, file, from.bytes, signal)
      if (sha256 !== from.sha256) {
        throw new ContainerFailure('pull-failed', `the archive of ${image} came damaged`, { retryable: true })
      }
      await checkArchive(file, image, signal)
      await coming(image, 'loaded', () => engine.load(createReadStream(file), signal))
    } finally {
      await rm(file, { force: true })
    }
  }

  const pull: Engine['pull'] = async (image, options, signal) => {
    const from = wanted?.get(image)
    if (from?.kind === 'archive') {
      if ((await engine.find(image, signal)) !== null) return
      return await load(image, from, signal ?? new AbortController().signal)
    }
    if (OURS.test(image) && registryOf(image) === null) {
      const remedy = 'build it ("orctl template build"), or load it on this host'
      throw new ContainerFailure('pull-failed', `image ${image} is in no registry: ${remedy}`, { retryable: false })
    }
    // What was here before us, and is still meant by that name, is somebody else's.
    const ours = record.all().has(image) || (await engine.find(image, signal)) === null
    const credentials = await credentialsFor(image, credentialsFile)
    const fetch = () =>
      engine.pull(image, { ...options, ...(credentials === undefined ? {} : { credentials }) }, signal)
    await (ours ? coming(image, 'pulled', fetch) : fetch())
  }

  /** @returns why it is not there; null: it is */
  const fetch = async (image: string): Promise<string | null> => {
    const { signal } = stopping
    for (let attempt = 0; ; attempt++) {
      try {
        record.touch(image, now())
        if ((await engine.find(image, signal)) !== null) return null
        const begun = now()
        await pull(image, { progress: (status) => log.debug('image.progress', status, { image }) }, signal)
        notice('info', 'image-fetched', `image ${image} is here, after ${((now() - begun) / 1000).toFixed(1)} s`)
        told.delete(image)
        return null
      } catch (error) {
        signal.throwIfAborted()
        const why = wording(error, 500)
        const pause = PAUSES_MS[attempt]
        if (pause === undefined || (error instanceof OrchestratorError && !error.retryable)) {
          if (told.get(image) !== why) notice('warning', 'image-missing', why)
          told.set(image, why)
          return why
        }
        await wait(pause, undefined, { signal }).catch(() => {})
        signal.throwIfAborted()
      }
    }
  }

  /** Who asks again, or for other images, does not begin anew what is on its way. */
  const fetched = (image: string): Promise<string | null> => {
    const running = underWay.get(image) ?? fetch(image).finally(() => underWay.delete(image))
    underWay.set(image, running)
    running.catch(() => {}) // told to whoever waits
    return running
  }

  const prune = async (signal?: AbortSignal): Promise<void> => {
    if (wanted === null) return
    const needed = wanted
    const surplus = [...record.all()].filter(([image, { at }]) => !needed.has(image) && at <= now() - keepMs)
    if (surplus.length === 0) return
    const used = await engine.used(signal)
    for (const [image] of surplus) {
      const found = await engine.find(image, signal)
      if (wanted.has(image) || arrivals.has(image)) continue // meanwhile
      if (found !== null && used.has(found.id)) continue
      if (found !== null && !(await engine.remove(image, signal))) continue
      await record.forget(image)
      log.info('image.removed', 'took away an image that nothing needs', { image })
    }
  }

  return {
    pull,
    async keep(images, signal) {
      const over = new AbortController()
      keeping?.abort(new OrchestratorError('replaced', 'other images are wanted by now', { retryable: true }))
      keeping = over
      const these = new Map(images.map(({ image, from }) => [image, from]))
      wanted = these
      const either = AbortSignal.any([signal, over.signal])
      const waiting = [...these.keys()]
      const faults: string[] = []
      const work = async () => {
        for (let image = waiting.shift(); image !== undefined; image = waiting.shift()) {
          const fault = await unlessAborted(fetched(image), either)
          if (fault !== null) faults.push(fault)
        }
      }
      await Promise.all(Array.from({ length: PARALLEL }, work))
      await prune(either)
      if (faults.length === 0) return
      const most = faults.slice(0, 3).join('; ')
      throw new OrchestratorError('images-missing', `${faults.length} of ${these.size} images are not here: ${most}`, {
        retryable: true,
      })
    },
    prune: () => prune(),
    async stop() {
      stopping.abort(new OrchestratorError('stopping', 'unionize is stopping', { retryable: true }))
      await Promise.allSettled(underWay.values())
    },
  }
}
