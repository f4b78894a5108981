import type { Command } from 'commander'
import { stringify } from 'yaml'
import { Usage } from '../../exit.ts'
import { counted } from '../../faults.ts'
import { print, say } from '../../output.ts'
import { dataFormat, withSession } from '../../session.ts'

export function addRollout(template: Command): void {
  template
    .command('rollout')
    .summary('give rules another version of a template')
    .description(
      'Makes another version the one that rules give which name none. Instances that exist keep theirs. `previous` goes back to the one before.',
    )
    .argument('<name>', 'template')
    .requiredOption('--to <version>', 'number or hash of a version, or previous')
    .addHelpText(
      'after',
      '\nExamples:\n  orctl template rollout web --to 4\n  orctl template rollout web --to previous',
    )
    .action(async (name: string, flags: { readonly to: string }, command: Command) => {
      const to = /^[1-9]\d{0,8}$/.test(flags.to) ? Number(flags.to) : flags.to
      await withSession(command, async ({ client, format, signal }) => {
        const now = await client.rollout(name, to, signal)
        const shape = dataFormat(format)
        if (shape === 'json') print(`${JSON.stringify(now, null, 2)}\n`)
        else if (shape === 'yaml') print(stringify(now))
        else if (shape === 'name') print(`${now.name}@${now.number}\n`)
        else
          say(
            `rules that name no version now give ${now.name}@${now.number} (${counted(now.instances, 'instance')} so far)`,
          )
      })
    })
}

export function addDiff(template: Command): void {
  template
    .command('diff')
    .summary('show how two versions differ')
    .description(
      'Shows how two versions of a template differ: the one before and the one that is rolled out, unless told.',
    )
    .argument('<name>', 'template')
    .option('--from <version>', 'number or hash of a version')
    .option('--to <version>', 'number or hash of a version')
    .addHelpText('after', '\nExamples:\n  orctl template diff web\n  orctl template diff web --from 2 --to 4')
    .action(async (name: string, flags: { readonly from?: string; readonly to?: string }, command: Command) => {
      await withSession(command, async ({ client, format, signal }) => {
        const found = await client.templateDiff(name, flags, signal)
        const shape = dataFormat(format)
        if (shape === 'json') print(`${JSON.stringify(found, null, 2)}\n`)
        else if (shape === 'yaml') print(stringify(found))
        else if (shape === 'name') throw new Usage('--output: a difference has no name')
        else {
          print(found.diff)
          if (found.diff === '') say(`${name}@${found.from} and ${name}@${found.to} do not differ`)
        }
      })
    })
}
