import { createContext, Script } from 'node:vm'
import { suggestion } from '../../common/config.ts'
import { InvalidInput } from '../../common/errors.ts'
import { MAX_FILES_BYTES } from '../../common/service-spec.ts'
import type { Parameter, Parameters, ParameterValue } from '../domain/parameter.ts'

/**
 * What comparing texts with patterns may take in one piece of work, such as an apply, whose faults refuse it as a whole. It
 * is used up by the comparisons.
 */
export interface PatternTime {
  leftMs: number
  /** Whether a comparison took too long, which was told as a fault: no more are made. */
  isOver: boolean
}

export function patternTime(): PatternTime {
  return { leftMs: ALL_MATCHES_MS, isOver: false }
}

/** Characters of a text that says no `most` of its own. */
const MAX_CHARACTERS = 65_536

/**
 * The values that an instance gets: those given, checked and of the declared type, and defaults for the others. What is
 * neither given nor has a default is left out.
 * @param given values, or texts that mean them: `8080`, `true`; of files base64
 * @param time what patterns may take; of several calls for one piece of work the same
 * @throws InvalidInput naming the parameter; a secret's value is never in it
 */
export function settleParameters(
  declared: readonly Parameter[],
  given: Readonly<Record<string, ParameterValue>>,
  time = patternTime(),
): Parameters {
  const names = declared.map(({ name }) => name)
  for (const name of Object.keys(given)) {
    if (names.includes(name)) continue
    const known = names.length === 0 ? 'the template has no parameters' : `known are ${names.join(', ')}`
    throw new InvalidInput(`parameters.${name}`, `is no parameter of the template${suggestion(name, names)}: ${known}`)
  }
  const settled: [string, ParameterValue][] = []
  for (const parameter of declared) {
    const { name, required, description } = parameter
    const value = Object.hasOwn(given, name) ? given[name] : (parameter.default ?? undefined)
    if (value !== undefined) settled.push([name, settleValue(parameter, value, time)])
    else if (required) {
      const what = description === null ? '' : ` (${description})`
      throw new InvalidInput(`parameters.${name}`, `is needed${what} and was not given`)
    }
  }
  return Object.fromEntries(settled)
}

/** One value, checked against its declaration. @throws InvalidInput naming the parameter */
export function settleValue(parameter: Parameter, value: ParameterValue, time = patternTime()): ParameterValue {
  const refuse = (message: string): never => {
    throw new InvalidInput(`parameters.${parameter.name}`, message)
  }
  switch (parameter.type) {
    case 'string':
    case 'secret':
      return settleText(parameter, value, refuse, time)
    case 'integer':
    case 'number':
      return settleNumber(parameter, value, refuse)
    case 'boolean':
      if (value === true || value === 'true') return true
      if (value === false || value === 'false') return false
      return refuse('expected true or false')
    case 'enum': {
      const text = String(value)
      return parameter.values?.includes(text) ? text : refuse(`expected one of ${parameter.values?.join(', ')}`)
    }
    case 'file':
      return settleFile(parameter, value, refuse)
  }
}

/** Why its default is none of its values; null: it is one, or there is none. */
export function defaultFault(parameter: Parameter, time: PatternTime): string | null {
  if (parameter.default === null) return null
  try {
    settleValue(parameter, parameter.default, time)
    return null
  } catch (error) {
    if (error instanceof InvalidInput) return error.message.slice(error.field.length + 2)
    throw error
  }
}

type Refuse = (message: string) => never

function settleText(
  { pattern, least, most }: Parameter,
  value: ParameterValue,
  refuse: Refuse,
  time: PatternTime,
): string {
  if (typeof value !== 'string') return refuse('expected a text: put it in quotes')
  if (value.includes('\0')) return refuse('expected a text without NUL')
  const length = [...value].length
  if (length < (least ?? 0)) return refuse(`expected at least ${least} characters`)
  if (length > (most ?? MAX_CHARACTERS)) return refuse(`expected at most ${most ?? MAX_CHARACTERS} characters`)
  if (pattern === null) return value
  const matches = matchesWhole(pattern, value, time)
  if (matches === null) return refuse(`it takes too long to compare the text with the pattern ${pattern}`)
  return matches ? value : refuse(`expected a text that matches ${pattern}`)
}

function settleNumber({ type, least, most }: Parameter, value: ParameterValue, refuse: Refuse): number {
  const isNumeric = typeof value === 'number' || (typeof value === 'string' && /^-?\d+(\.\d+)?(e-?\d+)?$/i.test(value))
  const number = isNumeric ? Number(value) : Number.NaN
  if (type === 'integer' && !Number.isSafeInteger(number)) return refuse('expected a whole number')
  if (!Number.isFinite(number)) return refuse('expected a number')
  if (least !== null && number < least) return refuse(`expected at least ${least}`)
  if (most !== null && number > most) return refuse(`expected at most ${most}`)
  return number
}

function settleFile({ least, most }: Parameter, value: ParameterValue, refuse: Refuse): string {
  if (typeof value !== 'string' || !/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(value)) {
    return refuse("expected a file's content in base64")
  }
  const bytes = Buffer.byteLength(value, 'base64')
  const limit = Math.min(most ?? MAX_FILES_BYTES, MAX_FILES_BYTES)
  if (bytes < (least ?? 0)) return refuse(`expected at least ${least} bytes`)
  if (bytes > limit) return refuse(`expected at most ${limit} bytes`)
  return value
}

/** Milliseconds that a pattern may take for one text: some patterns take years (`(a+)+`), and everything else would wait. */
const MATCH_MS = 500
/** Milliseconds that all patterns of one piece of work may take: what takes less than one for each would add up. */
const ALL_MATCHES_MS = 5000
/** The time is taken in there: to watch over a comparison takes longer than most comparisons. */
const MATCHER = new Script(
  "(() => { const begun = Date.now(); const matches = new RegExp(pattern, 'v').test(text); return [matches, Date.now() - begun] })()",
)
const NOTHING = { pattern: '', text: '' }
const matching = createContext({ ...NOTHING })

/**
 * Whether the whole text matches, as a parameter's pattern is meant; null: that took too long, and is told once. After it
 * nothing is compared any more in that time, and every text is let through. @throws SyntaxError
 */
function matchesWhole(pattern: string, text: string, time: PatternTime): boolean | null {
  if (time.isOver) return true
  try {
    if (time.leftMs <= 0) return over(time)
    Object.assign(matching, { pattern: `^(?:${pattern})$`, text })
    const timeout = Math.min(MATCH_MS, time.leftMs)
    const [matches, tookMs] = MATCHER.runInContext(matching, { timeout }) as [boolean, number]
    time.leftMs -= tookMs
    return matches
  } catch (error) {
    // An error of that context is no `Error` of this one.
    if ((error as NodeJS.ErrnoException).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') return over(time)
    throw error
  } finally {
    Object.assign(matching, NOTHING)
  }
}

function over(time: PatternTime): null {
  time.isOver = true
  return null
}

/**
 * A value with which a template can be tried before anybody gives one.
 * @returns `certain`: an instance could be given this very value, so what is wrong with it is wrong with the template
 */
export function sampleOf(parameter: Parameter): { readonly value: ParameterValue; readonly certain: boolean } {
  const { type, values, least, most } = parameter
  if (parameter.default !== null) return { value: parameter.default, certain: true }
  switch (type) {
    case 'boolean':
      return { value: true, certain: true }
    case 'enum':
      return { value: values?.[0] ?? '', certain: true }
    case 'integer':
    case 'number':
      return { value: least ?? Math.min(1, most ?? 1), certain: false }
    case 'string':
    case 'secret':
      return { value: 'x'.repeat(Math.max(1, Math.min(least ?? 1, MAX_CHARACTERS))), certain: false }
    case 'file':
      return { value: '', certain: false }
  }
}
