import { readFileSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { stringify } from 'yaml'
import { wording } from '../../../../common/errors.ts'
import { Refused } from '../../../api/transport.ts'
import type { MachineScope } from '../../../api/wire.ts'
import { confirmed } from '../../confirm.ts'
import { describedMachine } from '../../described-machine.ts'
import { Usage } from '../../exit.ts'
import { print, say, shown } from '../../output.ts'
import { dataFormat, type Session, wholeNumber, withSession } from '../../session.ts'
import { backendOption, followed, type LongFlags, machineView, printMachines, timeoutOption } from './scope.ts'

interface AddFlags extends MachineScope {
  readonly address: string
  readonly port: number
  readonly user: string
  readonly hostKey?: string
  readonly label?: readonly string[]
  readonly etcdPeer?: string
  readonly yes?: boolean
}

export function addInventory(machine: Command): void {
  addAdd(machine)
  addLs(machine)
  addDescribe(machine)
  addCordon(machine)
  addRemove(machine)
}

function addAdd(machine: Command): void {
  machine
    .command('add')
    .summary('make a machine known')
    .description(
      'Makes a machine known. Its SSH host key is fetched and shown, and pinned once you say yes: compare the fingerprint with what the machine shows on its console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub). With --host-key the machine need not run yet; with --etcd-peer the etcd cluster of the other machines is told of it before it boots.',
    )
    .argument('<name>', 'name of the machine: a-z, 0-9 and -')
    .requiredOption('--address <ipv6>', 'IPv6 address of its SSH server')
    .addOption(new Option('--port <port>', 'its port').default(22).argParser(wholeNumber('--port', 1, 65_535)))
    .option('--user <name>', 'who logs in there, and may become root by sudo', 'core')
    .option('--host-key <key>', 'its public host key, or the .pub file that holds it')
    .option('--label <name=value>', 'a label; may be repeated', (text: string, all: string[] = []) => [...all, text])
    .option('--etcd-peer <url>', 'URL by which the other members reach its etcd')
    .option('-y, --yes', 'pin the key that it shows without asking')
    .addOption(backendOption())
    .addHelpText(
      'after',
      `
Examples:
  orctl machine add m1 --address fd00::11
  orctl machine add m4 --address fd00::14 --host-key m4_host.pub --etcd-peer http://[fd00::14]:2380`,
    )
    .action(async (name: string, flags: AddFlags, command: Command) => {
      await withSession(command, async (session) => {
        const { client, format, signal } = session
        const hostKey = flags.hostKey === undefined ? await shownKey(session, name, flags) : givenKey(flags.hostKey)
        if (hostKey === null) return say('nothing was added')
        const { address, port, user, etcdPeer } = flags
        const labels = Object.fromEntries((flags.label ?? []).map(labelOf))
        const etcd = etcdPeer === undefined ? {} : { etcd: { peer: etcdPeer } }
        const added = await client.machines.add({ name, address, port, user, hostKey, labels, ...etcd }, flags, signal)
        say(`machine ${added.name} is added`)
        printMachines([added], format, true)
      })
    })
}

/** The key that the machine shows, if the person takes it for its own. */
async function shownKey({ client, signal }: Session, name: string, flags: AddFlags): Promise<string | null> {
  const { address, port } = flags
  const { hostKey, fingerprint } = await client.machines.key({ address, port }, flags, signal)
  say(`${name} (${address} port ${port}) shows the host key ${fingerprint}`)
  if (flags.yes || (await confirmed('Is it that of the machine?', '--yes pins it without asking'))) return hostKey
  return null
}

function givenKey(text: string): string {
  if (/^[\w@.-]+ [A-Za-z0-9+/]+=*( .*)?$/.test(text)) return text
  try {
    return readFileSync(text, 'utf8').trim()
  } catch (error) {
    throw new Usage(`--host-key: neither a public key nor a file that can be read: ${wording(error)}`)
  }
}

function labelOf(text: string): [string, string] {
  const at = text.indexOf('=')
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)]
  throw new Usage(`--label: expected NAME=VALUE, got ${JSON.stringify(text)}`)
}

function addLs(machine: Command): void {
  machine
    .command('ls')
    .summary('list machines')
    .description('Lists the machines of all backends that have some.')
    .addHelpText('after', '\nExamples:\n  orctl machine ls\n  orctl machine ls -o wide')
    .action(async (_flags: unknown, command: Command) => {
      await withSession(command, async ({ client, format, signal }) => {
        const machines = await client.machines.list(signal)
        if (machines.length === 0 && (format === 'table' || format === 'wide')) {
          return say('there are no machines; `orctl machine add` makes one known')
        }
        print(shown(machineView, machines, format, Date.now()))
      })
    })
}

function addDescribe(machine: Command): void {
  machine
    .command('describe')
    .summary('tell all about a machine')
    .description('Tells all about one machine: how it stands, what is being done to it, its etcd, its secrets.')
    .argument('<name>', 'name of the machine')
    .addOption(backendOption())
    .addHelpText('after', '\nExample:\n  orctl machine describe m1')
    .action(async (name: string, flags: MachineScope, command: Command) => {
      await withSession(command, async ({ client, format, signal }) => {
        const found = await client.machines.find(name, flags, signal)
        const shape = dataFormat(format)
        if (shape === 'json') print(`${JSON.stringify(found, null, 2)}\n`)
        else if (shape === 'yaml') print(stringify(found))
        else if (shape === 'name') print(`${found.name}\n`)
        else print(describedMachine(found, Date.now()))
      })
    })
}

function addCordon(machine: Command): void {
  for (const verb of ['cordon', 'uncordon'] as const) {
    const cordons = verb === 'cordon'
    machine
      .command(verb)
      .summary(cordons ? 'give a machine no new instances' : 'give a machine new instances again')
      .description(
        cordons ? 'Gives machines no new instances; those that they have stay.' : 'Gives machines new instances again.',
      )
      .argument('<name...>', 'names of machines')
      .addOption(backendOption())
      .addHelpText('after', `\nExample:\n  orctl machine ${verb} m1 m2`)
      .action(async (names: string[], flags: MachineScope, command: Command) => {
        await withSession(command, async ({ client, format, signal }) => {
          const changed = []
          for (const name of names) {
            changed.push(await client.machines.cordon(name, cordons, flags, signal))
            say(`machine ${name} is ${verb}ed`)
          }
          printMachines(changed, format, false)
        })
      })
  }
}

interface RemoveFlags extends LongFlags {
  readonly dead?: boolean
  readonly yes?: boolean
}

function addRemove(machine: Command): void {
  machine
    .command('remove')
    .summary('drain a machine and forget it')
    .description(
      'Places the instances of a machine elsewhere, takes it out of its etcd cluster, removes what was installed there, and forgets it. With --dead nothing is asked of the machine: use it for one that will not come back, and see to it that it does not, as its instances are started elsewhere under the same addresses.',
    )
    .argument('<name>', 'name of the machine')
    .option('--dead', 'it does not answer, and will not again')
    .option('-y, --yes', 'do not ask')
    .option('--no-wait', 'return at once')
    .addOption(timeoutOption())
    .addOption(backendOption())
    .addHelpText('after', '\nExamples:\n  orctl machine remove m1\n  orctl machine remove m2 --dead --yes')
    .action(async (name: string, flags: RemoveFlags, command: Command) => {
      const { dead = false, backend } = flags
      const question = dead ? `Give machine ${name} up as dead?` : `Drain machine ${name} and remove it?`
      if (!flags.yes && !(await confirmed(question, '--yes removes without asking'))) return say('nothing was removed')
      await withSession(command, async (session) => {
        const { client, signal } = session
        await client.machines.remove(name, { dead, backend }, signal)
        if (!flags.wait) return say(`machine ${name} is being removed`)
        const look = async () =>
          await client.machines.find(name, flags, signal).catch((error) => {
            if (error instanceof Refused && error.status === 404) return 'gone' as const
            throw error
          })
        await followed(
          session,
          flags.timeout,
          look,
          (now) => {
            if (now === 'gone' || now.task === null) return null
            return `machine ${name}: ${now.task.step}${now.task.problem === null ? '' : `: ${now.task.problem}`}`
          },
          (now) => now === 'gone',
        )
        say(`machine ${name} is removed`)
      })
    })
}
