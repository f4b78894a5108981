import type { CredentialFields } from '../domain/credential.ts'
import { without } from './credentials.ts'

/** What backends were let in with, so that nothing which they say shows it. */
export interface Veil {
  /** A backend was given this credential; it takes the place of what it was given under that name before. */
  given(backend: string, name: string, fields: CredentialFields): void
  /** A text of that backend without any value that it was given. */
  text(backend: string, said: string): string
}

export function createVeil(): Veil {
  const known = new Map<string, Map<string, CredentialFields>>()
  return {
    given(backend, name, fields) {
      const mine = known.get(backend) ?? new Map<string, CredentialFields>()
      known.set(backend, mine.set(name, fields))
    },
    text: (backend, said) =>
      [...(known.get(backend)?.values() ?? [])].reduce((left, fields) => without(fields, left), said),
  }
}
