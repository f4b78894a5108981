import { InvalidInput } from '../../../common/errors.ts'

/**
 * Lines of a .dockerignore, signs of one of them, and steps that all its patterns may take through all paths of a source:
 * some seconds of work. 500 patterns and 10,000 paths of 60 characters, where few are left out, are 40 million.
 */
const MOST = { lines: 500, signs: 256, steps: 100_000_000 } as const
/** Signs of a text that is searched for, so that no search takes long; and signs of a path that cost as much as a step. */
const NEEDED_MOST = 8
const SEARCHED = 8

type Step =
  | { readonly kind: 'sign'; readonly sign: string }
  /** One sign of a set, or outside of it; never `/`. */
  | { readonly kind: 'set'; readonly ranges: readonly (readonly [string, string])[]; readonly inside: boolean }
  /** Any number of signs: without `/`, or any. */
  | { readonly kind: 'some' | 'all' }
  /** The next two steps, or neither. */
  | { readonly kind: 'maybe' }

/**
 * Reads a `.dockerignore` (Docker's documentation, "Build context", section ".dockerignore files"): a pattern a line,
 * `*`, `?`, `[…]` and `**` as there, `!` brings back, the last line that matches decides, a folder's pattern holds for all
 * below it.
 * @returns whether a path is left out of the context; `Dockerfile` and `.dockerignore` never are. For the paths of one
 * source: when all of them together take too many steps, it throws InvalidInput
 * @throws InvalidInput for a pattern that cannot be read, or too many
 */
export function ignoreRules(text: string): (path: string) => boolean {
  const lines = text
    .replace(/^\ufeff/, '')
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
  if (lines.length > MOST.lines) throw new InvalidInput('.dockerignore', `expected at most ${MOST.lines} patterns`)
  let spent = 0
  const spend = (steps: number) => {
    spent += steps
    if (spent <= MOST.steps) return
    const why = `its patterns take more than ${MOST.steps} steps through the paths of this source`
    throw new InvalidInput('.dockerignore', `${why}; use fewer patterns, or fewer "**" in them`)
  }
  const rules = lines.map((line) => {
    const back = line.startsWith('!')
    return { back, matches: matcher(stepsOf((back ? line.slice(1) : line).trim()), spend) }
  })
  return (path) => {
    if (path === 'Dockerfile' || path === '.dockerignore') return false
    let left = false
    for (const { back, matches } of rules) {
      if (left === back && matches(path)) left = !back
    }
    return left
  }
}

function stepsOf(line: string): readonly Step[] {
  if (line.length > MOST.signs) {
    throw new InvalidInput('.dockerignore', `expected patterns of at most ${MOST.signs} characters`)
  }
  const names: string[] = []
  for (const name of line.split('/')) {
    if (name === '..') names.pop()
    else if (name !== '' && name !== '.') names.push(name)
  }
  const steps: Step[] = []
  for (const [index, name] of names.entries()) {
    const last = index === names.length - 1
    // `a/**/b` is also `a/b`.
    if (name === '**' && !last) steps.push({ kind: 'maybe' }, { kind: 'all' })
    else steps.push(...nameSteps(name, line))
    if (!last) steps.push({ kind: 'sign', sign: '/' })
  }
  return steps
}

/** One name of a pattern, as Go's path/filepath.Match reads it. */
function nameSteps(name: string, line: string): Step[] {
  const steps: Step[] = []
  for (let at = 0; at < name.length; at++) {
    const sign = name[at] ?? ''
    if (sign === '*' && name[at + 1] === '*') {
      steps.push({ kind: 'all' })
      at++
    } else if (sign === '*') steps.push({ kind: 'some' })
    else if (sign === '?') steps.push({ kind: 'set', ranges: [], inside: false })
    else if (sign === '[') {
      const end = name.indexOf(']', at + 2)
      if (end < 0) throw new InvalidInput('.dockerignore', `the pattern ${JSON.stringify(line)} has no closing "]"`)
      steps.push(setOf(name.slice(at + 1, end)))
      at = end
    } else if (sign === '\\' && at + 1 < name.length) steps.push({ kind: 'sign', sign: name[++at] ?? '' })
    else steps.push({ kind: 'sign', sign })
  }
  return steps
}

function setOf(text: string): Step {
  const inside = !text.startsWith('^')
  const signs = inside ? text : text.slice(1)
  const ranges: [string, string][] = []
  for (let at = 0; at < signs.length; at++) {
    const first = signs[at] ?? ''
    if (signs[at + 1] === '-' && at + 2 < signs.length) {
      ranges.push([first, signs[at + 2] ?? ''])
      at += 2
    } else ranges.push([first, first])
  }
  return { kind: 'set', ranges, inside }
}

/**
 * Whether a pattern matches a path or one of its folders; all ways at once, so that no pattern takes for ever.
 * @param spend is told how many steps are taken, before they are
 */
function matcher(steps: readonly Step[], spend: (steps: number) => void): (path: string) => boolean {
  const needed = neededText(steps)
  /** For each state the last turn in which it was entered. */
  const entered = new Uint32Array(steps.length + 1)
  let turn = 0
  let states: number[] = []
  /** Enters a state, and those behind what may also match nothing. */
  const enter = (state: number) => {
    if (entered[state] === turn) return
    entered[state] = turn
    states.push(state)
    const kind = steps[state]?.kind
    if (kind === 'some' || kind === 'all' || kind === 'maybe') enter(state + 1)
    if (kind === 'maybe') enter(state + 3)
  }
  const begin = () => {
    turn++
    states = []
  }
  return (path) => {
    spend(path.length / SEARCHED)
    if (!path.includes(needed)) return false
    begin()
    enter(0)
    for (let at = 0; at < path.length && states.length > 0; at++) {
      spend(states.length)
      const before = states
      const sign = path[at] ?? ''
      begin()
      for (const state of before) {
        const step = steps[state]
        if (step === undefined || step.kind === 'maybe') continue
        if (step.kind === 'all' || (step.kind === 'some' && sign !== '/')) enter(state)
        else if (step.kind === 'sign' && step.sign === sign) enter(state + 1)
        else if (step.kind === 'set' && sign !== '/' && isIn(step.ranges, sign) === step.inside) enter(state + 1)
      }
      const whole = at + 1 === path.length || path[at + 1] === '/'
      if (whole && entered[steps.length] === turn) return true
    }
    return false
  }
}

/** Signs in a row that every match has in it, so that most paths need no more than a look for them. */
function neededText(steps: readonly Step[]): string {
  let [longest, row] = ['', '']
  for (let at = 0; at < steps.length; at++) {
    const step = steps[at]
    row = step?.kind === 'sign' ? row + step.sign : ''
    // What it makes optional is needed by nobody.
    if (step?.kind === 'maybe') at += 2
    if (row.length > longest.length) longest = row
  }
  return longest.slice(-NEEDED_MOST)
}

function isIn(ranges: readonly (readonly [string, string])[], sign: string): boolean {
  return ranges.some(([first, last]) => first <= sign && sign <= last)
}
