import type { Clock } from '../../common/clock.ts'
import { InvalidInput, OrchestratorError } from '../../common/errors.ts'
import type { CredentialFields, CredentialInfo } from '../domain/credential.ts'
import type { Seal } from '../pki/seal.ts'
import type { Store, StoredCredential } from '../store/store.ts'

/** The stored credentials: sealed at rest, opened only for the backend that asks. */
export interface Credentials {
  /**
   * Opens one for a backend.
   * @throws OrchestratorError `credential-missing` with the command that sets it, `seal-broken`
   */
  openFor(backend: string, name: string): Promise<CredentialFields>
  /** null: there is none of that name. @throws OrchestratorError `seal-broken` */
  open(name: string): Promise<CredentialFields | null>
  all(): Promise<readonly CredentialInfo[]>
  /** Names of the backends that use it, whether it is there or not. */
  usersOf(name: string): readonly string[]
  /** Keeps it in the place of what was there: whoever asks next gets these. @throws InvalidInput */
  put(name: string, fields: CredentialFields): Promise<CredentialInfo>
  /** @throws OrchestratorError `not-found`; `credential-in-use` naming the backends, unless told to remove it all the same */
  remove(name: string, options: { readonly force: boolean }): Promise<void>
}

export interface CredentialsOptions {
  readonly store: Pick<Store, 'putCredential' | 'credential' | 'credentials' | 'removeCredential' | 'appendEvent'>
  readonly seal: Pick<Seal, 'seal' | 'open'>
  readonly clock: Clock
  /** Settings of the backends by name: a text under a key `credential`, at any depth, is the name of one. */
  readonly settings: Readonly<Record<string, unknown>>
  /** Told after one was set: its backends may get in now. */
  readonly changed: (usedBy: readonly string[]) => void
}

const NAME = /^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$/
const FIELD = /^[A-Za-z_][A-Za-z0-9._-]{0,62}$/
/** Keys in PEM have some thousand characters, a file of an account some more. */
const MOST_CHARACTERS = 32_768
const MOST_FIELDS = 32

export function createCredentials(options: CredentialsOptions): Credentials {
  const { store, seal, clock } = options
  const users = new Map<string, Set<string>>()
  const noteUse = (name: string, backend: string) => users.set(name, (users.get(name) ?? new Set()).add(backend))
  for (const [backend, settings] of Object.entries(options.settings)) {
    for (const name of namedIn(settings)) noteUse(name, backend)
  }
  const usersOf = (name: string) => [...(users.get(name) ?? [])].toSorted()
  const infoOf = ({ name, fields, changedAt }: StoredCredential): CredentialInfo => ({
    ...{ name, fields, changedAt },
    usedBy: usersOf(name),
  })
  const tell = (kind: string, message: string) => store.appendEvent({ level: 'info', kind, message }, clock.now())
  const open = async (name: string): Promise<CredentialFields | null> => {
    const stored = NAME.test(name) ? await store.credential(name) : null
    return stored && (JSON.parse(seal.open(sealedAs(name), stored.sealed)) as CredentialFields)
  }
  return {
    open,
    async openFor(backend, name) {
      noteUse(name, backend)
      const fields = await open(name)
      if (fields === null) throw missing(name)
      return fields
    },
    async all() {
      return (await store.credentials()).map(infoOf)
    },
    usersOf,
    async put(name, fields) {
      checkFields(name, fields)
      const sealed = seal.seal(sealedAs(name), JSON.stringify(fields))
      const stored = { name, sealed, fields: Object.keys(fields).toSorted(), changedAt: clock.now() }
      await store.putCredential(stored)
      await tell('credential.set', `credential ${name} was set: ${stored.fields.join(', ')}`)
      const info = infoOf(stored)
      options.changed(info.usedBy)
      return info
    },
    async remove(name, { force }) {
      const usedBy = usersOf(name)
      if (!NAME.test(name) || (await store.credential(name)) === null) throw noCredential(name)
      if (usedBy.length > 0 && !force) {
        throw new OrchestratorError(
          'credential-in-use',
          `credential ${name} is used by backend${usedBy.length === 1 ? '' : 's'} ${usedBy.join(', ')}, which could do nothing ` +
            'without it; take it out of their settings first, or remove it with --force',
        )
      }
      if (await store.removeCredential(name)) await tell('credential.removed', `credential ${name} was removed`)
    },
  }
}

/** There is none of that name to look at. */
export function noCredential(name: string): OrchestratorError {
  return new OrchestratorError('not-found', `there is no credential ${JSON.stringify(name.slice(0, 64))}`)
}

/** There is none of that name, and a backend needs it. */
function missing(name: string): OrchestratorError {
  return new OrchestratorError(
    'credential-missing',
    `there is no credential ${name}: set it with \`orctl credential set ${name}\``,
  )
}

/** No parameter's name has a slash: neither opens as the other. */
function sealedAs(name: string): string {
  return `credential/${name}`
}

/** @throws InvalidInput that names the field, and never shows a value */
export function checkFields(name: string, fields: CredentialFields): void {
  if (!NAME.test(name)) {
    throw new InvalidInput('name', 'expected a name of a-z, 0-9, . _ and -, at most 63 characters')
  }
  const entries = Object.entries(fields)
  if (entries.length === 0 || entries.length > MOST_FIELDS) {
    throw new InvalidInput('fields', `expected 1 to ${MOST_FIELDS} fields, got ${entries.length}`)
  }
  for (const [field, value] of entries) {
    if (!FIELD.test(field)) {
      throw new InvalidInput('fields', 'expected names of letters, digits, . _ and -, beginning with a letter or _')
    }
    if (value === '' || value.length > MOST_CHARACTERS) {
      throw new InvalidInput(`fields.${field}`, `expected 1 to ${MOST_CHARACTERS} characters, got ${value.length}`)
    }
  }
}

/** Names of credentials that settings name. */
function namedIn(settings: unknown): readonly string[] {
  if (typeof settings !== 'object' || settings === null) return []
  return Object.entries(settings).flatMap(([key, value]) =>
    key === 'credential' && typeof value === 'string' ? [value] : namedIn(value),
  )
}

/** Values shorter than this are no secrets that a message could give away, but parts of words. */
const LEAST_SECRET = 8

/** A text in which none of a credential's values stands any more. */
export function without(fields: CredentialFields, text: string): string {
  const secrets = Object.values(fields).flatMap((value) => [value, JSON.stringify(value).slice(1, -1)])
  return secrets
    .filter((secret) => secret.length >= LEAST_SECRET)
    .toSorted((a, b) => b.length - a.length)
    .reduce((left, secret) => left.replaceAll(secret, '(secret)'), text)
}
