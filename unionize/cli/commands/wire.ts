import type { Command } from 'commander'
import type { WiringDocument, WiringSpec } from '../../../common/wiring-spec.ts'
import type { Interfaces, Step, Target } from '../../wiring/interfaces/interfaces.ts'
import { addCommonFlags, outputFlag, TARGET_HELP } from '../common-flags.ts'
import { EXIT, exitCodeOf, exitHelp, InvalidWish, linesOf } from '../exit.ts'
import { addInterfaceFlags, type InterfaceFlags } from '../flags.ts'
import { encoded, print, say, table, tell } from '../output.ts'
import type { CommonFlags, Session } from '../session.ts'
import type { FlaggedInterface } from '../wish.ts'

interface WireFlags extends InterfaceFlags, CommonFlags {
  readonly file?: string
  readonly dryRun?: boolean
  readonly printSpec?: boolean
  readonly output?: 'text' | 'table' | 'json' | 'yaml'
}

/** What came of one target. */
interface Outcome {
  readonly target: string
  readonly steps: readonly Step[]
  readonly error?: { readonly code: string; readonly message: string }
}

/** One target's wish as it came from flags or from a document of a file. */
interface Wish {
  readonly target: string
  /** All that the target is to have, given what it was to have so far. */
  merge(former: WiringSpec): WiringSpec
  /** Says a fault that the engine found in `spec` in the words of flags, or null. */
  word(message: string, spec: WiringSpec): string | null
}

const EXAMPLES = `
Examples:
  docker run -d --name web --network none nginx
  unionize wire web --bridge br1 --address 10.1.1.5/24 --address fd00:1::5/64 --gateway 10.1.1.1
  unionize wire web -i eth2 --macvlan eth0 --mac hash:web --addressing dhcp
  unionize wire pid:4711 --bridge br1 --vlan trunk=10,20-30 --rate-out 100M
  unionize wire netns:lab --physical pci:0000:03:00.0 --address 192.0.2.7/24
  unionize wire web --bridge br1 --address 10.1.1.5/24 --print-spec >web.yaml
  unionize wire -f web.yaml

Flags describe one interface, all of it; other interfaces of the target stay as they are. A file says all that each of its
targets is to have: what it does not name is taken away, if it was wired by this command.`

export function addWire(program: Command): void {
  const command = program
    .command('wire')
    .summary('give a container, process or namespace an interface')
    .description(
      'Makes an interface of a target what the flags say, or all of them what a file says; done already is success.',
    )
    .argument('[target]', TARGET_HELP)
  addInterfaceFlags(command)
  addCommonFlags(
    command
      .option('-f, --file <file>', 'YAML documents that each say all interfaces of one target; - is standard input')
      .option('--dry-run', 'only tell what would be done, as "unionize plan" does')
      .option('--print-spec', 'only print the YAML that the flags mean, for --file')
      .addOption(outputFlag(['json', 'yaml'], 'print the steps as data')),
  )
    .addHelpText('after', EXAMPLES)
    .addHelpText('after', exitHelp(EXIT.ok, EXIT.failure, EXIT.usage, EXIT.missing, EXIT.notAllowed))
    .action((target: string | undefined, flags: WireFlags) => wire(target, flags))
}

export function addPlan(program: Command): void {
  const command = program
    .command('plan')
    .summary('tell what wire would do')
    .description(
      'Tells, in order, what "unionize wire" with the same flags or the same file would do. Changes nothing.',
    )
    .argument('[target]', TARGET_HELP)
  addInterfaceFlags(command)
  addCommonFlags(
    command
      .option('-f, --file <file>', 'YAML documents that each say all interfaces of one target; - is standard input')
      .addOption(outputFlag(['table', 'json', 'yaml'])),
  )
    .addHelpText(
      'after',
      '\nExamples:\n  unionize plan web --bridge br1 --address 10.1.1.6/24\n  unionize plan -f wiring.yaml -o json',
    )
    .addHelpText('after', exitHelp(EXIT.ok, EXIT.failure, EXIT.usage, EXIT.missing, EXIT.notAllowed))
    .action((target: string | undefined, flags: WireFlags) => wire(target, { ...flags, dryRun: true }))
}

async function wire(target: string | undefined, flags: WireFlags): Promise<void> {
  const wishes = await wishesOf(target, flags)
  if (flags.printSpec) {
    const { writtenDocuments } = await import('../documents.ts')
    const none = { interfaces: [] }
    print(await writtenDocuments(wishes.map((wish) => ({ target: wish.target, ...wish.merge(none) }))))
    return
  }
  const { withSession } = await import('../session.ts')
  await withSession(flags, async (session) => {
    const found = await resolved(session, wishes)
    const outcomes: Outcome[] = []
    const failures: unknown[] = []
    for (const { wish, target: namespace } of found) {
      try {
        const steps = await carryOut(session, wish, namespace, flags.dryRun === true)
        outcomes.push({ target: wish.target, steps })
        if (!flags.dryRun) tell(wish.target, steps)
      } catch (thrown) {
        failures.push(thrown)
        const [message = ''] = linesOf(thrown)
        outcomes.push({ target: wish.target, steps: [], error: { code: codeOf(thrown), message } })
        if (found.length > 1) say(`unionize: ${wish.target}: ${message}`)
      }
    }
    const data = flags.file === undefined ? outcomes[0] : { items: outcomes }
    if (flags.output === 'json' || flags.output === 'yaml') print(await encoded(data, flags.output))
    else if (flags.dryRun) await printPlan(outcomes)
    if (failures.length === 0) return
    if (found.length === 1) throw failures[0]
    process.exitCode = exitCodeOf(failures[0])
  })
}

/** Everything is read and checked before anything is changed. @throws InvalidWish */
async function wishesOf(target: string | undefined, flags: WireFlags): Promise<readonly Wish[]> {
  if (flags.file !== undefined) {
    const given = givenFlags(flags)
    if (target !== undefined || given.length > 0) {
      const what = target === undefined ? given.join(', ') : `target ${target}`
      throw new InvalidWish([`--file: says it all, so ${what} cannot stand beside it`])
    }
    const { readDocuments } = await import('../documents.ts')
    const { parseTarget } = await import('../../targets.ts')
    return readDocuments(flags.file).map((document) => {
      parseTarget(document.target)
      return documentWish(document)
    })
  }
  if (target === undefined) throw new InvalidWish([`target: is missing: give a ${TARGET_HELP}, or --file`])
  const { parseTarget } = await import('../../targets.ts')
  parseTarget(target)
  const { interfaceOf } = await import('../wish.ts')
  return [flaggedWish(target, interfaceOf(flags))]
}

function documentWish(document: WiringDocument): Wish {
  const { target, ...spec } = document
  return { target, merge: () => spec, word: () => null }
}

/** Other interfaces keep their places: the order of gateways follows from them. */
function flaggedWish(target: string, flagged: FlaggedInterface): Wish {
  const { spec } = flagged
  return {
    target,
    merge: ({ interfaces }) => {
      const there = interfaces.some((one) => one.name === spec.name)
      return {
        interfaces: there ? interfaces.map((one) => (one.name === spec.name ? spec : one)) : [...interfaces, spec],
      }
    },
    word: (message, { interfaces }) => {
      const [, index = '', path = '', text = ''] = /^interfaces\.(\d+)\.([\w.]+): (.*)$/s.exec(message) ?? []
      if (index === '' || interfaces[Number(index)] !== spec) return null
      return flagged.word({ path: path.split('.'), text })
    },
  }
}

/** Every target is found before the first one is changed. */
async function resolved(session: Session, wishes: readonly Wish[]) {
  const found: { wish: Wish; target: Target }[] = []
  for (const wish of wishes) {
    const target = await session.resolve(wish.target)
    const same = found.find((other) => other.target.key === target.key)
    if (same !== undefined) {
      const names = `${same.wish.target} and ${wish.target}`
      throw new InvalidWish([
        `target: ${names} are the same network namespace: say in one document all that it is to have`,
      ])
    }
    found.push({ wish, target })
  }
  return found
}

async function carryOut(session: Session, wish: Wish, target: Target, dry: boolean): Promise<readonly Step[]> {
  if (dry) return await tried(session, wish, target, session.interfaces.plan)
  return await session.editing(() => tried(session, wish, target, session.interfaces.wire))
}

async function tried(session: Session, wish: Wish, target: Target, verb: Interfaces['wire']): Promise<readonly Step[]> {
  const former = (await session.interfaces.show()).find(({ key }) => key === target.key)?.spec ?? { interfaces: [] }
  const spec = wish.merge(former)
  if (!session.service && verb !== session.interfaces.plan) demandService(spec)
  try {
    return await verb(await session.withPeers(target, spec), spec)
  } catch (thrown) {
    const worded = codeOf(thrown) === 'invalid-input' ? wish.word((thrown as Error).message, spec) : null
    throw worded === null ? thrown : new InvalidWish([worded])
  }
}

/** A lease has to be renewed as long as it is used, which no command that ends can do. @throws InvalidWish */
function demandService(spec: WiringSpec): void {
  const lent = spec.interfaces.find((one) => one.addressing.startsWith('dhcp'))
  if (lent === undefined) return
  throw new InvalidWish([
    `addressing: the lease of ${lent.name} (${lent.addressing}) has to be renewed, for which the wiring service must run: ` +
      '"systemctl start unionize-wiring", or "unionize wiring" by hand',
  ])
}

async function printPlan(outcomes: readonly Outcome[]): Promise<void> {
  const rows = outcomes.flatMap(({ target, steps }) => steps.map((step) => [target, step.interface, step.text]))
  if (rows.length > 0) print(await table(['TARGET', 'INTERFACE', 'WOULD BE DONE'], rows))
  for (const { target, steps, error } of outcomes) {
    if (steps.length === 0 && error === undefined) say(`${target}: nothing to do`)
  }
}

/** Flags about an interface that were given. */
function givenFlags(flags: WireFlags): string[] {
  const others = ['file', 'dryRun', 'printSpec', 'output', 'config', 'dockerSocket', 'wiringSocket', 'wiringDirectory']
  const whenFalse = ['create', 'learning', 'announce']
  return Object.entries(flags)
    .filter(
      ([name, value]) => !others.includes(name) && (whenFalse.includes(name) ? value === false : value !== undefined),
    )
    .map(
      ([name]) => `--${whenFalse.includes(name) ? 'no-' : ''}${name.replace(/[A-Z]/g, (l) => `-${l.toLowerCase()}`)}`,
    )
}

function codeOf(thrown: unknown): string {
  const code = (thrown as { code?: unknown }).code
  return typeof code === 'string' ? code : 'internal'
}
