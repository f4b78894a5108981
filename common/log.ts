import { type DestinationStream, pino } from 'pino'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'
/**
 * What a daemon says, one JSON object a line. `id` is a stable message id (`lease.stored`) for searching and alerting;
 * `fields` are data, never secrets.
 */
export interface Log {
  debug(id: string, message: string, fields?: Record<string, unknown>): void
  info(id: string, message: string, fields?: Record<string, unknown>): void
  warn(id: string, message: string, fields?: Record<string, unknown>): void
  error(id: string, message: string, fields?: Record<string, unknown>): void
}

/** A log to standard error, where systemd's journal or a terminal takes it. */
export function createLog(options: { name: string; level: LogLevel; destination?: DestinationStream }): Log {
  const logger = pino(
    {
      name: options.name,
      level: options.level,
      base: { name: options.name, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    options.destination ?? pino.destination({ dest: 2, sync: true }),
  )
  const at =
    (level: LogLevel) =>
    (id: string, message: string, fields: Record<string, unknown> = {}) =>
      logger[level]({ ...fields, id }, message)
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
  }
}
