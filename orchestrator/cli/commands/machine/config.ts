import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { InvalidInput, wording } from '../../../../common/errors.ts'
import { readMachineConfig } from '../../../backends/coreos/machines/config.ts'
import { cloudConfig } from '../../../backends/coreos/machines/config-cloud.ts'
import { contentOf } from '../../../backends/coreos/machines/config-content.ts'
import { IGNITION_VERSION, ignition } from '../../../backends/coreos/machines/config-ignition.ts'
import { EXIT, Usage } from '../../exit.ts'
import { counted, sayFaults } from '../../faults.ts'
import { print, say } from '../../output.ts'
import { oneOf } from '../../session.ts'

const WRITERS = { ignition, 'cloud-config': cloudConfig } as const
const FORMATS = ['ignition', 'cloud-config'] as const

export function addConfig(machine: Command): void {
  machine
    .command('config')
    .summary('write the configuration of a new machine')
    .description(
      `Writes what a new machine is configured by at its first boot, from a short YAML file (see machines.md): Ignition ${IGNITION_VERSION} for Fedora CoreOS and Flatcar, cloud-config for other Linux. Needs no server. The result may hold secrets: keep it as such.`,
    )
    .argument('<file>', 'the YAML file; - for standard input')
    .addOption(
      new Option('--format <format>', 'what is written').choices(FORMATS).argParser(oneOf(FORMATS)).default('ignition'),
    )
    .addHelpText(
      'after',
      `
Examples:
  orctl machine config m1.yaml >m1.ign
  orctl machine config m1.yaml --format cloud-config >user-data`,
    )
    .action((path: string, { format }: { format: keyof typeof WRITERS }) => {
      const file = path === '-' ? '<stdin>' : path
      const { config, faults } = readMachineConfig({ file, text: readText(path === '-' ? 0 : path, path) })
      sayFaults('error', faults)
      if (config === null) {
        say(`${counted(faults.length, 'fault')}; nothing was written`)
        process.exitCode = EXIT.refused
        return
      }
      const folder = path === '-' ? '.' : dirname(path)
      print(WRITERS[format](content(config, folder)))
    })
}

function content(config: Parameters<typeof contentOf>[0], folder: string) {
  try {
    return contentOf(config, (name) => readBytes(resolve(folder, name), name))
  } catch (error) {
    if (error instanceof InvalidInput) throw new Usage(error.message)
    throw error
  }
}

function readText(from: string | number, name: string): string {
  return readBytes(from, name).toString('utf8')
}

function readBytes(from: string | number, name: string): Buffer {
  try {
    return readFileSync(from)
  } catch (error) {
    throw new Usage(`${name} cannot be read: ${wording(error)}`)
  }
}
