import type { Command } from 'commander'
import { stringify } from 'yaml'
import { Refused } from '../../api/transport.ts'
import type { ApplyShape } from '../../api/wire.ts'
import { EXIT, exitCodeOf } from '../exit.ts'
import { counted, sayFaults } from '../faults.ts'
import { print, say } from '../output.ts'
import { dataFormat, type Session, withSession } from '../session.ts'
import { readSourceFiles, type SourceFiles } from '../source-files.ts'

interface ApplyFlags {
  readonly filename: string[]
  readonly dryRun?: boolean
  readonly hold?: boolean
}

export function addApply(program: Command): void {
  program
    .command('apply')
    .summary('put templates and rules in force')
    .description(
      'Puts templates and rules in force, all of them or, if one is faulty, none. The same files again change nothing. Instances that exist keep the version that they were made from.',
    )
    .requiredOption('-f, --filename <path>', 'a folder, a file, or - for standard input; may be repeated', gathered)
    .option('--dry-run', 'print what would change, and change nothing')
    .option('--hold', 'keep new versions of templates without rolling them out')
    .addHelpText(
      'after',
      `
Examples:
  orctl apply -f catalog/             all in it: NAME.yaml, NAME/compose.yaml, rules.yaml
  orctl apply -f web/compose.yaml     one template, with the files beside it
  orctl apply -f catalog/ --dry-run   the differences alone
  orctl apply -f web/ --hold && orctl template rollout web --to 4`,
    )
    .action(async (flags: ApplyFlags, command: Command) => {
      await withSession(command, (session) => run(session, flags))
    })
}

function gathered(value: string, before: string[] = []): string[] {
  return [...before, value]
}

async function run(session: Session, flags: ApplyFlags): Promise<void> {
  const sources = await readSourceFiles(flags.filename)
  const files = Object.fromEntries(
    [...sources.files].map(([path, content]) => [path, Buffer.from(content).toString('base64')]),
  )
  const { client, format, signal } = session
  const { dryRun = false, hold = false } = flags
  try {
    show(await client.apply({ files, dryRun, hold }, signal), sources, { dryRun, hold }, format)
  } catch (error) {
    if (!(error instanceof Refused) || error.faults.length === 0) throw error
    sayFaults('error', error.faults, sources.shown)
    say(`orctl: nothing was applied, for ${counted(error.faults.length, 'fault')}`)
    process.exitCode = exitCodeOf(error)
  }
}

type Mode = Required<Pick<ApplyFlags, 'dryRun' | 'hold'>>

function show(applied: ApplyShape, sources: SourceFiles, mode: Mode, format: Session['format']): void {
  const { changes, faults, notes } = applied
  sayFaults('error', faults, sources.shown)
  sayFaults('note', notes, sources.shown)
  const shape = dataFormat(format)
  if (shape === 'json') print(`${JSON.stringify(applied, null, 2)}\n`)
  else if (shape === 'yaml') print(stringify(applied))
  else if (faults.length === 0) for (const change of changes) showChange(change, mode, shape)
  if (faults.length > 0) say(`orctl: nothing would be applied, for ${counted(faults.length, 'fault')}`)
  else if (changes.length === 0) say('orctl: there is neither a template nor a rules file')
  if (faults.length > 0 || changes.length === 0) process.exitCode = EXIT.refused
}

function showChange(change: ApplyShape['changes'][number], { dryRun, hold }: Mode, shape: 'text' | 'name'): void {
  const { kind, name, action, version, diff } = change
  const what = kind === 'rules' ? 'rules' : `template/${name}`
  if (shape === 'name') {
    print(`${what}\n`)
    return
  }
  if (dryRun) print(diff)
  const held = hold && kind === 'template' && action !== 'unchanged' ? ', not rolled out' : ''
  say(`${what} ${dryRun && action !== 'unchanged' ? `would be ${action}` : action} (version ${version}${held})`)
}
