import type { Places } from './document.ts'
import type { Fault } from './faults.ts'

/** Faults told at most: a file that has more is another kind of file. */
const MOST = 100

/** What is found in one file, with its lines: one fault for each place, and none inside of what is wrong as a whole. */
export class FaultList {
  readonly #file: string
  readonly #places: Places
  readonly #found: Fault[] = []

  constructor(file: string, places: Places) {
    this.#file = file
    this.#places = places
  }

  add(key: string, message: string): void {
    if (this.#found.length > MOST * 10) return
    if (this.#found.some((fault) => fault.key === key || isInside(key, fault.key))) return
    this.#found.push({ file: this.#file, line: this.#places.lineOfKey(key), key, message })
  }

  /** A further thing to know about a key, where there may be several. */
  note(key: string, message: string): void {
    if (this.#found.length > MOST * 10) return
    if (this.#found.some((fault) => fault.key === key && fault.message === message)) return
    this.#found.push({ file: this.#file, line: this.#places.lineOfKey(key), key, message })
  }

  get isEmpty(): boolean {
    return this.#found.length === 0
  }

  /** In the order of the file. */
  all(): readonly Fault[] {
    const sorted = this.#found.toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0))
    if (sorted.length <= MOST) return sorted
    const rest = { file: this.#file, line: null, key: '', message: `there are more: ${MOST} are told` }
    return [...sorted.slice(0, MOST), rest]
  }
}

/** Whether a key lies below another one; `''` is the whole file. */
export function isInside(key: string, outer: string): boolean {
  return outer === '' ? key !== '' : key.startsWith(`${outer}.`) || key.startsWith(`${outer}[`)
}
