import { wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import { unlessAborted } from '../../common/unless-aborted.ts'
import type { WireService } from '../contract.ts'
import type { Engine } from '../engine/containers.ts'
import { ContainerFailure } from '../engine/failure.ts'

/** What is to be known of a service to get its image. */
type Imaged = Pick<WireService, 'name' | 'image' | 'pull' | 'platform'>

/** The images of services: there beforehand, or fetched when they are asked for. */
export interface Images {
  /**
   * Calls `create`, which makes a container of a service's image, once the image is as fresh as the service wants it; and
   * again after fetching the image if the engine has it not. An image that is there costs nothing.
   * @throws code image-missing when it is not there and cannot be fetched, pull-failed when it is to be fetched always
   */
  provide<T>(service: Imaged, create: () => Promise<T>, signal?: AbortSignal): Promise<T>
}

/** Milliseconds between two words about the progress of one image in the log. */
const PROGRESS_MS = 10_000

export function createImages(parts: {
  readonly engine: Pick<Engine, 'pull'>
  readonly log: Log
  readonly now: () => number
}): Images {
  const { engine, log, now } = parts
  /** Those on their way, by name and platform: several services wait for the same one. */
  const underWay = new Map<string, Promise<void>>()

  const fetch = async ({ image, platform }: Imaged): Promise<void> => {
    const begun = now()
    let told = begun
    log.info('image.pulling', 'fetching an image', { image, platform })
    const progress = (status: string) => {
      if (now() - told < PROGRESS_MS) return
      told = now()
      log.info('image.progress', 'still fetching an image', { image, status })
    }
    await engine.pull(image, { platform, progress })
    log.info('image.pulled', 'fetched an image', { image, ms: now() - begun })
  }
  /** Who gives up waiting does not end it for the others. */
  const pull = async (service: Imaged, signal?: AbortSignal): Promise<void> => {
    const key = JSON.stringify([service.image, service.platform])
    const running = underWay.get(key) ?? fetch(service).finally(() => underWay.delete(key))
    underWay.set(key, running)
    await unlessAborted(running, signal)
  }

  return {
    async provide(service, create, signal) {
      if (service.pull === 'always') await pull(service, signal)
      try {
        return await create()
      } catch (error) {
        const missing = error instanceof ContainerFailure && error.code === 'image-missing'
        if (!missing || service.pull !== 'missing') throw error
        await pull(service, signal).catch((cause) => {
          if (signal?.aborted) throw cause
          const retryable = !(cause instanceof ContainerFailure) || cause.retryable
          throw new ContainerFailure('image-missing', `${error.message}; ${wording(cause)}`, { retryable, cause })
        })
        return create()
      }
    },
  }
}
