import { wording } from '../common/errors.ts'
import { createLog, type Log, type LogLevel } from '../common/log.ts'
import { logRuntime, watchRuntime } from '../common/runtime.ts'
import { type ServiceManager, serviceManager } from '../common/systemd.ts'

/** What a process does until it is told to stop. */
export interface Running {
  stop(): Promise<void>
}

/** Exit code of a stop that failed, or was cut short by a second signal. */
const FAILED = 1

/**
 * Starts a service in this process and keeps it running: log, keep-alives and status for the service manager, and a stop
 * in good order on SIGTERM and SIGINT, which ends the process.
 * @param options.start resolves when it is ready; `status` tells in a few words how it stands, at every change
 * @throws what `start` throws
 */
export async function keepRunning(options: {
  /** As the log shows it. */
  readonly name: string
  readonly level: LogLevel
  readonly start: (log: Log, status: (text: string) => void) => Promise<Running>
  /** Said once it is ready. */
  readonly ready: string
}): Promise<void> {
  const log = createLog({ name: options.name, level: options.level })
  const manager = serviceManager(process.env)
  const runtime = watchRuntime()
  const stop = listenToSignals(manager, log)
  process.on('SIGUSR2', () => logRuntime(log, runtime))
  if (manager.watchdogMs !== null) setInterval(() => manager.notify('WATCHDOG=1'), manager.watchdogMs).unref()
  const status = (text: string) => manager.notify(`STATUS=${text.replaceAll('\n', ' ')}`)
  stop.on(await options.start(log, status))
  log.info('ready', options.ready)
  manager.notify('READY=1')
}

/** Ends in good order on SIGTERM and SIGINT; a second one, or one before it is started, ends at once. */
function listenToSignals(manager: ServiceManager, log: Log): { on(running: Running): void } {
  let running: Running | null = null
  let stopping = false
  const stop = (signal: string) => {
    if (stopping || running === null) process.exit(stopping ? FAILED : 0)
    stopping = true
    log.info('stopping', `${signal}: stopping; instances go on`)
    manager.notify('STOPPING=1')
    running.stop().then(
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
      running = started
    },
  }
}
