import { createHash } from 'node:crypto'
import { access, chmod, mkdir, open, readdir, readFile, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { OrchestratorError, wording } from '../../common/errors.ts'
import { writeAtomically } from '../atomic-file.ts'
import type { WireOrder, WireService } from '../contract.ts'

/**
 * The files of instances (configs, secrets, parameters), in memory only. Each service has its own copies, which the engine
 * mounts into its container; nobody else on this host may look at them. They are gone with the instance, and with a
 * restart of the machine: then a new order has to bring them again. A file that is there changes in place, because a mount
 * shows the file that was there when the container started, not one that took its name.
 */
export interface Files {
  /** Writes the files of an order that has their contents. An order without files costs nothing. @throws OrchestratorError the fault */
  put(order: WireOrder): Promise<void>
  /** Where the files of a service are, in their order. */
  paths(order: WireOrder, service: WireService): readonly string[]
  /** Whether all files of an order are there. */
  complete(order: WireOrder): Promise<boolean>
  /** Removes those of an instance. Gone already is success. */
  forget(instance: string): Promise<void>
  /** The instances of which there are files. */
  instances(): Promise<readonly string[]>
  /** Why files cannot be kept here; null: they can. */
  fault(): Promise<OrchestratorError | null>
}

/** File systems that are in memory: linux/magic.h, TMPFS_MAGIC and RAMFS_MAGIC. */
const IN_MEMORY: readonly number[] = [0x0102_1994, 0x8584_58f6]

/** @param options `directory` is made when absent; the engine must see it under the same path */
export function createFiles(options: { readonly directory: string }): Files {
  const { directory } = options
  const path = (instance: string, service: string, target: string) =>
    join(directory, instance, service, createHash('sha256').update(target).digest('hex').slice(0, 16))
  const paths: Files['paths'] = (order, service) =>
    service.files.map(({ target }) => path(order.instance, service.name, target))
  const fault: Files['fault'] = async () => {
    const setting = `${directory} (files.directory)`
    try {
      await mkdir(directory, { recursive: true, mode: 0o700 })
      if (IN_MEMORY.includes((await statfs(directory)).type)) return null
    } catch (cause) {
      return new OrchestratorError('files-directory-failed', `${setting} cannot be used: ${wording(cause)}`, { cause })
    }
    const remedy = 'set it to a folder on a tmpfs, such as one in /run'
    return new OrchestratorError(
      'files-not-in-memory',
      `${setting} is on a disk, and secrets are kept in memory: ${remedy}`,
    )
  }

  return {
    async put(order) {
      const services = order.services.filter(({ files }) => files.length > 0)
      if (services.length === 0) return
      const found = await fault()
      if (found !== null) throw found
      for (const { name, files } of services) {
        await mkdir(join(directory, order.instance, name), { recursive: true, mode: 0o700 })
        for (const { target, content, mode } of files) {
          await put(path(order.instance, name, target), Buffer.from(content, 'base64'), mode)
        }
      }
    },
    paths,
    async complete(order) {
      const all = order.services.flatMap((service) => paths(order, service))
      const there = await Promise.all(all.map((one) => access(one).then(() => true, unlessMissing)))
      return there.every((one) => one)
    },
    forget: (instance) => rm(join(directory, instance), { recursive: true, force: true }),
    async instances() {
      const found = await readdir(directory).catch(unlessMissing)
      return found === false ? [] : found
    },
    fault,
  }
}

/** A new one appears whole; one that is there is overwritten by one write, so that no reader finds it empty. */
async function put(path: string, content: Buffer, mode: number): Promise<void> {
  const former = await readFile(path).catch(unlessMissing)
  if (former === false) {
    await writeAtomically(path, content, { mode, durable: false })
    return
  }
  if (former.equals(content)) return
  await chmod(path, mode | 0o200)
  const file = await open(path, 'r+')
  try {
    await file.write(content, 0, content.length, 0)
    await file.truncate(content.length)
    await file.chmod(mode)
  } finally {
    await file.close()
  }
}

function unlessMissing(error: NodeJS.ErrnoException): false {
  if (error.code === 'ENOENT') return false
  throw error
}
