import type { Duid } from '../../common/duid.ts'
import type { Ipv6 } from '../../common/ipv6.ts'
import type { Build } from '../domain/build.ts'
import type { StoredEvent } from '../domain/event.ts'
import type { Host, HostName } from '../domain/host.ts'
import type { Instance, InstanceId, InstanceState } from '../domain/instance.ts'
import type { Lease, Owner } from '../domain/lease.ts'
import { microsOf, type Price, priceFrom } from '../domain/price.ts'
import type { Ruleset } from '../domain/rule.ts'
import type { Origin, Template, TemplateContent, TemplateHead } from '../domain/template.ts'
import type { StoredToken } from './store.ts'

/** Rows as the databases hold them. What comes out of our own tables was parsed when it went in. */
export interface OwnerColumns {
  duid: string
  iaid: number
}

export interface LeaseRow extends OwnerColumns {
  source: string
  address: string
  expires_at: number | null
  state: Lease['state']
  facts: string
  granted_at: number
  updated_at: number
  ended_at: number | null
  refusal: string | null
}

export interface InstanceRow extends OwnerColumns {
  id: string
  name: string
  template_name: string
  template_version: string
  backend: string
  otherwise: string
  host: string | null
  reach: string | null
  price_micros: number | null
  price_currency: string | null
  wanted: Instance['wanted']
  generation: number
  state: InstanceState
  settled: number
  address: string
  owner_address: string
  source: string
  failures: number
  due_at: number | null
  last_error: string | null
  rule: string | null
  parameters: string
  grace_ms: number
  ends_at: number | null
  outputs: string | null
  marks: string
  created_at: number
  updated_at: number
}

export interface TemplateRow {
  name: string
  version: string
  number: number
  content: string
  created_at: number
}

export interface HeadRow {
  name: string
  version: string
  previous: string | null
  origin: Origin
  updated_at: number
}

export interface RulesetRow {
  revision: number
  content: string
  origin: Ruleset['origin']
  created_at: number
}

export interface BuildRow {
  id: string
  template: string
  source: string
  state: Build['state']
  host: string | null
  image: string | null
  error: string | null
  created_at: number
  updated_at: number
}

export interface HostRow {
  name: string
  fingerprint: string
  epoch: number
  connected: boolean | number
  joined_at: number
  seen_at: number | null
  facts: string
}

export interface EventRow {
  id: number
  at: number
  level: StoredEvent['level']
  kind: string
  message: string
  instance: string | null
  duid: string | null
  iaid: number | null
  host: string | null
}

export interface TokenRow {
  hash: string
  kind: StoredToken['kind']
  host: string | null
  expires_at: number | null
  used_at: number | null
}

export function ownerOf(row: OwnerColumns): Owner {
  return { duid: row.duid as Duid, iaid: row.iaid }
}

export function leaseOf(row: LeaseRow): Lease {
  return {
    owner: ownerOf(row),
    source: row.source,
    address: row.address as Ipv6,
    expiresAt: row.expires_at,
    state: row.state,
    facts: JSON.parse(row.facts) as Lease['facts'],
    grantedAt: row.granted_at,
    updatedAt: row.updated_at,
    endedAt: row.ended_at,
    refusal: row.refusal,
  }
}

export function leaseRow(lease: Lease): LeaseRow {
  return {
    ...lease.owner,
    source: lease.source,
    address: lease.address,
    expires_at: lease.expiresAt,
    state: lease.state,
    facts: JSON.stringify(lease.facts),
    granted_at: lease.grantedAt,
    updated_at: lease.updatedAt,
    ended_at: lease.endedAt,
    refusal: lease.refusal,
  }
}

export function instanceOf(row: InstanceRow): Instance {
  return {
    id: row.id as InstanceId,
    owner: ownerOf(row),
    name: row.name,
    template: { name: row.template_name, version: row.template_version },
    backend: row.backend,
    otherwise: JSON.parse(row.otherwise) as Instance['otherwise'],
    host: row.host as HostName | null,
    reach: row.reach === null ? null : (JSON.parse(row.reach) as Instance['reach']),
    price: priceOf(row),
    wanted: row.wanted,
    generation: row.generation,
    state: row.state,
    settled: row.settled,
    address: row.address as Ipv6,
    ownerAddress: row.owner_address as Ipv6,
    source: row.source,
    failures: row.failures,
    dueAt: row.due_at,
    lastError: row.last_error,
    rule: row.rule,
    parameters: JSON.parse(row.parameters) as Instance['parameters'],
    graceMs: row.grace_ms,
    endsAt: row.ends_at,
    outputs: row.outputs === null ? null : (JSON.parse(row.outputs) as Instance['outputs']),
    marks: JSON.parse(row.marks) as Instance['marks'],
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  }
}

/** Millionths: they are added up by the database, exactly. */
export function priceColumns(price: Price | null): Pick<InstanceRow, 'price_micros' | 'price_currency'> {
  return { price_micros: price && microsOf(price), price_currency: price?.currency ?? null }
}

function priceOf({ price_micros: micros, price_currency: currency }: InstanceRow): Price | null {
  return micros === null || currency === null ? null : priceFrom(micros, currency)
}

export function instanceRow(instance: Instance): InstanceRow {
  return {
    id: instance.id,
    ...instance.owner,
    name: instance.name,
    template_name: instance.template.name,
    template_version: instance.template.version,
    backend: instance.backend,
    otherwise: JSON.stringify(instance.otherwise),
    host: instance.host,
    reach: instance.reach === null ? null : JSON.stringify(instance.reach),
    ...priceColumns(instance.price),
    wanted: instance.wanted,
    generation: instance.generation,
    state: instance.state,
    settled: instance.settled,
    address: instance.address,
    owner_address: instance.ownerAddress,
    source: instance.source,
    failures: instance.failures,
    due_at: instance.dueAt,
    last_error: instance.lastError,
    rule: instance.rule,
    parameters: JSON.stringify(instance.parameters),
    grace_ms: instance.graceMs,
    ends_at: instance.endsAt,
    outputs: instance.outputs === null ? null : JSON.stringify(instance.outputs),
    marks: JSON.stringify(instance.marks),
    created_at: instance.createdAt,
    updated_at: instance.updatedAt,
  }
}

export function hostOf(row: HostRow): Host {
  return {
    name: row.name as HostName,
    epoch: row.epoch,
    connected: Boolean(row.connected),
    joinedAt: row.joined_at,
    seenAt: row.seen_at,
    facts: JSON.parse(row.facts) as Host['facts'],
  }
}

export function eventOf(row: EventRow): StoredEvent {
  return {
    id: row.id,
    at: row.at,
    level: row.level,
    kind: row.kind,
    message: row.message,
    instance: (row.instance ?? undefined) as InstanceId | undefined,
    owner: row.duid === null || row.iaid === null ? undefined : ownerOf({ duid: row.duid, iaid: row.iaid }),
    host: row.host ?? undefined,
  }
}

export function tokenOf(row: TokenRow): StoredToken {
  return { hash: row.hash, kind: row.kind, host: row.host, expiresAt: row.expires_at, usedAt: row.used_at }
}

export function templateOf(row: TemplateRow): Template {
  const { name, version, number } = row
  return { name, version, number, ...(JSON.parse(row.content) as TemplateContent) }
}

export function headOf({ name, version, previous, origin }: HeadRow): TemplateHead {
  return { name, version, previous, origin }
}

export function rulesetOf(row: RulesetRow): Ruleset {
  const { rules, quotas } = JSON.parse(row.content) as Pick<Ruleset, 'rules' | 'quotas'>
  return { revision: row.revision, rules, quotas, origin: row.origin }
}

export function buildOf(row: BuildRow): Build {
  const { id, template, source, state, image, error } = row
  const host = row.host as HostName | null
  return { id, template, source, state, host, image, error, createdAt: row.created_at, updatedAt: row.updated_at }
}

export function buildRow(build: Build): BuildRow {
  const { createdAt, updatedAt, ...rest } = build
  return { ...rest, created_at: createdAt, updated_at: updatedAt }
}
