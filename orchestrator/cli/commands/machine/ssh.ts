import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Command, Option } from 'commander'
import { OrchestratorError, wording } from '../../../../common/errors.ts'
import type { MachineScope, MachineShape } from '../../../api/wire.ts'
import { wholeNumber, withSession } from '../../session.ts'
import { backendOption } from './scope.ts'

export function addSsh(machine: Command): void {
  machine
    .command('ssh')
    .summary('log in to a machine')
    .description(
      'Logs in to a machine, or runs a command there, by your own ssh program and your own keys; the host key must be the one that is pinned. Ends with the exit code of ssh.',
    )
    .argument('<name>', 'name of the machine')
    .argument('[command...]', 'after --: what to run there')
    .addOption(backendOption())
    .addHelpText('after', '\nExamples:\n  orctl machine ssh m1\n  orctl machine ssh m1 -- systemctl --failed')
    .action(async (name: string, words: string[], flags: MachineScope, command: Command) => {
      let found: MachineShape | null = null
      await withSession(command, async ({ client, signal }) => {
        found = await client.machines.find(name, flags, signal)
      })
      if (found !== null) process.exitCode = await loggedIn(found, words)
    })
}

/** Runs ssh(1) with nothing but the pinned key to compare with. @returns its exit code; 255: it was ended */
async function loggedIn(machine: MachineShape, words: readonly string[]): Promise<number> {
  const { name, address, port, user, hostKey } = machine
  const folder = mkdtempSync(join(tmpdir(), 'orctl-ssh-'))
  const known = join(folder, 'known_hosts')
  try {
    writeFileSync(known, `${name} ${hostKey}\n`)
    const child = spawn(
      'ssh',
      [...pinned(name, hostKey, known), '-p', String(port), '-l', user, '--', address, ...words],
      {
        stdio: 'inherit',
      },
    )
    const [code] = (await once(child, 'close')) as [number | null]
    return code ?? 255
  } catch (error) {
    throw new OrchestratorError('ssh-missing', `ssh cannot be run: ${wording(error)}; install an OpenSSH client`)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** See ssh_config(5). */
export function pinned(name: string, hostKey: string, known: string): string[] {
  const [type = ''] = hostKey.split(' ')
  const algorithms = type === 'ssh-rsa' ? 'rsa-sha2-512,rsa-sha2-256' : type
  const options = {
    UserKnownHostsFile: known,
    GlobalKnownHostsFile: '/dev/null',
    StrictHostKeyChecking: 'yes',
    UpdateHostKeys: 'no',
    HostKeyAlias: name,
    HostKeyAlgorithms: algorithms,
  }
  return Object.entries(options).flatMap(([option, value]) => ['-o', `${option}=${value}`])
}

interface ConsoleFlags extends MachineScope {
  readonly follow: boolean
  readonly tail: number
  readonly unit?: string
}

export function addConsole(machine: Command): void {
  machine
    .command('console')
    .summary('follow the journal of a machine')
    .description(
      'Prints the journal of a machine as it is written, over the connection that the orchestrator has to it.',
    )
    .argument('<name>', 'name of the machine')
    .option('--no-follow', 'end with what is there')
    .addOption(
      new Option('--tail <lines>', 'lines from the end to begin with')
        .default(100)
        .argParser(wholeNumber('--tail', 0, 10_000)),
    )
    .option('-u, --unit <name>', 'only of this unit')
    .addOption(backendOption())
    .addHelpText(
      'after',
      '\nExamples:\n  orctl machine console m1\n  orctl machine console m1 --no-follow --unit sshd.service',
    )
    .action(async (name: string, flags: ConsoleFlags, command: Command) => {
      await withSession(command, async ({ client, signal }) => {
        const { follow, tail, unit, backend } = flags
        for await (const text of client.machines.journal(name, { follow, tail, unit, backend }, signal)) {
          if (!process.stdout.write(text)) await once(process.stdout, 'drain')
        }
      })
    })
}
