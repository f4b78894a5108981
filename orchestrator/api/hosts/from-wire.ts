import { parseDuid } from '../../../common/duid.ts'
import { InvalidInput, wording } from '../../../common/errors.ts'
import { parseIpv6 } from '../../../common/ipv6.ts'
import type { WireLease, WireLeaseEvent, WireObserved, WireRefusedLine } from '../../../unionize/contract.ts'
import type { InstanceId, Observed } from '../../domain/instance.ts'
import type { LeaseItem, TableLease } from '../../intake.ts'

/** Characters of a refused line that are kept. */
const ORIGINAL_CHARACTERS = 4096
/** Last millisecond of the year 9999: later times have no ISO 8601 text of the usual form. */
const LATEST_MS = 253_402_300_799_999

/** An item of a `leases` message for the intake. What cannot be parsed becomes a refused one: the rest of the batch goes on. */
export function leaseItem(source: string, item: WireLeaseEvent | WireRefusedLine): LeaseItem {
  const { position } = item
  if (item.type === 'refused') {
    return { refused: { reason: printable(item.reason), original: item.original }, position }
  }
  try {
    const lease = tableLease(item.lease)
    return { event: { kind: item.kind, source, hookAt: Math.min(item.hookAt, LATEST_MS), ...lease }, position }
  } catch (error) {
    const original = JSON.stringify(item.lease).slice(0, ORIGINAL_CHARACTERS)
    return { refused: { reason: printable(wording(error)), original }, position }
  }
}

/** @throws InvalidInput naming the field */
export function tableLease(wire: WireLease): TableLease {
  const { duid, iaid } = wire.owner
  if (wire.expiresAt !== null && wire.expiresAt > LATEST_MS) {
    throw new InvalidInput('lease.expiresAt', `expected a time before the year 10000, got ${wire.expiresAt} ms`)
  }
  return {
    owner: { duid: parseDuid(duid, 'lease.owner.duid'), iaid },
    address: parseIpv6(wire.address, 'lease.address'),
    expiresAt: wire.expiresAt,
    facts: wire.facts,
  }
}

/** What a host observed, in our own terms. */
export function observedOf(wire: WireObserved): Observed {
  return {
    ...wire,
    instance: wire.instance as InstanceId,
    address: wire.address === null ? null : parseIpv6(wire.address),
    ...(wire.detail === undefined ? {} : { detail: printable(wire.detail) }),
  }
}

/** A host's words as they may be stored and shown: no control characters (PostgreSQL takes no NUL), no half surrogates. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.toWellFormed().replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g, '\ufffd')
}
