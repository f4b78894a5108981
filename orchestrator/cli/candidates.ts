import type { Command, Option } from 'commander'
import type { ApiClient } from '../api/client.ts'
import { FORMATS } from './output.ts'
import { RESOURCES, resourceOf } from './resources.ts'

/** What may stand at the end of a command line, for the shells' completion. */
export interface CandidateSource {
  readonly program: Command
  /** A client made from the flags that stand on the line. */
  client(flags: Readonly<Record<string, string>>): ApiClient
  readonly signal: AbortSignal
}

const RESOURCE_WORDS: Readonly<Record<string, readonly string[]>> = {
  get: Object.keys(RESOURCES),
  describe: ['instance', 'lease', 'template'],
  rm: ['instance', 'template', 'build'],
  create: ['token'],
  completion: ['bash', 'zsh', 'fish'],
}

/** Below `template`: those whose first word is the name of one that there is, or may be. */
const TAKES_TEMPLATE = new Set(['rollout', 'diff', 'build'])

/** A command line as far as it is written. */
interface Line {
  readonly verb: Command | null
  /** Words after the verb that are neither flags nor their values. */
  readonly given: readonly string[]
  readonly flags: Readonly<Record<string, string>>
  /** The flag whose value comes next. */
  readonly pending: Option | null
}

/**
 * The words that may come next. @param words the line after `orctl`; the last one is being typed and may be empty
 */
export async function candidates(source: CandidateSource, words: readonly string[]): Promise<readonly string[]> {
  const current = words.at(-1) ?? ''
  const line = read(source.program, words.slice(0, -1))
  const all = await matching(source, line, current)
  return all.filter((word) => word.startsWith(current))
}

async function matching(source: CandidateSource, line: Line, current: string): Promise<readonly string[]> {
  const { program } = source
  if (line.pending !== null) return await valuesOf(source, line, line.pending)
  if (current.startsWith('-')) return flagsOf(program, line.verb).flatMap((option) => option.long ?? [])
  if (line.verb === null) return verbsOf(program).map((command) => command.name())
  const below = line.given.length === 0 ? verbsOf(line.verb).map((command) => command.name()) : []
  if (below.length > 0) return below
  if (ofMachines(line.verb)) return await machineNames(source, line)
  const verb = line.verb.name()
  const [first] = line.given
  const above = line.verb.parent?.name()
  if (above === 'backend') return verb === 'check' && first === undefined ? await backendNames(source, line) : []
  if (above === 'credential') return verb === 'ls' ? [] : await credentialNames(source, line)
  if (verb === 'logs') return first === undefined ? await names(source, line, 'instances') : []
  if (verb === 'log') return first === undefined ? await names(source, line, 'builds') : []
  if (TAKES_TEMPLATE.has(verb)) return first === undefined ? await names(source, line, 'templates') : []
  if (first === undefined) return RESOURCE_WORDS[verb] ?? []
  if (verb === 'get' || verb === 'describe') return line.given.length === 1 ? await names(source, line, first) : []
  if (verb !== 'rm') return []
  return (await names(source, line, first)).filter((name) => !line.given.includes(name))
}

async function valuesOf(source: CandidateSource, line: Line, option: Option): Promise<readonly string[]> {
  if (option.long === '--output') return FORMATS
  if (option.long === '--instance') return await names(source, line, 'instances')
  if (option.long === '--host') return await names(source, line, 'hosts')
  return []
}

async function backendNames(source: CandidateSource, line: Line): Promise<readonly string[]> {
  return await asked(source, line, async (client) => (await client.backends(source.signal)).map(({ name }) => name))
}

async function credentialNames(source: CandidateSource, line: Line): Promise<readonly string[]> {
  const all = await asked(source, line, async (client) => await client.credentials(source.signal))
  return all.map(({ name }) => name).filter((name) => !line.given.includes(name))
}

async function names(source: CandidateSource, line: Line, word: string): Promise<readonly string[]> {
  const resource = resourceOf(word)
  const items = await asked(source, line, (client) => resource.list(client, { all: false }, source.signal))
  return [...new Set(items.map((item) => resource.name(item)))]
}

/** Asks the server that the flags on the line name. */
async function asked<T>(source: CandidateSource, line: Line, question: (client: ApiClient) => Promise<T>): Promise<T> {
  const client = source.client(line.flags)
  try {
    return await question(client)
  } finally {
    client.close()
  }
}

/** Below `machine`: those whose words are names of machines that there are. */
const TAKES_MACHINES = new Set([
  'describe',
  'cordon',
  'uncordon',
  'remove',
  'upgrade',
  'rolling-upgrade',
  'ssh',
  'console',
  'push',
])
/** Of those: the ones that take several. */
const SEVERAL_MACHINES = new Set(['cordon', 'uncordon', 'rolling-upgrade'])

function ofMachines(verb: Command): boolean {
  for (let above = verb.parent; above !== null; above = above.parent) if (above.name() === 'machine') return true
  return false
}

async function machineNames(source: CandidateSource, { verb, given, flags }: Line): Promise<readonly string[]> {
  const name = verb?.name() ?? ''
  if (!TAKES_MACHINES.has(name) || (given.length > 0 && !SEVERAL_MACHINES.has(name))) return []
  const client = source.client(flags)
  try {
    const machines = await client.machines.list(source.signal)
    return machines.map((machine) => machine.name).filter((one) => !given.includes(one))
  } finally {
    client.close()
  }
}

function read(program: Command, words: readonly string[]): Line {
  let verb: Command | null = null
  let pending: Option | null = null
  const given: string[] = []
  const flags: Record<string, string> = {}
  for (const word of words) {
    if (pending !== null) {
      flags[pending.attributeName()] = word
      pending = null
      continue
    }
    if (word.startsWith('-') && word.length > 1) {
      const [name = '', ...value] = word.split('=')
      const option = flagsOf(program, verb).find((known) => known.long === name || known.short === name)
      if (option === undefined || !option.required) continue
      if (value.length > 0) flags[option.attributeName()] = value.join('=')
      else pending = option
      continue
    }
    const above: Command | null = verb ?? (given.length === 0 ? program : null)
    const named: Command | undefined =
      above === null || given.length > 0 ? undefined : verbsOf(above).find((known) => known.name() === word)
    if (named !== undefined) verb = named
    else given.push(word)
  }
  return { verb, given, flags, pending }
}

function flagsOf(program: Command, verb: Command | null): readonly Option[] {
  return [...(verb?.options ?? []), ...program.options]
}

function verbsOf(program: Command): readonly Command[] {
  return program.commands.length === 0 ? [] : program.createHelp().visibleCommands(program)
}
