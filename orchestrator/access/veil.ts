import { isDeepStrictEqual } from 'node:util'
import type { Log, LogLevel } from '../../common/log.ts'
import type { CredentialFields } from '../domain/credential.ts'
import { without } from './credentials.ts'

/** What backends were let in with, so that nothing which they say shows it. */
export interface Veil {
  /**
   * A backend was given this credential. What it was given under that name before stays veiled until the next rotation: calls
   * with it may still be under way.
   */
  given(backend: string, name: string, fields: CredentialFields): void
  /** A text of that backend without any value that it was given. */
  text(backend: string, said: string): string
  /** What that backend logs, likewise, also in its fields where they are texts. */
  log(backend: string, log: Log): Log
}

export function createVeil(): Veil {
  /** By backend and name of a credential: what was given last, and what was given before that. */
  const known = new Map<string, Map<string, readonly CredentialFields[]>>()
  const text: Veil['text'] = (backend, said) => {
    const values = [...(known.get(backend)?.values() ?? [])].flat().flatMap((fields) => Object.values(fields))
    return without(Object.fromEntries(values.entries()), said)
  }
  return {
    given(backend, name, fields) {
      const mine = known.get(backend) ?? new Map<string, readonly CredentialFields[]>()
      const [last] = mine.get(name) ?? []
      if (isDeepStrictEqual(last, fields)) return
      known.set(backend, mine.set(name, last === undefined ? [fields] : [fields, last]))
    },
    text,
    log(backend, log) {
      const show = (value: unknown) => (typeof value === 'string' ? text(backend, value) : value)
      const at =
        (level: LogLevel): Log[LogLevel] =>
        (id, message, fields = {}) => {
          const shown = Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, show(value)]))
          log[level](id, text(backend, message), shown)
        }
      return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
    },
  }
}
