import { plain } from '../../common/plain.ts'
import type { FaultShape } from '../api/wire.ts'
import { say } from './output.ts'

/** Says what is wrong in files, or worth knowing, a line each as editors understand it: `FILE:LINE: KEY: MESSAGE`. */
export function sayFaults(kind: 'error' | 'note', faults: readonly FaultShape[]): void {
  for (const { file, line, key, message } of faults) {
    const place = line === null ? plain(file) : `${plain(file)}:${line}`
    say(`${place}: ${kind}: ${key === '' ? '' : `${plain(key)}: `}${plain(message)}`)
  }
}
