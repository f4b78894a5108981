import { createInterface } from 'node:readline/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { type Command, Option } from 'commander'
import { wording } from '../../../common/errors.ts'
import type { ApiClient } from '../../api/client.ts'
import type { InstanceShape } from '../../api/wire.ts'
import { exitCodeOf, Usage } from '../exit.ts'
import { print, say, shown } from '../output.ts'
import { instancesResource } from '../resources.ts'
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
    .summary('remove instances')
    .description(
      "Removes instances. A lease that goes on keeps its place: its owner's next new lease makes a new instance, at the same address.",
    )
    .argument('<resource>', 'instance')
    .argument('<name...>', 'names or ids of instances')
    .option('-y, --yes', 'do not ask')
    .option('--wait', 'return only when they are gone')
    .addOption(
      new Option('--timeout <seconds>', 'how long --wait waits')
        .default(60)
        .argParser(wholeNumber('--timeout', 1, 86_400)),
    )
    .addHelpText('after', '\nExamples:\n  orctl rm instance laptop\n  orctl rm instance laptop phone --yes --wait')
    .action(async (word: string, names: string[], flags: RmFlags, command: Command) => {
      if (word !== 'instance' && word !== 'instances')
        throw new Usage(`only instances can be removed, not ${JSON.stringify(word)}`)
      await withSession(command, (session) => run(session, names, flags))
    })
}

/** Removes all that it can; if something failed, the first failure decides the exit code. */
async function run(session: Session, names: readonly string[], flags: RmFlags): Promise<void> {
  if (!flags.yes && !(await confirmed(names))) {
    say('nothing was removed')
    return
  }
  const { client, signal, format } = session
  const removed: InstanceShape[] = []
  const failures: unknown[] = []
  for (const name of names) {
    try {
      const going = await client.remove(name, signal)
      removed.push(flags.wait ? await untilGone(client, going, flags.timeout, signal) : going)
      say(flags.wait ? `instance ${name} is gone` : `instance ${name} is being removed`)
    } catch (error) {
      failures.push(error)
      say(`instance ${name}: ${wording(error)}`)
    }
  }
  if (format !== 'table') print(shown(instancesResource, removed, format, Date.now()))
  if (failures.length > 0) process.exitCode = exitCodeOf(failures[0])
}

async function confirmed(names: readonly string[]): Promise<boolean> {
  if (!process.stdin.isTTY) throw new Usage('there is nobody to ask; --yes removes without asking')
  const dialogue = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const answer = await dialogue.question(
      `Remove ${names.length === 1 ? 'instance' : 'instances'} ${names.join(', ')}? [y/N] `,
    )
    return /^y(es)?$/i.test(answer.trim())
  } finally {
    dialogue.close()
  }
}

async function untilGone(
  client: ApiClient,
  instance: InstanceShape,
  seconds: number,
  signal: AbortSignal,
): Promise<InstanceShape> {
  const deadline = Date.now() + seconds * 1000
  for (;;) {
    const { events: _events, lease: _lease, ...now } = await client.instance(instance.id, signal)
    if (now.state === 'gone') return now
    if (Date.now() > deadline) {
      const why = now.lastError === null ? '' : `: ${now.lastError}`
      throw new Error(`it is not gone after ${seconds} s${why}; \`orctl describe instance ${now.id}\` tells more`)
    }
    await delay(LOOK_EVERY_MS, undefined, { signal })
  }
}
