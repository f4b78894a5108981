import { readFileSync } from 'node:fs'
import { parse as parseYaml } from 'yaml'
import type { z } from 'zod'
import { OrchestratorError } from './errors.ts'

/** One setting: what it may be, what it is when nobody says, and one sentence for people. */
export interface Setting<T> {
  readonly schema: z.ZodType<T>
  /** Absent: somebody must say. */
  readonly default?: T
  readonly summary: string
  /** Shown as `***` wherever settings are printed. */
  readonly secret?: boolean
}
/** Settings by dotted name (`server.port`): YAML path, environment variable and flag follow from it. */
// biome-ignore lint/suspicious/noExplicitAny: a table holds settings of many types; SettingsOf gives each its own back
export type SettingsTable = Readonly<Record<string, Setting<any>>>
export type SettingsOf<T extends SettingsTable> = {
  readonly [K in keyof T]: T[K] extends Setting<infer V> ? V : never
}

/** Where values come from; later ones win: file, environment, flags. */
export interface SettingSources {
  /** Path of a YAML file; undefined: none. A file that cannot be read is a fault. */
  readonly file?: string | undefined
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Prefix of the variables, `ORCHESTRATOR` or `UNIONIZE`: `ORCHESTRATOR_SERVER_PORT`. */
  readonly prefix: string
  /** Flags by setting name, as text. */
  readonly flags: Readonly<Record<string, string | undefined>>
}

/** All faults of all sources, told at once. */
export class InvalidSettings extends OrchestratorError {
  readonly faults: readonly string[]
  constructor(faults: readonly string[]) {
    super('invalid-settings', `${faults.length} fault(s) in the settings:\n${faults.map((f) => `  - ${f}`).join('\n')}`)
    this.faults = faults
  }
}

/** `server.port` -> `ORCHESTRATOR_SERVER_PORT` */
export function variableName(prefix: string, name: string): string {
  return `${prefix}_${name.replace(/[.-]/g, '_').toUpperCase()}`
}

/** `server.port` -> `server-port`, the long flag without its dashes. */
export function flagName(name: string): string {
  return name.replaceAll('.', '-')
}

/**
 * Reads every setting of the table.
 * @throws InvalidSettings with every fault found: unreadable file, unknown key (with a suggestion), missing or wrong value
 */
export function loadSettings<T extends SettingsTable>(table: T, sources: SettingSources): SettingsOf<T> {
  const faults: string[] = []
  const fromFile = readFile(table, sources.file, faults)
  for (const name of unknownVariables(table, sources)) faults.push(name)
  const result: Record<string, unknown> = {}
  for (const [name, setting] of Object.entries(table)) {
    const variable = variableName(sources.prefix, name)
    const flag = sources.flags[name]
    const text = flag ?? sources.environment[variable]
    const origin = flag === undefined ? `environment variable ${variable}` : `flag --${flagName(name)}`
    const found =
      text !== undefined ? fromText(setting, text) : fromFile.has(name) ? fromFile.get(name) : setting.default
    if (found === undefined) {
      faults.push(
        `${name} is not set: ${setting.summary} (key ${name} in the file, ${variable}, or --${flagName(name)})`,
      )
      continue
    }
    const parsed = setting.schema.safeParse(found)
    if (parsed.success) result[name] = parsed.data
    else {
      const where = text !== undefined ? origin : fromFile.has(name) ? sources.file : 'the default'
      const shown = setting.secret ? 'a secret value' : JSON.stringify(found)
      for (const issue of parsed.error.issues) faults.push(`${name}: ${issue.message}, got ${shown} (${where})`)
    }
  }
  if (faults.length > 0) throw new InvalidSettings(faults)
  return result as SettingsOf<T>
}

/** The settings as nested data, secrets masked: what `--print-config` shows; but for the secrets it can be fed back as a file. */
export function printable<T extends SettingsTable>(table: T, settings: SettingsOf<T>): Record<string, unknown> {
  const root: Record<string, unknown> = {}
  for (const [name, setting] of Object.entries(table)) {
    const path = name.split('.')
    const last = path.pop() ?? name
    let node = root
    for (const part of path) {
      node[part] ??= {}
      node = node[part] as Record<string, unknown>
    }
    const value = settings[name as keyof T] as unknown
    node[last] = setting.secret && value !== '' && value !== null ? '***' : value
  }
  return root
}

function fromText(setting: Setting<unknown>, text: string): unknown {
  if (setting.schema.safeParse(text).success) return text
  try {
    return text.trim() === '' ? text : parseYaml(text, QUIET)
  } catch {
    return text
  }
}

/** Without the parser's warnings: they quote the file, which may hold secrets. */
const QUIET = { logLevel: 'error' } as const

/** What is wrong and where, without the excerpt of the file that the YAML parser appends: it may hold a secret. */
function firstLine(cause: unknown): string {
  return (cause instanceof Error ? cause.message : String(cause)).split('\n', 1)[0]?.replace(/:$/, '') ?? ''
}

function readFile(table: SettingsTable, file: string | undefined, faults: string[]): Map<string, unknown> {
  const found = new Map<string, unknown>()
  if (file === undefined) return found
  let data: unknown
  try {
    data = parseYaml(readFileSync(file, 'utf8'), QUIET) ?? {}
  } catch (cause) {
    faults.push(`${file}: ${firstLine(cause)}`)
    return found
  }
  if (typeof data !== 'object' || data === null || Array.isArray(data)) {
    faults.push(`${file}: expected keys and values at the top`)
    return found
  }
  collect(table, data as Record<string, unknown>, '', file, found, faults)
  return found
}

function collect(
  table: SettingsTable,
  node: Record<string, unknown>,
  path: string,
  file: string,
  found: Map<string, unknown>,
  faults: string[],
): void {
  for (const [key, value] of Object.entries(node)) {
    const name = path === '' ? key : `${path}.${key}`
    if (Object.hasOwn(table, name)) found.set(name, value)
    else if (Object.keys(table).some((n) => n.startsWith(`${name}.`))) {
      if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
        collect(table, value as Record<string, unknown>, name, file, found, faults)
      } else if (value !== null) faults.push(`${name}: expected keys below it (${file})`)
    } else faults.push(`${name} is not a setting${suggestion(name, Object.keys(table))} (${file})`)
  }
}

function unknownVariables(table: SettingsTable, sources: SettingSources): string[] {
  const known = Object.keys(table).map((name) => variableName(sources.prefix, name))
  return Object.keys(sources.environment)
    .filter((v) => v.startsWith(`${sources.prefix}_`) && !known.includes(v) && v !== `${sources.prefix}_CONFIG`)
    .map((v) => `environment variable ${v} is not a setting${suggestion(v, known)}`)
}

/** ` (did you mean x?)` when one of the names is near, else nothing. */
export function suggestion(wrong: string, names: readonly string[]): string {
  const ranked = names.map((name) => ({ name, d: distance(wrong, name) })).sort((a, b) => a.d - b.d)
  const best = ranked[0]
  return best && best.d <= Math.max(2, Math.floor(wrong.length / 3)) ? ` (did you mean ${best.name}?)` : ''
}

/** Levenshtein's edit distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
