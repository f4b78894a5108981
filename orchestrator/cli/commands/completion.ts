import { Argument, type Command } from 'commander'
import { completionHelp, completionScript, SHELLS, type Shell } from '../../../common/completion.ts'
import { candidates } from '../candidates.ts'
import { connect } from '../connection.ts'
import { print } from '../output.ts'
import { oneOf } from '../session.ts'

/** Milliseconds that a person waits for names before there are none. */
const NAMES_WITHIN_MS = 2_000

export function addCompletion(program: Command): void {
  program
    .command('completion')
    .summary('print the completion script of a shell')
    .description('Prints a script that completes verbs, resources, flags and the names of what there is.')
    .addArgument(new Argument('<shell>', 'which shell').choices(SHELLS).argParser(oneOf(SHELLS)))
    .addHelpText('after', completionHelp('orctl'))
    .action((shell: Shell) => print(completionScript(shell, 'orctl')))

  program
    .command('complete', { hidden: true })
    .argument('[words...]')
    .helpOption(false)
    .action(async (words: string[]) => {
      const signal = AbortSignal.timeout(NAMES_WITHIN_MS)
      const client = (flags: Readonly<Record<string, string>>) => connect(flags, process.env)
      const found = await candidates({ program, client, signal }, words)
      print(found.map((word) => `${word}\n`).join(''))
    })
}
