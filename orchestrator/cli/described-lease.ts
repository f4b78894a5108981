import { plain } from '../../common/plain.ts'
import { aligned } from '../../common/table.ts'
import type { LeaseShape } from '../api/wire.ts'
import { age, until } from './ages.ts'
import { coloured } from './table.ts'

/** A lease in words. @param now epoch ms */
export function describedLease(lease: LeaseShape, now: number): string {
  const { owner, refusal } = lease
  const rows: [string, string][] = [
    ['Address', lease.address],
    ['State', coloured(lease.state)],
    ['Instance', refusal === null ? plain(lease.instance) : `${coloured('error')}: ${plain(refusal)}`],
    ['Hostname', plain(lease.hostname)],
    ['MAC', plain(lease.mac)],
    ['DUID, IAID', `${owner.duid}, ${owner.iaid}`],
    ['Tags', plain(lease.tags.join(', ') || null)],
    ['Source', plain(lease.source)],
    ['Granted', `${age(lease.grantedAt, now)} ago (${lease.grantedAt})`],
    lease.state === 'active'
      ? ['Expires', until(lease.expiresAt, now)]
      : ['Ended', `${age(lease.endedAt, now)} ago (${lease.endedAt})`],
  ]
  return aligned(rows.map(([name, value]) => [`${name}:`, value]))
}
