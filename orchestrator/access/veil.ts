import type { Log, LogLevel } from '../../common/log.ts'
import type { CredentialFields } from '../domain/credential.ts'
import { without } from './credentials.ts'

/** What backends were let in with, so that nothing which they say shows it. */
export interface Veil {
  /** A backend was given this credential; it takes the place of what it was given under that name before. */
  given(backend: string, name: string, fields: CredentialFields): void
  /** A text of that backend without any value that it was given. */
  text(backend: string, said: string): string
  /** What that backend logs, likewise, also in its fields where they are texts. */
  log(backend: string, log: Log): Log
}

export function createVeil(): Veil {
  const known = new Map<string, Map<string, CredentialFields>>()
  const text: Veil['text'] = (backend, said) =>
    [...(known.get(backend)?.values() ?? [])].reduce((left, fields) => without(fields, left), said)
  return {
    given(backend, name, fields) {
      const mine = known.get(backend) ?? new Map<string, CredentialFields>()
      known.set(backend, mine.set(name, fields))
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
