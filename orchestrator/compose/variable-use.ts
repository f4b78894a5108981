import { suggestion } from '../../common/config.ts'
import type { Json } from '../domain/template.ts'
import type { FaultList } from './fault-list.ts'
import { InterpolationFault, type Reference, variablesIn } from './interpolate.ts'
import type { Scope } from './scope.ts'
import { isMap } from './stack/reading.ts'
import { type PlacedText, textsIn } from './texts.ts'

/** How a secret gets to where it is needed. */
const SECRET_REMEDY = 'let it be a file: `secrets.NAME.environment`, or the `content` of a config'

/** Checks every place of a stack that names a variable: whether there is such a one, and whether it may stand there. */
export function checkStackVariables(
  stack: { readonly [section: string]: Json },
  scope: Scope,
  faults: Pick<FaultList, 'add'>,
  notes: Pick<FaultList, 'note'>,
): void {
  for (const placed of textsIn(stack)) {
    const [section, , field, ...deeper] = placed.path
    const inMemory = section === 'configs' && field === 'content' && deeper.length === 0
    checkText(placed, scope, inMemory, faults, notes)
  }
  for (const section of ['configs', 'secrets']) {
    for (const [name, definition] of Object.entries(isMap(stack[section]) ? stack[section] : {})) {
      const variable = isMap(definition) ? definition['environment'] : undefined
      if (typeof variable === 'string') checkSource(variable, `${section}.${name}.environment`, scope, faults)
    }
  }
}

/** Checks one text. @param inMemory whether it ends up in nothing but a file in memory, where secrets may stand */
export function checkText(
  { text, key }: Pick<PlacedText, 'text' | 'key'>,
  scope: Scope,
  inMemory: boolean,
  faults: Pick<FaultList, 'add'>,
  notes: Pick<FaultList, 'note'>,
): void {
  let references: readonly Reference[]
  try {
    references = variablesIn(text)
  } catch (error) {
    if (!(error instanceof InterpolationFault)) throw error
    faults.add(key, error.message)
    return
  }
  for (const { name, operator } of references) {
    if (!scope.has(name)) {
      if (operator.endsWith('?')) faults.add(key, unknown(name, scope))
      else if (operator === '') notes.note(key, `${unknown(name, scope)}. As in Compose, an empty text stands here`)
      else notes.note(key, `${name} is no parameter, so it is never set here`)
    } else if (scope.isFile(name)) {
      faults.add(key, `${name} is a file: it gets into a container by \`configs.NAME.environment\``)
    } else if (scope.isSecret(name) && !inMemory) {
      faults.add(key, `${name} is a secret, which would be seen here: ${SECRET_REMEDY}`)
    } else if (operator === '' && scope.isOptional(name)) {
      notes.note(key, `${name} may be left out: then an empty text stands here, as in Compose`)
    }
  }
}

/** `configs.X.environment`: a name, without `$`. */
function checkSource(name: string, key: string, scope: Scope, faults: Pick<FaultList, 'add'>): void {
  if (name.includes('$')) faults.add(key, 'expected the name of a variable, without $')
  else if (!scope.has(name)) faults.add(key, unknown(name, scope))
  else if (scope.isOptional(name)) faults.add(key, `${name} may be left out: give it a default, or make it required`)
}

/** Why a name means nothing, and which ones do. */
export function unknown(name: string, scope: Scope): string {
  const own = [...scope.parameters.map((parameter) => parameter.name), ...Object.keys(scope.fixed)]
  const known = own.length === 0 ? 'the template has no parameters' : `its parameters are ${own.join(', ')}`
  const remedy = 'declare it in x-orchestrator.parameters'
  return `there is no variable ${name}${suggestion(name, scope.names)}: ${known}; ${remedy}`
}
