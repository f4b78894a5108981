import type { Policy } from '../../../common/wiring-policy.ts'
import { WiringError } from '../errors.ts'
import { addressBytes, canonical } from '../input.ts'
import type { Source } from '../wiring.ts'
import { Contents } from './contents.ts'
import { perSecondOf } from './limits.ts'
import { INTERNET } from './path-rules.ts'
import { destinationOf, type Path } from './paths.ts'
import type { PublicPort } from './reaches.ts'

/** Answers a `list` command of nft(8) as parsed JSON. */
export type List = (command: string) => unknown

/** What the kernel's sets hold now. @throws FirewallRefusal; WiringError `wiring-fault` where it makes no sense */
export function readContents(list: List): Contents {
  const leads = new Map(elementsOf(list, 'map inet unionize mine').map(leadOf))
  const paths = [...readPassages(list), ...readWays(list)]
  const policyOf = readPolicies(list)
  const sources = concatenations(list, 'set bridge unionize sources').map(([link = '', mac = '', text = '']) => {
    const address = canonical(text)
    return { link, mac, address, policy: policyOf(link, address) }
  })
  const led = paths.filter((path) => leads.get(path.owner) === destinationOf(path))
  return new Contents([...paths, ...led], sources satisfies Source[], leads)
}

function readPassages(list: List): Path[] {
  const returns = pairsIn(list, 'map inet unionize returns')
  return concatenations(list, 'set inet unionize passages').map((pair) => {
    const [owner = '', instance = ''] = pair.map((text) => canonical(text))
    const ownerVia = returns.get(`${owner} ${instance}`)
    return { owner, instance, ...(ownerVia === undefined ? {} : { ownerVia }) }
  })
}

function readWays(list: List): Path[] {
  const sources = pairsIn(list, 'map inet unionize disguised')
  const routed = [...pairsIn(list, 'map inet unionize routed')].map(([name, via]): Path => {
    const [owner = '', address = ''] = name.split(' ')
    return { owner, address, reach: { kind: 'routed', via } }
  })
  const translated = [...pairsIn(list, 'map inet unionize translated')].map(([name, to]): Path => {
    const [owner = '', address = ''] = name.split(' ')
    const from = sources.get(`${owner} ${to}`)
    return { owner, address, reach: { kind: 'translated', address: to, ...(from === undefined ? {} : { from }) } }
  })
  return [...routed, ...translated]
}

/** By the two addresses of a map's keys, with a space between them, where each leads. */
function pairsIn(list: List, map: string): Map<string, string> {
  const entries = elementsOf(list, map).map((element) => {
    const [key, value] = Array.isArray(element) ? element : []
    const pair = texts((key as { concat?: unknown } | undefined)?.concat).map((text) => canonical(text))
    return [pair.join(' '), canonical(text(value))] as const
  })
  return new Map(entries)
}

function readPolicies(list: List): (link: string, address: string) => Policy {
  const packets = limitsIn(list, 'bridge unionize excess_packets')
  const uploads = limitsIn(list, 'bridge unionize excess_upload')
  const connections = limitsIn(list, 'inet unionize excess_begun', canonical)
  const downloads = limitsIn(list, 'inet unionize excess_download', canonical)
  const publicChains = jumpsIn(list, 'map inet unionize public')
  const egressChains = jumpsIn(list, 'map inet unionize egress')
  const ports = new Map([...new Set(publicChains.values())].map((name) => [name, portsOf(list, name)]))
  const egresses = new Map([...new Set(egressChains.values())].map((name) => [name, egressOf(list, name)]))
  return (link, address) => ({
    public: ports.get(publicChains.get(address) ?? '') ?? [],
    egress: egresses.get(egressChains.get(address) ?? '') ?? 'none',
    limits: {
      ...given('packets', packets.get(link)),
      ...given('connections', connections.get(address)),
      ...given('upload', uploads.get(link)),
      ...given('download', downloads.get(address)),
    },
  })
}

function given<K extends string>(key: K, value: number | undefined): { [P in K]?: number } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]: number })
}

function portsOf(list: List, chain: string): PublicPort[] {
  return (['tcp', 'udp'] as const).flatMap((protocol) =>
    elementsIfThere(list, `set inet unionize ${chain}_${protocol}`).map((element) => {
      const [port, last] = typeof element === 'number' ? [element] : fieldOf(element, 'range', isNumbers)
      if (port === undefined) throw strange(element, 'a port')
      return last === undefined ? { protocol, port } : { protocol, port, last }
    }),
  )
}

function egressOf(list: List, chain: string): Policy['egress'] {
  if (chain === INTERNET) return 'internet'
  return elementsOf(list, `set inet unionize ${chain}`).map((element) => {
    if (typeof element === 'string') return `${canonical(element)}/128`
    if ((element as { range?: unknown } | null)?.range !== undefined) return prefixOfRange(element)
    const { addr, len } = fieldOf(element, 'prefix', isPrefix)
    return `${canonical(addr)}/${len}`
  })
}

/** libnftables before 1.0.6 lists a prefix that reaches to the last address as a range. */
function prefixOfRange(element: unknown): string {
  const [first = '', last = ''] = fieldOf(element, 'range', isTexts).map((text) => canonical(text))
  const [from, to] = [addressBytes(first), addressBytes(last)].map((bytes) => BigInt(`0x${bytes.toString('hex')}`))
  const length = 128 - ((from ?? 0n) ^ (to ?? 0n)).toString(2).replace(/^0$/, '').length
  return `${first}/${length}`
}

/** By the keys of a map, the chains that it leads to. */
function jumpsIn(list: List, map: string): Map<string, string> {
  const pairs = elementsOf(list, map).map((element) => {
    const [key, verdict] = Array.isArray(element) ? element : []
    if (typeof key !== 'string') throw strange(element, 'an address and a chain')
    return [canonical(key), fieldOf(verdict, 'jump', isTarget).target] as const
  })
  return new Map(pairs)
}

/** By the keys of a set, their limits per second. */
function limitsIn(list: List, set: string, keyOf = (text: string) => text): Map<string, number> {
  const pairs = elementsOf(list, `set ${set}`).map((element) => {
    const { val, limit } = fieldOf(element, 'elem', isLimited)
    return [keyOf(val), perSecondOf(limit)] as const
  })
  return new Map(pairs)
}

function concatenations(list: List, set: string): string[][] {
  return elementsOf(list, set).map((element) => texts((element as { concat?: unknown }).concat))
}

/** A policy without public ports of a protocol has no set for them. */
function elementsIfThere(list: List, set: string): unknown[] {
  try {
    return elementsOf(list, set)
  } catch (thrown) {
    if (thrown instanceof WiringError && thrown.message.includes('No such file or directory')) return []
    throw thrown
  }
}

function elementsOf(list: List, set: string): unknown[] {
  const { nftables } = list(`list ${set}`) as { nftables: Record<string, { elem?: unknown[] }>[] }
  return nftables.flatMap((entry) => (entry['set'] ?? entry['map'])?.elem ?? [])
}

function leadOf(element: unknown): [string, string] {
  const [owner = '', to = ''] = texts(element)
  return [canonical(owner), canonical(to)]
}

function text(value: unknown): string {
  if (typeof value === 'string') return value
  throw strange(value, 'a text')
}

function texts(value: unknown): string[] {
  if (isTexts(value)) return value
  throw strange(value, 'texts')
}

function fieldOf<T>(value: unknown, field: string, is: (found: unknown) => found is T): T {
  const found: unknown = (value as Record<string, unknown> | null | undefined)?.[field]
  if (is(found)) return found
  throw strange(value, field)
}

const isTexts = (found: unknown): found is string[] =>
  Array.isArray(found) && found.every((item) => typeof item === 'string')
const isNumbers = (found: unknown): found is number[] =>
  Array.isArray(found) && found.every((item) => typeof item === 'number')
const isTarget = (found: unknown): found is { target: string } =>
  typeof (found as { target?: unknown } | undefined)?.target === 'string'
const isPrefix = (found: unknown): found is { addr: string; len: number } => {
  const { addr, len } = (found ?? {}) as Record<string, unknown>
  return typeof addr === 'string' && typeof len === 'number'
}
const isLimited = (found: unknown): found is { val: string; limit: { rate: number; rate_unit?: string } } => {
  const { val, limit } = (found ?? {}) as Record<string, unknown>
  return typeof val === 'string' && typeof (limit as { rate?: unknown } | undefined)?.rate === 'number'
}

function strange(value: unknown, expected: string): WiringError {
  return new WiringError(
    'wiring-fault',
    `libnftables listed ${JSON.stringify(value)?.slice(0, 200)} where ${expected} was expected`,
  )
}
