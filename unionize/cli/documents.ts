import { readFileSync } from 'node:fs'
import { type Document, isNode, LineCounter, parseAllDocuments, stringify } from 'yaml'
import { wording } from '../../common/errors.ts'
import { type InterfaceSpec, interfaceShape, type WiringDocument, wiringDocument } from '../../common/wiring-spec.ts'
import { InvalidWish } from './exit.ts'
import { faultsOf } from './faults.ts'

/** Faults of one file that are told one by one. */
const MOST_FAULTS = 20
/** Characters of a file: some thousand interfaces. More is not read as one. */
const MOST_TEXT = 1024 * 1024
/** What stands for standard input where a file is named. */
const STDIN = '-'

/**
 * The documents of a wiring file, each of which says all that one target is to have.
 * @param file its path, or `-` for standard input
 * @throws InvalidWish with every fault of all documents, each with its line
 */
export function readDocuments(file: string): readonly WiringDocument[] {
  const name = file === STDIN ? 'standard input' : file
  let text: string
  try {
    text = readFileSync(file === STDIN ? 0 : file, 'utf8')
  } catch (thrown) {
    throw new InvalidWish([`--file: ${wording(thrown)}`])
  }
  return parseDocuments(text, name)
}

/** @throws InvalidWish */
export function parseDocuments(text: string, name: string): readonly WiringDocument[] {
  if (text.length > MOST_TEXT) throw new InvalidWish([`${name}: longer than ${MOST_TEXT} characters: split it`])
  const lines = new LineCounter()
  const parsed = parseAllDocuments(text, { lineCounter: lines, logLevel: 'error', prettyErrors: false, merge: true })
  const faults: string[] = []
  const found: WiringDocument[] = []
  for (const document of Array.isArray(parsed) ? parsed : []) {
    if (document.errors.length > 0) {
      for (const error of document.errors) faults.push(`${name}:${lines.linePos(error.pos[0]).line}: ${error.message}`)
      continue
    }
    const data = dataOf(document)
    if (data === null) {
      faults.push(`${name}:${lineOf(document, [], lines)}: aliases lead in a circle, or to more than they may`)
      continue
    }
    if (data.value === null || data.value === undefined) continue
    const result = wiringDocument.safeParse(data.value)
    if (result.success) found.push(result.data)
    else {
      for (const { path, text: fault } of faultsOf(result.error, data.value)) {
        const where = path.length === 0 ? '' : `${path.join('.')}${fault.startsWith('is ') ? '' : ':'} `
        faults.push(`${name}:${lineOf(document, path, lines)}: ${where}${fault}`)
      }
    }
  }
  faults.push(...twice(found, name))
  if (faults.length === 0 && found.length === 0) faults.push(`${name}: there is no document in it`)
  if (faults.length > MOST_FAULTS) {
    throw new InvalidWish([...faults.slice(0, MOST_FAULTS), `${name}: and ${faults.length - MOST_FAULTS} faults more`])
  }
  if (faults.length > 0) throw new InvalidWish(faults)
  return found
}

/** What a document holds; null when that is without end: in a circle, or grown by aliases of aliases. */
function dataOf(document: Document): { readonly value: unknown } | null {
  try {
    const value: unknown = document.toJS()
    JSON.stringify(value)
    return { value }
  } catch {
    return null
  }
}

/** Documents as a file that {@link readDocuments} reads, without what says no more than the defaults. */
export async function writtenDocuments(documents: readonly WiringDocument[]): Promise<string> {
  return documents
    .map(({ target, interfaces }) => stringify({ target, interfaces: interfaces.map(withoutDefaults) }))
    .join('---\n')
}

/** Leaves out whatever the shape would put there by itself. */
function withoutDefaults(spec: InterfaceSpec): Record<string, unknown> {
  const { name, link, ...rest } = structuredClone(spec)
  const shortened: Record<string, unknown> = { name, link, ...rest }
  const whole = JSON.stringify(interfaceShape.parse(spec))
  const prune = (node: Record<string, unknown>): void => {
    for (const [key, value] of Object.entries(node)) {
      if (node !== shortened || key !== 'name') delete node[key]
      const parsed = interfaceShape.safeParse(shortened)
      if (parsed.success && JSON.stringify(parsed.data) === whole) continue
      node[key] = value
      if (typeof value === 'object' && value !== null) {
        for (const inner of Array.isArray(value) ? value : [value]) if (typeof inner === 'object') prune(inner)
      }
    }
  }
  prune(shortened)
  return shortened
}

function lineOf(document: Document, path: readonly PropertyKey[], lines: LineCounter): number {
  for (let length = path.length; length >= 0; length--) {
    const node = length === 0 ? document.contents : document.getIn(path.slice(0, length), true)
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line
  }
  return 1
}

function twice(documents: readonly WiringDocument[], name: string): string[] {
  const targets = documents.map((document) => document.target)
  return [...new Set(targets.filter((target, i) => targets.indexOf(target) !== i))].map(
    (target) => `${name}: target ${target} has more than one document; one says all that it is to have`,
  )
}
