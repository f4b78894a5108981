import { posix } from 'node:path'
import { InvalidInput } from '../../common/errors.ts'
import type { Parameter } from '../domain/parameter.ts'
import type { Json, Template } from '../domain/template.ts'
import { EXTENSION, type Extension } from './extension.ts'
import type { FaultList } from './fault-list.ts'
import { fileAt } from './file-references.ts'
import { interpolate, variablesIn } from './interpolate.ts'
import { type PatternTime, settleValue } from './parameters.ts'
import { type Fixed, Scope } from './scope.ts'
import type { TemplateSource } from './source.ts'
import { isMap } from './stack/reading.ts'
import { checkText } from './variable-use.ts'

type Stack = { readonly [section: string]: Json }

/** What a derived template is made of: its base's stack, some of whose parameters have values now. */
export interface Derived {
  readonly stack: Stack
  readonly scope: Scope
  /** The base's files, and those that are the values of its parameters. */
  readonly files: Readonly<Record<string, string>>
}

/** Keys that a derived template has from its base. */
const FROM_BASE = ['entry', 'wiring', 'outputs', 'backend'] as const

/** The template that a text such as `web` or `web@3` names, as far as there is one. */
export function findBase(
  text: string,
  own: string,
  find: (name: string, version?: string | number) => Template | null,
  faults: Pick<FaultList, 'add'>,
): Template | null {
  const [name = '', version] = text.split('@')
  if (name === own) {
    faults.add(`${EXTENSION}.base`, 'a template cannot be derived from itself, nor from a version of itself')
    return null
  }
  const base = version === undefined ? find(name) : find(name, /^\d{1,9}$/.test(version) ? Number(version) : version)
  if (base === null) faults.add(`${EXTENSION}.base`, `there is no template ${text}`)
  return base
}

/** Puts the values of `set` into a base. Whatever is wrong with them becomes a fault. */
export function derive(
  base: Template,
  extension: Extension,
  declared: readonly Parameter[],
  source: TemplateSource,
  faults: Pick<FaultList, 'add'> & Pick<FaultList, 'note'>,
  time: PatternTime,
): Derived {
  for (const key of FROM_BASE) {
    const given = key === 'outputs' ? Object.keys(extension.outputs).length > 0 : extension[key] !== undefined
    if (given) faults.add(`${EXTENSION}.${key}`, 'a derived template has that of its base: take it away')
  }
  const taken = new Set([...base.parameters.map(({ name }) => name), ...Object.keys(base.fixed)])
  for (const { name } of declared) {
    if (!taken.has(name)) continue
    faults.add(`${EXTENSION}.parameters.${name}`, 'the base has a parameter of this name: take another one')
  }
  const passedOn = base.parameters.filter(({ name }) => !Object.hasOwn(extension.set, name))
  const parameters = [...declared.filter(({ name }) => !taken.has(name)), ...passedOn]
  const fixed: Record<string, string | number | boolean> = { ...base.fixed }
  const files: Record<string, string> = { ...base.files }
  let stack: Stack = base.stack
  for (const [name, value] of Object.entries(extension.set)) {
    const key = `${EXTENSION}.set.${name}`
    const parameter = base.parameters.find((one) => one.name === name)
    if (!parameter) {
      const known = base.parameters.map((one) => one.name).join(', ') || 'none'
      faults.add(key, `the base ${base.name} has no such parameter; it has ${known}`)
    } else if (typeof value === 'object') {
      const path = fileOf(parameter, value.file, `${key}.file`, files, source, faults)
      if (path !== null) stack = withFile(stack, name, path)
    } else {
      const settled = fixedValue(parameter, value, key, { scope: new Scope(parameters, {}), time }, faults)
      if (settled !== null) fixed[name] = settled
    }
  }
  return { stack, scope: new Scope(parameters, fixed), files }
}

/** A value as it is kept: a text with variables as it is written, another one checked. */
function fixedValue(
  parameter: Parameter,
  value: string | number | boolean,
  key: string,
  { scope, time }: { readonly scope: Scope; readonly time: PatternTime },
  faults: Pick<FaultList, 'add'> & Pick<FaultList, 'note'>,
): Fixed[string] | null {
  if (parameter.type === 'file') {
    faults.add(key, 'is a parameter of the type file: expected `file: PATH`')
    return null
  }
  if (typeof value === 'string' && value.includes('$')) {
    let faulty = false
    const add = (at: string, message: string) => {
      faulty = true
      faults.add(at, message)
    }
    checkText({ text: value, key }, scope, true, { add }, faults)
    if (faulty) return null
    const references = variablesIn(value)
    if (parameter.type === 'secret' && !references.some(({ name }) => scope.isSecret(name))) {
      faults.add(key, 'is a secret: expected a text with a parameter of the type secret in it')
      return null
    }
    if (references.length > 0) return value
  }
  if (parameter.type === 'secret') {
    faults.add(key, 'is a secret, which does not belong in a template: pass it on by a parameter of the type secret')
    return null
  }
  try {
    const text = typeof value === 'string' ? interpolate(value, () => undefined) : value
    const settled = settleValue(parameter, text, time)
    // Texts are interpolated again, so that what is written stays: `$$` is one `$`.
    return typeof value === 'string' && typeof settled === 'string' ? value : settled
  } catch (error) {
    if (!(error instanceof InvalidInput)) throw error
    faults.add(key, error.message.slice(error.field.length + 2))
    return null
  }
}

/** Takes a file among those of the template. @returns the path that stands for it in the stack */
function fileOf(
  parameter: Parameter,
  file: string,
  key: string,
  files: Record<string, string>,
  source: TemplateSource,
  faults: Pick<FaultList, 'add'>,
): string | null {
  if (parameter.type !== 'file') {
    faults.add(key, `is a parameter of the type ${parameter.type}: expected a value`)
    return null
  }
  const bytes = fileAt({ file, key, required: true }, source.files, faults)
  if (bytes === null) return null
  const content = Buffer.from(bytes).toString('base64')
  const path = freePath(posix.normalize(file), content, files)
  files[path] = content
  return path
}

/** A path at which no other content stands: files of a base may have the same names. */
export function freePath(path: string, content: string, files: Readonly<Record<string, string>>): string {
  let free = path
  while (Object.hasOwn(files, free) && files[free] !== content) free = `derived/${free}`
  return free
}

/** A stack whose configs and secrets have a file instead of the parameter of that name. */
function withFile(stack: Stack, parameter: string, path: string): Stack {
  const sections = ['configs', 'secrets'].flatMap((section) => {
    const definitions = stack[section]
    if (!isMap(definitions)) return []
    const replaced = Object.entries(definitions).map(([name, definition]) => {
      const uses = isMap(definition) && definition['environment'] === parameter
      return [name, uses ? { file: path } : definition] as const
    })
    return [[section, Object.fromEntries(replaced)] as const]
  })
  return { ...stack, ...Object.fromEntries(sections) }
}
