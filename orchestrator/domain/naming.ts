import type { InstanceId } from './instance.ts'

/** Longest DNS label, octets (RFC 1035, section 2.3.4). */
const LABEL_MAX = 63
/** Names that mean something else in the instances' domain. */
const RESERVED = new Set(['my', 'localhost', 'gateway'])

/**
 * The DNS label that a device's hostname suggests for its instance; null: it suggests none. A hostname comes from a
 * stranger and may hold anything; what is kept is a-z, 0-9 and single hyphens.
 */
export function labelFrom(hostname: string | undefined): string | null {
  const first = (hostname ?? '').split('.')[0] ?? ''
  const label = first
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, LABEL_MAX)
    .replace(/^-+|-+$/g, '')
  return label === '' || RESERVED.has(label) ? null : label
}

/** The names to try for an instance, best first; the last one is its id, which nobody else has. */
export function nameCandidates(hostname: string | undefined, id: InstanceId): readonly string[] {
  const label = labelFrom(hostname)
  if (label === null || label === id) return [id]
  const tail = id.slice(-4)
  return [label, `${label.slice(0, LABEL_MAX - 5).replace(/-+$/, '')}-${tail}`, id]
}
