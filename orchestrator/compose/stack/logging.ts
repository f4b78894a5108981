import { InvalidInput } from '../../../common/errors.ts'
import type { ServiceInput } from '../../../common/service-spec.ts'
import { fieldsOf, given, integerOf, type JsonMap } from './reading.ts'
import { sizeOf } from './sizes.ts'

export type Log = NonNullable<ServiceInput['log']>

/** `logging` of a service; undefined: the host's own limits. One file unless `max-file` says more, as in Docker. */
export function loggingOfService(service: JsonMap, key: string): Log | undefined {
  const value = given(service, 'logging')
  if (value === undefined) return undefined
  const at = `${key}.logging`
  const fields = fieldsOf(value, at, ['driver', 'options'])
  const driver = given(fields, 'driver')
  if (driver !== undefined && driver !== 'json-file' && driver !== 'local') {
    throw new InvalidInput(`${at}.driver`, 'expected json-file or local: logs are read by the orchestrator')
  }
  const options = fieldsOf(given(fields, 'options') ?? null, `${at}.options`, ['max-size', 'max-file'])
  const [size, files] = [given(options, 'max-size'), given(options, 'max-file')]
  if (size === undefined) {
    if (files !== undefined) throw new InvalidInput(`${at}.options.max-file`, 'expected max-size beside it')
    return undefined
  }
  const mostBytes = sizeOf(size, `${at}.options.max-size`)
  if (mostBytes < 4096) throw new InvalidInput(`${at}.options.max-size`, 'expected at least 4k')
  return { mostBytes, files: files === undefined ? 1 : integerOf(files, `${at}.options.max-file`, 1, 100) }
}
