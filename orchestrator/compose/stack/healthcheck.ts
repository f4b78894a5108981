import { InvalidInput } from '../../../common/errors.ts'
import type { ServiceInput } from '../../../common/service-spec.ts'
import type { Json } from '../../domain/template.ts'
import { durationOf } from './durations.ts'
import { booleanOf, fieldsOf, given, integerOf, isList, type JsonMap, textOf } from './reading.ts'

const LEAST_INTERVAL_MS = 1000

export type Healthcheck = NonNullable<ServiceInput['healthcheck']>

/** `healthcheck` of a service; undefined: the image's own. A time or number of 0 is the engine's default, as in Docker. */
export function healthcheckOfService(service: JsonMap, key: string): Healthcheck | undefined {
  const value = given(service, 'healthcheck')
  if (value === undefined) return undefined
  const at = `${key}.healthcheck`
  const fields = fieldsOf(value, at, ['test', 'interval', 'timeout', 'retries', 'start_period', 'disable'])
  const [disable, wanted] = [given(fields, 'disable'), given(fields, 'test')]
  const test = wanted === undefined ? undefined : testOf(wanted, `${at}.test`)
  if (test === 'none' || (disable !== undefined && booleanOf(disable, `${at}.disable`))) return 'disabled'
  const retries = given(fields, 'retries')
  const interval = timeOf(fields, at, 'interval', 'intervalMs')
  if ((interval.intervalMs ?? LEAST_INTERVAL_MS) < LEAST_INTERVAL_MS) {
    throw new InvalidInput(
      `${at}.interval`,
      'expected at least 1s: each test is work of the host, beyond the limits of the service',
    )
  }
  const check = {
    ...(test === undefined ? {} : { test }),
    ...interval,
    ...timeOf(fields, at, 'timeout', 'timeoutMs'),
    ...timeOf(fields, at, 'start_period', 'startPeriodMs'),
    ...nonZero('retries', retries === undefined ? 0 : integerOf(retries, `${at}.retries`, 0, 1000)),
  }
  return Object.keys(check).length === 0 ? undefined : check
}

/** A text runs in a shell; a list begins with NONE, CMD or CMD-SHELL. */
function testOf(value: Json, key: string): string[] | 'none' {
  if (!isList(value)) {
    const command = textOf(value, key)
    if (command.trim() === '') throw new InvalidInput(key, 'expected a command')
    return ['CMD-SHELL', command]
  }
  const [kind, ...words] = value.map((item, index) => textOf(item, `${key}[${index}]`))
  if (kind === 'NONE' && words.length === 0) return 'none'
  if (kind === 'CMD' && words.length > 0) return [kind, ...words]
  if (kind === 'CMD-SHELL' && words.length === 1) return [kind, ...words]
  throw new InvalidInput(key, 'expected ["CMD", PROGRAM, …], ["CMD-SHELL", COMMAND] or ["NONE"]')
}

function timeOf<T extends string>(fields: JsonMap, key: string, name: string, as: T): Partial<Record<T, number>> {
  const value = given(fields, name)
  return nonZero(as, value === undefined ? 0 : durationOf(value, `${key}.${name}`))
}

function nonZero<T extends string>(name: T, value: number): Partial<Record<T, number>> {
  return value === 0 ? {} : ({ [name]: value } as Record<T, number>)
}
