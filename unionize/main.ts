#!/usr/bin/env node
import { Command, CommanderError, Option } from 'commander'
import { stringify } from 'yaml'
import { printable } from '../common/config.ts'
import { addSettingsFlags, settingsFromFlags } from '../common/settings-flags.ts'
import { ownVersion } from '../common/version.ts'
import { addWiringCommands } from './cli/commands.ts'
import { EXIT, exitCodeOf, linesOf } from './cli/exit.ts'
import { say } from './cli/output.ts'
import { keepRunning } from './running.ts'
import { type Settings, settingsTable } from './settings.ts'
import { becomeWiring } from './wiring/service/become.ts'

const PREFIX = 'UNIONIZE'
/** Holds the join token where a flag would show it to others. */
const TOKEN_VARIABLE = 'UNIONIZE_JOIN_TOKEN'

async function main(): Promise<void> {
  // Files that others read (names for dnsmasq) say so themselves.
  process.umask(0o022)
  const version = ownVersion()
  const program = new Command('unionize')
    .description(
      'Runs on every Docker host: sends its leases to the orchestrator, makes and wires its instances. By hand it wires any container.',
    )
    .version(version)
    .addHelpText(
      'after',
      '\nExit codes: 0 ended as asked, 1 failed, 2 settings or flags are wrong; further ones in the help of each command.',
    )
    .exitOverride()
  addSettingsFlags(program.command('run', { isDefault: true }), settingsTable, PREFIX)
    .description('run the daemon (what happens without a command)')
    .option('--print-config', 'print the settings in effect and exit')
    .exitOverride()
    .action((options: Record<string, unknown>) => run(options, version))
  addSettingsFlags(program.command('wiring'), settingsTable, PREFIX)
    .description(
      'run the wiring process: does what "run" asks of it in the kernel, and alone needs capabilities for that',
    )
    .option('--print-config', 'print the settings in effect and exit')
    .exitOverride()
    .action((options: Record<string, unknown>) => wiring(options, version))
  program
    .command('join')
    .description('make this host known to an orchestrator; done already is success')
    .requiredOption('--server <url>', 'where the orchestrator answers, https://…')
    .addOption(
      new Option('--token <token>', 'one-time token, as "orctl create token" prints it')
        .env(TOKEN_VARIABLE)
        .makeOptionMandatory(),
    )
    .option('--host-name <name>', 'name of this host (default: setting host.name)')
    .option('--state-directory <directory>', 'where key and certificate go (default: setting state.directory)')
    .option('--config <file>', `YAML file with settings; also ${PREFIX}_CONFIG`)
    .exitOverride()
    .action(join)
  addWiringCommands(program)
  await program.parseAsync()
}

async function run(options: Record<string, unknown>, version: string): Promise<void> {
  const settings = settingsOf(options)
  if (settings === null) return
  const { startDaemon } = await import('./daemon.ts')
  await keepRunning({
    name: 'unionize',
    level: settings['log.level'],
    start: (log, status) => startDaemon(settings, version, log, status),
    ready: `the journal is followed on host ${settings['host.name']}`,
  })
}

function wiring(options: Record<string, unknown>, version: string): void {
  const settings = settingsOf(options)
  if (settings === null) return
  becomeWiring({
    socket: settings['wiring.socket'],
    directory: settings['wiring.directory'],
    dockerSocket: settings['docker.socket'],
    level: settings['log.level'],
    version,
  })
}

/** The settings in effect; null: they were only to be printed, and are. */
function settingsOf(options: Record<string, unknown>): Settings | null {
  const settings = settingsFromFlags(settingsTable, PREFIX, options, environment())
  if (options['printConfig'] !== true) return settings
  process.stdout.write(stringify(printable(settingsTable, settings)))
  return null
}

async function join(options: Record<string, string | undefined>): Promise<void> {
  const flags = { 'host.name': options['hostName'], 'state.directory': options['stateDirectory'] }
  const file = options['config'] ?? process.env[`${PREFIX}_CONFIG`]
  const settings = settingsFrom(flags, options['server'], file)
  // Only here, so that the daemon does not carry the library that makes certificates.
  const { joinOrchestrator } = await import('./join.ts')
  const outcome = await joinOrchestrator({
    server: settings['server.url'],
    token: options['token'] ?? '',
    host: settings['host.name'],
    stateDirectory: settings['state.directory'],
    now: Date.now,
  })
  const where = `host ${settings['host.name']}, ${settings['server.url']}`
  const said = outcome === 'joined' ? 'joined' : 'had joined before; nothing to do'
  process.stderr.write(`unionize: ${said} (${where}; key and certificate in ${settings['state.directory']})\n`)
}

function settingsFrom(
  flags: Record<string, string | undefined>,
  server: string | undefined,
  file: string | undefined,
): Settings {
  const given = Object.entries({ ...flags, 'server.url': server }).flatMap(([name, value]) =>
    value === undefined ? [] : [[name.replace(/[.-]([a-z])/g, (_, l: string) => l.toUpperCase()), value] as const],
  )
  const parsed = { ...Object.fromEntries(given), ...(file === undefined ? {} : { config: file }) }
  return settingsFromFlags(settingsTable, PREFIX, parsed, environment())
}

/** Our variables without the join token, which is no setting. */
function environment(): NodeJS.ProcessEnv {
  const { [TOKEN_VARIABLE]: _, ...rest } = process.env
  return rest
}

/** A reader that has seen enough (`unionize show | head`) is no failure. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok)
  process.stderr.write(`unionize: cannot write the output: ${error.message}\n`)
  process.exit(EXIT.failure)
})

main().catch((error) => {
  if (!(error instanceof CommanderError)) {
    for (const line of linesOf(error)) say(`unionize: ${line}`)
  }
  process.exit(exitCodeOf(error))
})
