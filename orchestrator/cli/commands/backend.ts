import type { Command } from 'commander'
import { stringify } from 'yaml'
import { plain } from '../../../common/plain.ts'
import type { BackendReportShape, BackendShape } from '../../api/wire.ts'
import { age, until } from '../ages.ts'
import { reportsFail, reportText } from '../backend-reports.ts'
import { EXIT, NotFound } from '../exit.ts'
import { print, shown, type View } from '../output.ts'
import { dataFormat, type Session, withSession } from '../session.ts'
import { coloured } from '../table.ts'

export function addBackend(program: Command): void {
  const backend = program
    .command('backend')
    .summary('see whether backends answer')
    .description(
      'Backends are where instances can be: docker on hosts that run unionize, and those of the setting `backends`. Each has targets: hosts, swarms, regions, machines.',
    )
    .addHelpText('after', '\nExamples:\n  orctl backend ls\n  orctl backend check swarm')
  backend
    .command('ls')
    .summary('list backends, their targets, and which of them are away')
    .description('Lists each target of each backend, with what is known of it without asking it.')
    .addHelpText('after', '\nExamples:\n  orctl backend ls\n  orctl backend ls -o json')
    .action(async (_flags: unknown, command: Command) => {
      await withSession(command, list)
    })
  backend
    .command('check')
    .summary('ask every target now: does it answer, how fast, with which rights')
    .description(
      'Asks every target of one backend, or of all, also those that are known to be away: does it answer, how fast, in which version, what may be done there, and what is missing. Changes nothing. Ends with 1 when one of them does not answer or something is missing.',
    )
    .argument('[name]', 'name of the backend; without it all')
    .addHelpText('after', '\nExamples:\n  orctl backend check\n  orctl backend check swarm -o json')
    .action(async (name: string | undefined, _flags: unknown, command: Command) => {
      await withSession(command, (session) => check(session, name))
    })
}

/** One line of the table: a target, or a backend that has none. */
interface Row {
  readonly backend: BackendShape
  readonly target: BackendShape['targets'][number] | null
}

const VIEW: View<Row> = {
  name: ({ backend }) => backend.name,
  columns: [
    { head: 'BACKEND', cell: ({ backend }) => plain(backend.name) },
    { head: 'KIND', cell: ({ backend }) => plain(backend.kind) },
    { head: 'TARGET', cell: ({ target }) => plain(target?.name ?? null) },
    { head: 'STATUS', cell: ({ target }) => (target === null ? '-' : coloured(target.state)) },
    { head: 'INSTANCES', cell: ({ target, backend }) => String(target?.instances ?? backend.instances) },
    { head: 'AWAY', cell: ({ target }, now) => age(target?.since ?? null, now) },
    { head: 'NEXT TRY', cell: ({ target }, now) => (target?.tryAt == null ? '-' : until(target.tryAt, now)) },
  ],
}

async function list({ client, format, signal }: Session): Promise<void> {
  const backends = await client.backends(signal)
  const shape = dataFormat(format)
  if (shape === 'json') return print(`${JSON.stringify({ items: backends }, null, 2)}\n`)
  if (shape === 'yaml') return print(stringify({ items: backends }))
  if (shape === 'name') return print(backends.map(({ name }) => `${name}\n`).join(''))
  const rows = backends.flatMap((backend): Row[] =>
    backend.targets.length === 0 ? [{ backend, target: null }] : backend.targets.map((target) => ({ backend, target })),
  )
  print(shown(VIEW, rows, format, Date.now()))
}

async function check({ client, format, signal }: Session, name: string | undefined): Promise<void> {
  const known = (await client.backends(signal)).map((backend) => backend.name)
  if (name !== undefined && !known.includes(name)) {
    throw new NotFound(`there is no backend ${JSON.stringify(name)}; there is ${known.join(', ')}`)
  }
  const asked = name === undefined ? known : [name]
  const reports = await Promise.all(asked.map((one) => client.checkBackend(one, signal)))
  showReports(reports, dataFormat(format))
}

/** Prints how backends answered, and ends with 1 when not all is well. */
export function showReports(reports: readonly BackendReportShape[], shape: ReturnType<typeof dataFormat>): void {
  if (shape === 'json') print(`${JSON.stringify({ items: reports }, null, 2)}\n`)
  else if (shape === 'yaml') print(stringify({ items: reports }))
  else if (shape === 'name') print(reports.map(({ backend }) => `${backend}\n`).join(''))
  else print(reportText(reports))
  if (reportsFail(reports)) process.exitCode = EXIT.failure
}
