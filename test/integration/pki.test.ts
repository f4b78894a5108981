import assert from 'node:assert/strict'
import { createPublicKey, X509Certificate } from 'node:crypto'
import {
  chmodSync,
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterEach, test } from 'node:test'
import { connect as tlsConnect } from 'node:tls'
import type { Clock } from '../../common/clock.ts'
import { InvalidInput, OrchestratorError } from '../../common/errors.ts'
import { openAuthority } from '../../orchestrator/pki/authority.ts'
import { serverIdentity } from '../../orchestrator/pki/server-identity.ts'
import {
  firstApiToken,
  makeApiToken,
  makeJoinToken,
  parseJoinToken,
  sameHash,
  tokenHash,
} from '../../orchestrator/pki/tokens.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import { testApi } from '../support/api.ts'
import { manualClock, silent } from '../support/fixtures.ts'
import { keyAndRequest } from '../support/test-host.ts'

const DAY = 86_400_000
const directories: string[] = []
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true })
})

function folder(): string {
  const directory = mkdtempSync('/tmp/orchestrator-pki-')
  directories.push(directory)
  return directory
}

const authorityIn = (directory: string, clock: Clock = manualClock(Date.now())) =>
  openAuthority({ directory, clock, log: silent })

async function identityIn(directory: string, names: string[], clock: Clock = manualClock(Date.now())) {
  const authority = await authorityIn(directory, clock)
  return await serverIdentity({ directory, names, authority, clock, log: silent })
}

function mode(path: string): string {
  return (statSync(path).mode & 0o777).toString(8)
}

test('the first start makes an authority, later ones find it', async () => {
  const directory = join(folder(), 'deep', 'state')
  const first = await authorityIn(directory)
  assert.deepEqual(readdirSync(directory).sort(), ['ca.crt', 'ca.key'])
  assert.deepEqual([mode(join(directory, 'ca.key')), mode(join(directory, 'ca.crt'))], ['600', '644'])
  const certificate = new X509Certificate(readFileSync(join(directory, 'ca.crt')))
  assert.ok(certificate.ca && certificate.verify(certificate.publicKey))
  assert.equal(certificate.fingerprint256.replaceAll(':', '').toLowerCase(), first.fingerprint)
  assert.equal((await authorityIn(directory)).fingerprint, first.fingerprint)
})

test('a key without its certificate is mended so that hosts that joined still trust the server', async () => {
  const directory = folder()
  const before = await authorityIn(directory)
  rmSync(join(directory, 'ca.crt'))
  const after = await authorityIn(directory)
  assert.notEqual(after.fingerprint, before.fingerprint)
  const { chain } = await identityIn(directory, ['localhost'])
  const old = new X509Certificate(before.pem)
  const server = new X509Certificate(chain)
  assert.ok(server.verify(old.publicKey) && server.checkIssued(old))
})

test('a certificate without its key, of another key, or garbage is told clearly and changed by nobody', async () => {
  const cases: [string, (directory: string, other: string) => void][] = [
    ['ca.key is not', (directory) => rmSync(join(directory, 'ca.key'))],
    ['does not belong to', (directory, other) => copyFileSync(join(other, 'ca.key'), join(directory, 'ca.key'))],
    ['cannot be understood', (directory) => writeFileSync(join(directory, 'ca.key'), 'garbage')],
    ['cannot be understood', (directory) => writeFileSync(join(directory, 'ca.key'), '')],
    ['cannot be understood', (directory) => writeFileSync(join(directory, 'ca.crt'), 'garbage')],
  ]
  for (const [words, spoil] of cases) {
    const [directory, other] = [folder(), folder()]
    await authorityIn(directory)
    await authorityIn(other)
    spoil(directory, other)
    const before = readdirSync(directory).map((name) => readFileSync(join(directory, name), 'utf8'))
    await assert.rejects(authorityIn(directory), (error: unknown) => {
      assert.ok(error instanceof OrchestratorError && error.code === 'authority-broken')
      assert.ok(error.message.includes(words), error.message)
      return true
    })
    assert.deepEqual(
      readdirSync(directory).map((name) => readFileSync(join(directory, name), 'utf8')),
      before,
    )
  }
})

test('a key that others could read is closed to them', async () => {
  const directory = folder()
  await authorityIn(directory)
  chmodSync(join(directory, 'ca.key'), 0o644)
  await authorityIn(directory)
  assert.equal(mode(join(directory, 'ca.key')), '600')
})

test('a start that fails half way leaves no drafts behind', async () => {
  const directory = folder()
  await identityIn(directory, ['localhost'])
  assert.deepEqual(readdirSync(directory).sort(), ['ca.crt', 'ca.key', 'server.crt', 'server.key'])
})

test('the server certificate names all names and addresses, and is kept while it is good', async () => {
  const directory = folder()
  const names = ['Box.example', 'localhost', '::1', 'fd00::5', '127.0.0.1']
  const first = await identityIn(directory, names)
  assert.equal(mode(join(directory, 'server.key')), '600')
  const certificate = new X509Certificate(first.chain)
  assert.equal(certificate.checkHost('box.example'), 'box.example')
  for (const address of ['::1', 'fd00::5', '127.0.0.1']) assert.equal(certificate.checkIP(address), address)
  assert.equal(certificate.checkIP('fd00::6'), undefined)
  assert.equal(
    (await identityIn(directory, ['box.example', 'localhost', '0:0::1', 'fd00:0::5', '127.0.0.1'])).chain,
    first.chain,
  )
})

test('the server certificate is made anew when it ends soon, the names change, or it is spoilt', async () => {
  const directory = folder()
  const clock = manualClock(Date.now())
  const make = (names: string[]) => identityIn(directory, names, clock)
  const first = await make(['localhost'])
  clock.advance(334 * DAY)
  assert.equal((await make(['localhost'])).chain, first.chain)
  clock.advance(2 * DAY)
  const second = await make(['localhost'])
  assert.notEqual(second.chain, first.chain)
  const third = await make(['localhost', 'other'])
  assert.notEqual(third.chain, second.chain)
  for (const file of ['server.key', 'server.crt']) {
    writeFileSync(join(directory, file), 'garbage')
    const mended = await make(['localhost', 'other'])
    const spki = (key: ReturnType<typeof createPublicKey>) => key.export({ type: 'spki', format: 'pem' })
    assert.equal(spki(new X509Certificate(mended.chain).publicKey), spki(createPublicKey(mended.key)))
  }
})

test('a running server shows its renewed certificate without a restart', async () => {
  const directory = folder()
  const store = await openStore(`sqlite:${join(directory, 'test.db')}`)
  try {
    const names = ['localhost', '127.0.0.1']
    await using api = await testApi({ store, names })
    const shown = () =>
      new Promise<string>((resolve, reject) => {
        const options = { port: api.api.port, host: '127.0.0.1', ca: api.authority.pem }
        const socket = tlsConnect(options, () => {
          resolve(socket.getPeerCertificate().fingerprint256)
          socket.destroy()
        }).once('error', reject)
      })
    const before = await shown()
    await api.api.reloadIdentity()
    assert.equal(await shown(), before)
    names.push('another.example')
    await api.api.reloadIdentity()
    assert.notEqual(await shown(), before)
  } finally {
    await store.close()
  }
})

test("a host's certificate bears the host's name whatever the request says, and is for clients only", async () => {
  const authority = await authorityIn(folder())
  const { csr } = await keyAndRequest()
  const signed = await authority.signHost(csr, 'h1')
  const certificate = new X509Certificate(signed.certificate)
  assert.equal(certificate.subject, 'CN=h1')
  assert.equal(certificate.ca, false)
  assert.deepEqual(certificate.keyUsage, ['1.3.6.1.5.5.7.3.2'])
  assert.equal(certificate.fingerprint256.replaceAll(':', '').toLowerCase(), signed.fingerprint)
})

test('a request is refused when its signature or its key is not as it should be', async () => {
  const authority = await authorityIn(folder())
  const { csr } = await keyAndRequest()
  const der = Buffer.from(csr.replace(/-----.*-----|\s/g, ''), 'base64')
  der.writeUInt8((der.at(-1) ?? 0) ^ 1, der.length - 1)
  const forged = `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString('base64')}\n-----END CERTIFICATE REQUEST-----`
  const p521 = await keyAndRequest({ name: 'ECDSA', namedCurve: 'P-521', hash: 'SHA-512' })
  for (const bad of [forged, p521.csr, '', 'garbage', 'x'.repeat(8000), authority.pem]) {
    await assert.rejects(
      authority.signHost(bad, 'h1'),
      (error) => error instanceof InvalidInput && error.field === 'csr',
    )
  }
})

test('tokens have 256 random bits, a fixed form, and are compared by their hashes', () => {
  const token = makeJoinToken('a'.repeat(64))
  assert.equal(parseJoinToken(token).fingerprint, 'a'.repeat(64))
  assert.equal(Buffer.from(parseJoinToken(token).secret, 'base64url').length, 32)
  assert.match(makeApiToken(), /^orc_[A-Za-z0-9_-]{43}$/)
  assert.notEqual(makeApiToken(), makeApiToken())
  for (const bad of ['', 'orc1..', token.toUpperCase(), `${token}0`, ` ${token}`, token.replace('orc1', 'orc2')]) {
    assert.throws(() => parseJoinToken(bad), InvalidInput)
  }
  assert.ok(sameHash(tokenHash(token), tokenHash(token)))
  assert.ok(!sameHash(tokenHash(token), tokenHash(`${token}x`)) && !sameHash(tokenHash(token), ''))
})

test('the first API token is written once, survives a new store, and comes back when it was lost', async () => {
  const directory = folder()
  const store = await openStore(`sqlite:${join(directory, 'a.db')}`)
  const other = await openStore(`sqlite:${join(directory, 'b.db')}`)
  try {
    const { file, made } = await firstApiToken(directory, store)
    assert.deepEqual([made, mode(file)], [true, '600'])
    const token = readFileSync(file, 'utf8').trim()
    assert.equal((await store.token(tokenHash(token)))?.kind, 'api')
    assert.equal((await firstApiToken(directory, store)).made, false)
    await firstApiToken(directory, other)
    assert.equal((await other.token(tokenHash(token)))?.kind, 'api')
    rmSync(file)
    assert.equal((await firstApiToken(directory, store)).made, true)
    assert.notEqual(readFileSync(file, 'utf8').trim(), token)
    writeFileSync(file, 'garbage')
    await assert.rejects(firstApiToken(directory, store), { code: 'api-token-broken' })
  } finally {
    await store.close()
    await other.close()
  }
})
