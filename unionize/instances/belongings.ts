import { sandboxOf } from '../../common/private-networks.ts'
import { LABEL, type WireOrder, type WireService } from '../contract.ts'
import type { AssemblyParts } from './assembly.ts'
import { inside, type Sandboxes } from './homes.ts'
import { serviceSpec } from './service.ts'

/** What an instance has beside its containers, and the containers that are made with it. */
export interface Belongings {
  /** Makes what containers refer to. Only with an order that came with values. @throws code files-not-in-memory, InvalidInput */
  prepare(order: WireOrder): Promise<void>
  /** Whether all of it is there: what was in memory is gone after a restart of the machine. */
  complete(order: WireOrder): Promise<boolean>
  /** Makes the container of one service, and returns its id. */
  create(order: WireOrder, service: WireService, sandboxes: Sandboxes, signal?: AbortSignal): Promise<string>
  /**
   * Removes all of it, when no container refers to it any more. Gone already is success.
   * @param former the orders of its containers; null: none was left to tell
   */
  forget(instance: string, former: readonly WireOrder[] | null, signal?: AbortSignal): Promise<void>
}

export function createBelongings(
  parts: Pick<AssemblyParts, 'engine' | 'networks' | 'files' | 'volumes' | 'images' | 'host'>,
): Belongings {
  const { engine, networks, files, volumes, images, host } = parts

  const forgetVolumes = async (instance: string, signal?: AbortSignal) => {
    const left = await engine.volumes({ [LABEL.host]: host, [LABEL.instance]: instance }, signal)
    await Promise.all(left.map(({ name }) => engine.removeVolume(name, signal)))
  }

  return {
    async prepare(order) {
      await networks.name(order)
      await files.put(order)
    },
    complete: files.complete,
    create(order, service, sandboxes, signal) {
      const { id: sandbox } = inside(sandboxes, sandboxOf(service))
      const hostsFile = networks.hostsPath(order, service)
      const spec = serviceSpec(order, service, { host, sandbox, hostsFile, files: files.paths(order, service) })
      return images.provide(service, () => engine.create(spec, signal), signal)
    },
    async forget(instance, former, signal) {
      await Promise.all([
        former === null ? forgetVolumes(instance, signal) : volumes.forget(instance, former, signal),
        files.forget(instance),
        networks.forget(instance),
      ])
    },
  }
}
