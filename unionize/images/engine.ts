import type { Readable } from 'node:stream'
import Docker from 'dockerode'
import { jsonLines } from '../../common/engine-streams.ts'
import { unlessAborted } from '../../common/unless-aborted.ts'
import { bounded, DEADLINE_MS, type PullOptions, pulled, type RegistryCredentials } from '../engine/calls.ts'
import { ContainerFailure, engineError } from '../engine/failure.ts'

/** An image as the engine has it. */
export interface FoundImage {
  readonly id: string
  /** Epoch ms. */
  readonly createdAt: number
  /** References that lead to it. */
  readonly tags: readonly string[]
}

export interface BuildOptions {
  /** What it is called. */
  readonly image: string
  readonly arguments: Readonly<Record<string, string>>
  /** Network of what runs meanwhile. */
  readonly network: 'none' | 'bridge'
  /** Bytes, also with swap. */
  readonly memoryBytes: number
  /** Processors, as a fraction. */
  readonly cpus: number
}

/** One piece of what the engine says of a build. */
export interface BuildWord {
  readonly text?: string
  readonly error?: string
}

/** What of the Docker engine is about images alone. Every call ends: by answer, by its signal, or by silence. */
export interface ImageEngine {
  /** null: it is not here. */
  find(image: string, signal?: AbortSignal): Promise<FoundImage | null>
  /** @throws code pull-failed */
  pull(image: string, options: PullOptions, signal?: AbortSignal): Promise<void>
  /** @throws code push-failed */
  push(image: string, options: Omit<PullOptions, 'platform'>, signal: AbortSignal): Promise<void>
  /** Takes in what {@link ImageEngine.save} gave. @throws code load-failed */
  load(archive: Readable, signal?: AbortSignal): Promise<void>
  /** The image as an archive, as it comes. */
  save(image: string, signal: AbortSignal): Promise<Readable>
  /** Builds by the engine's classic builder; what it says, as it comes. The engine ends the build when the signal is aborted. */
  build(context: Readable, options: BuildOptions, signal: AbortSignal): AsyncIterable<BuildWord>
  /** Takes the name away, and the image with its last name. @returns false: a container or another image needs it */
  remove(image: string, signal?: AbortSignal): Promise<boolean>
  /** Ids of the images of all containers, whoever made them. */
  used(signal?: AbortSignal): Promise<ReadonlySet<string>>
}

/** Milliseconds in which each piece of a long answer must come: the engine is silent while it packs or unpacks a large layer. */
const SILENT_MS = 300_000
/** Microseconds of one turn of the processor quota: the kernel's own default (Documentation/scheduler/sched-bwc.rst). */
const CPU_PERIOD = 100_000

/** Connects lazily to the engine behind a unix socket. */
export function imageEngine(socketPath: string): ImageEngine {
  const docker = new Docker({ socketPath })
  const call = <T>(what: string, signal: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<T>) =>
    bounded(what, socketPath, signal, DEADLINE_MS, work)

  /** Follows an answer of JSON texts to its end. @param signal ends the waiting for a piece, and the request with it */
  const follow = async function* (
    what: string,
    begin: (signal: AbortSignal) => Promise<Readable>,
    signal: AbortSignal | undefined,
    silentMs: number | null,
  ): AsyncGenerator<Word> {
    const over = new AbortController()
    const either = signal === undefined ? over.signal : AbortSignal.any([signal, over.signal])
    let stream: Readable | undefined
    try {
      stream = await begin(either)
      const words = jsonLines<Word>(stream)
      for (;;) {
        const next =
          silentMs === null
            ? await unlessAborted(words.next(), either)
            : await bounded(what, socketPath, either, silentMs, () => words.next())
        if (next.done) return
        yield next.value
      }
    } catch (cause) {
      if (signal?.aborted) throw signal.reason
      throw cause instanceof ContainerFailure ? cause : engineError(what, socketPath, cause)
    } finally {
      over.abort()
      stream?.destroy()
    }
  }

  return {
    find: (image, signal) =>
      call(`look for image ${image}`, signal, async (abortSignal) => {
        const found = await docker.getImage(image).inspect({ abortSignal } as object)
        return { id: found.Id, createdAt: Date.parse(found.Created), tags: found.RepoTags ?? [] }
      }).catch((error) => {
        if (error instanceof ContainerFailure && ['not-found', 'image-missing'].includes(error.code)) return null
        throw error
      }),
    pull: (image, options, signal) => pulled(docker, socketPath, image, options, signal),
    async push(image, { credentials, progress }, signal) {
      // Without any the engine answers 400: the header must be there.
      const authconfig = credentials ?? NOBODY
      const begin = (abortSignal: AbortSignal) =>
        docker.getImage(image).push({ authconfig, abortSignal } as object) as Promise<Readable>
      for await (const { error, status } of follow(`push ${image}`, begin, signal, SILENT_MS)) {
        if (error !== undefined)
          throw new ContainerFailure('push-failed', `image ${image} cannot be pushed: ${error}`, { retryable: true })
        if (status !== undefined) progress(status)
      }
    },
    async load(archive, signal) {
      const begin = (abortSignal: AbortSignal) =>
        docker.loadImage(archive, { quiet: true, abortSignal } as object) as unknown as Promise<Readable>
      for await (const { error } of follow('load an image', begin, signal, SILENT_MS)) {
        if (error !== undefined)
          throw new ContainerFailure('load-failed', `the engine does not take the image: ${error}`)
      }
    },
    save: (image, signal) =>
      call(`save ${image}`, signal, async () => {
        // Its end is its reader's: the deadline is for the beginning alone.
        const stream = (await docker.getImage(image).get()) as unknown as Readable
        signal.addEventListener('abort', () => stream.destroy(signal.reason as Error), { once: true })
        return stream
      }),
    async *build(context, options, signal) {
      const { image, network, memoryBytes, cpus } = options
      const query = {
        ...{ t: image, networkmode: network, buildargs: { ...options.arguments }, rm: true, forcerm: true },
        ...{ memory: memoryBytes, memswap: memoryBytes, cpuperiod: CPU_PERIOD, cpuquota: Math.ceil(cpus * CPU_PERIOD) },
      }
      const begin = async (abortSignal: AbortSignal) =>
        (await docker.buildImage(context as never, { ...query, abortSignal } as object)) as Readable
      // Nothing may come for as long as the build lasts: its time is limited, not its silence.
      for await (const { stream: text, status, error } of follow(`build ${image}`, begin, signal, null)) {
        if (error !== undefined) yield { error }
        else if (text !== undefined) yield { text }
        else if (status !== undefined && !/^(Downloading|Extracting|Waiting|Verifying)/.test(status))
          yield { text: `${status}\n` }
      }
    },
    remove: (image, signal) =>
      call(`remove image ${image}`, signal, (abortSignal) =>
        docker.getImage(image).remove({ abortSignal } as object),
      ).then(
        () => true,
        (error) => {
          if (!(error instanceof ContainerFailure)) throw error
          if (error.code === 'not-found' || error.code === 'image-missing') return true
          // 409: a container, or another image, is made of it.
          if (error.code === 'engine-failed' || error.code === 'name-conflict') return false
          throw error
        },
      ),
    used: (signal) =>
      call('list containers', signal, async (abortSignal) => {
        const all = await docker.listContainers({ all: true, abortSignal })
        return new Set(all.map((c) => c.ImageID))
      }),
  }
}

/** One line of an answer (Engine API 1.41: ImageBuild, ImagePush, ImageLoad). */
interface Word {
  readonly stream?: string
  readonly status?: string
  readonly error?: string
}

const NOBODY: RegistryCredentials = { username: '', password: '', serveraddress: '' }
