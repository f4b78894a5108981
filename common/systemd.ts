import koffi from 'koffi'

/** How the service manager is told how we are; see sd_notify(3). */
export interface ServiceManager {
  /** Sends one state, such as `READY=1`, `STOPPING=1`, `STATUS=…`. */
  notify(state: string): void
  /** Milliseconds between the keep-alives that the manager wants (half of WatchdogSec); null: no watchdog. */
  readonly watchdogMs: number | null
}

/** Speaks to systemd through libsystemd when started by it (NOTIFY_SOCKET is set), else does nothing. */
export function serviceManager(environment: Readonly<Record<string, string | undefined>>): ServiceManager {
  if (!environment['NOTIFY_SOCKET']) return { notify: () => {}, watchdogMs: null }
  const sdNotify = koffi.load('libsystemd.so.0').func('int sd_notify(int, const char *)')
  const watchdogUs = Number(environment['WATCHDOG_USEC'] ?? 0)
  return {
    notify(state) {
      const answer: number = sdNotify(0, state)
      if (answer < 0) throw new Error(`sd_notify(${state}) failed with errno ${-answer}`)
    },
    watchdogMs: watchdogUs > 0 ? Math.floor(watchdogUs / 2000) : null,
  }
}
