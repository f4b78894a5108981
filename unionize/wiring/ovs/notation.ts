/**
 * How OVSDB writes values as JSON (RFC 7047, 5.1): a set of one is the element itself, others are `["set", […]]`; a map is
 * `["map", [[key, value], …]]`; a row is `["uuid", "…"]`.
 */

export type Atom = string | number | boolean | readonly ['uuid' | 'named-uuid', string]

/** A row of the database: values by column, as they were received. */
export type Row = Readonly<Record<string, unknown>>

export function set(elements: readonly Atom[]): readonly ['set', readonly Atom[]] {
  return ['set', elements]
}

export function map(entries: Readonly<Record<string, string>>): readonly ['map', readonly (readonly string[])[]] {
  return ['map', Object.entries(entries)]
}

export function uuid(id: string): readonly ['uuid', string] {
  return ['uuid', id]
}

/** A row that an operation of the same transaction inserts under this name. */
export function named(name: string): readonly ['named-uuid', string] {
  return ['named-uuid', name]
}

/** The elements of a set, of an optional value (none or one), or of a value that is there. */
export function elementsOf(value: unknown): unknown[] {
  if (!Array.isArray(value)) return value === undefined ? [] : [value]
  return value[0] === 'set' && Array.isArray(value[1]) ? value[1] : [value]
}

export function numbersOf(value: unknown): number[] {
  return elementsOf(value).filter((element) => typeof element === 'number')
}

export function textsOf(value: unknown): string[] {
  return elementsOf(value).filter((element) => typeof element === 'string')
}

/** The ids of the rows that a column refers to. */
export function idsOf(value: unknown): string[] {
  return elementsOf(value).flatMap((element) =>
    Array.isArray(element) && element[0] === 'uuid' ? [String(element[1])] : [],
  )
}

/** A map of texts. */
export function entriesOf(value: unknown): Record<string, string> {
  if (!Array.isArray(value) || value[0] !== 'map' || !Array.isArray(value[1])) return {}
  const pairs = value[1].filter((pair): pair is unknown[] => Array.isArray(pair))
  return Object.fromEntries(pairs.map(([key, text]) => [String(key), String(text)]))
}
