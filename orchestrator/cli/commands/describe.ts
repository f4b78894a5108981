import type { Command } from 'commander'
import { stringify } from 'yaml'
import { plain } from '../../../common/plain.ts'
import { aligned } from '../../../common/table.ts'
import type { InstanceDetailShape } from '../../api/wire.ts'
import { age, until } from '../ages.ts'
import { Usage } from '../exit.ts'
import { print } from '../output.ts'
import { eventColumns } from '../resources.ts'
import { dataFormat, withSession } from '../session.ts'
import { cells, coloured } from '../table.ts'

export function addDescribe(program: Command): void {
  program
    .command('describe')
    .summary('tell all about one instance')
    .description('Tells all about one instance: how it stands, whose it is, how fast it started, what went wrong.')
    .argument('<resource>', 'instance')
    .argument('<name>', 'name or id of the instance')
    .addHelpText('after', '\nExample:\n  orctl describe instance laptop')
    .action(async (word: string, name: string, _flags: unknown, command: Command) => {
      if (word !== 'instance' && word !== 'instances') {
        throw new Usage(`only an instance can be described; for ${JSON.stringify(word)} use orctl get ${word} -o yaml`)
      }
      await withSession(command, async ({ client, format, signal }) => {
        const detail = await client.instance(name, signal)
        const shape = dataFormat(format)
        if (shape === 'json') print(`${JSON.stringify(detail, null, 2)}\n`)
        else if (shape === 'yaml') print(stringify(detail))
        else if (shape === 'name') print(`${detail.name}\n`)
        else print(described(detail, Date.now()))
      })
    })
}

/** An instance in words. @param now epoch ms */
export function described(detail: InstanceDetailShape, now: number): string {
  const { lease, owner } = detail
  const rows: [string, string][] = [
    ['Name', plain(detail.name)],
    ['Status', coloured(detail.status)],
    ['Id', detail.id],
    ['Address', detail.address],
    ['Template', `${plain(detail.template.name)} (version ${plain(detail.template.version)})`],
    ['Backend', plain(detail.backend)],
    ['Host', plain(detail.host)],
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
  const head = aligned(rows.map(([name, value]) => [`${name}:`, value]))
  return `${head}\n${timeline(detail)}\n${lastEvents(detail, now)}`
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
