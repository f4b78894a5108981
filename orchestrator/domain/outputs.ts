import type { OutputDeclaration, Parameters, ParameterValue } from './parameter.ts'

/** What an instance told, as far as its template declares it, and what it told beside that. */
export interface ReadOutputs {
  readonly outputs: Parameters
  /** One sentence for each thing that is not as declared. */
  readonly faults: readonly string[]
}

/** Characters of a value at most, and faults that are told. */
const TEXT_MOST = 4096
const FAULTS_MOST = 10
/** A page that a person can open. Whatever else a URL may do (`javascript:`) is not for a link in somebody's browser. */
const WEB_URL = /^https?:\/\/[^\s/?#@]+([/?#]\S*)?$/i

/** Reads the text of an outputs file, which comes from within the instance and is not to be trusted. */
export function readOutputs(declared: readonly OutputDeclaration[], text: string): ReadOutputs {
  let data: unknown
  try {
    data = JSON.parse(text)
  } catch {
    return { outputs: {}, faults: ['it is not JSON'] }
  }
  if (typeof data !== 'object' || data === null || Array.isArray(data)) {
    return { outputs: {}, faults: ['expected an object with a value for each output'] }
  }
  const outputs: [string, ParameterValue][] = []
  const faults: string[] = []
  for (const [name, value] of Object.entries(data)) {
    const declaration = declared.find((one) => one.name === name)
    const fault = declaration === undefined ? 'is not declared by the template' : faultOf(declaration, value)
    if (fault === null) outputs.push([name, value as ParameterValue])
    else faults.push(`${printed(name)} ${fault}`)
  }
  const more = faults.length - FAULTS_MOST
  const told = more > 0 ? [...faults.slice(0, FAULTS_MOST), `${more} more are wrong, too`] : faults
  return { outputs: Object.fromEntries(outputs), faults: told }
}

function faultOf({ type }: OutputDeclaration, value: unknown): string | null {
  switch (type) {
    case 'integer':
      return Number.isSafeInteger(value) ? null : 'is not a whole number'
    case 'number':
      return typeof value === 'number' ? null : 'is not a number'
    case 'boolean':
      return typeof value === 'boolean' ? null : 'is neither true nor false'
    case 'string':
      return textFault(value)
    case 'url':
      return textFault(value) ?? (WEB_URL.test(String(value)) ? null : 'is not a URL of http or https')
  }
}

/** Text that can be stored and shown: no control characters but line feed and tab, no half surrogates. */
function textFault(value: unknown): string | null {
  if (typeof value !== 'string') return 'is not a text'
  if (value.length > TEXT_MOST) return `is longer than ${TEXT_MOST} characters`
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/.test(value) || !value.isWellFormed()
    ? 'has control characters or broken ones'
    : null
}

/** A name that a stranger gave, as it may stand in a sentence. */
function printed(name: string): string {
  return JSON.stringify(name.slice(0, 64).toWellFormed())
}
