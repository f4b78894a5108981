import { styleText } from 'node:util'
import { plain } from '../../common/plain.ts'
import type { Step } from '../wiring/interfaces/interfaces.ts'

/** How data is written. */
export const FORMATS = ['table', 'wide', 'json', 'yaml'] as const
export type Format = (typeof FORMATS)[number]

/** Data goes to standard output, whatever is said to people goes to standard error. */
export function print(text: string): void {
  process.stdout.write(text)
}

/** One line. Names that others gave may be in it, so nothing in it steers the terminal. */
export function say(text: string): void {
  process.stderr.write(`${plain(text)}\n`)
}

/** `data` as JSON or YAML. */
export async function encoded(data: unknown, format: 'json' | 'yaml'): Promise<string> {
  if (format === 'json') return `${JSON.stringify(data, null, 2)}\n`
  const { stringify } = await import('yaml')
  return stringify(data)
}

/** Rows under their heads. Cells come from names that others gave, so nothing in them steers the terminal. */
export async function table(heads: readonly string[], rows: readonly (readonly string[])[]): Promise<string> {
  const { aligned } = await import('../../common/table.ts')
  return aligned([heads, ...rows.map((row) => row.map(plain))])
}

/** Says what was done to a target; its name is bold where the terminal shows that and NO_COLOR is not set. */
export function tell(target: string, steps: readonly Step[]): void {
  const name = styleText('bold', plain(target), { stream: process.stderr })
  const lines = steps.length === 0 ? ['nothing to do'] : steps.map((step) => `${step.interface}: ${step.text}`)
  for (const line of lines) process.stderr.write(`${name}: ${plain(line)}\n`)
}
