import { InvalidInput } from '../../../common/errors.ts'
import { MAX_FILES_BYTES } from '../../../common/service-spec.ts'
import type { Json } from '../../domain/template.ts'
import { InterpolationFault, interpolate, type Lookup } from '../interpolate.ts'
import { booleanOf, fieldsOf, given, isList, isMap, type TemplateFiles, textOf, type Variables } from './reading.ts'

/** One line of an env file that means something: a name, and what stands after it. */
interface Assignment {
  readonly name: string
  readonly line: number
  /** null: the name stands alone, and its value is that of the variable of that name. */
  readonly value: string | null
  /** Whether variables in it are replaced: not in single quotes, nor in files of the format `raw`. */
  readonly live: boolean
}

/**
 * The variables of all files of an `env_file`, later ones over earlier ones. Variables in their values are replaced: by
 * those before in the same file, in earlier files, and then by the template's.
 */
export function envFilesOf(
  value: Json,
  key: string,
  files: TemplateFiles,
  variables: Variables,
): ReadonlyMap<string, string> {
  const all = new Map<string, string>()
  let characters = 0
  const several = isList(value)
    ? value.map((item, index) => [item, `${key}[${index}]`] as const)
    : [[value, key] as const]
  for (const [item, at] of several) {
    const { path, required, raw, pathKey } = envFileOf(item, at)
    const bytes = files.read(path)
    if (bytes === null) {
      if (required) throw new InvalidInput(pathKey, `there is no file ${path} beside the Compose file`)
      continue
    }
    const text = decoded(bytes, path, pathKey)
    for (const assignment of raw ? rawLines(text, path, pathKey) : assignments(text, path, pathKey)) {
      const own = filled(assignment, path, pathKey, (name) => all.get(name) ?? variables.text(name, pathKey))
      // Each line may say the one before it twice.
      characters += own.length
      if (characters > MAX_FILES_BYTES) throw new InvalidInput(pathKey, `${path} becomes longer than any file may be`)
      all.set(assignment.name, own)
    }
  }
  return all
}

function envFileOf(item: Json, key: string): { path: string; required: boolean; raw: boolean; pathKey: string } {
  if (!isMap(item)) return { path: textOf(item, key), required: true, raw: false, pathKey: key }
  const fields = fieldsOf(item, key, ['path', 'required', 'format'])
  const format = given(fields, 'format')
  if (format !== undefined && format !== 'raw') throw new InvalidInput(`${key}.format`, 'expected raw, or nothing')
  const required = given(fields, 'required')
  return {
    path: textOf(given(fields, 'path') ?? null, `${key}.path`),
    required: required === undefined || booleanOf(required, `${key}.required`),
    raw: format === 'raw',
    pathKey: `${key}.path`,
  }
}

function filled({ name, line, value, live }: Assignment, path: string, key: string, lookup: Lookup): string {
  if (value === null) {
    const own = lookup(name)
    if (own === undefined)
      throw new InvalidInput(key, `${path}:${line}: ${name} has no value, and there is no such variable`)
    return own
  }
  if (!live) return value
  try {
    return interpolate(value, lookup)
  } catch (error) {
    if (!(error instanceof InterpolationFault)) throw error
    throw new InvalidInput(key, `${path}:${line}: ${name}: ${error.message}`)
  }
}

function decoded(bytes: Uint8Array, path: string, key: string): string {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new InvalidInput(key, `${path} is not a text in UTF-8`, { cause })
  }
  if (text.includes('\0')) throw new InvalidInput(key, `${path} has NUL characters`)
  return text.replaceAll('\r\n', '\n')
}

/** As `docker run --env-file`: `NAME=VALUE` to the end of the line, nothing replaced, no quotes. */
function rawLines(text: string, path: string, key: string): readonly Assignment[] {
  return text.split('\n').flatMap((whole, index) => {
    const line = whole.trimStart()
    if (line === '' || line.startsWith('#')) return []
    const equals = line.indexOf('=')
    const name = equals < 0 ? line.trimEnd() : line.slice(0, equals)
    if (name === '' || /\s/.test(name)) throw new InvalidInput(key, `${path}:${index + 1}: expected NAME=VALUE`)
    return [{ name, line: index + 1, value: equals < 0 ? null : line.slice(equals + 1), live: false }]
  })
}

/**
 * The syntax of docs.docker.com/compose/how-tos/environment-variables/variable-interpolation ("Env file syntax"), with
 * `export` and `NAME: VALUE`, which Compose takes as well.
 */
function assignments(text: string, path: string, key: string): readonly Assignment[] {
  const found: Assignment[] = []
  const head = /[^\S\n]*(?:export[^\S\n]+)?([\p{L}\p{Nd}_.-]+)[^\S\n]*(?:([=:])|(?=\n|$|#))/uy
  let at = 0
  let line = 1
  let counted = 0
  while (at < text.length) {
    const blank = /\s*(?:#[^\n]*)?(?:\n|$)/y
    blank.lastIndex = at
    if (blank.test(text)) {
      at = blank.lastIndex
      continue
    }
    // Each line is counted once: a file may have hundreds of thousands.
    line += text.slice(counted, at).split('\n').length - 1
    counted = at
    const here = line
    const wrong = (message: string) => new InvalidInput(key, `${path}:${here}: ${message}`)
    head.lastIndex = at
    const [, name, separator] = head.exec(text) ?? []
    if (name === undefined) throw wrong('expected NAME=VALUE')
    const { value, live, end } =
      separator === undefined
        ? { value: null, live: false, end: lineEnd(text, head.lastIndex) }
        : valueAt(text, head.lastIndex, wrong)
    found.push({ name, line, value, live })
    at = end
  }
  return found
}

type Wrong = (message: string) => InvalidInput

/** The value that begins at `at`, after the separator; `end` is where the next line begins. */
function valueAt(text: string, at: number, wrong: Wrong): { value: string; live: boolean; end: number } {
  const [space = ''] = /^[^\S\n]*/.exec(text.slice(at, lineEnd(text, at))) ?? []
  const begin = at + space.length
  const quote = text[begin]
  if (quote === '"' || quote === "'") return quoted(text, begin, quote, wrong)
  const end = lineEnd(text, at)
  const value = text
    .slice(at, end)
    .replace(/\s#.*$/s, '')
    .trim()
  return { value, live: true, end }
}

function quoted(
  text: string,
  begin: number,
  quote: '"' | "'",
  wrong: Wrong,
): { value: string; live: boolean; end: number } {
  let value = ''
  for (let at = begin + 1; at < text.length; at++) {
    const sign = text[at] ?? ''
    if (sign === quote) {
      const end = lineEnd(text, at)
      if (!/^\s*(#.*)?$/s.test(text.slice(at + 1, end))) throw wrong('expected nothing but a comment after the quotes')
      return { value, live: quote === '"', end }
    }
    if (sign !== '\\') value += sign
    else value += escaped(quote, text[++at] ?? '')
  }
  throw wrong('has a quote that is not closed')
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', '\\': '\\', '"': '"', $: '$$' }

/** What a backslash and the character after it mean within quotes. */
function escaped(quote: '"' | "'", next: string): string {
  if (quote === "'") return next === "'" ? "'" : `\\${next}`
  return Object.hasOwn(ESCAPES, next) ? (ESCAPES[next] ?? '') : `\\${next}`
}

function lineEnd(text: string, at: number): number {
  const end = text.indexOf('\n', at)
  return end < 0 ? text.length : end
}
