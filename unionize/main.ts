#!/usr/bin/env node
import { Command, CommanderError, Option } from 'commander'
import { stringify } from 'yaml'
import { InvalidSettings, printable } from '../common/config.ts'
import { errorCode, InvalidInput, wording } from '../common/errors.ts'
import { createLog, type Log } from '../common/log.ts'
import { logRuntime, watchRuntime } from '../common/runtime.ts'
import { addSettingsFlags, settingsFromFlags } from '../common/settings-flags.ts'
import { type ServiceManager, serviceManager } from '../common/systemd.ts'
import { ownVersion } from '../common/version.ts'
import { type Daemon, startDaemon } from './daemon.ts'
import { type Settings, settingsTable } from './settings.ts'

const PREFIX = 'UNIONIZE'
/** Holds the join token where a flag would show it to others. */
const TOKEN_VARIABLE = 'UNIONIZE_JOIN_TOKEN'
/** Exit codes: 1 it failed, 2 the settings or flags are wrong. */
const FAILED = 1
const USAGE = 2

async function main(): Promise<void> {
  // Files that others read (names for dnsmasq) say so themselves.
  process.umask(0o022)
  const version = ownVersion()
  const program = new Command('unionize')
    .description('Runs on every Docker host: sends its leases to the orchestrator, makes and wires its instances.')
    .version(version)
    .addHelpText('after', '\nExit codes: 0 ended as asked, 1 failed, 2 settings or flags are wrong.')
    .exitOverride()
  addSettingsFlags(program.command('run', { isDefault: true }), settingsTable, PREFIX)
    .description('run the daemon (what happens without a command)')
    .option('--print-config', 'print the settings in effect and exit')
    .exitOverride()
    .action((options: Record<string, unknown>) => run(options, version))
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
  await program.parseAsync()
}

async function run(options: Record<string, unknown>, version: string): Promise<void> {
  const settings = settingsFromFlags(settingsTable, PREFIX, options, environment())
  if (options['printConfig'] === true) {
    process.stdout.write(stringify(printable(settingsTable, settings)))
    return
  }
  const log = createLog({ name: 'unionize', level: settings['log.level'] })
  const manager = serviceManager(process.env)
  const runtime = watchRuntime()
  const stop = listenToSignals(manager, log)
  process.on('SIGUSR2', () => logRuntime(log, runtime))
  if (manager.watchdogMs !== null) setInterval(() => manager.notify('WATCHDOG=1'), manager.watchdogMs).unref()
  const status = (text: string) => manager.notify(`STATUS=${text.replaceAll('\n', ' ')}`)
  stop.on(await startDaemon(settings, version, log, status))
  log.info('ready', 'the journal is followed', { host: settings['host.name'] })
  manager.notify('READY=1')
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

/** Ends in good order on SIGTERM and SIGINT; a second one, or one before it is started, ends at once. */
function listenToSignals(manager: ServiceManager, log: Log): { on(daemon: Daemon): void } {
  let daemon: Daemon | null = null
  let stopping = false
  const stop = (signal: string) => {
    if (stopping || daemon === null) process.exit(stopping ? FAILED : 0)
    stopping = true
    log.info('stopping', `${signal}: stopping; instances go on`)
    manager.notify('STOPPING=1')
    daemon.stop().then(
      () => process.exit(0),
      (error) => {
        log.error('stop.failed', wording(error))
        process.exit(FAILED)
      },
    )
  }
  process.on('SIGTERM', () => stop('SIGTERM'))
  process.on('SIGINT', () => stop('SIGINT'))
  process.on('SIGHUP', () => log.info('reload', 'nothing to reload: settings are read at the start'))
  return {
    on: (started) => {
      daemon = started
    },
  }
}

main().catch((error) => {
  if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : USAGE)
  const usage = error instanceof InvalidSettings || error instanceof InvalidInput
  const said = error instanceof InvalidSettings ? error.message : `${wording(error)} (${errorCode(error)})`
  process.stderr.write(`unionize: ${said}\n`)
  process.exit(usage ? USAGE : FAILED)
})
