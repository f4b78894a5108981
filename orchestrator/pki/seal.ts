import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { OrchestratorError } from '../../common/errors.ts'
import { isSealed, type Parameters, type Sealed, type StoredParameters } from '../domain/parameter.ts'
import { closeToOthers, readStateFile, writeStateFile } from './state-file.ts'

/**
 * Secrets as they are stored: AES-256-GCM (NIST SP 800-38D) with a key that never leaves the state directory. A copy of
 * the database alone tells nothing of them, and a sealed value that is moved to another parameter does not open.
 */
export interface Seal {
  /** @param parameter the parameter's name: the value opens for this one only */
  seal(parameter: string, secret: string): Sealed
  /** @throws OrchestratorError `seal-broken` when another key made it, or it was changed */
  open(parameter: string, sealed: Sealed): string
  /** All parameters, those that are sealed opened. @throws as {@link open} */
  openAll(stored: StoredParameters): Parameters
}

const KEY_BYTES = 32
/** The IV of 96 bits and the tag of 128 that SP 800-38D recommends, sections 8.2 and 5.2.1.2. */
const IV_BYTES = 12
const TAG_BYTES = 16
const CIPHER = 'aes-256-gcm'
/** `v1.` and the key's name, that is the beginning of its SHA-256, and IV, tag and ciphertext. */
const SEALED = /^v1\.([0-9a-f]{8})\.([A-Za-z0-9_-]+)$/
const KEY_TEXT = /^[A-Za-z0-9_-]{43}$/

/**
 * Opens the seal of a state directory; makes its key, `seal.key` (mode 0600), on the first start.
 * @throws OrchestratorError `seal-key-broken` when the file holds something else
 */
export async function openSeal(directory: string): Promise<Seal> {
  await mkdir(directory, { recursive: true, mode: 0o750 })
  const file = join(directory, 'seal.key')
  const found = (await readStateFile(file))?.trim()
  if (found !== undefined && !KEY_TEXT.test(found)) {
    throw new OrchestratorError(
      'seal-key-broken',
      `${file} holds no key. Restore it from a backup; or remove it, and apply rules and templates with secrets again`,
    )
  }
  const text = found ?? randomBytes(KEY_BYTES).toString('base64url')
  if (found === undefined) await writeStateFile(file, `${text}\n`, 0o600)
  else await closeToOthers(file)
  return sealWith(Buffer.from(text, 'base64url'), file)
}

function sealWith(key: Buffer, file: string): Seal {
  const keyName = createHash('sha256').update(key).digest('hex').slice(0, 8)
  const associated = (parameter: string) => Buffer.from(`orchestrator parameter ${parameter}`)

  const open = (parameter: string, { sealed }: Sealed): string => {
    const [, name, body = ''] = SEALED.exec(sealed) ?? []
    if (name !== undefined && name !== keyName) {
      throw new OrchestratorError(
        'seal-broken',
        `the secret ${parameter} was sealed with another key than the one in ${file}. Restore that file from a backup or, ` +
          'where several orchestrators share a database, give all of them the same; or apply what holds the secret again',
      )
    }
    const bytes = Buffer.from(body, 'base64url')
    try {
      const decipher = createDecipheriv(CIPHER, key, bytes.subarray(0, IV_BYTES), { authTagLength: TAG_BYTES })
      decipher.setAAD(associated(parameter)).setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES))
      return Buffer.concat([decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES)), decipher.final()]).toString('utf8')
    } catch (cause) {
      throw new OrchestratorError('seal-broken', `the stored secret ${parameter} was changed; apply it again`, {
        cause,
      })
    }
  }
  return {
    seal(parameter, secret) {
      const iv = randomBytes(IV_BYTES)
      const cipher = createCipheriv(CIPHER, key, iv, { authTagLength: TAG_BYTES }).setAAD(associated(parameter))
      const text = Buffer.concat([cipher.update(secret, 'utf8'), cipher.final()])
      const body = Buffer.concat([iv, cipher.getAuthTag(), text]).toString('base64url')
      return { sealed: `v1.${keyName}.${body}` }
    },
    open,
    openAll(stored) {
      const opened = Object.entries(stored).map(([name, value]) => [name, isSealed(value) ? open(name, value) : value])
      return Object.fromEntries(opened) as Parameters
    },
  }
}
