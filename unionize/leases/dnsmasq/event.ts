import { parseDuid, parseIaid } from '../../../common/duid.ts'
import { InvalidInput } from '../../../common/errors.ts'
import { parseIpv6 } from '../../../common/ipv6.ts'
import type { WireLeaseEvent, WireLeaseFacts } from '../../contract.ts'

/** What one journal line says; the follower knows where and when it was written. */
export type JournalEvent = Pick<WireLeaseEvent, 'kind' | 'lease'>

/** Version of the line format, its first field. */
const FORMAT = '1'

/** dnsmasq's actions (dnsmasq(8), --dhcp-script) as what they mean. */
const KINDS: Readonly<Record<string, WireLeaseEvent['kind']>> = { add: 'granted', old: 'confirmed', del: 'ended' }

/**
 * Parses a journal line of `dnsmasq/lease-hook`: TAB separated fields `1`, action, DUID, address, hostname, then
 * `NAME=value`, with `%`, TAB, LF and CR percent-encoded.
 * @throws InvalidInput naming the field that is wrong
 */
export function parseJournalLine(line: string): JournalEvent {
  const [format, action = '', duid = '', address = '', hostname = '', ...rest] = line.split('\t').map(decode)
  if (format !== FORMAT) throw new InvalidInput('format', `expected ${FORMAT}, got ${quoted(format ?? '')}`)
  const kind = Object.hasOwn(KINDS, action) ? KINDS[action] : undefined
  if (!kind) throw new InvalidInput('action', `expected add, old or del, got ${quoted(action)}`)
  const values = variables(rest)
  const iaid = values.get('IAID')
  if (iaid === undefined) throw new InvalidInput('IAID', 'is not there: not a DHCPv6 lease')
  return {
    kind,
    lease: {
      owner: { duid: parseDuid(duid), iaid: parseIaid(iaid, 'IAID') },
      address: parseIpv6(address),
      expiresAt: expiry(values.get('LEASE_EXPIRES'), kind),
      facts: facts(values, hostname),
    },
  }
}

function variables(fields: readonly string[]): Map<string, string> {
  const values = new Map<string, string>()
  for (const field of fields) {
    const equals = field.indexOf('=')
    if (equals < 1) throw new InvalidInput('variable', `expected NAME=value, got ${quoted(field)}`)
    values.set(field.slice(0, equals), field.slice(equals + 1))
  }
  return values
}

/** Epoch ms; null: never (0). dnsmasq may leave it out where a lease ends: then it ended now, at whatever time. */
function expiry(text: string | undefined, kind: WireLeaseEvent['kind']): number | null {
  if (text === undefined) {
    if (kind === 'ended') return null
    throw new InvalidInput('LEASE_EXPIRES', 'is not there')
  }
  const seconds = Number(text)
  if (!/^\d{1,12}$/.test(text)) {
    throw new InvalidInput('LEASE_EXPIRES', `expected seconds since 1970, got ${quoted(text)}`)
  }
  return seconds === 0 ? null : seconds * 1000
}

/** Facts are hints: what is too long is cut, never refused. */
function facts(values: ReadonlyMap<string, string>, hostname: string): WireLeaseFacts {
  const text = (name: string, most: number): string | undefined => cut(values.get(name), most)
  const found: Record<keyof WireLeaseFacts, unknown> = {
    mac: text('MAC', 64),
    hostname: text('SUPPLIED_HOSTNAME', 255) ?? cut(hostname, 255),
    interface: text('INTERFACE', 64),
    relay: text('RELAY_ADDRESS', 64),
    mudUrl: text('MUD_URL', 2048),
    domain: text('DOMAIN', 255),
    vendorClass: text('VENDOR_CLASS0', 1024) ?? text('VENDOR_CLASS', 1024) ?? text('VENDOR_CLASS_ID', 1024),
    tags: words(values.get('TAGS'), ' ').slice(0, 64),
    userClasses: numbered(values, 'USER_CLASS').slice(0, 32),
    requestedOptions: words(values.get('REQUESTED_OPTIONS'), ',')
      .filter((option) => /^\d{1,5}$/.test(option))
      .map(Number)
      .slice(0, 255),
  }
  const said = Object.entries(found).filter(([, v]) => v !== undefined && !(Array.isArray(v) && v.length === 0))
  return Object.fromEntries(said) as WireLeaseFacts
}

/** Values of NAME0, NAME1, …; dnsmasq leaves gaps for empty ones. */
function numbered(values: ReadonlyMap<string, string>, name: string): string[] {
  return Array.from({ length: 64 }, (_, n) => cut(values.get(`${name}${n}`), 255)).filter((v) => v !== undefined)
}

function words(text: string | undefined, separator: string): string[] {
  return (text ?? '')
    .split(separator)
    .map((word) => cut(word.trim(), 255))
    .filter((word) => word !== undefined)
}

function cut(text: string | undefined, most: number): string | undefined {
  return text ? text.slice(0, most).toWellFormed() : undefined
}

function decode(field: string): string {
  return field.replace(/%(25|09|0A|0D)/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
}

function quoted(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text)
}
