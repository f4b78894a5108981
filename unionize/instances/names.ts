import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { writeAtomically } from '../atomic-file.ts'

/** The names of instances, as files that dnsmasq reads (its `hostsdir`; it notices changes by inotify). */
export interface Names {
  /** Makes `<name>.<domain>` answer the address. */
  put(instance: string, name: string, address: string): Promise<void>
  /** Unknown already is success. */
  remove(instance: string): Promise<void>
  /** Removes the names of all instances but these. */
  keepOnly(instances: ReadonlySet<string>): Promise<void>
}

/** @param options `directory` is made when absent; `domain` without a leading dot */
export function hostsDirectory(options: { directory: string; domain: string }): Names {
  const { directory, domain } = options
  const known = new Map<string, string>()
  return {
    async put(instance, name, address) {
      const line = `${address} ${name}.${domain}\n`
      if (known.get(instance) === line) return
      await mkdir(directory, { recursive: true })
      // dnsmasq runs as another user; it passes over names that begin with a dot, as the interim file's does.
      await writeAtomically(join(directory, instance), line, { mode: 0o644, durable: false })
      known.set(instance, line)
    },
    async remove(instance) {
      known.delete(instance)
      await rm(join(directory, instance), { force: true })
    },
    async keepOnly(instances) {
      await mkdir(directory, { recursive: true })
      for (const file of await readdir(directory)) {
        if (instances.has(file)) continue
        known.delete(file)
        await rm(join(directory, file), { force: true })
      }
    },
  }
}
