import { suggestion } from '../../common/config.ts'
import { parseDuid } from '../../common/duid.ts'
import { InvalidInput } from '../../common/errors.ts'
import { formatPrefix, parsePrefix } from '../../common/ipv6.ts'
import type { Path } from '../compose/document.ts'
import type { Day, RuleMatch } from '../domain/rule.ts'
import type { Json } from '../domain/template.ts'
import { DAYS, isZone, minutesOf } from '../domain/time-window.ts'
import type { RuleReading } from './rule-reading.ts'

/** Fields of a rule's `match` as the file names them, and as rules have them, in the order in which they are looked at. */
const FIELDS = {
  duid: 'duid',
  mac: 'mac',
  tags: 'tags',
  subnet: 'subnet',
  relay: 'relay',
  interface: 'interface',
  source: 'source',
  hostname: 'hostname',
  'mud-url': 'mudUrl',
  'vendor-class': 'vendorClass',
  'user-class': 'userClass',
  time: 'time',
  percent: 'percent',
} as const satisfies Record<string, keyof RuleMatch>
type Field = keyof typeof FIELDS

/** Reads a rule's `match`; without one it matches every lease. What is wrong goes to `reading`. */
export function readMatch(reading: RuleReading, path: Path, value: Json | undefined): RuleMatch {
  if (value === undefined || value === null) return {}
  const fields = reading.fields(path, value, Object.keys(FIELDS))
  const read: Record<string, unknown> = {}
  for (const name of Object.keys(FIELDS) as Field[]) {
    const given = fields?.get(name)
    const found = given === undefined ? null : readField(reading, [...path, name], name, given)
    if (found !== null) read[FIELDS[name]] = found
  }
  return read as RuleMatch
}

function readField(reading: RuleReading, path: Path, name: Field, value: Json): unknown {
  switch (name) {
    case 'duid':
      return reading.texts(path, value, duidPattern)
    case 'mac':
      return reading.texts(path, value, macPattern)
    case 'tags':
      return readTags(reading, path, value)
    case 'subnet':
      return reading.texts(path, value, (text) => formatPrefix(parsePrefix(text)))
    case 'relay':
      return reading.texts(path, value, (text) => (text === 'none' ? text : formatPrefix(parsePrefix(text))))
    case 'time':
      return readTime(reading, path, value)
    case 'percent':
      if (typeof value === 'number' && value >= 0 && value <= 100) return value
      reading.fault(path, 'expected a number from 0 to 100')
      return null
    case 'hostname':
      return reading.texts(path, value, (text) => text.toLowerCase())
    case 'interface':
    case 'source':
    case 'mud-url':
    case 'vendor-class':
    case 'user-class':
      return reading.texts(path, value)
  }
}

/** Lower case, with colons. @throws InvalidInput */
function duidPattern(text: string): string {
  const pattern = text.toLowerCase().replaceAll('-', ':')
  if (!pattern.includes('*')) return parseDuid(pattern)
  return octetPattern(pattern, text)
}

/** Lower case, with colons: a whole EUI-48 or EUI-64, or a pattern. @throws InvalidInput */
function macPattern(text: string): string {
  const pattern = text.toLowerCase().replaceAll('-', ':')
  if (pattern.includes('*')) return octetPattern(pattern, text)
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2})*$/.test(pattern)) {
    throw new InvalidInput(
      'mac',
      `expected a MAC such as 02:00:5e:00:53:01, or a prefix such as 02:00:5e:*, got ${text}`,
    )
  }
  const octets = pattern.split(':').length
  if (octets === 6 || octets === 8) return pattern
  throw new InvalidInput(
    'mac',
    `${text} has ${octets} octets, and a MAC has 6; if all that begin so are meant, write ${pattern}:*`,
  )
}

/** @throws InvalidInput for what no hex octets with colons can match */
function octetPattern(pattern: string, text: string): string {
  const parts = pattern.split('*')
  const fits = parts.every((part, index) => {
    const begins = index === 0 ? '^' : '^[0-9a-f]{0,2}'
    const ends = index === parts.length - 1 ? '[0-9a-f]{2}$' : '[0-9a-f]{0,2}$'
    if (part === '') return true
    if (index === 0) return new RegExp(`${begins}([0-9a-f]{2}:)*${ends}`).test(part)
    return new RegExp(`${begins}(:[0-9a-f]{2})*(:${ends}|$)`).test(part)
  })
  if (fits) return pattern
  throw new InvalidInput(
    'pattern',
    `expected hex octets with colons, and * for any of them, such as 02:00:5e:*, got ${text}`,
  )
}

function readTags(reading: RuleReading, path: Path, value: Json): RuleMatch['tags'] | null {
  if (typeof value === 'string' || Array.isArray(value)) {
    const any = reading.texts(path, value)
    return any === null ? null : { any }
  }
  const names = ['any', 'all', 'none']
  const fields = reading.fields(path, value, names)
  if (fields === null) return null
  if (fields.size === 0) reading.fault(path, 'is empty: expected any, all or none')
  const read: Record<string, readonly string[]> = {}
  for (const name of names) {
    const given = fields.get(name)
    const texts = given === undefined ? null : reading.texts([...path, name], given)
    if (texts !== null) read[name] = texts
  }
  return read
}

function readTime(reading: RuleReading, path: Path, value: Json): RuleMatch['time'] | null {
  const fields = reading.fields(path, value, ['days', 'from', 'to', 'zone'])
  if (fields === null) return null
  const given = fields.get('days')
  const days = given === undefined ? undefined : reading.texts([...path, 'days'], given, dayOf)
  const from = readClock(reading, [...path, 'from'], fields.get('from'))
  const to = readClock(reading, [...path, 'to'], fields.get('to'))
  const zone = fields.get('zone')
  if (typeof zone !== 'string') {
    reading.fault(
      [...path, 'zone'],
      'expected a time zone such as Europe/Berlin, or UTC: rules do not guess whose time is meant',
    )
    return null
  }
  if (!isZone(zone)) {
    reading.fault(
      [...path, 'zone'],
      `expected a time zone of the IANA database such as Europe/Berlin${suggestion(zone, zoneNames())}`,
    )
  }
  if (from === '24:00') reading.fault([...path, 'from'], 'is the end of the day: write 00:00')
  else if (from !== undefined && from !== null && from === to) {
    reading.fault(path, `ends when it begins, at ${from}, so nothing matches; leave both away for the whole day`)
  }
  if (days === undefined && from === undefined && to === undefined) {
    reading.fault(path, 'says no time: expected days, from or to')
  }
  return { ...(days ? { days: days as readonly Day[] } : {}), ...(from ? { from } : {}), ...(to ? { to } : {}), zone }
}

function zoneNames(): readonly string[] {
  return ['UTC', ...Intl.supportedValuesOf('timeZone')]
}

/** @throws InvalidInput */
function dayOf(text: string): string {
  const day = text.toLowerCase()
  if ((DAYS as readonly string[]).includes(day)) return day
  throw new InvalidInput('days', `expected ${DAYS.join(', ')}, got ${text}`)
}

/** `08:00`; undefined: it is not given; null: it is wrong. */
function readClock(reading: RuleReading, path: Path, value: Json | undefined): string | null | undefined {
  if (value === undefined) return undefined
  const minutes = typeof value === 'string' ? minutesOf(value) : null
  if (minutes !== null) return String(value).padStart('00:00'.length, '0')
  reading.fault(path, 'expected a time of day such as 08:00')
  return null
}

/** A rule's `match` as files have it. */
export function writtenMatch(match: RuleMatch): Record<string, Json> {
  const written: Record<string, Json> = {}
  for (const [name, field] of Object.entries(FIELDS)) {
    const value = match[field]
    if (value === undefined) continue
    const tags = field === 'tags' ? match.tags : undefined
    const anyOnly = tags?.any !== undefined && tags.all === undefined && tags.none === undefined
    written[name] = (anyOnly ? tags.any : value) as Json
  }
  return written
}
