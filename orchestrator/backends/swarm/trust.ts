import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { OrchestratorError } from '../../../common/errors.ts'
import type { BackendContext } from '../backend.ts'
import { readTls, type SwarmSettings, type Tls } from './settings.ts'

/** What is wrong with a manager's own certificate, by the codes of node:tls (OpenSSL, X509_V_ERR_…; Node.js, errors). */
const THEIRS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'its certificate has expired: make that manager a new one, and restart its engine',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet: set the clocks right, there or here',
  ERR_TLS_CERT_ALTNAME_INVALID:
    'its certificate is not for this address: make it one with the address of settings.managers as subjectAltName',
  EPROTO: 'it does not speak TLS there: start its engine with --tlsverify, or correct the port',
}
const UNKNOWN_AUTHORITY =
  'its certificate is not of the authority in tls.ca: give the authority that signed it, or make it one of that authority'
const OF_UNKNOWN = new Set([
  ...['SELF_SIGNED_CERT_IN_CHAIN', 'DEPTH_ZERO_SELF_SIGNED_CERT', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'],
  ...['UNABLE_TO_GET_ISSUER_CERT', 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'CERT_SIGNATURE_FAILURE'],
])
/** The alerts by which a manager refuses our certificate (RFC 8446, section 6.2). */
const REFUSED = /ALERT_(BAD_CERTIFICATE|UNKNOWN_CA|CERTIFICATE_(REQUIRED|EXPIRED|REVOKED|UNKNOWN)|ACCESS_DENIED)/

/** Why TLS with a manager fails that answers, with the remedy; null: it is for another reason. */
export function trustFault(error: unknown): string | null {
  const { code = '', message = '' } = error as { code?: string; message?: string }
  if (REFUSED.test(code)) {
    const alert = code
      .replace(/^.*ALERT_/, '')
      .replaceAll('_', ' ')
      .toLowerCase()
    return `it refuses our certificate (${alert}): make tls.cert and tls.key anew, of the authority in its --tlscacert`
  }
  if (OF_UNKNOWN.has(code)) return `${UNKNOWN_AUTHORITY} (${message})`
  const theirs = THEIRS[code]
  return theirs === undefined ? null : `${theirs} (${message})`
}

/** What TLS needs, of which a manager can believe something. @throws OrchestratorError `credential-refused`, or as readTls does */
export async function usableTls(
  settings: SwarmSettings,
  context: Pick<BackendContext, 'credential' | 'clock'>,
): Promise<Tls> {
  const texts = await readTls(settings, context)
  const { tls = {} } = settings
  const where = 'credential' in tls ? `credential ${tls.credential}` : 'settings.tls'
  const why = unusableBecause(texts, context.clock.now())
  if (why !== null) throw new OrchestratorError('credential-refused', `${where}: ${why}`)
  return texts
}

function unusableBecause({ ca, cert, key }: Tls, now: number): string | null {
  const ours = certificateIn(cert)
  if (ours === null || certificateIn(ca) === null) return 'ca and cert must be certificates in PEM'
  const secret = keyIn(key)
  if (secret === null) return 'key must be a private key in PEM, without a passphrase'
  if (!ours.checkPrivateKey(secret)) return 'key is not the key of cert: give the two that were made together'
  if (ours.validToDate.getTime() >= now) return null
  return `cert expired on ${ours.validToDate.toISOString().slice(0, 10)}: make a new one of the same authority`
}

function certificateIn(text: string): X509Certificate | null {
  try {
    return new X509Certificate(text)
  } catch {
    return null // it is none: why OpenSSL thinks so helps nobody
  }
}

function keyIn(text: string): KeyObject | null {
  try {
    return createPrivateKey(text)
  } catch {
    return null // as above
  }
}
