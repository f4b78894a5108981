import { setTimeout as delay } from 'node:timers/promises'
import type { Command } from 'commander'
import { InvalidInput } from '../../../common/errors.ts'
import type { InterfaceSpec } from '../../../common/wiring-spec.ts'
import type { Wired } from '../../wiring/interfaces/interfaces.ts'
import { addCommonFlags, seconds, TARGET_HELP } from '../common-flags.ts'
import { EXIT, exitHelp, NotInTime } from '../exit.ts'
import { foundOf, samePrefix } from '../found.ts'
import { whyNotHere } from '../here.ts'
import type { CommonFlags, Session } from '../session.ts'

interface WaitFlags extends CommonFlags {
  readonly interface?: string
  readonly timeout: number
  readonly here?: boolean
  readonly carrierOnly?: boolean
}

const LOOK_EVERY_MS = 50
const DEFAULT_NAME = 'eth1'

export function addWait(program: Command): void {
  const command = program
    .command('wait')
    .summary('wait until an interface can be used')
    .description(
      'Waits until interfaces are up, have a carrier and their addresses take packets: those of DHCP and SLAAC too. ' +
        'From the host for a target, which need not be there yet, or, with --here, inside of a namespace.',
    )
    .argument('[target]', TARGET_HELP)
    .option('-i, --interface <name>', `this one (default: all that are wired; with --here ${DEFAULT_NAME})`)
    .option('--timeout <seconds>', 'how long', seconds, 60)
    .option('--here', 'in the network namespace of this very process, without any privilege')
    .option('--carrier-only', 'without an address, too')
  addCommonFlags(command)
    .addHelpText(
      'after',
      '\nExamples:\n  unionize wait web && curl http://10.1.1.5/\n  unionize wait --here -i eth1 --timeout 10 && exec my-service',
    )
    .addHelpText('after', exitHelp(EXIT.ok, EXIT.failure, EXIT.usage, EXIT.timeout, EXIT.notAllowed))
    .action((target: string | undefined, flags: WaitFlags) => wait(target, flags))
}

async function wait(target: string | undefined, flags: WaitFlags): Promise<void> {
  if ((target === undefined) === (flags.here !== true)) throw new InvalidInput('target', 'give one, or --here')
  const carrierOnly = flags.carrierOnly === true
  if (target === undefined) {
    const name = flags.interface ?? DEFAULT_NAME
    await untilNull(name, flags.timeout, () => Promise.resolve(whyNotHere(name, carrierOnly)))
    return
  }
  const { parseTarget } = await import('../../targets.ts')
  parseTarget(target)
  const { withSession } = await import('../session.ts')
  await withSession(flags, (session) =>
    untilNull(target, flags.timeout, () => whyNot(session, target, flags.interface, carrierOnly)),
  )
}

/** @throws NotInTime with the last reason */
async function untilNull(what: string, timeout: number, look: () => Promise<string | null>): Promise<void> {
  const deadline = performance.now() + timeout * 1000
  for (;;) {
    const why = await look()
    if (why === null) return
    if (performance.now() >= deadline) throw new NotInTime(`${what} is not ready after ${timeout} s: ${why}`)
    await delay(LOOK_EVERY_MS)
  }
}

async function whyNot(
  session: Session,
  target: string,
  name: string | undefined,
  carrierOnly: boolean,
): Promise<string | null> {
  const wired = await session.wired(target)
  if (wired === null) return 'it is not wired'
  if (!wired.alive) return 'its network namespace is gone'
  const wanted = wired.spec.interfaces.filter((spec) => name === undefined || spec.name === name)
  if (wanted.length === 0) return name === undefined ? 'it is not wired' : `${name} is not wired`
  return wanted.map((spec) => whyNotOne(wired, spec, carrierOnly)).find((why) => why !== null) ?? null
}

/** What an interface that was wired still lacks; null: nothing. */
export function whyNotOne(wired: Wired, spec: InterfaceSpec, carrierOnly: boolean): string | null {
  const found = foundOf(wired, spec)
  if (found === undefined) return `there is no ${spec.name}`
  if (!found.up) return `${found.name} is down`
  if (!found.running) return `${found.name} has no carrier`
  if (carrierOnly) return null
  const missing = spec.addresses.find((address) => !found.addresses.some((other) => samePrefix(address, other)))
  if (missing !== undefined) return `${found.name} has not ${missing} yet`
  if (spec.addressing === 'static') return null
  const lent = found.addresses.filter((address) => !spec.addresses.some((own) => samePrefix(own, address)))
  const family = spec.addressing === 'dhcp4' ? 4 : spec.addressing === 'dhcp' ? 0 : 6
  const fits = (address: string) => family === 0 || (family === 6) === address.includes(':')
  return lent.some((address) => fits(address) && !/^fe[89ab]/i.test(address))
    ? null
    : `${found.name} has no address by ${spec.addressing} yet`
}
