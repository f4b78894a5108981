import { InvalidInput } from '../../../common/errors.ts'
import type { Json } from '../../domain/template.ts'

const POWERS = 'bkmgtp'

/**
 * A size as Compose writes it: a number of bytes, or a text such as `64m`, `1gb`, `512 KiB`, `1.5g`. Units are powers of
 * 1024 in any spelling, as in Docker.
 */
export function sizeOf(value: Json, key: string): number {
  const text = typeof value === 'number' ? String(value) : value
  const [, number, unit = 'b'] = (typeof text === 'string' && /^(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?$/i.exec(text)) || []
  const power = unit === '' ? 0 : POWERS.indexOf(unit.toLowerCase())
  const bytes = number === undefined ? Number.NaN : Math.floor(Number(number) * 1024 ** power)
  if (!Number.isSafeInteger(bytes)) throw new InvalidInput(key, 'expected a size such as 64m or 1gb')
  return bytes
}
