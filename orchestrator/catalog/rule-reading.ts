import { suggestion } from '../../common/config.ts'
import { InvalidInput } from '../../common/errors.ts'
import { type ComposeDocument, keyText, type Path } from '../compose/document.ts'
import type { Fault } from '../compose/faults.ts'
import { type Price, parsePrice } from '../domain/price.ts'
import type { Json } from '../domain/template.ts'

/** Gathers what is wrong in a rules file, each at its line, so that all of it is told at once. */
export interface RuleReading {
  readonly faults: Fault[]
  readonly notes: Fault[]
  fault(path: Path, message: string): void
  note(path: Path, message: string): void
  /** What `read` returns; null: it threw InvalidInput, which is a fault now. */
  tried<T>(path: Path, read: () => T): T | null
  /** The members of a map of which only these names are known; null: it is none. What is null is left out. */
  fields(path: Path, value: Json, known: readonly string[]): ReadonlyMap<string, Json> | null
  /** Texts: one, or a list of at least one; null: something is wrong with them. */
  texts(path: Path, value: Json, normal?: (text: string) => string): readonly string[] | null
  /** A whole number; null: it is none. */
  count(path: Path, value: Json): number | null
  /** Money by the hour; null: it is none. */
  price(path: Path, value: Json): Price | null
}

/** Characters of one pattern: a DUID has 389, a MUD URL may have more. */
const MOST_CHARACTERS = 2048

export function ruleReading(file: string, places: ComposeDocument['places']): RuleReading {
  const faults: Fault[] = []
  const notes: Fault[] = []
  const at = (path: Path, message: string): Fault => ({
    file,
    line: places.lineOfKey(keyText(path)),
    key: keyText(path),
    message,
  })
  const fault = (path: Path, message: string): void => {
    faults.push(at(path, message))
  }
  const tried = <T>(path: Path, read: () => T): T | null => {
    try {
      return read()
    } catch (error) {
      if (!(error instanceof InvalidInput)) throw error
      fault(path, withoutField(error))
      return null
    }
  }
  const text = (path: Path, value: Json, normal: (text: string) => string): string | null => {
    if (typeof value !== 'string') {
      fault(path, 'expected a text: put it in quotes')
      return null
    }
    if (value === '' || value.length > MOST_CHARACTERS) {
      fault(path, `expected 1 to ${MOST_CHARACTERS} characters`)
      return null
    }
    return tried(path, () => normal(value))
  }
  return {
    faults,
    notes,
    fault,
    note: (path, message) => void notes.push(at(path, message)),
    tried,
    fields(path, value, known) {
      if (value === null || typeof value !== 'object' || Array.isArray(value)) {
        fault(path, `expected a map with ${known.join(', ')}`)
        return null
      }
      const found = new Map<string, Json>()
      for (const [name, member] of Object.entries(value)) {
        if (!known.includes(name)) {
          fault([...path, name], `is not known here${suggestion(name, known)}; expected ${known.join(', ')}`)
        } else if (member === null) fault([...path, name], 'has no value: give it one, or take it away')
        else found.set(name, member)
      }
      return found
    },
    texts(path, value, normal = (given) => given) {
      if (!Array.isArray(value)) {
        const one = text(path, value, normal)
        return one === null ? null : [one]
      }
      if (value.length === 0) {
        fault(path, 'is an empty list, which nothing matches: give it values, or take it away')
        return null
      }
      const all = value.map((item: Json, index) => text([...path, index], item, normal))
      return all.every((one) => one !== null) ? all : null
    },
    count(path, value) {
      if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value
      fault(path, 'expected a whole number from 0')
      return null
    },
    price: (path, value) => tried(path, () => parsePrice('price', String(value))),
  }
}

/** The message of an InvalidInput without its field: a fault has its own key. */
export function withoutField(error: InvalidInput): string {
  return error.message.slice(error.field.length + 2)
}
