import { mkdir, open, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * Hosts files of sandboxes, which the engine mounts into their containers: names that nobody else can look up. A file
 * changes in place, because a mount shows the file that was there when the container started, not one that took its name.
 */
export interface HostFiles {
  /** Where the file of a sandbox is; `sandbox` is '' for that of the instance. */
  path(instance: string, sandbox: string): string
  put(instance: string, sandbox: string, content: string): Promise<void>
  /** Removes those of an instance. Gone already is success. */
  remove(instance: string): Promise<void>
  /** Removes those of all instances but these. */
  keepOnly(instances: ReadonlySet<string>): Promise<void>
}

/** @param options `directory` is made when absent; the engine must see it under the same path */
export function hostFiles(options: { directory: string }): HostFiles {
  const { directory } = options
  const path = (instance: string, sandbox: string) =>
    join(directory, instance, sandbox === '' ? 'hosts' : `hosts.${sandbox}`)
  const remove = (instance: string) => rm(join(directory, instance), { recursive: true, force: true })
  return {
    path,
    async put(instance, sandbox, content) {
      await mkdir(join(directory, instance), { recursive: true, mode: 0o711 })
      const file = await open(path(instance, sandbox), 'a+', 0o644)
      try {
        if ((await file.readFile('utf8')) === content) return
      } finally {
        await file.close()
      }
      await overwrite(path(instance, sandbox), Buffer.from(content))
    },
    remove,
    async keepOnly(instances) {
      await mkdir(directory, { recursive: true, mode: 0o711 })
      for (const instance of await readdir(directory)) if (!instances.has(instance)) await remove(instance)
    },
  }
}

/** One write, then the cut: who reads meanwhile sees the new beginning, never an empty file. */
async function overwrite(path: string, content: Buffer): Promise<void> {
  const file = await open(path, 'r+')
  try {
    await file.write(content, 0, content.length, 0)
    await file.truncate(content.length)
  } finally {
    await file.close()
  }
}
