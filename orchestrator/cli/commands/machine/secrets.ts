import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import type { Command } from 'commander'
import { wording } from '../../../../common/errors.ts'
import type { MachineScope, MachineShape } from '../../../api/wire.ts'
import { Usage } from '../../exit.ts'
import { say } from '../../output.ts'
import { withSession } from '../../session.ts'
import { backendOption, printMachines } from './scope.ts'

export function addSecrets(machine: Command): void {
  const secrets = machine
    .command('secrets')
    .summary('put secrets on machines')
    .description('Puts secrets on machines, into memory, for root alone. Services that need them wait for them.')
    .addHelpText('after', '\nExample:\n  orctl machine secrets push m1 tls.key')
  secrets
    .command('push')
    .summary('write files on a machine, in memory, for root alone')
    .description(
      'Writes files to /run/orchestrator-secrets of a machine, which is memory, mode 0600 of root, named as they are here; NAME=FILE gives another name. Then services that waited for them are started. They are kept nowhere else: after a restart of the machine push them again.',
    )
    .argument('<machine>', 'name of the machine')
    .argument('<file...>', 'files, or NAME=FILE; at most 32 KiB each')
    .addOption(backendOption())
    .addHelpText('after', '\nExample:\n  orctl machine secrets push m1 tls.key api-token=./token.txt')
    .action(async (name: string, given: string[], flags: MachineScope, command: Command) => {
      const files = given.map(secretOf)
      await withSession(command, async ({ client, format, signal }) => {
        let last: MachineShape | null = null
        for (const secret of files) {
          last = await client.machines.pushSecret(name, secret, flags, signal)
          say(`secret ${secret.name} is on machine ${name}`)
        }
        if (last !== null) printMachines([last], format, true)
      })
    })
}

function secretOf(text: string): { name: string; content: Buffer } {
  const named = /^([A-Za-z0-9][A-Za-z0-9._-]{0,127})=(.+)$/.exec(text)
  const path = named?.[2] ?? text
  try {
    return { name: named?.[1] ?? basename(path), content: readFileSync(path) }
  } catch (error) {
    throw new Usage(`${path} cannot be read: ${wording(error)}`)
  }
}
