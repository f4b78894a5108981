import type { DropReason } from '../../../common/drop-reasons.ts'
import type { HostNetwork } from '../wiring.ts'
import { INSTANCE_SETS } from './elements.ts'
import { pathRules, type Surroundings } from './path-rules.ts'
import { portRules } from './port-rules.ts'
import { COUNTER_PREFIX, type Family, TABLES } from './rules.ts'

/**
 * The rules that stay the same whatever instances there are, as one transaction that leaves the elements of the sets and
 * the counts alone. Everything else on the host passes as if these tables were not there.
 */
export function baseRules(network: HostNetwork, surroundings: Surroundings): string {
  return [...pathRules(network, surroundings), ...portRules(surroundings.gatewayMac)].join('\n')
}

/** Removes our tables, also where they are not there. */
export function removeTables(): string {
  return TABLES.map((table) => `add table ${table}\ndelete table ${table}`).join('\n')
}

/** Empties all sets of instances. */
export function flushElements(): string[] {
  return INSTANCE_SETS.map((set) => `flush ${set}`)
}

/** A counter with what it counted before its table was lost; for a table that is not there. */
export interface Count {
  readonly family: Family
  readonly reason: DropReason
  readonly packets: number
  readonly bytes: number
}

/** Makes the tables with these counters, before any rule names them. */
export function counterSeeds(counts: readonly Count[]): string[] {
  return [
    ...TABLES.map((table) => `add table ${table}`),
    ...counts.map(
      ({ family, reason, packets, bytes }) =>
        `add counter ${family} unionize ${COUNTER_PREFIX}${reason} { packets ${packets} bytes ${bytes} }`,
    ),
  ]
}
