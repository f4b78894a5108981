import { type Command, InvalidArgumentError } from 'commander'
import { suggestion } from '../../common/config.ts'
import type { ApiClient } from '../api/client.ts'
import { type ConnectionFlags, connect } from './connection.ts'
import { Usage } from './exit.ts'
import { FORMATS, type Format } from './output.ts'

/** What every verb gets: the client, the format, and the signal that ends it. */
export interface Session {
  readonly client: ApiClient
  readonly format: Format
  readonly signal: AbortSignal
}

/** Runs a verb with a client that is closed afterwards. @param command the verb, with the flags that were given */
export async function withSession(command: Command, work: (session: Session) => Promise<void>): Promise<void> {
  const flags = command.optsWithGlobals<ConnectionFlags & { output?: Format }>()
  const client = connect(flags, process.env)
  const stop = new AbortController()
  try {
    await work({ client, format: flags.output ?? 'table', signal: stop.signal })
  } finally {
    stop.abort()
    client.close()
  }
}

/** For verbs without rows: their formats are those that are not about columns. @throws Usage */
export function dataFormat(format: Format): 'text' | 'json' | 'yaml' | 'name' {
  if (format === 'table' || format === 'wide') return 'text'
  if (FORMATS.includes(format)) return format
  throw new Usage(`--output: expected one of ${FORMATS.join(', ')}`)
}

/** One of these words. @throws InvalidArgumentError, with the one that is near */
export function oneOf<T extends string>(words: readonly T[]) {
  return (text: string): T => {
    const found = words.find((word) => word === text)
    if (found !== undefined) return found
    throw new InvalidArgumentError(`Expected one of ${words.join(', ')}${suggestion(text, words)}.`)
  }
}

/** A flag's number. @throws Usage */
export function wholeNumber(flag: string, least: number, most: number) {
  return (text: string): number => {
    const value = Number(text)
    if (/^\d+$/.test(text) && value >= least && value <= most) return value
    throw new Usage(`${flag}: expected a whole number from ${least} to ${most}, got ${JSON.stringify(text)}`)
  }
}
