import { stringify } from 'yaml'
import { aligned } from '../../common/table.ts'
import { type Column, cells } from './table.ts'

export const FORMATS = ['table', 'wide', 'json', 'yaml', 'name'] as const
export type Format = (typeof FORMATS)[number]

/** How a kind of item is shown. */
export interface View<T> {
  readonly columns: readonly Column<T>[]
  name(item: T): string
}

/** Data goes to standard output, whatever is said to people goes to standard error. */
export function print(text: string): void {
  process.stdout.write(text)
}

export function say(text: string): void {
  process.stderr.write(`${text}\n`)
}

/** Items as text. `one`: a single thing was asked for, so JSON and YAML give it without a list around it. */
export function shown<T>(view: View<T>, items: readonly T[], format: Format, now: number, one = false): string {
  const data = one ? items[0] : { items }
  if (format === 'json') return `${JSON.stringify(data, null, 2)}\n`
  if (format === 'yaml') return stringify(data)
  if (format === 'name') return items.map((item) => `${view.name(item)}\n`).join('')
  const columns = columnsFor(view, format)
  return aligned([columns.map((column) => column.head), ...items.map((item) => cells(columns, item, now))])
}

/** Items as further lines below those of {@link shown}: rows without a head, JSON one a line, YAML as documents. */
export function appended<T>(view: View<T>, items: readonly T[], format: Format, now: number): string {
  if (format === 'json') return items.map((item) => `${JSON.stringify(item)}\n`).join('')
  if (format === 'yaml') return items.map((item) => `---\n${stringify(item)}`).join('')
  if (format === 'name') return items.map((item) => `${view.name(item)}\n`).join('')
  return aligned(items.map((item) => cells(columnsFor(view, format), item, now)))
}

export function columnsFor<T>(view: View<T>, format: Format): readonly Column<T>[] {
  return format === 'wide' ? view.columns : view.columns.filter((column) => column.wide !== true)
}
