#!/usr/bin/env node
import { Command } from 'commander'
import { stringify } from 'yaml'
import { InvalidSettings, printable } from '../common/config.ts'
import { errorCode, wording } from '../common/errors.ts'
import { createLog, type Log } from '../common/log.ts'
import { logRuntime, watchRuntime } from '../common/runtime.ts'
import { addSettingsFlags, settingsFromFlags } from '../common/settings-flags.ts'
import { serviceManager } from '../common/systemd.ts'
import { ownVersion } from '../common/version.ts'
import { type Daemon, startDaemon } from './daemon.ts'
import { settingsTable } from './settings.ts'

const PREFIX = 'ORCHESTRATOR'
/** Exit codes: 1 it failed, 2 the settings or flags are wrong. */
const FAILED = 1
const USAGE = 2

async function main(): Promise<void> {
  // Whatever we write holds keys, tokens or other people's devices.
  process.umask(0o077)
  const version = ownVersion()
  const command = new Command('orchestrator')
    .description('The control plane: turns DHCPv6 leases into instances. Needs no root.')
    .version(version)
    .option('--print-config', 'print the settings in effect, secrets masked, and exit')
    .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : USAGE))
  addSettingsFlags(command, settingsTable, PREFIX).parse()
  const options = command.opts<Record<string, unknown>>()
  const settings = settingsFromFlags(settingsTable, PREFIX, options, process.env)
  if (options['printConfig'] === true) {
    process.stdout.write(stringify(printable(settingsTable, settings)))
    return
  }
  const log = createLog({ name: 'orchestrator', level: settings['log.level'] })
  const manager = serviceManager(process.env)
  const runtime = watchRuntime()
  const daemon = await startDaemon(settings, version, log).catch((error) => {
    log.error('start.failed', wording(error), { code: errorCode(error) })
    process.exit(FAILED)
  })
  listenToSignals(daemon, manager, log)
  process.on('SIGUSR2', () => logRuntime(log, runtime))
  manager.notify('READY=1')
  if (manager.watchdogMs !== null) setInterval(() => manager.notify('WATCHDOG=1'), manager.watchdogMs).unref()
}

function listenToSignals(daemon: Daemon, manager: ReturnType<typeof serviceManager>, log: Log): void {
  let stopping = false
  const stop = (signal: string) => {
    if (stopping) return
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
  process.on('SIGHUP', () => {
    daemon.reload().catch((error) => log.error('reload.failed', `what was in force stays: ${wording(error)}`))
  })
}

main().catch((error) => {
  process.stderr.write(`orchestrator: ${error instanceof InvalidSettings ? error.message : wording(error)}\n`)
  process.exit(error instanceof InvalidSettings ? USAGE : FAILED)
})
