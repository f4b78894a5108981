import 'reflect-metadata'
import { createHash, randomBytes, webcrypto } from 'node:crypto'
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectKeyIdentifierExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509'

/** Every key of ours: NIST P-256, which all TLS 1.3 stacks must support (RFC 8446, section 9.1). */
export const KEY_ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256' } as const
const SIGNATURE = { name: 'ECDSA', hash: 'SHA-256' } as const
export const DAY_MS = 86_400_000
/** How much a host's clock may be behind ours before it finds a new certificate not yet valid. */
const BACKDATE_MS = 10 * 60_000

export type KeyPair = webcrypto.CryptoKeyPair

export async function newKeyPair(): Promise<KeyPair> {
  return await webcrypto.subtle.generateKey(KEY_ALGORITHM, true, ['sign', 'verify'])
}

/** PKCS #8 PEM text of the private key. */
export async function privateKeyPem(keys: KeyPair): Promise<string> {
  return `${PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY')}\n`
}

/** Reads what {@link privateKeyPem} wrote; the public half follows from it. Throws on anything else. */
export async function keyPairOf(pem: string): Promise<KeyPair> {
  const der = PemConverter.decodeFirst(pem)
  const privateKey = await webcrypto.subtle.importKey('pkcs8', der, KEY_ALGORITHM, true, ['sign'])
  const jwk = await webcrypto.subtle.exportKey('jwk', privateKey)
  const { d: _secret, key_ops: _operations, ...open } = jwk
  const publicKey = await webcrypto.subtle.importKey('jwk', open, KEY_ALGORITHM, true, ['verify'])
  return { privateKey, publicKey }
}

/** SHA-256 of the certificate's DER, lower-case hex. */
export function fingerprintOf(certificate: X509Certificate): string {
  return createHash('sha256').update(Buffer.from(certificate.rawData)).digest('hex')
}

/** Whether the certificate speaks of this public key. */
export async function bearsKey(certificate: X509Certificate, publicKey: webcrypto.CryptoKey): Promise<boolean> {
  const expected = Buffer.from(await webcrypto.subtle.exportKey('spki', publicKey))
  return expected.equals(Buffer.from(certificate.publicKey.rawData))
}

/** What a new certificate says. `signer` null: signed by itself, as an authority is. */
export interface CertificatePlan {
  readonly commonName: string
  readonly publicKey: webcrypto.CryptoKey
  readonly signer: { readonly keys: KeyPair; readonly certificate: X509Certificate } | null
  readonly signingKey: webcrypto.CryptoKey
  readonly use: 'authority' | 'server' | 'client'
  readonly days: number
  readonly now: number
  readonly extensions?: readonly Extension[]
}

/** Makes and signs a certificate with a random serial number (20 octets at most, positive: RFC 5280, section 4.1.2.2). */
export async function issue(plan: CertificatePlan): Promise<X509Certificate> {
  const serial = randomBytes(16)
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40
  const authority = plan.use === 'authority'
  const usage = authority ? KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign : KeyUsageFlags.digitalSignature
  const extensions: Extension[] = [
    new BasicConstraintsExtension(authority, authority ? 0 : undefined, true),
    new KeyUsagesExtension(usage, true),
    await SubjectKeyIdentifierExtension.create(plan.publicKey),
    ...(plan.extensions ?? []),
  ]
  if (plan.signer !== null) extensions.push(await AuthorityKeyIdentifierExtension.create(plan.signer.keys.publicKey))
  if (!authority) {
    const purpose = plan.use === 'server' ? ExtendedKeyUsage.serverAuth : ExtendedKeyUsage.clientAuth
    extensions.push(new ExtendedKeyUsageExtension([purpose]))
  }
  return await X509CertificateGenerator.create({
    serialNumber: serial.toString('hex'),
    subject: [{ CN: [plan.commonName] }],
    issuer: plan.signer === null ? [{ CN: [plan.commonName] }] : plan.signer.certificate.subject,
    notBefore: new Date(plan.now - BACKDATE_MS),
    notAfter: new Date(plan.now + plan.days * DAY_MS),
    signingAlgorithm: SIGNATURE,
    publicKey: plan.publicKey,
    signingKey: plan.signingKey,
    extensions,
  })
}

/** PEM text that ends with a line feed. */
export function certificatePem(certificate: X509Certificate): string {
  return `${certificate.toString('pem')}\n`
}
