import type { Duid } from '../../common/duid.ts'
import type { Ipv6 } from '../../common/ipv6.ts'

/** Who holds a lease: a device (DUID) and one of its identity associations (IAID). RFC 8415, sections 11 and 12. */
export interface Owner {
  readonly duid: Duid
  readonly iaid: number
}

/** `duid/iaid`: an owner as one key. */
export function ownerKey(owner: Owner): string {
  return `${owner.duid}/${owner.iaid}`
}

/**
 * What the lease server said about the device; rules match on these. A grant says all of it; later, poorer events never
 * erase what is known.
 */
export interface LeaseFacts {
  readonly mac?: string | undefined
  readonly hostname?: string | undefined
  readonly interface?: string | undefined
  readonly relay?: string | undefined
  readonly mudUrl?: string | undefined
  readonly domain?: string | undefined
  readonly vendorClass?: string | undefined
  readonly tags?: readonly string[] | undefined
  readonly userClasses?: readonly string[] | undefined
  readonly requestedOptions?: readonly number[] | undefined
}

/** One fact about a lease, parsed at the door, whatever source it came from. */
export interface LeaseEvent {
  readonly kind: 'granted' | 'confirmed' | 'ended'
  /** Which lease server, on which host. */
  readonly source: string
  readonly owner: Owner
  readonly address: Ipv6
  /** Epoch ms; null: never. */
  readonly expiresAt: number | null
  readonly facts: LeaseFacts
  /** When the lease server's hook wrote it, epoch ms. */
  readonly hookAt: number
}

/** A lease as we know it. Ended ones are kept: the same owner gets the same instance address again. */
export interface Lease {
  readonly owner: Owner
  readonly source: string
  readonly address: Ipv6
  readonly expiresAt: number | null
  readonly state: 'active' | 'ended'
  readonly facts: LeaseFacts
  /** Epoch ms of the first grant of this run, of the last event, of the end. */
  readonly grantedAt: number
  readonly updatedAt: number
  readonly endedAt: number | null
  /** Why it has no instance although it should (address pool full, quota); tried again at each event. null: nothing is wrong. */
  readonly refusal: string | null
}

/** What an event means for what is stored. `stale`: it tells of a time that is over; nothing changes. */
export type LeaseChange =
  | { readonly kind: 'stale'; readonly why: string }
  | { readonly kind: 'begun'; readonly lease: Lease }
  | { readonly kind: 'kept'; readonly lease: Lease }
  | { readonly kind: 'ended'; readonly lease: Lease }

/**
 * Merges an event into what is stored. Events repeat, arrive out of order and from two writers (a killed dnsmasq leaves
 * its script helper alive), so an event is a fact with a time of its own, its expiry, and never "one more".
 */
export function mergeLease(stored: Lease | null, event: LeaseEvent, now: number): LeaseChange {
  if (event.kind === 'ended') return mergeEnd(stored, event, now)
  if (event.expiresAt !== null && event.expiresAt <= now) {
    return {
      kind: 'stale',
      why: 'the lease had expired before its event arrived',
    }
  }
  if (stored === null || stored.state === 'ended') {
    const facts = stored === null ? event.facts : factsAfter(stored.facts, event)
    const { owner, source, address, expiresAt } = event
    const lease: Lease = {
      owner,
      source,
      address,
      expiresAt,
      facts,
      state: 'active',
      grantedAt: now,
      updatedAt: now,
      endedAt: null,
      refusal: null,
    }
    return { kind: 'begun', lease }
  }
  // A device that moved is granted a lease there; where it came from, its former lease is still confirmed for a while.
  if (event.source !== stored.source && event.kind !== 'granted') {
    return { kind: 'stale', why: `the lease server of ${stored.source} has granted this owner a lease` }
  }
  const newer = event.source !== stored.source || later(event.expiresAt, stored.expiresAt)
  if (event.address !== stored.address && !newer) {
    return {
      kind: 'stale',
      why: 'a newer event gave this owner another address',
    }
  }
  const lease: Lease = {
    ...stored,
    source: event.source,
    address: event.address,
    expiresAt: newer ? event.expiresAt : stored.expiresAt,
    facts: newer ? factsAfter(stored.facts, event) : mergeFacts(stored.facts, event.facts),
    updatedAt: now,
  }
  return { kind: 'kept', lease }
}

function mergeEnd(stored: Lease | null, event: LeaseEvent, now: number): LeaseChange {
  if (stored === null || stored.state === 'ended') return { kind: 'stale', why: 'no such lease is active' }
  if (event.address !== stored.address) return { kind: 'stale', why: 'the owner has another address by now' }
  if (event.expiresAt !== null && !later(event.expiresAt, stored.expiresAt)) {
    return { kind: 'stale', why: 'the lease has been renewed since' }
  }
  return {
    kind: 'ended',
    lease: { ...stored, state: 'ended', updatedAt: now, endedAt: now, refusal: null },
  }
}

/** Whether expiry `a` is at or after `b`; null (never) is after everything. */
function later(a: number | null, b: number | null): boolean {
  return a === null || (b !== null && a >= b)
}

/**
 * What is known after an event that is newer than what is stored. A grant comes with the device's own packet, so what it
 * leaves out is so no more: a tag that was taken away, say. What is confirmed may come without a packet, or from a table.
 */
function factsAfter(known: LeaseFacts, event: LeaseEvent): LeaseFacts {
  return event.kind === 'granted' ? event.facts : mergeFacts(known, event.facts)
}

function mergeFacts(known: LeaseFacts, news: LeaseFacts): LeaseFacts {
  const said = Object.entries(news).filter(
    ([, value]) => value !== undefined && !(Array.isArray(value) && value.length === 0),
  )
  return { ...known, ...Object.fromEntries(said) }
}
