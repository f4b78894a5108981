import 'reflect-metadata'
import { createHash, webcrypto } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Pkcs10CertificateRequest, X509Certificate } from '@peculiar/x509'
import type { Clock } from '../../common/clock.ts'
import { InvalidInput, OrchestratorError } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import {
  bearsKey,
  certificatePem,
  fingerprintOf,
  issue,
  type KeyPair,
  keyPairOf,
  newKeyPair,
  privateKeyPem,
} from './certificate.ts'
import { closeToOthers, readStateFile, writeStateFile } from './state-file.ts'

const AUTHORITY_DAYS = 20 * 365
/** A host is revoked by its pinned fingerprint, not by time: one that nobody looks after must not fall off the network. */
const HOST_DAYS = 10 * 365

/** Our own certificate authority: it vouches for the server to its clients, and for each host to the server. */
export interface Authority {
  readonly keys: KeyPair
  readonly certificate: X509Certificate
  /** PEM text: what hosts and people pin. */
  readonly pem: string
  /** SHA-256 of the certificate's DER, hex: what a join token carries. */
  readonly fingerprint: string
  /**
   * Signs a host's request: common name = `host`, client authentication, ten years. Of the request only the key is taken.
   * @throws InvalidInput `csr` for what is not a P-256 request signed by its own key
   */
  signHost(csr: string, host: string): Promise<{ certificate: string; fingerprint: string }>
}

export interface AuthorityOptions {
  /** Holds ca.key (mode 0600) and ca.crt; made when missing. */
  readonly directory: string
  readonly clock: Clock
  readonly log: Log
}

/**
 * Opens the authority of a state directory; makes one on the first start. A certificate lost beside its key is made again
 * (same key, same name: hosts that joined go on).
 * @throws OrchestratorError `authority-broken` for a certificate without its key, or files that do not belong together
 */
export async function openAuthority(options: AuthorityOptions): Promise<Authority> {
  const { directory, clock, log } = options
  await mkdir(directory, { recursive: true, mode: 0o750 })
  const keyFile = join(directory, 'ca.key')
  const certificateFile = join(directory, 'ca.crt')
  const [keyText, certificateText] = await Promise.all([readStateFile(keyFile), readStateFile(certificateFile)])
  if (keyText === null) {
    if (certificateText !== null) {
      throw new OrchestratorError(
        'authority-broken',
        `${certificateFile} is there but ${keyFile} is not. Restore the key from a backup; or remove ca.crt to begin ` +
          'with a new authority, and let every host join again',
      )
    }
    const keys = await newKeyPair()
    await writeStateFile(keyFile, await privateKeyPem(keys), 0o600)
    const certificate = await newAuthorityCertificate(keys, certificateFile, clock)
    log.info('authority.made', `made a certificate authority in ${directory}`, {
      fingerprint: fingerprintOf(certificate),
    })
    return authorityOf(keys, certificate, clock)
  }
  if (await closeToOthers(keyFile)) log.warn('authority.key-open', `${keyFile} could be read by others; closed it`)
  const keys = await parsed(keyFile, () => keyPairOf(keyText))
  if (certificateText === null) {
    const certificate = await newAuthorityCertificate(keys, certificateFile, clock)
    log.warn(
      'authority.mended',
      `${certificateFile} was missing; made it again from the key. Join tokens not yet used are void`,
    )
    return authorityOf(keys, certificate, clock)
  }
  const certificate = await parsed(certificateFile, async () => new X509Certificate(certificateText))
  if (!(await bearsKey(certificate, keys.publicKey))) {
    throw new OrchestratorError(
      'authority-broken',
      `${certificateFile} does not belong to ${keyFile}. Restore both from one backup`,
    )
  }
  return authorityOf(keys, certificate, clock)
}

async function newAuthorityCertificate(keys: KeyPair, file: string, clock: Clock): Promise<X509Certificate> {
  const spki = Buffer.from(await webcrypto.subtle.exportKey('spki', keys.publicKey))
  const mark = createHash('sha256').update(spki).digest('hex').slice(0, 8)
  const certificate = await issue({
    commonName: `orchestrator authority ${mark}`,
    publicKey: keys.publicKey,
    signer: null,
    signingKey: keys.privateKey,
    use: 'authority',
    days: AUTHORITY_DAYS,
    now: clock.now(),
  })
  await writeStateFile(file, certificatePem(certificate), 0o644)
  return certificate
}

function authorityOf(keys: KeyPair, certificate: X509Certificate, clock: Clock): Authority {
  return {
    keys,
    certificate,
    pem: certificatePem(certificate),
    fingerprint: fingerprintOf(certificate),
    async signHost(csr, host) {
      const publicKey = await requestedKey(csr)
      const issued = await issue({
        commonName: host,
        publicKey,
        signer: { keys, certificate },
        signingKey: keys.privateKey,
        use: 'client',
        days: HOST_DAYS,
        now: clock.now(),
      })
      return { certificate: certificatePem(issued), fingerprint: fingerprintOf(issued) }
    },
  }
}

async function requestedKey(csr: string): Promise<webcrypto.CryptoKey> {
  let request: Pkcs10CertificateRequest
  try {
    request = new Pkcs10CertificateRequest(csr)
  } catch (cause) {
    throw new InvalidInput('csr', 'expected a certificate signing request (PKCS #10) as PEM', { cause })
  }
  const { algorithm } = request.publicKey
  if (algorithm.name !== 'ECDSA' || !('namedCurve' in algorithm) || algorithm.namedCurve !== 'P-256') {
    throw new InvalidInput('csr', 'expected a P-256 key')
  }
  const own = await request.verify().catch((cause: unknown) => {
    throw new InvalidInput('csr', 'its signature cannot be checked', { cause })
  })
  if (!own) throw new InvalidInput('csr', 'it is not signed by its own key')
  return await request.publicKey.export()
}

async function parsed<T>(file: string, parse: () => Promise<T>): Promise<T> {
  try {
    return await parse()
  } catch (cause) {
    throw new OrchestratorError('authority-broken', `${file} cannot be understood. Restore it from a backup`, { cause })
  }
}
