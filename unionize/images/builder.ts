import { randomUUID } from 'node:crypto'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { OrchestratorError, wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import { archivePath, contextPath, type ToHost } from '../contract.ts'
import { ContainerFailure } from '../engine/failure.ts'
import { writeHashed } from './archive.ts'
import { credentialsFor } from './credentials.ts'
import type { BuildOptions, ImageEngine } from './engine.ts'
import type { OrchestratorFiles } from './orchestrator.ts'
import type { ImageRecord } from './record.ts'

type BuildRequest = Extract<ToHost, { type: 'build' }>

/** Builds images here, for all hosts. */
export interface Builder {
  /**
   * Builds an image and brings it to where the others find it: the registry, or the orchestrator.
   * @param print takes the log as it comes; what it takes is limited
   * @throws code build-failed, build-too-long, log-too-long, push-failed …; what ran of it has ended then
   */
  build(request: BuildRequest, print: (text: string) => Promise<void>, signal: AbortSignal): Promise<void>
}

export interface BuilderParts {
  readonly engine: ImageEngine
  readonly orchestrator: OrchestratorFiles
  readonly record: ImageRecord
  /** For archives on their way. */
  readonly directory: string
  readonly credentialsFile: string | null
  readonly limits: Pick<BuildOptions, 'network' | 'memoryBytes' | 'cpus'>
  readonly log: Log
  readonly now: () => number
}

/** How the classic builder names a layer that it made (moby, builder/dockerfile/dispatchers.go). */
const LAYER = /^ ---> ([0-9a-f]{12})$/gm

export function createBuilder(parts: BuilderParts): Builder {
  const { engine, orchestrator, record, directory, credentialsFile, limits, log, now } = parts

  /** @returns whether the image came by an earlier build already */
  const isThere = async (request: BuildRequest, signal: AbortSignal): Promise<'registry' | 'here' | null> => {
    const { image, push } = request
    if (push) {
      try {
        const credentials = await credentialsFor(image, credentialsFile)
        const before = await engine.find(image, signal)
        await engine.pull(image, { progress: () => {}, ...(credentials && { credentials }) }, signal)
        if (before === null) await record.put(image, { how: 'pulled', at: now() })
        return 'registry'
      } catch (error) {
        // "Not found" is why it is built; a registry that is away is told before the work, not after it.
        if (!(error instanceof ContainerFailure) || error.code !== 'pull-failed' || error.retryable) throw error
      }
    }
    const ours = record.all().get(image)
    return ours !== undefined && (await engine.find(image, signal)) !== null ? 'here' : null
  }

  const run = async (request: BuildRequest, print: (text: string) => Promise<void>, signal: AbortSignal) => {
    const { image } = request
    const begun = now()
    const layers: string[] = []
    const context = await orchestrator.get(contextPath(request.build), signal)
    try {
      const words = engine.build(context, { image, arguments: request.arguments, ...limits }, signal)
      for await (const { text, error } of words) {
        if (error !== undefined) throw new OrchestratorError('build-failed', error)
        if (text === undefined) continue
        for (const [, layer = ''] of text.matchAll(LAYER)) layers.push(layer)
        await print(text)
      }
      if ((await engine.find(image, signal)) === null) {
        throw new OrchestratorError('build-failed', 'the engine ended the build without an image')
      }
    } catch (error) {
      await removeLayers(layers, begun).catch((fault) => log.warn('build.layers-left', wording(fault)))
      throw error
    } finally {
      context.destroy()
    }
    await record.put(image, { how: 'built', at: now() })
  }

  /** What a failed build leaves has no name: its last layer goes, and with it those below that nothing else needs. */
  const removeLayers = async (layers: readonly string[], since: number) => {
    for (const layer of [...new Set(layers)].reverse()) {
      const found = await engine.find(layer)
      // The log is written by who is not trusted: only what is new and nameless can be meant.
      if (found === null || found.tags.length > 0 || found.createdAt < since) continue
      await engine.remove(found.id)
    }
  }

  const deliver = async (request: BuildRequest, print: (text: string) => Promise<void>, signal: AbortSignal) => {
    const { image, build, push } = request
    if (push) {
      const credentials = await credentialsFor(image, credentialsFile)
      await engine.push(
        image,
        { progress: (status) => log.debug('image.pushing', status, { image }), ...(credentials && { credentials }) },
        signal,
      )
      await print(`pushed ${image}\n`)
      return
    }
    await mkdir(directory, { recursive: true, mode: 0o700 })
    const file = join(directory, `${randomUUID()}.tar`)
    try {
      const { sha256, bytes } = await writeHashed(await engine.save(image, signal), file, Infinity, signal)
      await orchestrator.put(`${archivePath(sha256)}?build=${build}`, { path: file, bytes }, signal)
      await print(`the orchestrator has the image now, ${bytes} bytes\n`)
    } finally {
      await rm(file, { force: true })
    }
  }

  return {
    async build(request, print, signal) {
      const over = limited(request, print)
      const either = AbortSignal.any([signal, over.signal])
      try {
        const there = await isThere(request, either)
        if (there === 'registry') return await over.print(`the registry has ${request.image} already\n`)
        if (there === 'here') await over.print(`${request.image} was built here before\n`)
        else await run(request, over.print, either)
        await deliver(request, over.print, either)
      } finally {
        over.end()
      }
    },
  }
}

/** The limits of one build, in time and in what it prints. */
function limited({ mostMs, mostLogBytes }: BuildRequest, print: (text: string) => Promise<void>) {
  const over = new AbortController()
  const tooLong = new OrchestratorError('build-too-long', `it took more than ${Math.round(mostMs / 1000)} s`)
  const timer = setTimeout(() => over.abort(tooLong), mostMs)
  let room = mostLogBytes
  return {
    signal: over.signal,
    end: () => clearTimeout(timer),
    async print(text: string) {
      const bytes = Buffer.byteLength(text)
      if (bytes <= room) {
        room -= bytes
        return await print(text)
      }
      const cut = Buffer.from(text)
        .subarray(0, room)
        .toString('utf8')
        .replace(/\ufffd$/, '')
      room = 0
      if (cut !== '') await print(cut)
      over.abort(new OrchestratorError('log-too-long', `it printed more than ${mostLogBytes} bytes`))
      over.signal.throwIfAborted()
    },
  }
}
