import { suggestion } from '../../common/config.ts'
import { InvalidInput } from '../../common/errors.ts'
import type { Path } from '../compose/document.ts'
import { type PatternTime, settleParameters } from '../compose/parameters.ts'
import { durationOf } from '../compose/stack/durations.ts'
import { isSealed, type Parameter, type ParameterValue, type StoredValue } from '../domain/parameter.ts'
import { priceText } from '../domain/price.ts'
import type { Gift, Rule } from '../domain/rule.ts'
import type { Json, Template } from '../domain/template.ts'
import type { Seal } from '../pki/seal.ts'
import { type RuleReading, withoutField } from './rule-reading.ts'

/** What rules may name. */
export interface RulesKnown {
  /** A template as it will be; without a version the one that is rolled out. */
  find(name: string, version?: string | number): Template | null
  /** Names of all templates there are, those with faults too, and of all backends. */
  readonly names: readonly string[]
  /** null: those are not known here; any may be named. */
  readonly backends: readonly string[] | null
  /** @throws InvalidInput naming what its backend cannot honour; absent: backends are not known here */
  readonly checkTemplate?: (template: Template) => void
  /** Whether there may be templates besides, so that one that is not found is a note. */
  readonly more?: boolean
  readonly seal: Pick<Seal, 'seal'>
}

const FIELDS = ['template', 'parameters', 'backend', 'lifetime', 'most', 'spend'] as const

/**
 * Reads a rule's `give`. What is wrong goes to `reading`.
 * @param time what patterns may take, of all rules together
 * @returns undefined: it cannot be understood
 */
export function readGift(
  reading: RuleReading,
  path: Path,
  value: Json | undefined,
  known: RulesKnown,
  time: PatternTime,
): Rule['give'] | undefined {
  if (value === 'nothing') return null
  if (value === undefined || value === null || typeof value !== 'object' || Array.isArray(value)) {
    reading.fault(path, `expected \`nothing\`, or a map with ${FIELDS.join(', ')}`)
    return undefined
  }
  const fields = reading.fields(path, value, FIELDS)
  if (fields === null) return undefined
  const ref = readTemplate(reading, [...path, 'template'], fields.get('template'), known)
  const parameters = readParameters(
    reading,
    [...path, 'parameters'],
    fields.get('parameters'),
    ref?.found ?? null,
    known,
    time,
  )
  const backends = readBackends(reading, [...path, 'backend'], fields.get('backend'), known, ref?.found ?? null)
  const lifetime = readLifetime(reading, [...path, 'lifetime'], fields.get('lifetime'))
  const limit = fields.get('most')
  const most = limit === undefined ? undefined : (reading.count([...path, 'most'], limit) ?? undefined)
  const money = fields.get('spend')
  const spend = money === undefined ? undefined : (reading.price([...path, 'spend'], money) ?? undefined)
  if (ref === null) return undefined
  return {
    template: ref.name,
    ...(ref.version === undefined ? {} : { version: ref.version }),
    parameters,
    ...backends,
    ...(lifetime === undefined ? {} : { lifetime }),
    ...(most === undefined ? {} : { most }),
    ...(spend === undefined ? {} : { spend }),
  }
}

interface NamedTemplate {
  readonly name: string
  readonly version?: string | number | undefined
  readonly found: Template | null
}

/** `web`, or pinned: `web@3` by its number, `web@0123456789ab` by its hash. */
function readTemplate(
  reading: RuleReading,
  path: Path,
  value: Json | undefined,
  known: RulesKnown,
): NamedTemplate | null {
  if (typeof value !== 'string') {
    reading.fault(path, 'expected the name of a template, such as web, or web@3 for its version 3')
    return null
  }
  const [name = '', pinned, more] = value.split('@')
  const version = pinned === undefined ? undefined : versionOf(pinned)
  if (version === null || more !== undefined) {
    reading.fault(path, `expected a version's number or its hash of 12 hex digits behind the @, got ${value}`)
    return null
  }
  const found = known.find(name, version)
  if (found !== null) return { name, version, found }
  if (version === undefined && known.names.includes(name)) {
    reading.fault(path, `template ${name} has faults of its own: mend it first`)
  } else if (known.more === true) {
    reading.note(path, `${value} is not among these files: whether it is there, and takes these values, is not checked`)
  } else {
    const there = known.find(name) !== null || known.names.includes(name)
    reading.fault(
      path,
      there && version !== undefined
        ? `template ${name} has no version ${pinned}`
        : `there is no template ${name}${suggestion(name, known.names)}; apply it first, or together with the rules`,
    )
  }
  return { name, version, found }
}

function versionOf(text: string): string | number | null {
  if (/^[0-9a-f]{12}$/.test(text)) return text
  return /^[1-9]\d{0,8}$/.test(text) ? Number(text) : null
}

/** Values as they are stored: those of the template's secrets sealed. */
function readParameters(
  reading: RuleReading,
  path: Path,
  value: Json | undefined,
  template: Template | null,
  known: RulesKnown,
  time: PatternTime,
): Record<string, StoredValue> {
  if (value !== undefined && (value === null || typeof value !== 'object' || Array.isArray(value))) {
    reading.fault(path, "expected a map of the template's parameters")
    return {}
  }
  const declared = new Map(template?.parameters.map((parameter) => [parameter.name, parameter]))
  const given: Record<string, ParameterValue> = {}
  let whole = true
  for (const [name, member] of Object.entries(value ?? {})) {
    const read = scalarOf(member, declared.get(name)?.type)
    if (read !== null) given[name] = read
    else {
      whole = false
      reading.fault([...path, name], 'expected a text, a number, true or false; of a `file` parameter {content: TEXT}')
    }
  }
  if (template === null || !whole) return {}
  settleEach(reading, path, template.parameters, given, time)
  const stored = Object.entries(given).map(([name, one]): [string, StoredValue] => [
    name,
    declared.get(name)?.type === 'secret' ? known.seal.seal(name, String(one)) : one,
  ])
  return Object.fromEntries(stored)
}

/** Tells of each parameter that is wrong, not of the first alone. */
function settleEach(
  reading: RuleReading,
  path: Path,
  declared: readonly Parameter[],
  given: Readonly<Record<string, ParameterValue>>,
  time: PatternTime,
): void {
  let [left, rest] = [declared, given]
  for (;;) {
    try {
      settleParameters(left, rest, time)
      return
    } catch (error) {
      if (!(error instanceof InvalidInput)) throw error
      const name = error.field.replace(/^parameters\./, '')
      reading.fault([...path, name], withoutField(error))
      left = left.filter((parameter) => parameter.name !== name)
      const { [name]: _, ...others } = rest
      rest = others
    }
  }
}

function scalarOf(value: Json, type: Parameter['type'] | undefined): ParameterValue | null {
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return value
  if (type !== 'file' || value === null || typeof value !== 'object' || !('content' in value)) return null
  const { content, ...more } = value
  if (typeof content !== 'string' || Object.keys(more).length > 0) return null
  return Buffer.from(content, 'utf8').toString('base64')
}

/** One backend, or several of which the first is tried first. */
function readBackends(
  reading: RuleReading,
  path: Path,
  value: Json | undefined,
  known: RulesKnown,
  template: Template | null,
): Pick<Gift, 'backend' | 'otherwise'> {
  if (value === undefined) return {}
  if (!Array.isArray(value)) {
    const backend = readBackend(reading, path, value, known, template)
    return backend === null ? {} : { backend }
  }
  const read = (value as readonly Json[]).map((one, index) =>
    readBackend(reading, [...path, index], one, known, template),
  )
  const [backend, ...otherwise] = read.filter((name) => name !== null)
  if (value.length === 0) reading.fault(path, 'is an empty list: name a backend, or take it away')
  const again = read.findIndex((name, index) => name !== null && read.indexOf(name) < index)
  if (again >= 0) reading.fault([...path, again], `${read[again]} is in the list already: each backend is tried once`)
  if (backend === undefined) return {}
  return otherwise.length === 0 ? { backend } : { backend, otherwise }
}

function readBackend(
  reading: RuleReading,
  path: Path,
  value: Json,
  { backends, checkTemplate }: RulesKnown,
  template: Template | null,
): string | null {
  if (typeof value !== 'string' || backends?.includes(value) === false) {
    const near = typeof value === 'string' ? suggestion(value, backends ?? []) : ''
    reading.fault(path, `expected the name of a backend${near}${backends === null ? '' : `: ${backends.join(', ')}`}`)
    return null
  }
  if (template === null || checkTemplate === undefined) return value
  try {
    checkTemplate({ ...template, backend: value })
  } catch (error) {
    if (!(error instanceof InvalidInput)) throw error
    reading.fault(path, `template ${template.name} does not fit backend ${value}: ${error.message}`)
  }
  return value
}

function readLifetime(reading: RuleReading, path: Path, value: Json | undefined): Gift['lifetime'] {
  if (value === undefined) return undefined
  const fields = reading.fields(path, value, ['most', 'grace'])
  const read = (name: string): number | undefined => {
    const given = fields?.get(name)
    if (given === undefined) return undefined
    return reading.tried([...path, name], () => durationOf(given, name)) ?? undefined
  }
  const [mostMs, graceMs] = [read('most'), read('grace')]
  if (mostMs === 0) reading.fault([...path, 'most'], 'expected more than 0; to give nothing, write `give: nothing`')
  return { ...(mostMs === undefined ? {} : { mostMs }), ...(graceMs === undefined ? {} : { graceMs }) }
}

/**
 * A rule's `give` as files have it.
 * @param secret what stands where that parameter's secret is
 * @param isSecret whether a value that is not sealed is one all the same
 */
export function writtenGift(
  give: Gift | null,
  secret: (parameter: string) => string,
  isSecret: (give: Gift, parameter: string) => boolean = () => false,
): Json {
  if (give === null) return 'nothing'
  const { template, version, parameters, backend, otherwise, lifetime, most, spend } = give
  const shown = Object.entries(parameters).map(([name, value]) => {
    if (isSealed(value)) return [name, secret(name)]
    return [name, isSecret(give, name) ? '(not yet a secret)' : value]
  })
  const { mostMs, graceMs } = lifetime ?? {}
  const lives = {
    ...(mostMs === undefined ? {} : { most: durationText(mostMs) }),
    ...(graceMs === undefined ? {} : { grace: durationText(graceMs) }),
  }
  return {
    template: version === undefined ? template : `${template}@${version}`,
    ...(shown.length === 0 ? {} : { parameters: Object.fromEntries(shown) as Record<string, Json> }),
    ...(backend === undefined ? {} : { backend: otherwise === undefined ? backend : [backend, ...otherwise] }),
    ...(Object.keys(lives).length === 0 ? {} : { lifetime: lives }),
    ...(most === undefined ? {} : { most }),
    ...(spend === undefined ? {} : { spend: priceText(spend) }),
  }
}

/** `1h30m`: whole units, the largest first. */
export function durationText(ms: number): string {
  const units = [
    ['h', 3_600_000],
    ['m', 60_000],
    ['s', 1000],
    ['ms', 1],
  ] as const
  let left = ms
  let text = ''
  for (const [unit, size] of units) {
    const count = Math.floor(left / size)
    left -= count * size
    if (count > 0) text += `${count}${unit}`
  }
  return text === '' ? '0s' : text
}
