import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { join } from 'node:path'
import { InvalidInput, OrchestratorError } from '../../common/errors.ts'
import { closeToOthers, readStateFile, writeStateFile } from './state-file.ts'

/** Random bytes in every secret. */
const SECRET_BYTES = 32
const JOIN_TOKEN = /^orc1\.([A-Za-z0-9_-]{43})\.([0-9a-f]{64})$/
const API_TOKEN = /^orc_[A-Za-z0-9_-]{43}$/

/** A new token for the API, `orc_` and 256 random bits. Only its {@link tokenHash} is ever stored. */
export function makeApiToken(): string {
  return `orc_${randomBytes(SECRET_BYTES).toString('base64url')}`
}

/** A new one-time token, `orc1.<secret>.<SHA-256 of the authority's certificate>`: by it a host knows us, and we know the host. */
export function makeJoinToken(fingerprint: string): string {
  return `orc1.${randomBytes(SECRET_BYTES).toString('base64url')}.${fingerprint}`
}

/** @throws InvalidInput `token` for what is not a join token */
export function parseJoinToken(text: string): { readonly secret: string; readonly fingerprint: string } {
  const [, secret, fingerprint] = JOIN_TOKEN.exec(text) ?? []
  if (secret === undefined || fingerprint === undefined) {
    throw new InvalidInput('token', 'expected orc1.<secret>.<fingerprint>, as `orctl create token` prints it')
  }
  return { secret, fingerprint }
}

/** SHA-256 of the token's text, hex: all that is stored. The secrets have 256 random bits, so no salt is needed. */
export function tokenHash(token: string): string {
  return createHash('sha256').update(token).digest('hex')
}

/** Whether two hashes are the same, in a time that tells nothing of where they differ. */
export function sameHash(a: string, b: string): boolean {
  const left = Buffer.from(a)
  const right = Buffer.from(b)
  return left.length === right.length && timingSafeEqual(left, right)
}

/** The part of the store that the first token needs. */
interface TokenStore {
  token(hash: string): Promise<unknown>
  putToken(token: {
    hash: string
    kind: 'api' | 'join'
    host: string | null
    expiresAt: number | null
    usedAt: number | null
  }): Promise<void>
}

/**
 * Sees to it that `api-token` in the state directory (mode 0600) holds a token that the store accepts: on the first start
 * a new one; when the file was removed, a new one again (the way back in for who lost it); when the store is new, the old one.
 * @throws OrchestratorError `api-token-broken` when the file holds something else
 */
export async function firstApiToken(directory: string, store: TokenStore): Promise<{ file: string; made: boolean }> {
  const file = join(directory, 'api-token')
  const text = (await readStateFile(file))?.trim()
  if (text !== undefined && !API_TOKEN.test(text)) {
    throw new OrchestratorError(
      'api-token-broken',
      `${file} holds no token. Remove it to get a new one at the next start`,
    )
  }
  const token = text ?? makeApiToken()
  if (text === undefined) await writeStateFile(file, `${token}\n`, 0o600)
  else await closeToOthers(file)
  const hash = tokenHash(token)
  if ((await store.token(hash)) === null) {
    await store.putToken({ hash, kind: 'api', host: null, expiresAt: null, usedAt: null })
  }
  return { file, made: text === undefined }
}
