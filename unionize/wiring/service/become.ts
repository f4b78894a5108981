import { fileURLToPath } from 'node:url'
import type { LogLevel } from '../../../common/log.ts'

/** What the wiring process has to know of the settings. */
export interface WiringSettings {
  readonly socket: string
  readonly directory: string
  readonly dockerSocket: string
  readonly level: LogLevel
  readonly version: string
}

/** The running file is TypeScript or what was compiled from it; `new URL` is not rewritten by the compiler. */
const PROGRAM = new URL(import.meta.url.endsWith('.ts') ? './process.ts' : './process.js', import.meta.url)

/**
 * Becomes the wiring process: the same process, by execve(2), with another program in it. What reads settings and command
 * lines takes 12 MiB that would be of no use for as long as it runs.
 */
export function becomeWiring(settings: WiringSettings): never {
  const { execPath, execArgv, env, execve } = process
  if (execve === undefined) throw new Error('this Node.js has no process.execve')
  return execve(execPath, [execPath, ...execArgv, fileURLToPath(PROGRAM), JSON.stringify(settings)], env)
}
