import { setTimeout as delay } from 'node:timers/promises'
import { type Command, Option } from 'commander'
import { wording } from '../../../common/errors.ts'
import type { ApiClient } from '../../api/client.ts'
import type { InstanceShape } from '../../api/wire.ts'
import { confirmed } from '../confirm.ts'
import { exitCodeOf, Usage } from '../exit.ts'
import { print, say, shown } from '../output.ts'
import { instancesResource, resourceOf } from '../resources.ts'
import { type Session, wholeNumber, withSession } from '../session.ts'

const LOOK_EVERY_MS = 250

interface RmFlags {
  readonly yes?: boolean
  readonly wait?: boolean
  readonly timeout: number
}

export function addRm(program: Command): void {
  program
    .command('rm')
    .summary('remove instances or templates, end builds')
    .description(
      "Removes instances, or templates with all their versions. A lease that goes on keeps its place: its owner's next new lease makes a new instance, at the same address. A template that is in use is refused, with who uses it. A build that waits or is under way is ended.",
    )
    .argument('<resource>', 'instance, template or build')
    .argument('<name...>', 'names or ids of instances, names of templates, or ids of builds')
    .option('-y, --yes', 'do not ask')
    .option('--wait', 'return only when they are gone')
    .addOption(
      new Option('--timeout <seconds>', 'how long --wait waits')
        .default(60)
        .argParser(wholeNumber('--timeout', 1, 86_400)),
    )
    .addHelpText(
      'after',
      '\nExamples:\n  orctl rm instance laptop\n  orctl rm instance laptop phone --yes --wait\n  orctl rm template web\n  orctl rm build b-0123456789',
    )
    .action(async (word: string, names: string[], flags: RmFlags, command: Command) => {
      const { singular } = resourceOf(word)
      const remove = REMOVED.get(singular)
      if (remove === undefined)
        throw new Usage(`only instances, templates and builds can be removed, not a ${singular}`)
      if (!flags.yes && !(await confirmed(questionOf(singular, names), '--yes removes without asking')))
        return say('nothing was removed')
      await withSession(command, (session) => remove(session, names, flags))
    })
}

async function removeInstances(session: Session, names: readonly string[], flags: RmFlags): Promise<void> {
  const { client, signal, format } = session
  const removed: InstanceShape[] = []
  await each('instance', names, async (name) => {
    const going = await client.remove(name, signal)
    removed.push(flags.wait ? await untilGone(client, going, flags.timeout, signal) : going)
    say(flags.wait ? `instance ${name} is gone` : `instance ${name} is being removed`)
  })
  if (format !== 'table') print(shown(instancesResource, removed, format, Date.now()))
}

async function removeTemplates({ client, signal }: Session, names: readonly string[]): Promise<void> {
  await each('template', names, async (name) => {
    await client.removeTemplate(name, signal)
    say(`template ${name} is removed`)
  })
}

async function endBuilds({ client, signal }: Session, names: readonly string[]): Promise<void> {
  await each('build', names, async (name) => {
    const { id } = await client.cancelBuild(name, signal)
    say(`build ${id} is being ended`)
  })
}

const REMOVED = new Map<string, (session: Session, names: readonly string[], flags: RmFlags) => Promise<void>>([
  ['instance', removeInstances],
  ['template', removeTemplates],
  ['build', endBuilds],
])

/** Removes all that it can; if something failed, the first failure decides the exit code. */
export async function each(
  kind: string,
  names: readonly string[],
  remove: (name: string) => Promise<void>,
): Promise<void> {
  const failures: unknown[] = []
  for (const name of names) {
    try {
      await remove(name)
    } catch (error) {
      failures.push(error)
      const words = wording(error)
      say(words.startsWith(`${kind} ${name} `) ? words : `${kind} ${name}: ${words}`)
    }
  }
  if (failures.length > 0) process.exitCode = exitCodeOf(failures[0])
}

function questionOf(kind: string, names: readonly string[]): string {
  return `Remove ${kind}${names.length === 1 ? '' : 's'} ${names.join(', ')}?`
}

async function untilGone(
  client: ApiClient,
  instance: InstanceShape,
  seconds: number,
  signal: AbortSignal,
): Promise<InstanceShape> {
  const deadline = Date.now() + seconds * 1000
  for (;;) {
    const {
      events: _events,
      lease: _lease,
      parameters: _parameters,
      outputs: _outputs,
      ...now
    } = await client.instance(instance.id, signal)
    if (now.state === 'gone') return now
    if (Date.now() > deadline) {
      const why = now.lastError === null ? '' : `: ${now.lastError}`
      throw new Error(`it is not gone after ${seconds} s${why}; \`orctl describe instance ${now.id}\` tells more`)
    }
    await delay(LOOK_EVERY_MS, undefined, { signal })
  }
}
