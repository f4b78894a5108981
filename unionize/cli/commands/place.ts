import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { policyShape } from '../../../common/wiring-policy.ts'
import { parseTarget, resolveTarget } from '../../targets.ts'
import { WiringError } from '../../wiring/errors.ts'
import type { Wiring } from '../../wiring/wiring.ts'
import { addCommonFlags, TARGET_HELP } from '../common-flags.ts'
import { EXIT, exitHelp, InvalidWish } from '../exit.ts'
import { say } from '../output.ts'
import { answers, type CommonFlags, demandCapabilities, engineOf, settingsOf } from '../session.ts'

interface PlaceFlags extends CommonFlags {
  readonly as: string
  readonly address: string
  readonly owner: string
  readonly ownerVia?: string
  readonly policy?: string
}

const EXAMPLES = `
Example:
  unionize place pid:4711 --as i-7f3k --address fd00:1::5 --owner fd00:c::10 --owner-via fd00:5::1
  unionize unplace --as i-7f3k

The bridge and its address are those of the settings network.bridge, network.gateway and network.prefix-length.`

/** For machines that run instances without the daemon: what that does for the wiring of one of its own. */
export function addPlace(program: Command): void {
  const place = program
    .command('place')
    .summary('give a container the place of an instance: its address, and its owner alone')
    .description(
      "Links a container's own network namespace to the instances' bridge, gives it an address, and lets one owner reach " +
        'it; done already is success.',
    )
    .argument('<target>', TARGET_HELP)
    .addOption(nameOption())
    .requiredOption('--address <address>', 'IPv6 address of the instance')
    .requiredOption('--owner <address>', 'IPv6 address that alone reaches it')
    .option('--owner-via <address>', 'next hop to the owner; without it, as the routes of this host say')
    .option(
      '--policy <file>',
      'who else reaches it and what it reaches, JSON as under "policy" of a template; - is standard input',
    )
  addCommonFlags(place)
    .addHelpText('after', EXAMPLES)
    .addHelpText('after', exitHelp(EXIT.ok, EXIT.failure, EXIT.usage, EXIT.missing, EXIT.notAllowed))
    .action(placed)
  const unplace = program
    .command('unplace')
    .summary('take the place of an instance away')
    .description('Cuts its owner off and removes its link; gone already is success.')
    .addOption(nameOption())
  addCommonFlags(unplace)
    .addHelpText('after', exitHelp(EXIT.ok, EXIT.failure, EXIT.usage, EXIT.notAllowed))
    .action(async (flags: CommonFlags & { readonly as: string }) => {
      await withWiring(flags, (wiring) => wiring.detach(portOf(flags.as).link))
    })
  program
    .command('sandbox-image')
    .summary('write the image that only owns a network namespace, as a tar for "docker import"')
    .action(async () => {
      const { pauseProgram, tarOf } = await import('../../instances/pause.ts')
      process.stdout.write(tarOf('pause', pauseProgram(process.arch)))
    })
}

function nameOption(): Option {
  return new Option('--as <name>', 'name of the instance: its link is known by it').makeOptionMandatory()
}

async function placed(name: string, flags: PlaceFlags): Promise<void> {
  const policy = flags.policy === undefined ? undefined : policyOf(flags.policy)
  const { namespace } = await resolveTarget(parseTarget(name), engineOf(settingsOf(flags)))
  if (!('pid' in namespace)) throw new InvalidWish([`target: expected a container or pid:N, got ${name}`])
  const port = { pid: namespace.pid, ...portOf(flags.as) }
  await withWiring(flags, async (wiring) => {
    await wiring.attach(port)
    const { address, owner, ownerVia } = flags
    await wiring.place({ ...port, address, owner, ...(ownerVia && { ownerVia }), ...(policy && { policy }) })
  })
}

/** @throws InvalidWish naming the field */
function policyOf(file: string) {
  let value: unknown
  try {
    value = JSON.parse(readFileSync(file === '-' ? 0 : file, 'utf8'))
  } catch (cause) {
    throw new InvalidWish([`--policy: ${file} is no JSON that can be read: ${(cause as Error).message}`])
  }
  const parsed = policyShape.safeParse(value)
  if (parsed.success) return parsed.data
  throw new InvalidWish(parsed.error.issues.map(({ path, message }) => `--policy: ${path.join('.')}: ${message}`))
}

/** One command at a time, as each reads what the kernel has before it changes that. */
async function withWiring(flags: CommonFlags, work: (wiring: Wiring) => Promise<void>): Promise<void> {
  const settings = settingsOf(flags)
  if (await answers(settings['wiring.socket'])) {
    throw new WiringError(
      'busy',
      `the wiring service runs here (${settings['wiring.socket']}) and would take this place away: stop it, as a machine ` +
        'either is a host with the daemon or is used without it',
    )
  }
  demandCapabilities()
  const { startWiring } = await import('../../wiring/wiring.ts')
  const { whileEditing } = await import('../edit-lock.ts')
  await whileEditing(settings['wiring.directory'], async () => {
    const wiring = startWiring({
      log: (level, message) => {
        if (level !== 'info') say(`unionize: ${message}`)
      },
    })
    try {
      await wiring.prepare({
        bridge: settings['network.bridge'],
        gateway: settings['network.gateway'],
        prefixLength: settings['network.prefix-length'],
        myAddress: settings['network.my-address'],
      })
      await work(wiring)
    } finally {
      await wiring.stop()
    }
  })
}

/** The link on the host's side and the MAC inside, which follow from the name. */
function portOf(name: string): { readonly link: string; readonly mac: string } {
  const hash = createHash('sha256').update(name).digest('hex')
  return { link: `ui-${hash.slice(0, 12)}`, mac: ['02', ...(hash.slice(0, 10).match(/../g) ?? [])].join(':') }
}
