import type { Command } from 'commander'
import { addConfig } from './config.ts'
import { addInventory } from './inventory.ts'
import { addLab } from './lab.ts'
import { addSecrets } from './secrets.ts'
import { addConsole, addSsh } from './ssh.ts'
import { addRollingUpgrade, addUpgrade } from './upgrade.ts'

export function addMachine(program: Command): void {
  const machine = program
    .command('machine')
    .summary('configure, add, upgrade and remove machines')
    .description(
      'Looks after the machines of coreos backends: Linux with systemd, reached over SSH. `config` and `lab` need no server.',
    )
    .addHelpText(
      'after',
      `
From nothing to a machine that runs instances:
  orctl machine config m1.yaml >m1.ign       boot a machine with it
  orctl machine add m1 --address fd00::11
  orctl machine ls`,
    )
  addConfig(machine)
  addInventory(machine)
  addUpgrade(machine)
  addRollingUpgrade(machine)
  addSecrets(machine)
  addSsh(machine)
  addConsole(machine)
  addLab(machine)
}
