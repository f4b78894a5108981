import { InvalidInput } from '../../../common/errors.ts'
import type { Json } from '../../domain/template.ts'
import { textOf } from './reading.ts'

/** Milliseconds of each unit: those of Compose's documentation (`us` to `h`), and `d` and `w`, which Docker Compose takes too. */
const UNITS: Readonly<Record<string, number>> = {
  us: 0.001,
  µs: 0.001,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
}
/** A year, as everywhere in orders. */
const MOST_MS = 31_536_000_000

/**
 * A duration as Compose writes it, `1h30m`, `2.5s`, `0`: whole milliseconds, at most a year.
 * @throws InvalidInput also for what is shorter than a millisecond and not 0: no engine knows it
 */
export function durationOf(value: Json, key: string): number {
  const text = typeof value === 'number' ? String(value) : textOf(value, key)
  if (/^0+$/.test(text)) return 0
  const part = /(\d+(?:\.\d*)?|\.\d+)(us|µs|ms|s|m|h|d|w)/y
  let ms = 0
  for (let at = 0; at < text.length; at = part.lastIndex) {
    const [, number, unit] = part.exec(text) ?? []
    if (number === undefined || unit === undefined) throw wrong(key)
    ms += Number(number) * (UNITS[unit] ?? 0)
  }
  if (text === '') throw wrong(key)
  if (ms > MOST_MS) throw new InvalidInput(key, 'expected a year (8760h) at most')
  const whole = Math.round(ms)
  if (whole === 0 && ms > 0) throw new InvalidInput(key, 'expected at least a millisecond, or 0')
  return whole
}

function wrong(key: string): InvalidInput {
  return new InvalidInput(key, 'expected a duration with units, such as 90s, 1m30s or 2h')
}
