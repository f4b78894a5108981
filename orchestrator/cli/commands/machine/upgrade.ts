import type { Command } from 'commander'
import { stringify } from 'yaml'
import { plain } from '../../../../common/plain.ts'
import type { MachineShape, RollShape } from '../../../api/wire.ts'
import { EXIT, Usage } from '../../exit.ts'
import { print, say } from '../../output.ts'
import { dataFormat, type Session, withSession } from '../../session.ts'
import { backendOption, followed, type LongFlags, printMachines, timeoutOption } from './scope.ts'

interface UpgradeFlags extends LongFlags {
  readonly to?: string
}

export function addUpgrade(machine: Command): void {
  machine
    .command('upgrade')
    .summary('upgrade a machine')
    .description(
      'Upgrades the system of a machine and restarts it. It gets no new instances meanwhile, its own start again with it, and it must prove to be well: systemd, its etcd, its instances. One that fails stays cordoned.',
    )
    .argument('<name>', 'name of the machine')
    .option('--to <version>', 'version that it must have then (default: the newest)')
    .option('--no-wait', 'return at once')
    .addOption(timeoutOption())
    .addOption(backendOption())
    .addHelpText('after', '\nExample:\n  orctl machine upgrade m1 --to 40.20240416.3.1')
    .action(async (name: string, flags: UpgradeFlags, command: Command) => {
      await withSession(command, async (session) => {
        const { client, format, signal } = session
        const begun = await client.machines.upgrade(name, flags.to, flags, signal)
        if (!flags.wait) {
          say(`machine ${name} is being upgraded`)
          return printMachines([begun], format, true)
        }
        const look = () => client.machines.find(name, flags, signal)
        const over = (now: MachineShape) => now.task?.kind !== 'upgrade'
        const done = await followed(session, flags.timeout, look, (now) => taskLine(now), over)
        if (done.fault !== null) {
          say(`orctl: machine ${name} is not upgraded: ${plain(done.fault.message)}`)
          process.exitCode = EXIT.failure
        } else say(`machine ${name} is upgraded: ${plain(done.seen?.system ?? null)}`)
        printMachines([done], format, true)
      })
    })
}

interface RollFlags extends UpgradeFlags {
  readonly resume?: boolean
  readonly stop?: boolean
}

export function addRollingUpgrade(machine: Command): void {
  machine
    .command('rolling-upgrade')
    .summary('upgrade machines, one at a time')
    .description(
      'Upgrades all machines, or those that are named in their order, one at a time: the next one begins when the one before is well. The first that fails stops it; --resume goes on with that one and what is left. Goes on by itself when the orchestrator was restarted.',
    )
    .argument('[name...]', 'names of machines (default: all)')
    .option('--to <version>', 'version that they must have then (default: the newest)')
    .option('--resume', 'go on with one that stopped')
    .option('--stop', 'begin no further machine')
    .option('--no-wait', 'return at once')
    .addOption(timeoutOption())
    .addOption(backendOption())
    .addHelpText(
      'after',
      '\nExamples:\n  orctl machine rolling-upgrade --to 40.20240416.3.1\n  orctl machine rolling-upgrade --resume',
    )
    .action(async (names: string[], flags: RollFlags, command: Command) => {
      if ((flags.resume || flags.stop) && (names.length > 0 || flags.to !== undefined)) {
        throw new Usage('--resume and --stop concern the rolling upgrade that there is: they take no names and no --to')
      }
      if (flags.resume && flags.stop) throw new Usage('--resume and --stop exclude each other')
      await withSession(command, (session) => roll(session, names, flags))
    })
}

async function roll(session: Session, names: readonly string[], flags: RollFlags): Promise<void> {
  const { client, signal } = session
  const begun = await begin(session, names, flags)
  if (!flags.wait || flags.stop) return printRoll(session, begun)
  const look = async () => {
    const now = await client.machines.roll(flags, signal)
    const [first] = now.left
    const machines = first === undefined ? [] : await client.machines.list(signal)
    return { now, at: machines.find((one) => one.name === first && one.backend === now.backend) ?? null }
  }
  const progress = ({ now, at }: Awaited<ReturnType<typeof look>>) => {
    const place = `${now.done.length} of ${now.done.length + now.left.length} done`
    const words = at === null ? null : taskLine(at)
    return words === null ? place : `${place}; ${words}`
  }
  const over = ({ now }: Awaited<ReturnType<typeof look>>) => now.state !== 'running'
  const { now } = await followed(session, flags.timeout, look, progress, over)
  printRoll(session, now)
  if (now.state === 'stopped') process.exitCode = EXIT.failure
}

async function begin({ client, signal }: Session, names: readonly string[], flags: RollFlags): Promise<RollShape> {
  if (flags.resume) return await client.machines.changeRoll('resume', flags, signal)
  if (flags.stop) return await client.machines.changeRoll('stop', flags, signal)
  const machines = names.length === 0 ? {} : { machines: [...names] }
  const to = flags.to === undefined ? {} : { to: flags.to }
  return await client.machines.beginRoll({ ...machines, ...to }, flags, signal)
}

function printRoll({ format }: Session, { state, done, left, fault, ...rest }: RollShape): void {
  const shape = dataFormat(format)
  const data = { ...rest, state, done, left, fault }
  if (shape === 'json') print(`${JSON.stringify(data, null, 2)}\n`)
  else if (shape === 'yaml') print(stringify(data))
  else if (shape === 'name') print(left.map((name) => `${name}\n`).join(''))
  else if (state === 'done') say(`upgraded: ${done.join(', ') || 'none'}`)
  else if (state === 'running') say(`at work: ${left.join(', ')} are left`)
  else say(`orctl: stopped at ${plain(fault)}; done: ${done.join(', ') || 'none'}; left: ${left.join(', ')}`)
}

function taskLine({ name, task, away }: MachineShape): string | null {
  if (task === null) return null
  const hint = away === null || task.step === 'restarting' ? '' : ` (${plain(away)})`
  return `machine ${name}: ${task.step}${hint}`
}
