import { chmodSync, chownSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { CACHE_DIRECTORY, runDirectory, SOURCE_DIRECTORY } from './places.ts'
import { quoted } from './processes.ts'
import { idsOf } from './users.ts'

/** System users; the wiring process is unionize's too. */
export type User = 'orchestrator' | 'unionize'

/** Those of systemd/unionize-wiring.service. */
export const WIRING_CAPABILITIES = [
  'net_admin',
  'sys_admin',
  'sys_ptrace',
  'net_raw',
  'net_bind_service',
  'dac_override',
]

/** Shell command that shows the daemons our tree at a path that they may read, wherever it was cloned to. */
export function showProgram(prefix: string): string {
  return `mount --bind ${quoted(SOURCE_DIRECTORY)} ${quoted(runDirectory(prefix, 'program'))}`
}

/** Command of a compiled program, as it is seen after {@link showProgram}. @param script path below `dist` */
export function daemonCommand(prefix: string, script: string, ...args: string[]): [string, ...string[]] {
  const program = runDirectory(prefix, 'program')
  const node = process.execPath.startsWith(SOURCE_DIRECTORY)
    ? join(program, process.execPath.slice(SOURCE_DIRECTORY.length))
    : process.execPath
  return [node, join(program, 'dist', script), ...args]
}

/** Makes a folder of which a user alone can make anything. */
export function giveDirectory(user: User, directory: string): void {
  mkdirSync(directory, { recursive: true })
  const { uid, gid } = idsOf(user)
  chownSync(directory, uid, gid)
  chmodSync(directory, 0o700)
}

/** On a real disk: what a commit costs there is part of every measurement. */
export function stateDirectory(prefix: string, ...below: string[]): string {
  return join(CACHE_DIRECTORY, 'state', prefix, ...below)
}

/** `{'a.b': 1}` -> `{a: {b: 1}}`, as a settings file has it; what has no section stays where it is. */
export function nested(flat: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const root: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(flat)) {
    const [section = '', key] = name.split('.')
    root[section] = key === undefined ? value : { ...(root[section] as object | undefined), [key]: value }
  }
  return root
}
