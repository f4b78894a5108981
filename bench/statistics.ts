/** Median, 99th percentile, extremes of a sample. */
export interface Summary {
  readonly n: number
  readonly median: number
  readonly p99: number
  readonly least: number
  readonly most: number
}

export function summarize(sample: readonly number[]): Summary {
  const sorted = [...sample].sort((a, b) => a - b)
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN
  return { n: sorted.length, median: at(0.5), p99: at(0.99), least: at(0), most: at(1) }
}

/** A table of rows with two decimals, right-aligned, its first column left. */
export function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const cells = [head, ...rows.map((row) => row.map((v) => (typeof v === 'number' ? format(v) : v)))]
  const widths = head.map((_, column) => Math.max(...cells.map((row) => (row[column] ?? '').length)))
  const line = (row: readonly string[]) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  ')
  return `${cells.map(line).join('\n')}\n`
}

function format(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(2)
}
