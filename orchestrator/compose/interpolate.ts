import { InvalidInput, OrchestratorError } from '../../common/errors.ts'
import { MAX_FILES_BYTES } from '../../common/service-spec.ts'
import type { Json } from '../domain/template.ts'

/**
 * Variables in the texts of a template, with the forms and the meaning that Docker Compose documents
 * (docs.docker.com/reference/compose-file/interpolation): `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`,
 * `${NAME:?error}`, `${NAME?error}`, `${NAME:+replacement}`, `${NAME+replacement}`, nested in each other; `$$` is one `$`.
 * A `$` before anything but a name, `{` or `$` stays as it is. Braces within a default pair up (`${NAME:-{"a":1}}`).
 * A variable that is not set and has no default is an empty text; whoever checks templates tells it as a note.
 */

/** The value of a variable; undefined: it is not set. */
export type Lookup = (name: string) => string | undefined

/** What stands after the name: nothing, or one of the six operators. */
export type Operator = '' | ':-' | '-' | ':?' | '?' | ':+' | '+'

/** A place where a text names a variable. */
export interface Reference {
  readonly name: string
  /** `:?` and `?` need a value; without one `''` is empty. */
  readonly operator: Operator
}

/** A text whose variables cannot be replaced. */
export class InterpolationFault extends OrchestratorError {
  /** `invalid`: not one of the forms; `required`: the author's own `:?` or `?`; `long`: it grows too much. */
  readonly kind: 'invalid' | 'required' | 'long'
  /** null: the text is invalid or too long, so that it names none. */
  readonly variable: string | null
  constructor(kind: InterpolationFault['kind'], variable: string | null, message: string) {
    super('interpolation', message)
    this.kind = kind
    this.variable = variable
  }
}

type Part =
  | { readonly text: string }
  | { readonly name: string; readonly operator: Operator; readonly operand: readonly Part[] }

/** Variables within variables at most: nobody writes more, and each level costs stack. */
const MOST_NESTED = 32
/** Characters of a text with its variables replaced, and of all texts of a tree: a value may be named again and again. */
const MOST_CHARACTERS = MAX_FILES_BYTES
const MOST_IN_TREE = 4 * MOST_CHARACTERS
const NAME = /[A-Za-z_][A-Za-z0-9_]*/y
const OPERATOR = /:?[-?+]/y

/**
 * The text with its variables replaced. What comes out is never looked at again, so that a value cannot name a variable.
 * @param shown values for the words of `:?` faults, where they differ from those that are used: secrets must not be shown
 * @throws InterpolationFault
 */
export function interpolate(text: string, lookup: Lookup, shown: Lookup = lookup): string {
  return fill(parse(text, 0), lookup, shown)
}

/**
 * Every place where the text names a variable, in order, those within others included.
 * @throws InterpolationFault `invalid`
 */
export function variablesIn(text: string): readonly Reference[] {
  return referencesIn(parse(text, 0))
}

/** How {@link interpolateTree} looks up, and what it does with faults. */
export interface TreeLookup {
  /** @param key where the variable is named, such as `services.web.image` */
  readonly value: (name: string, key: string) => string | undefined
  /** See {@link interpolate}. */
  readonly shown?: Lookup | undefined
  /** Given: each fault is told here, and the text stays as it is; absent: the first one is thrown. */
  readonly fault?: ((fault: InvalidInput) => void) | undefined
}

/**
 * All texts of a tree with their variables replaced. Keys of maps stay as they are, as in Compose. What comes out are
 * texts: readStack() takes `"true"` and `"3"` where a key wants a boolean or a number.
 * @param key where the tree stands in the file: `''` for the whole
 * @throws InvalidInput naming the key
 */
export function interpolateTree(tree: Json, key: string, lookup: TreeLookup): Json {
  let left = MOST_IN_TREE
  const visit = (value: Json, at: string): Json => {
    if (typeof value === 'string') {
      const text = interpolateAt(value, at, left, lookup)
      left -= text.length
      return text
    }
    if (isList(value)) return value.map((item, index) => visit(item, `${at}[${index}]`))
    if (value === null || typeof value !== 'object') return value
    return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, visit(member, keyOf(at, name))]))
  }
  return visit(tree, key)
}

/** The key of a member of a map: `services.web`. */
export function keyOf(key: string, name: string): string {
  return key === '' ? name : `${key}.${name}`
}

function interpolateAt(text: string, key: string, left: number, { value, shown, fault }: TreeLookup): string {
  const lookup: Lookup = (name) => value(name, key)
  try {
    const filled = interpolate(text, lookup, shown ?? lookup)
    if (filled.length > left && filled.length > text.length) throw tooLong()
    return filled
  } catch (error) {
    if (!(error instanceof InterpolationFault || error instanceof InvalidInput)) throw error
    const told = error instanceof InvalidInput ? error : new InvalidInput(key, error.message, { cause: error })
    if (!fault) throw told
    fault(told)
    return text
  }
}

function isList(tree: Json): tree is readonly Json[] {
  return Array.isArray(tree)
}

function parse(text: string, depth: number): readonly Part[] {
  if (depth > MOST_NESTED) {
    throw new InterpolationFault('invalid', null, `variables are nested more than ${MOST_NESTED} deep`)
  }
  const parts: Part[] = []
  let from = 0
  while (true) {
    const dollar = text.indexOf('$', from)
    if (dollar < 0) break
    if (dollar > from) parts.push({ text: text.slice(from, dollar) })
    const next = text[dollar + 1]
    const name = match(NAME, text, dollar + 1)
    if (next === '{') {
      const end = closing(text, dollar + 1)
      if (end < 0) throw invalid(text.slice(dollar))
      parts.push(braced(text.slice(dollar, end + 1), depth))
      from = end + 1
    } else if (name !== null) {
      parts.push({ name, operator: '', operand: [] })
      from = dollar + 1 + name.length
    } else {
      parts.push({ text: '$' })
      from = dollar + (next === '$' ? 2 : 1)
    }
  }
  if (from < text.length) parts.push({ text: text.slice(from) })
  return parts
}

/** `${…}`, whole. */
function braced(text: string, depth: number): Part {
  const name = match(NAME, text, 2)
  if (name === null) throw invalid(text)
  const after = 2 + name.length
  const rest = text.slice(after, -1)
  if (rest === '') return { name, operator: '', operand: [] }
  const operator = match(OPERATOR, text, after) as Operator | null
  if (operator === null) throw invalid(text)
  return { name, operator, operand: parse(rest.slice(operator.length), depth + 1) }
}

/** Where the brace that opens at `open` is closed, braces within it paired; -1: nowhere. */
function closing(text: string, open: number): number {
  let depth = 0
  for (let at = open; at < text.length; at++) {
    if (text[at] === '{') depth++
    else if (text[at] === '}' && --depth === 0) return at
  }
  return -1
}

function match(pattern: RegExp, text: string, at: number): string | null {
  pattern.lastIndex = at
  return pattern.exec(text)?.[0] ?? null
}

function invalid(text: string): InterpolationFault {
  const line = text.split('\n', 1)[0] ?? ''
  const quoted = JSON.stringify(line.length > 80 ? `${line.slice(0, 79)}…` : line)
  const message = `invalid interpolation format: ${quoted}. You may need to escape any $ with another $`
  return new InterpolationFault('invalid', null, message)
}

function tooLong(): InterpolationFault {
  const message = 'with its variables replaced, it is longer than any file may be'
  return new InterpolationFault('long', null, message)
}

function fill(parts: readonly Part[], lookup: Lookup, shown: Lookup): string {
  let filled = ''
  for (const part of parts) {
    filled += 'text' in part ? part.text : valueAt(part, lookup, shown)
    if (filled.length > MOST_CHARACTERS) throw tooLong()
  }
  return filled
}

function valueAt(part: Extract<Part, { name: string }>, lookup: Lookup, shown: Lookup): string {
  const { name, operator, operand } = part
  const value = lookup(name)
  const there = operator.startsWith(':') ? value !== undefined && value !== '' : value !== undefined
  if (operator.endsWith('+')) return there ? fill(operand, lookup, shown) : ''
  if (there) return value ?? ''
  if (operator.endsWith('-')) return fill(operand, lookup, shown)
  if (operator === '') return ''
  const lenient: Lookup = (other) => shown(other) ?? ''
  const words = fill(operand, lenient, lenient)
  const missing = `required variable ${name} is missing a value`
  throw new InterpolationFault('required', name, words === '' ? missing : `${missing}: ${words}`)
}

function referencesIn(parts: readonly Part[]): readonly Reference[] {
  return parts.flatMap((part) =>
    'text' in part ? [] : [{ name: part.name, operator: part.operator }, ...referencesIn(part.operand)],
  )
}
