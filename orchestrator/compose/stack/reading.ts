import { InvalidInput } from '../../../common/errors.ts'
import type { Json } from '../../domain/template.ts'
import { keyOf } from '../interpolate.ts'

/**
 * How values of an interpolated Compose file are read. Every reader takes a value and the exact key at which it stands, and
 * throws InvalidInput with that key. Whatever came out of a variable is a text, so that texts are taken for booleans and
 * numbers, as Compose does.
 */

/** What readers tell beside their result. */
export interface Remarks {
  /** A thing that is understood otherwise than users of Compose may expect. */
  note(key: string, message: string): void
  /** A key that weakens isolation: only in templates that the operator trusts by name. */
  weaken(key: string): void
}

/** What a template's texts are looked up in while its keys are read. */
export interface Variables {
  /** A variable as text, for `environment` without a value and for env files; undefined: it is not set. @throws InvalidInput if it must not stand at that key */
  text(name: string, key: string): string | undefined
  /** A variable as the content of a file, for `configs.X.environment` and `secrets.X.environment`; undefined: it is not set. */
  content(name: string, key: string): Uint8Array | undefined
}

/** The files beside a template. Paths are as they are written in it. */
export interface TemplateFiles {
  /** null: there is no such file. */
  read(path: string): Uint8Array | null
}

/** Runs a reader: a fault is told, and what it would have read is `instead`. */
export type Attempt = <T>(work: () => T, instead: T) => T

export type JsonMap = { readonly [key: string]: Json }

export function isMap(value: Json | undefined): value is JsonMap {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The members of a map; null is an empty one. */
export function mapOf(value: Json, key: string): JsonMap {
  if (value === null) return {}
  if (!isMap(value)) throw new InvalidInput(key, 'expected a map')
  if (Object.hasOwn(value, '__proto__')) throw new InvalidInput(keyOf(key, '__proto__'), 'this name cannot be used')
  return value
}

/**
 * A map of which only some members are understood; extensions (`x-…`) may stand everywhere.
 * @throws InvalidInput naming the member that is not
 */
export function fieldsOf(value: Json, key: string, known: readonly string[]): JsonMap {
  const map = mapOf(value, key)
  const unknown = Object.keys(map).find((name) => !known.includes(name) && !name.startsWith('x-'))
  if (unknown !== undefined) throw new InvalidInput(keyOf(key, unknown), 'is not supported')
  return map
}

/** A value as a map of which null and absent members are left out. */
export function given(map: JsonMap, name: string): Json | undefined {
  const value = Object.hasOwn(map, name) ? map[name] : undefined
  return value === null ? undefined : value
}

export function listOf(value: Json, key: string): readonly Json[] {
  if (!isList(value)) throw new InvalidInput(key, 'expected a list')
  return value
}

/** A text, or a list of texts. */
export function textsOf(value: Json, key: string): readonly { readonly text: string; readonly key: string }[] {
  if (isList(value)) {
    return value.map((item, index) => ({ text: textOf(item, `${key}[${index}]`), key: `${key}[${index}]` }))
  }
  return [{ text: textOf(value, key), key }]
}

export function isList(value: Json | undefined): value is readonly Json[] {
  return Array.isArray(value)
}

/** A text without NUL, which no argument, name or environment can hold. */
export function textOf(value: Json, key: string): string {
  if (typeof value !== 'string') throw new InvalidInput(key, 'expected a text')
  return withoutNul(value, key)
}

/** A text, or a number or boolean that is written as one: names, ports, values of environments and labels. */
export function scalarOf(value: Json, key: string): string {
  if (typeof value === 'boolean') return String(value)
  if (typeof value !== 'number') return textOf(value, key)
  if (!Number.isFinite(value) || (Number.isInteger(value) && !Number.isSafeInteger(value))) {
    throw new InvalidInput(key, 'this number is too large to be kept exactly: put it in quotes')
  }
  return String(value)
}

/** A boolean; of texts those that Compose takes, in any case: true, t, 1, y, yes, on; false, f, 0, n, no, off. */
export function booleanOf(value: Json, key: string): boolean {
  if (typeof value === 'boolean') return value
  const text = typeof value === 'string' ? value.toLowerCase() : ''
  if (/^(true|t|1|y|yes|on)$/.test(text)) return true
  if (/^(false|f|0|n|no|off)$/.test(text)) return false
  throw new InvalidInput(key, 'expected true or false')
}

/** A whole number from `least` to `most`. */
export function integerOf(value: Json, key: string, least: number, most: number): number {
  const number = typeof value === 'string' && /^[+-]?\d{1,16}$/.test(value) ? Number(value) : value
  if (typeof number !== 'number' || !Number.isSafeInteger(number) || number < least || number > most) {
    throw new InvalidInput(key, `expected a whole number from ${least} to ${most}`)
  }
  return number === 0 ? 0 : number
}

/** A number from `least` to `most`. */
export function numberOf(value: Json, key: string, least: number, most: number): number {
  const written = typeof value === 'string' && /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value)
  const number = written ? Number(value) : value
  if (typeof number !== 'number' || !Number.isFinite(number) || number < least || number > most) {
    throw new InvalidInput(key, `expected a number from ${least} to ${most}`)
  }
  return number
}

/** Permission bits: a number, or a text of octal digits such as `0444`. */
export function modeOf(value: Json, key: string): number {
  const bits =
    typeof value === 'string' && /^(0o?)?[0-7]{1,4}$/.test(value) ? Number.parseInt(value.replace('o', ''), 8) : value
  if (typeof bits !== 'number' || !Number.isInteger(bits) || bits < 0 || bits > 0o7777) {
    throw new InvalidInput(key, 'expected permission bits in octal, such as 0444')
  }
  return bits
}

/** An absolute path inside a container, with neither `..` nor a slash at its end: of two spellings of a path the same. */
export function pathOf(text: string, key: string): string {
  const path = text.replace(/(\/\.?)+(?=\/|$)/g, '') || '/'
  if (!path.startsWith('/') || path === '/' || /(^|\/)\.\.(\/|$)/.test(path) || path.length > 4096) {
    throw new InvalidInput(key, 'expected an absolute path other than /, without ".."')
  }
  return path
}

/** `NAME=VALUE` texts or a map: names with their values, in order; a value that is null stands for one that is not given. */
export function pairsOf(
  value: Json,
  key: string,
): readonly { readonly name: string; readonly value: string | null; readonly key: string }[] {
  if (isList(value)) {
    return value.map((item, index) => {
      const at = `${key}[${index}]`
      const text = textOf(item, at)
      const equals = text.indexOf('=')
      const name = equals < 0 ? text : text.slice(0, equals)
      return { name: nameOf(name, at), value: equals < 0 ? null : text.slice(equals + 1), key: at }
    })
  }
  return Object.entries(mapOf(value, key)).map(([name, item]) => {
    const at = keyOf(key, name)
    return { name: nameOf(name, at), value: item === null ? null : scalarOf(item, at), key: at }
  })
}

function nameOf(name: string, key: string): string {
  if (name === '' || name.includes('=')) throw new InvalidInput(key, 'expected NAME=VALUE')
  if (name === '__proto__') throw new InvalidInput(key, 'this name cannot be used')
  return withoutNul(name, key)
}

function withoutNul(text: string, key: string): string {
  if (text.includes('\0')) throw new InvalidInput(key, 'expected a text without NUL characters')
  return text
}
