import type { StoredEvent } from '../domain/event.ts'
import type { Host } from '../domain/host.ts'
import type { Instance, Marks } from '../domain/instance.ts'
import type { Lease } from '../domain/lease.ts'
import type { EventShape, HostShape, InstanceShape, LeaseShape } from './wire.ts'

/** @param instance the lease's living instance */
export function leaseToShape(lease: Lease, instance: Pick<Instance, 'id'> | null): LeaseShape {
  return {
    owner: { ...lease.owner },
    address: lease.address,
    state: lease.state,
    source: lease.source,
    hostname: lease.facts.hostname ?? null,
    mac: lease.facts.mac ?? null,
    tags: [...(lease.facts.tags ?? [])],
    expiresAt: isoOrNull(lease.expiresAt),
    grantedAt: iso(lease.grantedAt),
    updatedAt: iso(lease.updatedAt),
    endedAt: isoOrNull(lease.endedAt),
    instance: instance?.id ?? null,
    refusal: lease.refusal,
  }
}

/**
 * @param hostConnected whether the instance's host (or, before one is chosen, the one it came from) is connected
 * @param number of the version of its template
 */
export function instanceToShape(instance: Instance, hostConnected: boolean, number: number): InstanceShape {
  const status = statusOf(instance, hostConnected)
  return {
    id: instance.id,
    name: instance.name,
    owner: { ...instance.owner },
    template: { ...instance.template, number },
    rule: instance.rule,
    backend: instance.backend,
    otherwise: [...instance.otherwise],
    host: instance.host,
    reach: reachOf(instance.reach),
    price: instance.price && { ...instance.price },
    wanted: instance.wanted,
    state: instance.state,
    status,
    generation: instance.generation,
    settled: instance.settled,
    address: instance.address,
    ownerAddress: instance.ownerAddress,
    failures: instance.failures,
    lastError: instance.lastError,
    // What runs is due when its time is up, and that is no attempt.
    nextAttemptAt: status === 'running' ? null : isoOrNull(instance.dueAt),
    endsAt: isoOrNull(instance.endsAt),
    timelineMs: timelineOf(instance.marks),
    createdAt: iso(instance.createdAt),
    updatedAt: iso(instance.updatedAt),
  }
}

function reachOf(reach: Instance['reach']): InstanceShape['reach'] {
  if (reach === null) return null
  return { kind: reach.kind, address: reach.kind === 'routed' ? reach.via : reach.address }
}

/** One word on how it stands: starting, running, stopping, gone, failing, waiting (for its host). */
export function statusOf(instance: Instance, hostConnected: boolean): string {
  const settled = instance.settled === instance.generation
  if (instance.state === 'gone') return 'gone'
  if (instance.wanted === 'running' && instance.state === 'running' && settled) return 'running'
  if (!hostConnected) return 'waiting'
  if (instance.failures > 0) return 'failing'
  return instance.wanted === 'gone' ? 'stopping' : 'starting'
}

export function hostToShape(host: Host, instances: number): HostShape {
  return {
    name: host.name,
    connected: host.connected,
    epoch: host.epoch,
    joinedAt: iso(host.joinedAt),
    seenAt: isoOrNull(host.seenAt),
    address: host.facts.address ?? null,
    engine: host.facts.engine ?? null,
    kernel: host.facts.kernel ?? null,
    version: host.facts.version ?? null,
    instances,
  }
}

export function eventToShape(event: StoredEvent): EventShape {
  return {
    id: event.id,
    at: iso(event.at),
    level: event.level,
    kind: event.kind,
    message: event.message,
    instance: event.instance ?? null,
    owner: event.owner === undefined ? null : { ...event.owner },
    host: event.host ?? null,
  }
}

function timelineOf(marks: Marks): InstanceShape['timelineMs'] {
  const { hookAt, storedAt, decidedAt, sandboxAt, startedAt, reachableAt } = marks
  if (hookAt === undefined) return {}
  return {
    hook: 0,
    ...(storedAt === undefined ? {} : { stored: storedAt - hookAt }),
    ...(decidedAt === undefined ? {} : { decided: decidedAt - hookAt }),
    ...(sandboxAt === undefined ? {} : { sandbox: sandboxAt - hookAt }),
    ...(startedAt === undefined ? {} : { started: startedAt - hookAt }),
    ...(reachableAt === undefined ? {} : { reachable: reachableAt - hookAt }),
  }
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}

function isoOrNull(ms: number | null): string | null {
  return ms === null ? null : iso(ms)
}
