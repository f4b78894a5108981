import type { Json } from '../domain/template.ts'
import { keyText, type Path } from './document.ts'

/** A text of a tree. */
export interface PlacedText {
  readonly text: string
  readonly path: Path
  /** The path as faults write it. */
  readonly key: string
}

/** Every text of a tree, in order; keys of mappings are not among them. */
export function textsIn(tree: Json, path: Path = []): readonly PlacedText[] {
  if (typeof tree === 'string') return [{ text: tree, path, key: keyText(path) }]
  if (tree === null || typeof tree !== 'object') return []
  const inner: Iterable<[string | number, Json]> = Array.isArray(tree) ? tree.entries() : Object.entries(tree)
  return [...inner].flatMap(([name, value]) => textsIn(value, [...path, name]))
}
