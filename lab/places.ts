import { mkdirSync } from 'node:fs'
import { join } from 'node:path'

/** Kept between runs for speed: the lab's own Docker engine, base images, compiled code. `demo --wipe` removes it. */
export const CACHE_DIRECTORY = '/var/lib/orchestrator-lab'
/** State of a lab that runs, one folder for each prefix; gone when the lab is. */
export const RUN_DIRECTORY = '/run/orchestrator-lab'
/** What a lab that runs keeps in memory only, one folder for each prefix; gone when the lab is. */
export const MEMORY_DIRECTORY = '/dev/shm/orchestrator-lab'
/** The source tree that this file is part of. */
export const SOURCE_DIRECTORY = join(import.meta.dirname, '..')

/** Prefix of everything that a lab makes (namespaces, cgroups, folders), so that the leftovers of a killed one are found. */
export const DEFAULT_PREFIX = 'orc'

/** Folder of the lab `prefix`, made if need be; others than root may pass through it. */
export function runDirectory(prefix: string, ...below: string[]): string {
  const path = join(RUN_DIRECTORY, prefix, ...below)
  mkdirSync(path, { recursive: true, mode: 0o755 })
  return path
}
