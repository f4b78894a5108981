import { InvalidInput } from '../../../common/errors.ts'

/** Lines of a .dockerignore, and signs of one of them, that are followed: each path is tried against each. */
const MOST = { lines: 500, signs: 256 } as const

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
 * @returns whether a path is left out of the context; `Dockerfile` and `.dockerignore` never are
 * @throws InvalidInput for a pattern that cannot be read, or too many
 */
export function ignoreRules(text: string): (path: string) => boolean {
  const lines = text
    .replace(/^\ufeff/, '')
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
  if (lines.length > MOST.lines) throw new InvalidInput('.dockerignore', `expected at most ${MOST.lines} patterns`)
  const rules = lines.map((line) => {
    const back = line.startsWith('!')
    return { back, steps: stepsOf((back ? line.slice(1) : line).trim()) }
  })
  return (path) => {
    if (path === 'Dockerfile' || path === '.dockerignore') return false
    let left = false
    for (const { back, steps } of rules) {
      if (left === back && matches(steps, path)) left = !back
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

/** Whether the pattern matches the path or one of its folders; all ways at once, so that no pattern takes for ever. */
function matches(steps: readonly Step[], path: string): boolean {
  let states = reached(steps, new Set([0]))
  for (let at = 0; at < path.length && states.size > 0; at++) {
    const sign = path[at] ?? ''
    const next = new Set<number>()
    for (const state of states) {
      const step = steps[state]
      if (step === undefined || step.kind === 'maybe') continue
      if (step.kind === 'all' || (step.kind === 'some' && sign !== '/')) next.add(state)
      else if (step.kind === 'sign' && step.sign === sign) next.add(state + 1)
      else if (step.kind === 'set' && sign !== '/' && isIn(step.ranges, sign) === step.inside) next.add(state + 1)
    }
    states = reached(steps, next)
    const whole = at + 1 === path.length || path[at + 1] === '/'
    if (whole && states.has(steps.length)) return true
  }
  return false
}

/** The states, and those behind what may also match nothing. */
function reached(steps: readonly Step[], states: Set<number>): Set<number> {
  // A set may grow while it is walked: what is added is walked too.
  for (const state of states) {
    const kind = steps[state]?.kind
    if (kind === 'some' || kind === 'all' || kind === 'maybe') states.add(state + 1)
    if (kind === 'maybe') states.add(state + 3)
  }
  return states
}

function isIn(ranges: readonly (readonly [string, string])[], sign: string): boolean {
  return ranges.some(([first, last]) => first <= sign && sign <= last)
}
