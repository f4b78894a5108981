/** Unchanged lines around a change, as `diff -u` shows them. */
const CONTEXT = 3
/** Lines removed and added beyond which no shortest way is looked for: the whole text is shown as replaced. */
const MOST_EDITS = 2000
/** Lines compared on the way beyond which none is looked for either: the texts are their authors'. */
const MOST_STEPS = 10_000_000

/** One line of a comparison: kept, removed or added. */
interface Edit {
  readonly sign: ' ' | '-' | '+'
  readonly line: string
}

/**
 * What changed from one text to another, as `diff -u` (POSIX diff, "Diff -u Output Format"); '' when nothing did. A last
 * line without a line feed counts as one with it.
 * @param names of the two, for the head
 */
export function unifiedDiff(
  before: string,
  after: string,
  names: { readonly from: string; readonly to: string },
): string {
  const edits = editsBetween(linesOf(before), linesOf(after))
  if (edits.every(({ sign }) => sign === ' ')) return ''
  const passed: Passed = { at: 0, before: 0, after: 0 }
  const hunks = hunksOf(edits).map(({ start, end }) => hunkText(edits, start, end, passed))
  return `--- ${names.from}\n+++ ${names.to}\n${hunks.join('')}`
}

function linesOf(text: string): string[] {
  if (text === '') return []
  return text.replace(/\n$/, '').split('\n')
}

/** Stretches of edits that are shown together, with their context. */
function hunksOf(edits: readonly Edit[]): { start: number; end: number }[] {
  const hunks: { start: number; end: number }[] = []
  for (const [index, { sign }] of edits.entries()) {
    if (sign === ' ') continue
    const [start, end] = [Math.max(0, index - CONTEXT), Math.min(edits.length, index + CONTEXT + 1)]
    const last = hunks.at(-1)
    if (last !== undefined && start <= last.end) last.end = end
    else hunks.push({ start, end })
  }
  return hunks
}

/** How many lines of both texts are in the edits before `at`. */
interface Passed {
  at: number
  before: number
  after: number
}

/** @param passed is moved to `start`: hunks come in their order */
function hunkText(edits: readonly Edit[], start: number, end: number, passed: Passed): string {
  for (; passed.at < start; passed.at++) {
    const sign = edits[passed.at]?.sign
    if (sign !== '+') passed.before++
    if (sign !== '-') passed.after++
  }
  const shown = edits.slice(start, end)
  const range = (before: number, other: '-' | '+') => {
    const count = shown.filter(({ sign }) => sign !== other).length
    // A range of no lines is named by the line before it.
    return `${count === 0 ? before : before + 1}${count === 1 ? '' : `,${count}`}`
  }
  const lines = shown.map(({ sign, line }) => `${sign}${line}\n`)
  return `@@ -${range(passed.before, '+')} +${range(passed.after, '-')} @@\n${lines.join('')}`
}

/** A shortest way from one list of lines to another (Myers, "An O(ND) Difference Algorithm and Its Variations", 1986). */
function editsBetween(before: readonly string[], after: readonly string[]): readonly Edit[] {
  let start = 0
  while (start < before.length && start < after.length && before[start] === after[start]) start++
  let tail = 0
  const room = Math.min(before.length, after.length) - start
  while (tail < room && before[before.length - 1 - tail] === after[after.length - 1 - tail]) tail++
  const kept = (lines: readonly string[]): Edit[] => lines.map((line) => ({ sign: ' ', line }))
  const a = before.slice(start, before.length - tail)
  const b = after.slice(start, after.length - tail)
  const middle = shortest(a, b) ?? [
    ...a.map((line): Edit => ({ sign: '-', line })),
    ...b.map((line): Edit => ({ sign: '+', line })),
  ]
  return [...kept(before.slice(0, start)), ...middle, ...kept(before.slice(before.length - tail))]
}

/** null: more than {@link MOST_EDITS} lines differ, or it takes too many steps. */
function shortest(a: readonly string[], b: readonly string[]): Edit[] | null {
  /** Furthest place in `a` that each diagonal reaches, by number of edits. */
  const rounds: Map<number, number>[] = []
  let reached = new Map([[1, 0]])
  let steps = 0
  for (let edits = 0; edits <= Math.min(a.length + b.length, MOST_EDITS); edits++) {
    rounds.push(reached)
    const next = new Map<number, number>()
    for (let diagonal = -edits; diagonal <= edits; diagonal += 2) {
      let x = down(reached, diagonal, edits) ? at(reached, diagonal + 1) : at(reached, diagonal - 1) + 1
      const from = x
      while (x < a.length && x - diagonal < b.length && a[x] === b[x - diagonal]) x++
      steps += 1 + x - from
      next.set(diagonal, x)
      if (x >= a.length && x - diagonal >= b.length) return wayBack(a, b, rounds)
    }
    reached = next
    if (steps > MOST_STEPS) return null
  }
  return null
}

function wayBack(a: readonly string[], b: readonly string[], rounds: readonly Map<number, number>[]): Edit[] {
  const edits: Edit[] = []
  let [x, y] = [a.length, b.length]
  for (let round = rounds.length - 1; round >= 0; round--) {
    const reached = rounds[round] ?? new Map<number, number>()
    const diagonal = x - y
    const former = down(reached, diagonal, round) ? diagonal + 1 : diagonal - 1
    const formerX = at(reached, former)
    const formerY = formerX - former
    while (x > formerX && y > formerY) {
      edits.push({ sign: ' ', line: a[--x] ?? '' })
      y--
    }
    if (round === 0) break
    if (x === formerX) edits.push({ sign: '+', line: b[--y] ?? '' })
    else edits.push({ sign: '-', line: a[--x] ?? '' })
  }
  return edits.reverse()
}

/** Whether the furthest way to a diagonal adds a line, rather than removing one. */
function down(reached: ReadonlyMap<number, number>, diagonal: number, edits: number): boolean {
  return diagonal === -edits || (diagonal !== edits && at(reached, diagonal - 1) < at(reached, diagonal + 1))
}

function at(reached: ReadonlyMap<number, number>, diagonal: number): number {
  return reached.get(diagonal) ?? 0
}
