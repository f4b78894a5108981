import type { Command } from 'commander'
import { stringify } from 'yaml'
import { Refused } from '../../api/transport.ts'
import type { ApplyShape } from '../../api/wire.ts'
import { EXIT, Usage } from '../exit.ts'
import { sayFaults } from '../faults.ts'
import { print, say } from '../output.ts'
import { dataFormat, type Session, withSession } from '../session.ts'
import { readSourceFiles } from '../source-files.ts'

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
    .requiredOption('-f, --filename <path>', 'a folder, a file, or - for standard input; may be repeated', gathered, [])
    .option('--dry-run', 'show what would change, and change nothing')
    .option('--hold', 'keep new versions of templates without rolling them out')
    .addHelpText(
      'after',
      `
Examples:
  orctl apply -f catalog/                 all that is in it: NAME.yaml, NAME/compose.yaml, rules.yaml
  orctl apply -f web/compose.yaml         one template, with the files beside it
  orctl apply -f catalog/ --dry-run       the differences alone
  orctl apply -f web/ --hold && orctl template rollout web --to 4`,
    )
    .action(async (flags: ApplyFlags, command: Command) => {
      await withSession(command, (session) => run(session, flags))
    })
}

function gathered(value: string, before: string[]): string[] {
  return [...before, value]
}

async function run(session: Session, flags: ApplyFlags): Promise<void> {
  const files: Record<string, string> = {}
  for (const name of flags.filename) {
    for (const [path, content] of await readSourceFiles(name)) {
      if (Object.hasOwn(files, path)) throw new Usage(`--filename: ${path} comes twice`)
      files[path] = Buffer.from(content).toString('base64')
    }
  }
  const { client, format, signal } = session
  const dryRun = flags.dryRun ?? false
  try {
    const applied = await client.apply({ files, dryRun, hold: flags.hold ?? false }, signal)
    show(applied, dryRun, format)
    if (applied.faults.length > 0) process.exitCode = EXIT.refused
  } catch (error) {
    if (error instanceof Refused) sayFaults('error', error.faults)
    throw error
  }
}

function show(applied: ApplyShape, dryRun: boolean, format: Session['format']): void {
  sayFaults('error', applied.faults)
  sayFaults('note', applied.notes)
  const shape = dataFormat(format)
  if (shape === 'json') print(`${JSON.stringify(applied, null, 2)}\n`)
  else if (shape === 'yaml') print(stringify(applied))
  else showChanges(applied, dryRun, shape)
}

function showChanges(applied: ApplyShape, dryRun: boolean, shape: 'text' | 'name'): void {
  for (const { kind, name, action, version, diff } of applied.changes) {
    const what = kind === 'rules' ? 'rules' : `template/${name}`
    if (shape === 'name') print(`${what}\n`)
    else {
      if (dryRun) print(diff)
      say(`${what} ${dryRun ? `would be ${action}` : action} (version ${version})`)
    }
  }
  if (applied.changes.length === 0 && applied.faults.length === 0) say('there is neither a template nor a rules file')
}
