const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1_000],
] as const

/** A time span in milliseconds as people say it, in its two largest units at most: `45s`, `3m12s`, `2d`. */
export function span(ms: number): string {
  let rest = Math.max(0, ms)
  const index = UNITS.findIndex(([, unit]) => rest >= unit)
  if (index === -1) return '0s'
  const parts: string[] = []
  for (const [name, unit] of UNITS.slice(index, index + 2)) {
    const count = Math.floor(rest / unit)
    rest -= count * unit
    if (count > 0) parts.push(`${count}${name}`)
  }
  const [first = '', second = ''] = parts
  return Number.parseInt(first, 10) >= 10 ? first : first + second
}

/** How long ago an ISO time was; `-` for none. */
export function age(time: string | null, now: number): string {
  return time === null ? '-' : span(now - Date.parse(time))
}

/** How long until an ISO time: `in 3m`, `now`, or `never` for null. */
export function until(time: string | null, now: number): string {
  if (time === null) return 'never'
  const ms = Date.parse(time) - now
  return ms < 1000 ? 'now' : `in ${span(ms)}`
}
