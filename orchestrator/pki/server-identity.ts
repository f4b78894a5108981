import 'reflect-metadata'
import { mkdir } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { type JsonGeneralName, SubjectAlternativeNameExtension, X509Certificate } from '@peculiar/x509'
import type { Clock } from '../../common/clock.ts'
import type { Log } from '../../common/log.ts'
import type { Authority } from './authority.ts'
import { bearsKey, certificatePem, DAY_MS, issue, keyPairOf, newKeyPair, privateKeyPem } from './certificate.ts'
import { readStateFile, writeStateFile } from './state-file.ts'

const SERVER_DAYS = 365
/** A certificate with less than this left is replaced. */
const RENEW_BEFORE_DAYS = 30

/** What the server shows to its clients. PEM texts; `chain` ends with the authority, so that a joining host can pin it. */
export interface ServerIdentity {
  readonly key: string
  readonly chain: string
  /** Epoch ms. */
  readonly expiresAt: number
}

export interface IdentityOptions {
  /** Holds server.key (mode 0600) and server.crt; made when missing. */
  readonly directory: string
  /** DNS names and IP addresses, at least one. */
  readonly names: readonly string[]
  readonly authority: Authority
  readonly clock: Clock
  readonly log: Log
}

/**
 * The server's key and certificate as they should be now: those on disk, or new ones when they are missing, broken, of
 * another authority, of other names, or have less than 30 days left. Calling it now and then renews in time.
 */
export async function serverIdentity(options: IdentityOptions): Promise<ServerIdentity> {
  const { directory, names, authority, clock, log } = options
  await mkdir(directory, { recursive: true, mode: 0o750 })
  const keyFile = join(directory, 'server.key')
  const certificateFile = join(directory, 'server.crt')
  const [keyText, certificateText] = await Promise.all([readStateFile(keyFile), readStateFile(certificateFile)])
  const fault = await faultOf(keyText, certificateText, options)
  if (fault === null && keyText !== null && certificateText !== null) {
    const { notAfter } = new X509Certificate(certificateText)
    return { key: keyText, chain: certificateText + authority.pem, expiresAt: notAfter.getTime() }
  }
  const keys = await newKeyPair()
  const certificate = await issue({
    commonName: (names[0] ?? 'orchestrator').slice(0, 64),
    publicKey: keys.publicKey,
    signer: authority,
    signingKey: authority.keys.privateKey,
    use: 'server',
    days: SERVER_DAYS,
    now: clock.now(),
    extensions: [new SubjectAlternativeNameExtension(names.map(generalName))],
  })
  const key = await privateKeyPem(keys)
  const pem = certificatePem(certificate)
  await writeStateFile(keyFile, key, 0o600)
  await writeStateFile(certificateFile, pem, 0o644)
  log.info('server.certificate', `made a server certificate: ${fault}`, {
    names,
    until: certificate.notAfter.toISOString(),
  })
  return { key, chain: pem + authority.pem, expiresAt: certificate.notAfter.getTime() }
}

/** Why what is on disk will not do; null: it will. */
async function faultOf(
  key: string | null,
  certificate: string | null,
  options: IdentityOptions,
): Promise<string | null> {
  const { authority, names, clock } = options
  if (key === null || certificate === null) return 'there was none'
  let found: X509Certificate
  try {
    found = new X509Certificate(certificate)
    const { publicKey } = await keyPairOf(key)
    if (!(await bearsKey(found, publicKey))) return 'key and certificate did not belong together'
  } catch {
    return 'the old one could not be understood'
  }
  if (!(await found.verify({ publicKey: authority.keys.publicKey, signatureOnly: true }))) {
    return 'the old one was of another authority'
  }
  if (found.notAfter.getTime() - clock.now() < RENEW_BEFORE_DAYS * DAY_MS) return 'the old one ends soon'
  if (found.notBefore.getTime() > clock.now()) return 'the old one is not valid yet'
  const said = found.getExtension(SubjectAlternativeNameExtension)?.names.toJSON() ?? []
  const wanted = names.map(generalName).map(nameKey)
  if (said.length !== wanted.length || !said.map(nameKey).every((name) => wanted.includes(name))) {
    return 'server.names has changed'
  }
  return null
}

function generalName(name: string): JsonGeneralName {
  return isIP(name) === 0 ? { type: 'dns', value: name.toLowerCase() } : { type: 'ip', value: name }
}

function nameKey(name: JsonGeneralName): string {
  const address = name.type === 'ip' && isIP(name.value) === 6 ? new URL(`http://[${name.value}]`).hostname : name.value
  return `${name.type}:${address}`
}
