import { type Command, InvalidArgumentError, Option } from 'commander'
import { FORMATS } from './output.ts'

/** `--help` of every command says it. */
export const TARGET_HELP = 'container name or id, pid:N, netns:NAME or netns:/PATH'

/** Gives a command the few settings that the wiring has. */
export function addCommonFlags(command: Command): Command {
  const heading = 'Settings:'
  return command
    .addOption(new Option('--config <file>', 'YAML file with settings; also UNIONIZE_CONFIG').helpGroup(heading))
    .addOption(
      new Option('--docker-socket <path>', 'socket of the Docker engine (UNIONIZE_DOCKER_SOCKET)').helpGroup(heading),
    )
    .addOption(
      new Option('--wiring-socket <path>', 'socket of the wiring service (UNIONIZE_WIRING_SOCKET)').helpGroup(heading),
    )
    .addOption(
      new Option(
        '--wiring-directory <path>',
        'where what is needed for undoing is kept (UNIONIZE_WIRING_DIRECTORY)',
      ).helpGroup(heading),
    )
}

/** `-o` with the formats that a command has. */
export function outputFlag(formats: readonly string[] = FORMATS, help = 'how data is written'): Option {
  return new Option('-o, --output <format>', help).choices(formats)
}

/** Reads a number of seconds, fractions too. */
export function seconds(text: string): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN
  if (value >= 0 && value <= 86_400) return value
  throw new InvalidArgumentError('Expected seconds from 0 to 86400.')
}
