import type { Clock } from '../../common/clock.ts'
import { parseDuid } from '../../common/duid.ts'
import { parseIpv6, parsePrefix } from '../../common/ipv6.ts'
import type { Log } from '../../common/log.ts'
import { type ServiceSpec, serviceShape } from '../../common/service-spec.ts'
import type { AddressPool } from '../../orchestrator/domain/addressing.ts'
import type { LeaseEvent, Owner } from '../../orchestrator/domain/lease.ts'
import type { Template, TemplateContent } from '../../orchestrator/domain/template.ts'
import type { LeaseItem } from '../../orchestrator/intake.ts'
import type { Store } from '../../orchestrator/store/store.ts'

export const silent: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }

export const pool: AddressPool = { prefix: parsePrefix('fd00:1::/64'), reserved: 15 }

/** A service with every default filled in. */
export function service(change: Partial<ServiceSpec> = {}): ServiceSpec {
  const least = { name: 'web', image: 'orchestrator/sample:latest', environment: {}, memoryBytes: 64 << 20, pids: 64 }
  return { ...serviceShape.parse({ ...least, capabilities: [], stopGraceMs: 0 }), ...change }
}

/** One web page, from one image, for the fake backend. */
export const content: TemplateContent = {
  summary: 'a web page',
  backend: 'fake',
  kind: 'standard',
  base: null,
  parameters: [],
  fixed: {},
  outputs: [],
  entry: { service: 'web', port: 80 },
  lifetime: { graceMs: 0, mostMs: null },
  stack: { services: { web: { image: 'orchestrator/sample:latest' } } },
  files: {},
  images: ['orchestrator/sample:latest'],
  weakens: [],
}

export const template: Template = { name: 'sample', version: 'v1', number: 1, ...content }

/** Keeps a template as its next version and makes it the one that is rolled out. */
export async function rollOut(store: Store, { name, version, number: _, ...rest }: Template = template): Promise<void> {
  await store.transaction(async (tx) => {
    await tx.putTemplate({ name, version }, rest, 1)
    const previous = (await tx.head(name))?.version ?? null
    await tx.putHead({ name, version, previous, origin: 'api' }, 1)
  })
}

/** A clock that stands still until told; `wait` ends when time reaches its end. */
export function manualClock(start = 1_800_000_000_000): Clock & { advance(ms: number): void } {
  let now = start
  const waiting = new Set<{ until: number; resolve: () => void }>()
  return {
    now: () => now,
    advance(ms) {
      now += ms
      for (const waiter of waiting) if (waiter.until <= now) waiter.resolve()
    },
    wait(ms, signal) {
      return new Promise<void>((resolve, reject) => {
        const waiter = { until: now + ms, resolve: () => end(resolve) }
        const end = (how: () => void) => {
          waiting.delete(waiter)
          signal?.removeEventListener('abort', aborted)
          how()
        }
        const aborted = () => end(() => reject(signal?.reason))
        if (signal?.aborted) return reject(signal.reason)
        signal?.addEventListener('abort', aborted)
        waiting.add(waiter)
        if (ms <= 0) waiter.resolve()
      })
    },
  }
}

/** The n-th device. */
export function owner(n: number): Owner {
  const hex = n.toString(16).padStart(4, '0')
  return { duid: parseDuid(`00:03:00:01:02:00:00:00:${hex.slice(0, 2)}:${hex.slice(2)}`), iaid: n }
}

/** An event about the n-th device, with the address fd00:c::1000+n and an hour to live unless told otherwise. */
export function leaseEvent(n: number, now: number, change: Partial<LeaseEvent> = {}): LeaseEvent {
  return {
    kind: 'granted',
    source: 'h1',
    owner: owner(n),
    address: parseIpv6(`fd00:c::${(0x1000 + n).toString(16)}`),
    expiresAt: now + 3_600_000,
    facts: { hostname: `device${n}`, mac: '02:00:00:00:00:01' },
    hookAt: now,
    ...change,
  }
}

/** Gives each event the next place in one journal. */
export function journal(name = 'j1'): (event: LeaseEvent) => LeaseItem {
  let offset = 0
  return (event) => {
    offset += 100
    return { event, position: { journal: name, offset } }
  }
}
