import { plain } from '../../common/plain.ts'
import type { InstanceDetailShape } from '../api/wire.ts'

/** The value of a parameter or output, for people. */
export function valueText(value: InstanceDetailShape['parameters'][string]): string {
  return typeof value === 'object' ? '(secret)' : plain(String(value))
}
