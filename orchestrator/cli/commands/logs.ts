import { once } from 'node:events'
import { type Command, Option } from 'commander'
import { wholeNumber, withSession } from '../session.ts'

interface LogsFlags {
  readonly follow?: boolean
  readonly tail: number
  readonly service?: string
}

export function addLogs(program: Command): void {
  program
    .command('logs')
    .summary('print what an instance prints')
    .description("Prints the output of an instance's services as it is.")
    .argument('<name>', 'name or id of the instance')
    .option('-f, --follow', 'go on until Ctrl-C')
    .addOption(
      new Option('--tail <lines>', 'lines from the end to begin with')
        .default(200)
        .argParser(wholeNumber('--tail', 0, 100_000)),
    )
    .option('-s, --service <name>', 'only of this service')
    .addHelpText('after', '\nExamples:\n  orctl logs laptop\n  orctl logs laptop -f --tail 10')
    .action(async (name: string, flags: LogsFlags, command: Command) => {
      await withSession(command, async ({ client, signal }) => {
        const { tail, service } = flags
        for await (const text of client.logs(name, { tail, service, follow: flags.follow ?? false }, signal)) {
          if (!process.stdout.write(text)) await once(process.stdout, 'drain')
        }
      })
    })
}
