import type { Command } from 'commander'
import { stringify } from 'yaml'
import { describedInstance } from '../described-instance.ts'
import { describedLease } from '../described-lease.ts'
import { describedTemplate } from '../described-template.ts'
import { Usage } from '../exit.ts'
import { print } from '../output.ts'
import { RESOURCES, resourceOf } from '../resources.ts'
import { dataFormat, type Session, withSession } from '../session.ts'

export function addDescribe(program: Command): void {
  program
    .command('describe')
    .summary('tell all about one instance, lease or template')
    .description(
      'Tells all about one instance (how it stands, whose it is, how fast it started, what went wrong), one lease (who has it, and why it has no instance) or one template (parameters, outputs, who uses it, its stack).',
    )
    .argument('<resource>', 'instance, lease or template')
    .argument(
      '<name>',
      'name or id of the instance; address, hostname or DUID of the lease; NAME or NAME@VERSION of the template',
    )
    .addHelpText(
      'after',
      '\nExamples:\n  orctl describe instance laptop\n  orctl describe lease fd00::4711\n  orctl describe template web@3',
    )
    .action(async (word: string, name: string, _flags: unknown, command: Command) => {
      const describe = DESCRIBED.get(word.replace(/s$/, ''))
      if (describe === undefined) {
        const { plural } = resourceOf(word)
        throw new Usage(
          `only an instance, a lease or a template can be described; \`orctl get ${plural} ${name} -o yaml\` shows all of that one`,
        )
      }
      await withSession(command, (session) => describe(session, name))
    })
}

const DESCRIBED = new Map([
  [
    'instance',
    async (session: Session, name: string) => {
      const detail = await session.client.instance(name, session.signal)
      show(session, detail, RESOURCES.instances.name(detail), () => describedInstance(detail, Date.now()))
    },
  ],
  [
    'lease',
    async (session: Session, name: string) => {
      const lease = await RESOURCES.leases.find(session.client, name, session.signal)
      show(session, lease, RESOURCES.leases.name(lease), () => describedLease(lease, Date.now()))
    },
  ],
  [
    'template',
    async (session: Session, name: string) => {
      const detail = await session.client.template(name, session.signal)
      show(session, detail, RESOURCES.templates.name(detail), () => describedTemplate(detail))
    },
  ],
])

function show({ format }: Session, detail: unknown, name: string, words: () => string): void {
  const shape = dataFormat(format)
  if (shape === 'json') print(`${JSON.stringify(detail, null, 2)}\n`)
  else if (shape === 'yaml') print(stringify(detail))
  else if (shape === 'name') print(`${name}\n`)
  else print(words())
}
