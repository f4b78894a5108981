import type { Command } from 'commander'
import { InvalidInput } from '../../../common/errors.ts'
import type { Step } from '../../wiring/interfaces/interfaces.ts'
import { addCommonFlags, outputFlag, TARGET_HELP } from '../common-flags.ts'
import { EXIT, exitCodeOf, exitHelp, linesOf } from '../exit.ts'
import { encoded, print, say, tell } from '../output.ts'
import type { CommonFlags, Session } from '../session.ts'

interface UnwireFlags extends CommonFlags {
  readonly interface?: readonly string[]
  readonly all?: boolean
  readonly output?: 'json' | 'yaml'
}

/** What came of one target. */
interface Outcome {
  readonly target: string
  readonly steps: readonly Step[]
}

export function addUnwire(program: Command): void {
  const command = program
    .command('unwire')
    .summary('undo what wire did')
    .description(
      'Takes away what "unionize wire" made, and gives a device back to the host with name, addresses and state as before. ' +
        'Not wired, or gone already, is success.',
    )
    .argument('[target]', TARGET_HELP)
    .option('-i, --interface <name...>', 'only these interfaces')
    .option('--all', 'everything that is wired on this host')
    .addOption(outputFlag(['json', 'yaml'], 'print the steps as data'))
  addCommonFlags(command)
    .addHelpText('after', '\nExamples:\n  unionize unwire web\n  unionize unwire web -i eth2\n  unionize unwire --all')
    .addHelpText('after', exitHelp(EXIT.ok, EXIT.failure, EXIT.usage, EXIT.notAllowed))
    .action((target: string | undefined, flags: UnwireFlags) => unwire(target, flags))
}

async function unwire(target: string | undefined, flags: UnwireFlags): Promise<void> {
  if ((target === undefined) === (flags.all !== true)) throw new InvalidInput('target', 'give one, or --all')
  if (flags.all && flags.interface) throw new InvalidInput('--interface', 'goes with a target, not with --all')
  const { withSession } = await import('../session.ts')
  await withSession(flags, async (session) => {
    const outcomes = target === undefined ? await unwireAll(session) : [await unwireOne(session, target, flags)]
    if (outcomes.length === 0) say('nothing is wired: nothing to do')
    if (flags.output === undefined) return
    print(await encoded(target === undefined ? { items: outcomes } : outcomes[0], flags.output))
  })
}

async function unwireOne(session: Session, target: string, flags: UnwireFlags): Promise<Outcome> {
  const wired = await session.wired(target)
  if (wired === null) {
    say(`${target}: is not wired, nothing to do`)
    return { target, steps: [] }
  }
  for (const name of flags.interface ?? []) {
    if (!wired.spec.interfaces.some((one) => one.name === name)) say(`${wired.label}: ${name} is not wired`)
  }
  const steps = await session.editing(() => session.interfaces.unwire(wired.key, flags.interface))
  tell(wired.label, steps)
  return { target, steps }
}

/** Undoes all that it can; if something failed, the first failure decides the exit code. */
async function unwireAll(session: Session): Promise<Outcome[]> {
  const outcomes: Outcome[] = []
  for (const { key, label } of await session.interfaces.show()) {
    try {
      const steps = await session.editing(() => session.interfaces.unwire(key))
      tell(label, steps)
      outcomes.push({ target: label, steps })
    } catch (thrown) {
      for (const line of linesOf(thrown)) say(`unionize: ${label}: ${line}`)
      process.exitCode ??= exitCodeOf(thrown)
    }
  }
  return outcomes
}
