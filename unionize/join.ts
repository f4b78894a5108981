import 'reflect-metadata'
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto'
import { chown, mkdir, readFile, stat } from 'node:fs/promises'
import { request } from 'node:https'
import { join } from 'node:path'
import { connect, type DetailedPeerCertificate } from 'node:tls'
import { Pkcs10CertificateRequestGenerator } from '@peculiar/x509'
import { InvalidInput, OrchestratorError, wording } from '../common/errors.ts'
import { writeAtomically } from './atomic-file.ts'
import { type JoinRequest, joinResponse } from './contract.ts'
import { IDENTITY_FILES, loadIdentity } from './identity.ts'

/** Milliseconds that the orchestrator has to answer. */
const ANSWER_MS = 15_000
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const

/** What a join could not do; its message says what to do about it. */
export class JoinFailed extends OrchestratorError {}

/**
 * Makes this host known to an orchestrator: key and certificate end up in the state directory. Nothing secret is sent
 * before the server has shown an authority with the fingerprint that the token holds. Joined already is success.
 * @returns whether it joined now or had before
 */
export async function joinOrchestrator(options: {
  server: string
  token: string
  host: string
  stateDirectory: string
  now: () => number
}): Promise<'joined' | 'joined-before'> {
  const { server, token, host, stateDirectory } = options
  const fingerprint = fingerprintOf(token)
  if (await isJoined(stateDirectory, host, fingerprint, options.now())) return 'joined-before'
  const authority = await fetchAuthority(server, fingerprint)
  await mkdir(stateDirectory, { recursive: true, mode: 0o700 })
  const { csr, keyPem } = await signingRequest(join(stateDirectory, IDENTITY_FILES.key), host)
  const answer = await post(server, authority, { token, host, csr })
  // Joined by root for the daemon's user: what is in the daemon's folder is the daemon's.
  const { uid, gid } = await stat(stateDirectory)
  const store = async (name: string, content: string, mode: number) => {
    await writeAtomically(join(stateDirectory, name), content, { mode, durable: true })
    if (process.getuid?.() === 0) await chown(join(stateDirectory, name), uid, gid)
  }
  await store(IDENTITY_FILES.key, keyPem, 0o600)
  await store(IDENTITY_FILES.authority, answer.authority, 0o644)
  await store(IDENTITY_FILES.certificate, answer.certificate, 0o644)
  return 'joined'
}

/** The SHA-256 of the authority's certificate (DER), hex, that ends a join token. */
function fingerprintOf(token: string): string {
  const found = /^orc1\.[A-Za-z0-9_-]{16,}\.([0-9a-f]{64})$/.exec(token)?.[1]
  if (!found) throw new InvalidInput('token', 'expected orc1.<secret>.<fingerprint>, as "orctl create token" prints it')
  return found
}

/** Whether a certificate for this host by that authority is here, valid, and fits the key. */
async function isJoined(stateDirectory: string, host: string, fingerprint: string, now: number): Promise<boolean> {
  try {
    const identity = await loadIdentity(stateDirectory)
    const certificate = new X509Certificate(identity.certificate)
    const authority = new X509Certificate(identity.authority)
    return (
      sha256(authority.raw) === fingerprint &&
      certificate.checkPrivateKey(createPrivateKey(identity.key)) &&
      certificate.verify(authority.publicKey) &&
      certificate.subject.split('\n').includes(`CN=${host}`) &&
      certificate.validToDate.getTime() > now
    )
  } catch {
    return false // absent or damaged: join
  }
}

/** The certificate in the server's chain that has the fingerprint, PEM. Nothing is sent to the server. */
async function fetchAuthority(server: string, fingerprint: string): Promise<string> {
  const url = new URL(server)
  const port = Number(url.port || 443)
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const socket = connect({
    host,
    port,
    rejectUnauthorized: false,
    timeout: ANSWER_MS,
    ...(isName(host) ? { servername: host } : {}),
  })
  socket.once('secureConnect', () => {
    const chain = chainOf(socket.getPeerCertificate(true))
    const found = chain.find((der) => sha256(der) === fingerprint)
    if (found) resolve(new X509Certificate(found).toString())
    else {
      reject(
        new JoinFailed(
          'fingerprint-mismatch',
          `${server} is not the orchestrator that made this token: none of its certificates has the token's fingerprint. Nothing was sent. Check --server, or make a new token`,
        ),
      )
    }
  })
  socket.once('timeout', () => reject(unreachable(server, `no answer within ${ANSWER_MS / 1000} s`)))
  socket.once('error', (error) => reject(unreachable(server, wording(error))))
  try {
    return await promise
  } finally {
    socket.destroy()
  }
}

function chainOf(leaf: DetailedPeerCertificate): Buffer[] {
  const chain: Buffer[] = []
  for (let at = leaf; at?.raw && !chain.some((der) => der.equals(at.raw)); at = at.issuerCertificate) chain.push(at.raw)
  return chain
}

/** A signing request for the host, with the key of an earlier attempt or a new one. */
async function signingRequest(keyFile: string, host: string): Promise<{ csr: string; keyPem: string }> {
  const { subtle } = globalThis.crypto
  const old = await readFile(keyFile, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  const privateKey =
    old === null ? generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey : createPrivateKey(old)
  const pkcs8 = privateKey.export({ type: 'pkcs8', format: 'der' })
  const spki = createPublicKey(privateKey).export({ type: 'spki', format: 'der' })
  const keys = {
    privateKey: await subtle.importKey('pkcs8', new Uint8Array(pkcs8), ALGORITHM, true, ['sign']),
    publicKey: await subtle.importKey('spki', new Uint8Array(spki), ALGORITHM, true, ['verify']),
  }
  const csr = await Pkcs10CertificateRequestGenerator.create({ name: `CN=${host}`, keys, signingAlgorithm: ALGORITHM })
  const keyPem = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
  await writeAtomically(keyFile, keyPem, { mode: 0o600, durable: true })
  return { csr: csr.toString('pem'), keyPem }
}

async function post(server: string, authority: string, body: JoinRequest) {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>()
  const content = JSON.stringify(body)
  const call = request(
    new URL('/v1/hosts/join', server),
    {
      method: 'POST',
      ca: authority,
      timeout: ANSWER_MS,
      headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(content) },
    },
    (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }),
      )
      response.on('error', reject)
    },
  )
  call.on('timeout', () => call.destroy(new Error(`no answer within ${ANSWER_MS / 1000} s`)))
  call.on('error', (error) => reject(unreachable(server, wording(error))))
  call.end(content)
  const { status, text } = await promise
  if (status !== 200 && status !== 201) throw refused(status, text)
  const parsed = joinResponse.safeParse(jsonOf(text))
  if (!parsed.success)
    throw new JoinFailed('join-answer', `${server} answered the join with something else: ${text.slice(0, 200)}`)
  return parsed.data
}

function refused(status: number, text: string): JoinFailed {
  const problem = jsonOf(text) as { code?: unknown; message?: unknown } | null
  const said = typeof problem?.message === 'string' ? problem.message : text.slice(0, 200)
  const code = typeof problem?.code === 'string' ? problem.code : 'join-refused'
  return new JoinFailed(code, `the orchestrator refused the join (HTTP ${status}): ${said}`)
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

function unreachable(server: string, why: string): JoinFailed {
  return new JoinFailed('server-unreachable', `${server} cannot be reached: ${why}`, { retryable: true })
}

function isName(host: string): boolean {
  return !/^[\d.]+$|:/.test(host)
}

function sha256(der: Buffer): string {
  return createHash('sha256').update(der).digest('hex')
}
