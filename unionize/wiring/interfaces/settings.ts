import { readFileSync } from 'node:fs'
import type { Ground } from './ground.ts'

/** What settings are, by path; of an interface that is missing what it would begin with. Null: this kernel has no such setting. */
export function readSettings(
  ground: Ground,
  name: string,
  exists: boolean,
  paths: readonly string[],
): Map<string, string | null> {
  const found = new Map<string, string | null>()
  if (paths.length === 0) return found
  ground.sandbox.inside(() => {
    for (const path of paths) found.set(path, readSetting(settingFile(exists ? name : 'default', path)))
  })
  return found
}

/** To be opened while the thread is in the namespace: what /proc/sys/net shows is that of the thread. */
export function settingFile(name: string, path: string): string {
  const [family, group, setting] = path.split('.')
  return `/proc/sys/net/${family}/${group}/${name}/${setting}`
}

function readSetting(file: string): string | null {
  try {
    return readFileSync(file, 'utf8').trim().replaceAll('\t', ' ')
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw thrown
  }
}
