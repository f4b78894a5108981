import type { Command } from 'commander'
import type { InterfaceSpec } from '../../../common/wiring-spec.ts'
import { WiringError } from '../../wiring/errors.ts'
import type { FoundInterface, Wired } from '../../wiring/interfaces/interfaces.ts'
import { addCommonFlags, outputFlag, TARGET_HELP } from '../common-flags.ts'
import { EXIT, exitHelp } from '../exit.ts'
import { foundOf } from '../found.ts'
import { encoded, type Format, print, say, table } from '../output.ts'
import type { CommonFlags, Session } from '../session.ts'

interface ShowFlags extends CommonFlags {
  readonly output: Format
}

export function addShow(program: Command): void {
  const command = program
    .command('show')
    .summary('show what is wired')
    .description('Shows what "unionize wire" wired, with what the kernel has of it now: all of it, or one target.')
    .argument('[target]', TARGET_HELP)
    .addOption(outputFlag().default('table'))
  addCommonFlags(command)
    .addHelpText(
      'after',
      '\nExamples:\n  unionize show\n  unionize show web -o wide\n  unionize show -o json | jq .items[].label',
    )
    .addHelpText('after', exitHelp(EXIT.ok, EXIT.failure, EXIT.usage, EXIT.missing, EXIT.notAllowed))
    .action((target: string | undefined, flags: ShowFlags) => show(target, flags))
}

export function addSpec(program: Command): void {
  const command = program
    .command('spec')
    .summary('print what is wired as a file for wire -f')
    .description(
      'Prints what was asked for, of all targets or of one, as YAML documents that "unionize wire -f" takes.',
    )
    .argument('[target]', TARGET_HELP)
  addCommonFlags(command)
    .addHelpText(
      'after',
      '\nExample:\n  unionize spec >wiring.yaml && unionize unwire --all && unionize wire -f wiring.yaml',
    )
    .addHelpText('after', exitHelp(EXIT.ok, EXIT.failure, EXIT.usage, EXIT.missing, EXIT.notAllowed))
    .action((target: string | undefined, flags: CommonFlags) => printSpecs(target, flags))
}

async function show(target: string | undefined, flags: ShowFlags): Promise<void> {
  const { withSession } = await import('../session.ts')
  await withSession(flags, async (session) => {
    const all = await wiredOf(session, target)
    const data = target === undefined ? { items: all } : all[0]
    if (flags.output === 'json' || flags.output === 'yaml') print(await encoded(data, flags.output))
    else if (all.length === 0) say('nothing is wired')
    else print(await asTable(all, flags.output === 'wide'))
  })
}

async function printSpecs(target: string | undefined, flags: CommonFlags): Promise<void> {
  const { withSession } = await import('../session.ts')
  await withSession(flags, async (session) => {
    const all = await wiredOf(session, target)
    if (all.length === 0) say('nothing is wired')
    const { writtenDocuments } = await import('../documents.ts')
    print(await writtenDocuments(all.map(({ label, spec }) => ({ target: label, ...spec }))))
  })
}

/** What is wired of one target, or of all. @throws WiringError `not-wired` */
export async function wiredOf(session: Session, target: string | undefined): Promise<readonly Wired[]> {
  if (target === undefined) return await session.interfaces.show()
  const found = await session.wired(target)
  if (found !== null) return [found]
  await session.resolve(target)
  throw new WiringError('not-wired', `${target} is not wired: "unionize wire" does that`)
}

async function asTable(all: readonly Wired[], wide: boolean): Promise<string> {
  const heads = ['TARGET', 'INTERFACE', 'STATE', 'LEADS TO', 'ADDRESSES']
  const more = ['MAC', 'MTU', 'HOST NAME', 'ROUTES', 'KEY']
  const rows = all.flatMap((wired) =>
    wired.spec.interfaces.map((spec) => {
      const found = foundOf(wired, spec)
      // Link-local addresses are there on every interface with IPv6.
      const shown = found?.addresses.filter((address) => wide || !/^fe[89ab]/i.test(address)) ?? []
      const row = [wired.label, found?.name ?? spec.name, stateOf(wired, found), leadsTo(spec), shown.join(', ')]
      if (!wide) return row
      const mtu = found === undefined ? '' : String(found.mtu)
      return [...row, found?.mac ?? '', mtu, found?.hostName ?? '', found?.routes.join(', ') ?? '', wired.key]
    }),
  )
  return await table(wide ? [...heads, ...more] : heads, rows)
}

function stateOf(wired: Wired, found: FoundInterface | undefined): string {
  if (!wired.alive) return 'gone'
  if (found === undefined) return 'missing'
  if (!found.up) return 'down'
  return found.running ? 'up' : 'no carrier'
}

/** Where an interface leads, in a few words. */
function leadsTo({ link }: InterfaceSpec): string {
  switch (link.kind) {
    case 'bridge':
    case 'ovs':
      return `${link.kind} ${link.bridge}`
    case 'macvlan':
    case 'ipvlan':
      return `${link.kind} ${link.parent}${link.vlan === undefined ? '' : `.${link.vlan}`}`
    case 'vlan':
      return `vlan ${link.parent}.${link.id}`
    case 'vxlan':
      return `vxlan ${link.id} ${link.remote}`
    case 'physical':
      return `physical ${link.device}`
    case 'veth':
      return `veth ${link.to ?? 'host'}`
    case 'dummy':
      return 'dummy'
    default:
      return link satisfies never
  }
}
