import type { z } from 'zod'
import { suggestion } from '../../common/config.ts'
import { wiringDocument } from '../../common/wiring-spec.ts'

type Issue = z.core.$ZodIssue
type Path = readonly PropertyKey[]

/** One thing that is wrong with a wish, as people read it; `path` leads to it. */
export interface Fault {
  readonly path: Path
  readonly text: string
}

/** What a schema found wrong with `input`, in the words of people. */
export function faultsOf(error: z.ZodError, input: unknown): readonly Fault[] {
  return error.issues.flatMap((issue) => read(issue, [], input))
}

function read(issue: Issue, above: Path, input: unknown): readonly Fault[] {
  const path = [...above, ...issue.path]
  const value = at(input, path)
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      path: [...path, key],
      text: `is not known here${suggestion(key, fieldNames())}`,
    }))
  }
  if (issue.code === 'invalid_key') {
    const said = issue.issues.map((inner) => inner.message).join('; ')
    return [{ path, text: `${said}, got ${shown(path.at(-1))}` }]
  }
  if (issue.code === 'invalid_union') return readUnion(issue, path, input)
  if (issue.code === 'invalid_type' && value === undefined) return [{ path, text: 'is missing' }]
  return [{ path, text: `${worded(issue, value)}, got ${shown(value)}` }]
}

/** The branch that fits best tells; where several fit as well, all that they expect. */
function readUnion(issue: z.core.$ZodIssueInvalidUnion, path: Path, input: unknown): readonly Fault[] {
  if (issue.errors.length === 0) {
    const value = at(input, path)
    if (value === undefined) return [{ path, text: 'is missing' }]
    return [{ path, text: `expected one of ${linkKinds().join(', ')}, got ${shown(value)}` }]
  }
  const fitting = issue.errors.filter((branch) => !branch.some((i) => i.code === 'invalid_type' && i.path.length === 0))
  const branches = fitting.length > 0 ? fitting : issue.errors
  const fewest = Math.min(...branches.map((branch) => branch.length))
  const best = branches.filter((branch) => branch.length === fewest)
  const faults = best.flatMap((branch) => branch.flatMap((inner) => read(inner, path, input)))
  const [first] = faults
  const expected = faults.map((fault) => /^expected (.*), got .*$/s.exec(fault.text)?.[1])
  if (first === undefined || best.length < 2 || expected.includes(undefined)) return faults
  if (faults.some((fault) => fault.path.length !== path.length)) return faults.slice(0, 1)
  return [{ path: first.path, text: `expected ${[...new Set(expected)].join(', or ')}, got ${shown(at(input, path))}` }]
}

function worded(issue: Issue, value: unknown): string {
  const { message } = issue
  if (message.startsWith('expected ')) return message
  if (issue.code === 'invalid_type') {
    const quotes = issue.expected === 'string' && ['number', 'boolean'].includes(typeof value)
    return `expected ${article(issue.expected)}${quotes ? ' (put it in quotes)' : ''}`
  }
  if (issue.code === 'too_big' && issue.origin === 'string') return `expected at most ${issue.maximum} characters`
  if (issue.code === 'too_small' && issue.origin === 'string') return `expected at least ${issue.minimum} characters`
  if (issue.code === 'too_big' && issue.origin === 'array') return `expected at most ${issue.maximum} of them`
  if (issue.code === 'too_small' && issue.origin === 'array') return `expected at least ${issue.minimum} of them`
  if (issue.code === 'too_big') return `expected ${issue.inclusive ? 'at most' : 'less than'} ${issue.maximum}`
  if (issue.code === 'too_small') return `expected ${issue.inclusive ? 'at least' : 'more than'} ${issue.minimum}`
  if (issue.code === 'invalid_value') return `expected one of ${issue.values.map(String).join(', ')}`
  return message
}

function article(type: string): string {
  if (type === 'int') return 'a whole number'
  if (type === 'array') return 'a list'
  if (type === 'record' || type === 'object') return 'keys and values'
  return `a ${type}`
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 80 ? `${text.slice(0, 79)}…` : text
}

function at(input: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (value, key) =>
      typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined,
    input,
  )
}

/** Every word that is a field somewhere in a wiring. */
function fieldNames(): readonly string[] {
  const names = new Set<string>()
  const collect = (schema: unknown): void => {
    if (typeof schema !== 'object' || schema === null) return
    const { properties } = schema as { properties?: Record<string, unknown> }
    for (const name of Object.keys(properties ?? {})) names.add(name)
    for (const part of Object.values(schema)) collect(part)
  }
  collect(wiringDocument.toJSONSchema({ io: 'input', unrepresentable: 'any' }))
  return [...names]
}

function linkKinds(): readonly string[] {
  return wiringDocument.shape.interfaces.element.shape.link.options.map((option) => option.shape.kind.value)
}
