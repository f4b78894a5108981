/** A text in which `*` stands for any text, also for none. Nothing else is special. */
export interface Pattern {
  readonly text: string
  /** What stands before the first `*`; the whole text when there is none. */
  readonly beginning: string
  /** Whether it matches one text only. */
  readonly exact: boolean
  /** Takes time in proportion to the value's length for each `*`, whatever the value is. */
  matches(value: string): boolean
}

/** Compiles a pattern once, for any number of values. */
export function compilePattern(text: string): Pattern {
  const parts = text.split('*')
  const beginning = parts[0] ?? ''
  if (parts.length === 1) return { text, beginning, exact: true, matches: (value) => value === text }
  const end = parts.at(-1) ?? ''
  const middle = parts.slice(1, -1).filter((part) => part !== '')
  const least = beginning.length + end.length
  const matches = (value: string): boolean => {
    if (value.length < least || !value.startsWith(beginning) || !value.endsWith(end)) return false
    // Each part at its first place leaves the most room for those after it, so nothing need ever be taken back.
    let at = beginning.length
    for (const part of middle) {
      const found = value.indexOf(part, at)
      if (found === -1) return false
      at = found + part.length
    }
    return at <= value.length - end.length
  }
  return { text, beginning, exact: false, matches }
}
