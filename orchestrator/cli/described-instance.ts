import { plain } from '../../common/plain.ts'
import { aligned } from '../../common/table.ts'
import type { InstanceDetailShape } from '../api/wire.ts'
import { age, until } from './ages.ts'
import { priceText } from './prices.ts'
import { eventColumns } from './resources.ts'
import { cells, coloured } from './table.ts'
import { valueText } from './values.ts'

/** An instance in words. @param now epoch ms */
export function describedInstance(detail: InstanceDetailShape, now: number): string {
  const { lease, owner } = detail
  const rows: [string, string][] = [
    ['Name', plain(detail.name)],
    ['Status', coloured(detail.status)],
    ['Id', detail.id],
    ['Address', detail.address],
    ['Template', `${plain(detail.template.name)}@${detail.template.number} (${plain(detail.template.version)})`],
    ['Rule', plain(detail.rule)],
    ['Backend', plain(detail.backend)],
    ['Host', plain(detail.host)],
    ...reachRows(detail),
    ...(detail.price === null ? [] : [['Price', priceText(detail.price)] satisfies [string, string]]),
    ['Wanted', `${detail.wanted}, generation ${detail.generation} (reached: ${detail.settled})`],
    ['Created', `${age(detail.createdAt, now)} ago (${detail.createdAt})`],
    ['Owner', `${detail.ownerAddress}`],
    ['  DUID, IAID', `${owner.duid}, ${owner.iaid}`],
  ]
  if (lease !== null) {
    rows.push(['  Hostname', plain(lease.hostname)], ['  MAC', plain(lease.mac)])
    const stands =
      lease.state === 'active'
        ? `active, expires ${until(lease.expiresAt, now)}`
        : `ended ${age(lease.endedAt, now)} ago`
    rows.push(['  Lease', `${stands} (from ${plain(lease.source)})`])
    if (lease.refusal !== null) rows.push(['  Refusal', plain(lease.refusal)])
  }
  if (detail.lastError !== null) rows.push(['Last error', plain(detail.lastError)])
  if (detail.failures > 0) rows.push(['Failures', `${detail.failures} in a row`])
  if (detail.nextAttemptAt !== null) rows.push(['Next step', until(detail.nextAttemptAt, now)])
  if (detail.endsAt !== null) rows.push(['Ends', `${until(detail.endsAt, now)} (${detail.endsAt})`])
  rows.push(...valueRows('Parameter', detail.parameters), ...valueRows('Output', detail.outputs ?? {}))
  const head = aligned(rows.map(([name, value]) => [`${name}:`, value]))
  return `${head}\n${timeline(detail)}\n${lastEvents(detail, now)}`
}

function reachRows({ reach, otherwise }: InstanceDetailShape): [string, string][] {
  const ways = { routed: 'at its own address through', translated: 'translated to' }
  return [
    ...(reach === null ? [] : [['  Reached', `${ways[reach.kind]} ${reach.address}`] satisfies [string, string]]),
    ...(otherwise.length === 0 ? [] : [['  Otherwise', otherwise.map(plain).join(', ')] satisfies [string, string]]),
  ]
}

function valueRows(what: string, values: InstanceDetailShape['parameters']): [string, string][] {
  return Object.entries(values).map(([name, value]) => [`${what} ${plain(name)}`, valueText(value)])
}

const STAGES = [
  ['hook', 'the lease event was written'],
  ['stored', 'it was stored'],
  ['decided', 'the instance was ordered'],
  ['sandbox', 'its network was ready'],
  ['started', 'its services ran'],
  ['reachable', 'it answered'],
] as const

function timeline(detail: InstanceDetailShape): string {
  let before = 0
  const rows = STAGES.flatMap(([stage, meaning]) => {
    const at = detail.timelineMs[stage]
    if (at === undefined) return []
    const step = Math.round(at - before)
    before = at
    return [[`  ${stage}`, String(Math.round(at)), stage === 'hook' ? '' : `+${step}`, meaning]]
  })
  if (rows.length === 0) return 'Timeline: nothing yet\n'
  return `Timeline, milliseconds:\n${aligned(rows)}`
}

function lastEvents(detail: InstanceDetailShape, now: number): string {
  if (detail.events.length === 0) return 'Events: none\n'
  const columns = eventColumns.filter((column) => column.wide !== true)
  return `Events:\n${aligned(detail.events.map((event) => cells(columns, event, now).map((cell, i) => (i === 0 ? `  ${cell}` : cell))))}`
}
