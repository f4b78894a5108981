import { InvalidInput } from '../../common/errors.ts'
import { MAX_FILES_BYTES } from '../../common/service-spec.ts'
import type { Parameters, ParameterValue } from '../domain/parameter.ts'
import type { Template } from '../domain/template.ts'
import { InterpolationFault, interpolate, type Lookup, variablesIn } from './interpolate.ts'
import type { Variables } from './stack/reading.ts'

/** The values of a template's variables for one instance. */
export interface OrderValues extends Variables {
  /** What may be shown of a variable: of a secret nothing. */
  readonly shown: Lookup
  /** Parameters of the template and of its base, for the parameters file. */
  readonly all: Parameters
}

/** Where a text becomes nothing but the content of a file in memory, so that a secret may be in it. */
const CONTENT = /^configs\..+\.content$/s

/**
 * What the variables of a template mean: what it has fixed of its base, parameters, facts, in this order.
 * @param parameters settled and opened
 * @throws InvalidInput where a fixed value cannot be made of the parameters
 */
export function valuesFor(
  template: Template,
  facts: Readonly<Record<string, string>>,
  parameters: Parameters,
): OrderValues {
  const types = new Map(template.parameters.map(({ name, type }) => [name, type]))
  const fixed = new Map<string, ParameterValue>()
  const secrets = new Map<string, boolean>()
  const isSecret = (name: string): boolean => {
    const text = own(template.fixed, name)
    if (typeof text !== 'string') return text === undefined && types.get(name) === 'secret'
    const known = secrets.get(name) ?? variablesIn(text).some((reference) => isSecret(reference.name))
    secrets.set(name, known)
    return known
  }
  const shown: Lookup = (name) => (isSecret(name) ? '***' : value(name))
  const value = (name: string): string | undefined => {
    const given = fixedValue(name) ?? own(parameters, name)
    return given === undefined ? own(facts, name) : String(given)
  }
  const fixedValue = (name: string): ParameterValue | undefined => {
    const text = own(template.fixed, name)
    if (typeof text !== 'string') return text
    const before = fixed.get(name)
    if (before !== undefined) return before
    const made = filled(name, text, value, shown)
    // Each of several bases may say a value twice: sixty of them would make it longer than any memory.
    if (made.length > MAX_FILES_BYTES) throw new InvalidInput(`parameters.${name}`, 'is longer than any file may be')
    fixed.set(name, made)
    return made
  }
  const text = (name: string, key: string): string | undefined => {
    if (types.get(name) === 'file') {
      throw new InvalidInput(key, `${name} is a file: it gets into a container by configs.NAME.environment`)
    }
    if (isSecret(name) && !CONTENT.test(key)) {
      throw new InvalidInput(key, `${name} is a secret, which would be seen here: let it be a file`)
    }
    return value(name)
  }
  const content = (name: string): Uint8Array | undefined => {
    const whole = value(name)
    return whole === undefined ? undefined : Buffer.from(whole, types.get(name) === 'file' ? 'base64' : 'utf8')
  }
  const names = [...new Set([...Object.keys(parameters), ...Object.keys(template.fixed)])].sort()
  const all = names.map((name) => [name, fixedValue(name) ?? own(parameters, name) ?? ''] as const)
  return { text, content, shown, all: Object.fromEntries(all) }
}

function filled(name: string, text: string, value: Lookup, shown: Lookup): string {
  try {
    return interpolate(text, value, shown)
  } catch (error) {
    if (!(error instanceof InterpolationFault)) throw error
    throw new InvalidInput(`parameters.${name}`, error.message)
  }
}

function own<T>(record: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(record, name) ? record[name] : undefined
}
