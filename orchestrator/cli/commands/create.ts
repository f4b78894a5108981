import { type Command, Option } from 'commander'
import { stringify } from 'yaml'
import { Usage } from '../exit.ts'
import { print, say } from '../output.ts'
import { dataFormat, wholeNumber, withSession } from '../session.ts'

interface CreateFlags {
  readonly host?: string
  readonly validSeconds?: number
}

export function addCreate(program: Command): void {
  program
    .command('create')
    .summary('make a token by which a host joins')
    .description('Makes a one-time token and prints the line to paste on the new host.')
    .argument('<resource>', 'token')
    .option('--host <name>', 'admit only the host of this name')
    .addOption(
      new Option('--valid-seconds <seconds>', 'how long it can be used (default: 3600)').argParser(
        wholeNumber('--valid-seconds', 60, 7 * 86_400),
      ),
    )
    .addHelpText('after', '\nExamples:\n  orctl create token\n  ssh rack1 sudo "$(orctl create token --host rack1)"')
    .action(async (word: string, flags: CreateFlags, command: Command) => {
      if (word !== 'token') throw new Usage(`only a token can be created, not ${JSON.stringify(word)}`)
      await withSession(command, async ({ client, format, signal }) => {
        const { host, validSeconds } = flags
        const token = await client.createJoinToken({ host, validSeconds }, signal)
        const shape = dataFormat(format)
        if (shape === 'json') print(`${JSON.stringify(token, null, 2)}\n`)
        else if (shape === 'yaml') print(stringify(token))
        else if (shape === 'name') print(`${token.token}\n`)
        else {
          say(`Run this on the new host before ${token.expiresAt}; it works once:`)
          print(`${token.command}\n`)
        }
      })
    })
}
