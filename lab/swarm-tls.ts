import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { run } from './command.ts'

/**
 * Makes certificates as an operator does for engines that are asked over the network: `ca.pem`; `server.pem` for these
 * addresses; `client.pem`; and `stranger-client.pem`, of another authority; each with its `-key.pem`.
 */
export async function swarmCertificates(folder: string, addresses: readonly string[]): Promise<void> {
  await authority(folder, 'ca')
  await authority(folder, 'stranger')
  await signed(folder, 'server', 'ca', extensionOf(addresses))
  await signed(folder, 'client', 'ca', CLIENT)
  await signed(folder, 'stranger-client', 'stranger', CLIENT)
}

/** Beside those: `expired-server.pem` and `expired-client.pem`, of the same authority, each with its `-key.pem`. */
export async function expiredCertificates(folder: string, addresses: readonly string[]): Promise<void> {
  await signed(folder, 'expired-server', 'ca', extensionOf(addresses), EXPIRED)
  await signed(folder, 'expired-client', 'ca', CLIENT, EXPIRED)
}

const CLIENT = 'extendedKeyUsage=clientAuth\n'

function extensionOf(addresses: readonly string[]): string {
  const names = addresses.map((address) => `IP:${address}`).join(',')
  return `subjectAltName=${names}\nextendedKeyUsage=serverAuth\n`
}

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
const DAYS = ['-days', '30']
/** They end a day before they begin. */
const EXPIRED = ['-days', '-1']

async function authority(folder: string, name: string): Promise<void> {
  const file = (what: string) => join(folder, `${name}${what}.pem`)
  await run('openssl', [
    'req',
    '-x509',
    ...KEY,
    ...DAYS,
    '-subj',
    `/CN=${name}`,
    '-keyout',
    file('-key'),
    '-out',
    file(''),
  ])
}

async function signed(folder: string, name: string, by: string, extension: string, days = DAYS): Promise<void> {
  const path = (what: string) => join(folder, what)
  writeFileSync(path(`${name}.ext`), extension)
  const request = ['-keyout', path(`${name}-key.pem`), '-out', path(`${name}.csr`)]
  await run('openssl', ['req', ...KEY, '-subj', `/CN=${name}`, ...request])
  const authorities = ['-CA', path(`${by}.pem`), '-CAkey', path(`${by}-key.pem`), '-CAcreateserial']
  const files = ['-in', path(`${name}.csr`), '-extfile', path(`${name}.ext`), '-out', path(`${name}.pem`)]
  await run('openssl', ['x509', '-req', ...authorities, ...days, ...files])
  chmodSync(path(`${name}-key.pem`), 0o600)
}
