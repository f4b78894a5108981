import { readdirSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { Argument, type Command, type Option } from 'commander'
import { completionHelp, completionScript, SHELLS, type Shell } from '../../../common/completion.ts'
import { print } from '../output.ts'

/** Milliseconds that a person waits for the names of containers before there are none. */
const NAMES_WITHIN_MS = 1_000
const SYSFS = '/sys/class/net'
const NAMED = '/run/netns'

export function addCompletion(program: Command): void {
  program
    .command('completion')
    .summary('print the completion script of a shell')
    .description('Prints a script that completes commands, flags, targets and devices.')
    .addArgument(new Argument('<shell>', 'which shell').choices(SHELLS))
    .addHelpText('after', completionHelp('unionize'))
    .action((shell: Shell) => print(completionScript(shell, 'unionize')))
  program
    .command('complete', { hidden: true })
    .argument('[words...]')
    .helpOption(false)
    .action(async (words: string[]) => {
      const found = await candidates(program, words)
      print(found.map((word) => `${word}\n`).join(''))
    })
}

/** The words that may come next. @param words the line after `unionize`; the last one is being typed and may be empty */
export async function candidates(program: Command, words: readonly string[]): Promise<readonly string[]> {
  const current = words.at(-1) ?? ''
  const before = words.slice(0, -1)
  const all = await matching(program, before, current)
  return all.filter((word) => word.startsWith(current))
}

async function matching(program: Command, before: readonly string[], current: string): Promise<readonly string[]> {
  const verbs = program.createHelp().visibleCommands(program)
  const verb = verbs.find((command) => command.name() === before[0])
  if (verb === undefined) return before.length === 0 ? verbs.map((command) => command.name()) : []
  const pending = verb.options.find((option) => option.required && [option.long, option.short].includes(before.at(-1)))
  if (pending !== undefined) return await valuesOf(pending)
  if (current.startsWith('-')) return verb.options.flatMap((option) => option.long ?? [])
  const [argument] = verb.registeredArguments
  if (argument?.argChoices !== undefined) return argument.argChoices
  return argument?.name() === 'target' ? await targets() : []
}

async function valuesOf(option: Option): Promise<readonly string[]> {
  if (option.argChoices !== undefined) return option.argChoices
  const { long = '' } = option
  if (long === '--addressing') return ['static', 'slaac', 'dhcp', 'dhcp4', 'dhcp6']
  if (long === '--veth-to') return await targets()
  return ['--bridge', '--macvlan', '--ipvlan', '--physical', '--parent'].includes(long)
    ? devices(long === '--bridge')
    : []
}

/** Network devices of this host: what /sys tells, or, where it is another namespace's, those that are up. */
function devices(bridges: boolean): readonly string[] {
  const names = list(SYSFS)
  const found = names.length > 0 ? names : Object.keys(networkInterfaces())
  return bridges ? found.filter((name) => list(`${SYSFS}/${name}`).includes('bridge')) : found.filter((n) => n !== 'lo')
}

async function targets(): Promise<readonly string[]> {
  const named = list(NAMED).map((name) => `netns:${name}`)
  const { engineOf, settingsOf } = await import('../session.ts')
  try {
    const engine = await engineOf(settingsOf({}))()
    const containers = await engine.list({}, AbortSignal.timeout(NAMES_WITHIN_MS))
    return [...containers.filter((one) => one.running).map((one) => one.name), ...named]
  } catch {
    return named // no engine that answers: to complete a word is no time to complain
  }
}

function list(folder: string): readonly string[] {
  try {
    return readdirSync(folder)
  } catch {
    return [] // not there: nothing to offer
  }
}
