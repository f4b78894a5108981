import type { Command } from 'commander'
import { plain } from '../../../../common/plain.ts'
import type { CredentialShape } from '../../../api/wire.ts'
import { age } from '../../ages.ts'
import { confirmed } from '../../confirm.ts'
import { readFields } from '../../credential-fields.ts'
import { NotFound } from '../../exit.ts'
import { print, say, shown, type View } from '../../output.ts'
import { dataFormat, type Session, withSession } from '../../session.ts'
import { showReports } from '../backend.ts'
import { each } from '../rm.ts'

interface SetFlags {
  readonly fromFile?: string
  readonly stdin?: boolean
  readonly test?: boolean
}

const FIELDS_HELP = `
A file or standard input has one field a line, KEY=VALUE, or is a JSON object of texts. On a terminal the fields are asked
for, and what is typed is not shown. Values are never given as arguments, where every user of the machine sees them.`

export function addCredential(program: Command): void {
  const credential = program
    .command('credential')
    .summary('what lets backends in: set, test, rotate')
    .description(
      'Credentials let backends in: keys of clouds, certificates of swarms, keys of SSH. They are kept encrypted, a backend names one in its settings (`credential: NAME`), and nobody is ever shown a value.',
    )
    .addHelpText(
      'after',
      '\nExamples:\n  orctl credential set ovh --from-file ovh.env\n  orctl credential rotate ovh --test --stdin <new.json\n  orctl credential ls',
    )
  addSet(credential)
  credential
    .command('ls')
    .summary('list credentials: names, fields, and who uses them')
    .description('Lists credentials with the names of their fields, when they were set, and which backends use them.')
    .addHelpText('after', '\nExample:\n  orctl credential ls')
    .action(async (_flags: unknown, command: Command) => {
      await withSession(command, async ({ client, format, signal }) =>
        print(shown(VIEW, await client.credentials(signal), format, Date.now())),
      )
    })
  credential
    .command('test')
    .summary('ask every backend that uses it')
    .description('Has every backend that uses the credential ask its targets with it, as `orctl backend check` does.')
    .argument('<name>')
    .addHelpText('after', '\nExample:\n  orctl credential test ovh')
    .action(async (name: string, _flags: unknown, command: Command) => {
      await withSession(command, async ({ client, format, signal }) =>
        showReports(await client.testCredential(name, signal), dataFormat(format)),
      )
    })
  credential
    .command('rm')
    .summary('remove credentials')
    .description('Removes credentials. One that a backend uses is refused, with the names of these backends.')
    .argument('<name...>')
    .option('-y, --yes', 'do not ask')
    .option('--force', 'also when a backend uses it, which can do nothing then')
    .addHelpText('after', '\nExample:\n  orctl credential rm ovh')
    .action(async (names: string[], flags: { yes?: boolean; force?: boolean }, command: Command) => {
      if (!flags.yes && !(await confirmed(`Remove ${names.join(', ')}?`, '--yes removes without asking')))
        return say('nothing was removed')
      await withSession(command, ({ client, signal }) =>
        each('credential', names, async (name) => {
          await client.removeCredential(name, { force: flags.force === true }, signal)
          say(`credential ${name} is removed`)
        }),
      )
    })
}

function addSet(credential: Command): void {
  const verbs = [
    ['set', 'set a credential', 'Sets a credential, in the place of what was there.'],
    [
      'rotate',
      'set one that is there already',
      'Sets a credential that is there already, so that a typing error makes none.',
    ],
  ] as const
  for (const [verb, summary, description] of verbs) {
    credential
      .command(verb)
      .summary(summary)
      .description(`${description} Backends use it from their next call on, without a restart.`)
      .argument('<name>')
      .argument('[field...]', 'names of the fields to ask for on a terminal')
      .option('--from-file <file>', 'read the fields from this file')
      .option('--stdin', 'read the fields from standard input')
      .option('--test', 'only if every backend that uses it gets in with it')
      .addHelpText(
        'after',
        `${FIELDS_HELP}\n\nExamples:\n  orctl credential ${verb} ovh --from-file ovh.env --test\n  orctl credential ${verb} ovh username password`,
      )
      .action(async (name: string, names: string[], flags: SetFlags, command: Command) => {
        await withSession(command, async (session) => {
          if (verb === 'rotate') await mustBeThere(session, name)
          await set(session, name, names, flags)
        })
      })
  }
}

async function set({ client, format, signal }: Session, name: string, names: string[], flags: SetFlags): Promise<void> {
  const { fromFile, stdin, test = false } = flags
  const fields = await readFields({ fromFile, stdin, names })
  const kept = await client.setCredential(name, { fields, test }, signal)
  if (format === 'table') say(`credential ${name} is set: ${kept.fields.map(plain).join(', ')}`)
  else print(shown(VIEW, [kept], format, Date.now(), true))
}

/** @throws NotFound */
async function mustBeThere({ client, signal }: Session, name: string): Promise<void> {
  if ((await client.credentials(signal)).some((one) => one.name === name)) return
  throw new NotFound(`there is no credential ${JSON.stringify(name)}; \`orctl credential set ${name}\` makes one`)
}

const VIEW: View<CredentialShape> = {
  name: ({ name }) => name,
  columns: [
    { head: 'NAME', cell: ({ name }) => plain(name) },
    { head: 'FIELDS', cell: ({ fields }) => plain(fields.join(',')) },
    { head: 'CHANGED', cell: ({ changedAt }, now) => age(changedAt, now) },
    { head: 'USED BY', cell: ({ usedBy }) => plain(usedBy.join(',')) },
  ],
}
