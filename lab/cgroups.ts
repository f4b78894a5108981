import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { waitFor } from './command.ts'

/** Folders where control groups begin: one on cgroup v2, one for each controller on v1. */
function hierarchies(): string[] {
  return readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, , type]) => type === 'cgroup' || type === 'cgroup2')
    .map(([, path = '']) => path)
}

/**
 * Makes a control group in every hierarchy and returns the folders: who writes its process id to `cgroup.procs` of each
 * is in it.
 */
export function makeCgroup(name: string): string[] {
  return hierarchies().map((path) => {
    const folder = join(path, name)
    mkdirSync(folder, { recursive: true })
    // A new group of this controller of v1 takes no process before it has CPUs and memory nodes.
    for (const below of [dirname(folder), folder].filter((f) => f !== path)) inherit(below)
    return folder
  })
}

function inherit(folder: string): void {
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    const own = join(folder, file)
    if (readIfThere(own) === '\n') writeFileSync(own, readFileSync(join(dirname(folder), file), 'utf8'))
  }
}

/** Processes in a control group and in those inside of it. */
export function cgroupProcesses(name: string): number[] {
  const text = foldersOf(name).map((folder) => readIfThere(join(folder, 'cgroup.procs')))
  return [...new Set(text.join('\n').split('\n').filter(Boolean).map(Number))]
}

/** Ends every process in a control group and removes it with those inside; also when there is none. */
export async function removeCgroup(name: string): Promise<void> {
  await waitFor(`the end of the processes in control group ${name}`, () => {
    const left = cgroupProcesses(name)
    for (const pid of left) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
      }
    }
    return left.length === 0
  })
  // The deepest first: a control group with others inside cannot be removed.
  for (const folder of foldersOf(name).sort((a, b) => b.length - a.length)) {
    await waitFor(`the end of ${folder}`, () => {
      try {
        rmdirSync(folder)
        return true
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return true
        if ((error as NodeJS.ErrnoException).code === 'EBUSY') return false // its last process is still being buried
        throw error
      }
    })
  }
}

function foldersOf(name: string): string[] {
  return hierarchies().flatMap((path) => withinOf(join(path, name)))
}

function withinOf(top: string): string[] {
  try {
    const inside = readdirSync(top, { withFileTypes: true, recursive: true })
    return [top, ...inside.filter((e) => e.isDirectory()).map((e) => join(e.parentPath, e.name))]
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // it ended meanwhile
  }
}
