import { InvalidInput } from '../../common/errors.ts'
import { hostBits, type Ipv6, parseIpv6 } from '../../common/ipv6.ts'
import { type LeaseFacts, type Owner, ownerKey } from './lease.ts'
import type { WallTime } from './time-window.ts'

/** What is known of a lease when rules look at it. What is absent matches no pattern and is in no prefix. */
export interface Subject {
  readonly owner?: Owner | undefined
  /** The DUID alone, where its association is not known. */
  readonly duid?: string | undefined
  readonly address?: Ipv6 | undefined
  readonly source?: string | undefined
  readonly facts: LeaseFacts
}

/** A subject made ready once for all rules. */
export interface Prepared {
  readonly duid: string | undefined
  readonly mac: string | undefined
  readonly hostname: string | undefined
  readonly interface: string | undefined
  readonly source: string | undefined
  readonly mudUrl: string | undefined
  readonly vendorClass: string | undefined
  readonly tags: readonly string[]
  readonly userClasses: readonly string[]
  /** Addresses as numbers; null: not known, or no address. */
  readonly address: () => bigint | null
  readonly relay: () => bigint | null
  /** As the lease server told it; undefined: the device was not relayed. */
  readonly relayText: string | undefined
  readonly addressText: string | undefined
  readonly ownerKey: string | undefined
  readonly now: number
  readonly wall: (zone: string, now: number) => WallTime
}

export function prepare(subject: Subject, now: number, wall: Prepared['wall']): Prepared {
  const { facts, owner } = subject
  // Numbers of addresses cost more than most decisions, which never ask for them.
  const address = once(() => (subject.address === undefined ? null : hostBits(subject.address, 0)))
  const relay = once(() => numberOf(facts.relay))
  return {
    duid: (owner?.duid ?? subject.duid)?.toLowerCase(),
    mac: facts.mac?.toLowerCase(),
    hostname: facts.hostname?.toLowerCase(),
    interface: facts.interface,
    source: subject.source,
    mudUrl: facts.mudUrl,
    vendorClass: facts.vendorClass,
    tags: facts.tags ?? [],
    userClasses: facts.userClasses ?? [],
    address,
    relay,
    relayText: facts.relay,
    addressText: subject.address,
    ownerKey: owner && ownerKey(owner),
    now,
    wall,
  }
}

function once<T>(work: () => T): () => T {
  let found: { readonly value: T } | null = null
  return () => {
    found ??= { value: work() }
    return found.value
  }
}

/** A relay is told as text by a stranger: what is no address is in no prefix. */
function numberOf(address: string | undefined): bigint | null {
  if (address === undefined) return null
  try {
    return hostBits(parseIpv6(address), 0)
  } catch (error) {
    if (error instanceof InvalidInput) return null
    throw error
  }
}

/** Lengths of the beginnings of texts, or of prefixes, that are keys, by field. */
export type KeyLengths = ReadonlyMap<string, readonly number[]>

/** Keys by which a lease finds the rules whose `keys` name one of them. */
export function keysOf(lease: Prepared, lengths: KeyLengths): string[] {
  const keys: string[] = []
  const put = (field: string, value: string | undefined) => {
    if (value === undefined) return
    keys.push(`${field}=${value}`)
    for (const length of lengths.get(field) ?? []) {
      if (length <= value.length) keys.push(beginningKey(field, value.slice(0, length)))
    }
  }
  put('duid', lease.duid)
  put('mac', lease.mac)
  put('hostname', lease.hostname)
  put('interface', lease.interface)
  put('source', lease.source)
  put('mud-url', lease.mudUrl)
  put('vendor-class', lease.vendorClass)
  for (const tag of lease.tags) put('tags', tag)
  for (const name of lease.userClasses) put('user-class', name)
  if (lease.relayText === undefined) keys.push('relay=none')
  for (const field of ['subnet', 'relay'] as const) {
    const used = lengths.get(field)
    const address = used === undefined ? null : field === 'subnet' ? lease.address() : lease.relay()
    if (address !== null) for (const length of used ?? []) keys.push(prefixKey(field, address, length))
  }
  return keys
}

/** The field of a key and its length, if it is the beginning of a text or a prefix; null: it is neither. */
export function lengthOf(key: string): { readonly field: string; readonly length: number } | null {
  const [, field, length] = /^([a-z-]+)\/(\d+)=/.exec(key) ?? []
  return field === undefined ? null : { field, length: Number(length) }
}

/** The key of texts that begin so. */
export function beginningKey(field: string, beginning: string): string {
  return `${field}/${beginning.length}=${beginning}`
}

/** The key of addresses, as numbers, that share their first bits. */
export function prefixKey(field: string, address: bigint, length: number): string {
  return `${field}/${length}=${(address >> BigInt(128 - length)).toString(36)}`
}
