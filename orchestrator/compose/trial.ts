import { InvalidInput } from '../../common/errors.ts'
import type { Json } from '../domain/template.ts'
import { isInside } from './fault-list.ts'
import { InterpolationFault, interpolateTree } from './interpolate.ts'
import type { Sample, Scope } from './scope.ts'
import { isMap, type Variables } from './stack/reading.ts'
import { type ReadStack, readStack } from './stack/services.ts'

type Stack = { readonly [section: string]: Json }

/**
 * Reads a stack as an order would, with samples for what nobody has given yet. A fault that may come of a sample alone is
 * left out: whoever gives the value will see it.
 * @param absent keys that were taken out, as they are not supported: what is missed for that reason alone is no fault
 */
export function tryStack(
  stack: Stack,
  entry: string,
  files: Readonly<Record<string, string>>,
  scope: Scope,
  fault: (key: string, message: string) => void,
  absent: readonly string[] = [],
): ReadStack {
  const guessed = new Set<string>()
  const found: InvalidInput[] = []
  const textAt = (name: string, key: string): string | undefined => {
    const sample = sampleAt(scope, name, key)
    if (sample?.certain === false) guessed.add(key)
    return sample?.text
  }
  const variables: Variables = {
    text: (name, key) => {
      if (scope.isSecret(name) || scope.isFile(name)) {
        throw new InvalidInput(key, `${name} is a ${scope.isFile(name) ? 'file' : 'secret'}: it cannot stand here`)
      }
      return textAt(name, key)
    },
    content: (name, key) => {
      const text = textAt(name, key)
      return text === undefined ? undefined : Buffer.from(text)
    },
  }
  // What is wrong with the variables themselves has been told by then.
  const filled = interpolateTree(stack, '', {
    value: textAt,
    fault: (one) => {
      const isLong = one.cause instanceof InterpolationFault && one.cause.kind === 'long'
      if (isLong && !guessed.has(one.field)) found.push(one)
      else guessed.add(one.field)
    },
  })
  const read = readStack(isMap(filled) ? filled : {}, {
    entry,
    files: { read: (path) => (Object.hasOwn(files, path) ? Buffer.from(files[path] ?? '', 'base64') : null) },
    variables,
    fault: (one) => found.push(one),
  })
  const wrong = [...absent, ...found.map(({ field }) => field)]
  for (const { field, message } of found) {
    const isGuessed = [...guessed].some((key) => key === field || isInside(key, field))
    const isMissed = absent.some((key) => isInside(key, field) || key.replace(/\.build$/, '.image') === field)
    if (!isGuessed && !isMissed && !isFollowed(field, wrong)) fault(field, message.slice(field.length + 2))
  }
  return read
}

function sampleAt(scope: Scope, name: string, key: string): Sample | undefined {
  try {
    return scope.sample(name)
  } catch (error) {
    if (!(error instanceof InterpolationFault)) throw error
    throw new InvalidInput(key, error.message, { cause: error })
  }
}

/** Whether a service refers to a section that has a fault itself: then what it refers to is missed for that reason alone. */
function isFollowed(field: string, wrong: readonly string[]): boolean {
  const [, section] = /^services\.[^.]+\.(networks|volumes|configs|secrets)\b/.exec(field) ?? []
  return section !== undefined && wrong.some((key) => isInside(key, section))
}

/**
 * Images of a stack that hosts may fetch beforehand: those that do not depend on what somebody gives or a lease says
 * (defaults are taken for given), but for services that are never to be pulled.
 */
export function knownImages(stack: Stack, scope: Scope): readonly string[] {
  const services = Object.values(isMap(stack['services']) ? stack['services'] : {})
  const images = services.flatMap((service) => {
    const text = isMap(service) ? service['image'] : undefined
    if (typeof text !== 'string' || (isMap(service) && service['pull_policy'] === 'never')) return []
    try {
      const { text: image, certain } = scope.filled(text)
      return certain ? [image] : []
    } catch (error) {
      if (error instanceof InterpolationFault) return []
      throw error
    }
  })
  return [...new Set(images)].sort()
}
