import type { Command } from 'commander'
import type { Difference } from '../../wiring/interfaces/interfaces.ts'
import { addCommonFlags, outputFlag, TARGET_HELP } from '../common-flags.ts'
import { EXIT, exitHelp } from '../exit.ts'
import { encoded, type Format, print, say, table } from '../output.ts'
import type { CommonFlags } from '../session.ts'
import { wiredOf } from './show.ts'

interface CheckFlags extends CommonFlags {
  readonly output: Exclude<Format, 'wide'>
}

interface Checked {
  readonly target: string
  readonly differences: readonly Difference[]
}

export function addCheck(program: Command): void {
  const command = program
    .command('check')
    .summary('tell in what the kernel differs from what is wanted')
    .description('Compares what was asked for with what the kernel has, of all targets or of one. Changes nothing.')
    .argument('[target]', TARGET_HELP)
    .addOption(outputFlag(['table', 'json', 'yaml']).default('table'))
  addCommonFlags(command)
    .addHelpText('after', '\nExamples:\n  unionize check\n  unionize check web && echo as wanted')
    .addHelpText('after', exitHelp(EXIT.ok, EXIT.failure, EXIT.usage, EXIT.differs, EXIT.missing, EXIT.notAllowed))
    .action((target: string | undefined, flags: CheckFlags) => check(target, flags))
}

async function check(target: string | undefined, flags: CheckFlags): Promise<void> {
  const { withSession } = await import('../session.ts')
  await withSession(flags, async (session) => {
    const checked: Checked[] = []
    for (const { key, label } of await wiredOf(session, target)) {
      checked.push({ target: label, differences: await session.interfaces.check(key) })
    }
    const data = target === undefined ? { items: checked } : checked[0]
    if (flags.output !== 'table') print(await encoded(data, flags.output))
    else await printDifferences(checked)
    if (checked.some(({ differences }) => differences.length > 0)) process.exitCode = EXIT.differs
  })
}

async function printDifferences(checked: readonly Checked[]): Promise<void> {
  const rows = checked.flatMap(({ target, differences }) =>
    differences.map((found) => [target, found.interface, found.field, found.wanted, found.found]),
  )
  if (rows.length > 0) print(await table(['TARGET', 'INTERFACE', 'FIELD', 'WANTED', 'FOUND'], rows))
  else if (checked.length === 0) say('nothing is wired')
  for (const { target, differences } of checked) if (differences.length === 0) say(`${target}: as wanted`)
}
