import { Ajv, type ErrorObject } from 'ajv'
import { suggestion } from '../../common/config.ts'
import type { Json } from '../domain/template.ts'
import composeSpec from './compose-spec.json' with { type: 'json' }
import { keyText, type Path } from './document.ts'

/** What a schema has against one place of a file. */
export interface Mismatch {
  readonly path: Path
  readonly message: string
}

// The published schema names its dialect by an address that ajv knows with http: only, and is not strict in ajv's sense.
const { $schema: _dialect, ...schema } = composeSpec
const validate = new Ajv({ strict: false, allErrors: true, verbose: true }).compile(schema)

/** More than anybody reads: each is compared with each. */
const MOST_ERRORS = 2000

const TYPE_WORDS: Record<string, string> = {
  string: 'a text',
  number: 'a number',
  integer: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a mapping',
  null: 'nothing',
}

/**
 * Checks a tree against the JSON Schema of the Compose Specification. One mismatch for each place that is wrong: of several forms that a value may have, the
 * one of the same type as the value speaks. A text with variables passes wherever it stands: what becomes of it is looked at later.
 */
export function mismatches(tree: Json): readonly Mismatch[] {
  if (validate(tree)) return []
  const byPlace = new Map<string, { path: Path; errors: ErrorObject[] }>()
  for (const error of ofTheirType((validate.errors ?? []).slice(0, MOST_ERRORS))) {
    if (typeof error.data === 'string' && /\$[{A-Za-z_]/.test(error.data)) continue
    const path = pathOf(error, tree)
    const place = byPlace.get(keyText(path)) ?? { path, errors: [] }
    place.errors.push(error)
    byPlace.set(keyText(path), place)
  }
  const places = [...byPlace.values()]
  return places.flatMap(({ path, errors }) => {
    const inside = places.some((other) => other.path.length > path.length && path.every((p, i) => other.path[i] === p))
    const message = worded(errors, inside)
    return message === null ? [] : [{ path, message }]
  })
}

/** A form of another type than the value may have more against it; that is beside the point. */
function ofTheirType(errors: readonly ErrorObject[]): readonly ErrorObject[] {
  const foreign = new Map<unknown, Set<string>>()
  for (const { keyword, parentSchema, instancePath } of errors) {
    if (keyword !== 'type') continue
    foreign.set(parentSchema, (foreign.get(parentSchema) ?? new Set()).add(instancePath))
  }
  return errors.filter(
    ({ keyword, parentSchema, instancePath }) =>
      keyword === 'type' || foreign.get(parentSchema)?.has(instancePath) !== true,
  )
}

/** The place that an error is about; of a key too much or missing, that of the key itself or of the mapping that lacks it. */
function pathOf({ instancePath, keyword, params }: ErrorObject, tree: Json): Path {
  const path: (string | number)[] = []
  let value: Json | undefined = tree
  for (const part of instancePath.split('/').slice(1)) {
    const name = part.replaceAll('~1', '/').replaceAll('~0', '~')
    path.push(Array.isArray(value) ? Number(name) : name)
    value = (value as { [key: string]: Json } | undefined)?.[name]
  }
  const extra = keyword === 'additionalProperties' ? params.additionalProperty : null
  return typeof extra === 'string' ? [...path, extra] : path
}

/** @param inside whether something inside of the place is wrong, too: then the forms of another type are out of question */
function worded(errors: readonly ErrorObject[], inside: boolean): string | null {
  const forms = errors.filter(({ keyword }) => keyword === 'oneOf' || keyword === 'anyOf')
  const types = errors.filter(({ keyword }) => keyword === 'type')
  const own = errors.filter(({ keyword }) => !['oneOf', 'anyOf', 'type'].includes(keyword))
  const [first] = own
  if (first) return wordedError(first)
  if (types.length === 0 || (inside && forms.length > 0)) return null
  const wanted = new Set(types.flatMap(({ params }) => params.type as string | string[]))
  const words = [...wanted].map((type) => TYPE_WORDS[type] ?? type)
  const data = types[0]?.data
  const remedy =
    wanted.has('string') && (typeof data === 'number' || typeof data === 'boolean') ? ': put it in quotes' : ''
  return `expected ${listed(words)}, not ${found(data)}${remedy}`
}

function wordedError({ keyword, params, parentSchema, data }: ErrorObject): string {
  switch (keyword) {
    case 'additionalProperties': {
      const patterns = Object.keys((parentSchema?.patternProperties as object | undefined) ?? {})
      const named = patterns.find((pattern) => pattern !== '^x-')
      if (named !== undefined) return `is not a name that can stand here: expected one that matches ${named}`
      const known = Object.keys((parentSchema?.properties as object | undefined) ?? {})
      return `is not a key that Compose knows here${suggestion(String(params.additionalProperty), known)}`
    }
    case 'required':
      return `lacks the key \`${params.missingProperty}\``
    case 'enum':
      return `expected ${listed((params.allowedValues as unknown[]).map(String))}, not ${found(data)}`
    case 'pattern':
      return `expected a text that matches ${params.pattern}`
    case 'uniqueItems':
      return `has the same element twice: number ${params.j} and number ${params.i}, counted from 0`
    case 'minimum':
      return `expected at least ${params.limit}`
    case 'maximum':
      return `expected at most ${params.limit}`
    default:
      throw new Error(`the Compose schema has the keyword ${keyword}, for which there are no words`)
  }
}

function listed(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`
}

/** What was found, by its type: values are left out, as one may be a secret. */
function found(data: unknown): string {
  if (data === null) return 'nothing'
  if (Array.isArray(data)) return 'a list'
  if (typeof data === 'string') return 'this text'
  return TYPE_WORDS[typeof data] ?? typeof data
}
