import { plain } from '../../common/plain.ts'
import type { FaultShape } from '../api/wire.ts'
import { say } from './output.ts'

/**
 * Says what is wrong in files, or worth knowing, a line each as editors understand it: `FILE:LINE: error: KEY: MESSAGE`.
 * @param shown a file's path as people find it
 */
export function sayFaults(
  kind: 'error' | 'note',
  faults: readonly FaultShape[],
  shown: (path: string) => string = (path) => path,
): void {
  for (const { file, line, key, message } of faults) {
    const place = line === null ? plain(shown(file)) : `${plain(shown(file))}:${line}`
    say(`${place}: ${kind}: ${key === '' ? '' : `${plain(key)}: `}${plain(message)}`)
  }
}

/** `1 fault`, `3 faults` */
export function counted(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}
