import { open } from 'node:fs/promises'
import { setTimeout as wait } from 'node:timers/promises'
import { parseDuid, parseIaid } from '../../../common/duid.ts'
import { OrchestratorError } from '../../../common/errors.ts'
import { parseIpv6 } from '../../../common/ipv6.ts'
import type { WireLease } from '../../contract.ts'

/** A dnsmasq lease file at one moment. */
export interface LeaseTable {
  /** Epoch ms before which nothing in it can have been written later. */
  readonly readAt: number
  /** DHCPv6 leases that have not expired. */
  readonly leases: readonly WireLease[]
  /** All entries, IPv4, temporary and expired ones too: what dhcp-lease-max counts. */
  readonly entries: number
  /** Lines that could not be understood, with the reason. */
  readonly faults: readonly string[]
}

/** The file could not be read whole: it is absent, or was being written all the time. Says nothing about leases. */
export class LeaseFileUnreadable extends OrchestratorError {
  constructor(path: string, why: string, cause?: unknown) {
    super('lease-file-unreadable', `lease file ${path}: ${why}`, { retryable: true, cause })
  }
}

/** Milliseconds after its expiry for which an entry still counts: dnsmasq is about to delete it and to say so. */
const EXPIRED_GRACE_MS = 30_000
/** Attempts to read the file at rest, and milliseconds between them. dnsmasq rewrites 20,000 leases in about 20 ms. */
const ATTEMPTS = 40
const PAUSE_MS = 100

/**
 * Reads the lease file. dnsmasq truncates and rewrites it in place, 4096 bytes at a time, and nothing marks its end. So a text
 * counts only when it ends with a line end, holds the server's DUID, after which the DHCPv6 leases stand, and the file has
 * not changed from one attempt to the next: what is cut off behind a line looks whole, and would end all leases behind it.
 * @throws LeaseFileUnreadable
 */
export async function readLeaseFile(path: string, now: () => number, signal?: AbortSignal): Promise<LeaseTable> {
  let before: string | null = null
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const readAt = now()
    const found = await readConsistently(path)
    if (found !== null && found.version === before) return parseLeaseFile(found.text, readAt)
    before = found?.version ?? null
    await wait(PAUSE_MS, undefined, signal ? { signal } : {})
  }
  throw new LeaseFileUnreadable(path, 'it was being written whenever it was read; does it belong to a running dnsmasq?')
}

/** The whole text, and which state of the file it is; null when it was being written. */
async function readConsistently(path: string): Promise<{ readonly text: string; readonly version: string } | null> {
  try {
    await using file = await open(path, 'r')
    const before = await file.stat({ bigint: true })
    const text = await file.readFile('utf8')
    const after = await file.stat({ bigint: true })
    const same = before.mtimeNs === after.mtimeNs && before.size === after.size
    const whole = Buffer.byteLength(text) === Number(after.size) && text.endsWith('\n') && /^duid /m.test(text)
    return same && whole ? { text, version: `${after.ino} ${after.mtimeNs} ${after.size}` } : null
  } catch (cause) {
    throw new LeaseFileUnreadable(path, cause instanceof Error ? cause.message : String(cause), cause)
  }
}

/**
 * Parses the text: IPv4 leases, then `duid <server's DUID>`, then `expiry iaid address hostname duid` for each DHCPv6
 * lease; expiry in epoch seconds, 0 is never; an IAID that begins with T is a temporary association and is left out.
 */
export function parseLeaseFile(text: string, readAt: number): LeaseTable {
  const lines = text.split('\n').filter((line) => line !== '')
  const duidLine = lines.findIndex((line) => line.startsWith('duid '))
  const faults: string[] = []
  const leases: WireLease[] = []
  for (const line of lines.slice(duidLine + 1)) {
    try {
      const lease = parseEntry(line)
      const expired = lease?.expiresAt != null && lease.expiresAt < readAt - EXPIRED_GRACE_MS
      if (lease && !expired) leases.push(lease)
    } catch (error) {
      faults.push(`${JSON.stringify(line.slice(0, 200))}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  return { readAt, leases, entries: lines.length - 1, faults }
}

function parseEntry(line: string): WireLease | null {
  const [expiry = '', iaid = '', address = '', hostname = '*', duid = ''] = line.split(' ')
  if (iaid.startsWith('T')) return null
  if (!/^\d{1,12}$/.test(expiry)) throw new Error('expiry: expected seconds since 1970')
  return {
    owner: { duid: parseDuid(duid), iaid: parseIaid(iaid) },
    address: parseIpv6(address),
    expiresAt: expiry === '0' ? null : Number(expiry) * 1000,
    facts: hostname === '*' || hostname === '' ? {} : { hostname: hostname.slice(0, 255) },
  }
}
