import { once } from 'node:events'
import type { Command } from 'commander'
import { withSession } from '../../session.ts'

export function addLog(template: Command): void {
  template
    .command('log')
    .summary('print the log of a build')
    .description('Prints what a build printed, and how it ended.')
    .argument('<build>', 'id of the build: `orctl get builds` lists them')
    .option('-f, --follow', 'go on until it ends, or Ctrl-C')
    .addHelpText('after', '\nExamples:\n  orctl template log b-0123456789\n  orctl template log b-0123456789 -f')
    .action(async (id: string, flags: { readonly follow?: boolean }, command: Command) => {
      await withSession(command, async ({ client, signal }) => {
        for await (const text of client.buildLog(id, { follow: flags.follow ?? false }, signal)) {
          if (!process.stdout.write(text)) await once(process.stdout, 'drain')
        }
      })
    })
}
