import { styleText } from 'node:util'
import { plain } from '../../common/plain.ts'

/** One column: its head, and what it says of an item. */
export interface Column<T> {
  readonly head: string
  cell(item: T, now: number): string
  /** Only in `-o wide`. */
  readonly wide?: boolean
}

/** The cells of one item. */
export function cells<T>(columns: readonly Column<T>[], item: T, now: number): string[] {
  return columns.map((column) => column.cell(item, now))
}

const COLOURS = {
  running: 'green',
  connected: 'green',
  active: 'green',
  done: 'green',
  ready: 'green',
  cordoned: 'yellow',
  upgrading: 'yellow',
  removing: 'yellow',
  building: 'yellow',
  failed: 'red',
  starting: 'yellow',
  stopping: 'yellow',
  waiting: 'yellow',
  warning: 'yellow',
  failing: 'red',
  error: 'red',
  away: 'red',
  answers: 'green',
  ok: 'green',
  trying: 'yellow',
  incomplete: 'yellow',
} as const

/** A word of state in its colour, where standard output is a terminal and NO_COLOR is not set. */
export function coloured(word: string): string {
  const colour = Object.hasOwn(COLOURS, word) ? COLOURS[word as keyof typeof COLOURS] : undefined
  return colour === undefined ? plain(word) : styleText(colour, word, { stream: process.stdout })
}
