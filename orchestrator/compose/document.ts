import {
  Composer,
  type CST,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  Parser,
  type YAMLMap,
  type YAMLParseError,
  type YAMLSeq,
} from 'yaml'
import type { Json } from '../domain/template.ts'
import type { Fault } from './faults.ts'
import { plainScalar, taggedScalar } from './scalars.ts'

/** Names of keys and positions in lists, from the top of a file. */
export type Path = readonly (string | number)[]

/** Where each key of a file stands. */
export interface Places {
  /**
   * The line of a key or list element, counted from 1; of what is not there: that of the nearest thing around it; null: none.
   * @param key as {@link keyText} writes it
   */
  lineOfKey(key: string): number | null
}

/** A YAML file as a tree of JSON. */
export interface ComposeDocument {
  readonly tree: { readonly [key: string]: Json }
  readonly places: Places
}

/** Bytes of a Compose file: published ones have at most some ten thousand. */
export const MAX_TEXT_BYTES = 256 * 1024
/** How large a file may be, and what it is called when it is something else. */
export interface DocumentKind {
  readonly name: string
  /** What must be in it, for who sent something else. */
  readonly expected: string
  readonly bytes: number
  /** Values, counted after aliases are put in: an alias in an alias multiplies. */
  readonly values: number
}
const COMPOSE_FILE: DocumentKind = {
  name: 'a Compose file',
  expected: 'a mapping with `services`',
  bytes: MAX_TEXT_BYTES,
  values: 20_000,
}
/** Levels of nesting; the Compose Specification's schema has 13. */
const MAX_DEPTH = 64

/** `services.web.ports[0]`: a path as faults write it. */
export function keyText(path: Path): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`
    return text === '' ? part : `${text}.${part}`
  }, '')
}

/** What helps where a text happens to mean something in YAML. */
const QUOTE = 'put a text that begins like that in quotes'
/** Words in place of messages that quote the file in their middle. */
const QUOTING: Partial<Record<YAMLParseError['code'], string>> = {
  BAD_DIRECTIVE: 'a line with % in front is no directive that is known',
  BAD_DQ_ESCAPE: 'an escape sequence in double quotes is none',
  TAG_RESOLVE_FAILED: `a tag is none: ${QUOTE}`,
}

/**
 * Reads one YAML document, as Compose does: anchors, aliases and merge keys are put in; plain values mean what they mean to
 * Go's yaml.v3. Keys twice in one mapping, tags, several documents and what would grow without bounds are faults.
 */
export function readDocument(
  file: string,
  text: string,
  kind: DocumentKind = COMPOSE_FILE,
): { document: ComposeDocument | null; faults: readonly Fault[] } {
  const whole = (message: string, line: number | null = null) => ({
    document: null,
    faults: [{ file, line, key: '', message }],
  })
  if (Buffer.byteLength(text) > kind.bytes) return whole(`is larger than ${kind.bytes} bytes`)
  const binary = text.search(/(?![\t\n\r])\p{Cc}|\ufffd/v)
  if (binary >= 0) {
    return whole('is not text: it has control characters or is not UTF-8', text.slice(0, binary).split('\n').length)
  }
  const lines = new LineCounter()
  const tokens = [...new Parser(lines.addNewLine).parse(text)]
  if (tokens.some(isTooDeep)) return whole(`is nested more than ${MAX_DEPTH} levels deep`)
  // The library would compare each key with each other one; repeated keys are found below.
  const composer = new Composer({ lineCounter: lines, schema: 'failsafe', uniqueKeys: false, prettyErrors: false })
  const documents = [...composer.compose(tokens)]
  const [document, second] = documents
  if (document === undefined) return whole(`is empty: expected ${kind.name}`)
  const broken = documents.flatMap(({ errors }) => errors)[0]
  if (broken) return whole(`is not YAML: ${unquoted(broken)}`, lines.linePos(broken.pos[0]).line)
  if (second) return whole('has several YAML documents: expected one', lines.linePos(second.range[0]).line)
  return new Reading(file, lines, kind).read(document)
}

/** What the parser says, without the piece of the file that it may quote: that may be a secret. */
function unquoted({ code, message }: YAMLParseError): string {
  return QUOTING[code] ?? message.replace(/(?<=\w): .*$/s, '')
}

/** Depth without recursion, before anything recursive sees the tokens. */
function isTooDeep(token: CST.Token): boolean {
  const waiting: { token: CST.Token; depth: number }[] = [{ token, depth: 0 }]
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const depth = next.depth + 1
    if (depth > MAX_DEPTH) return true
    if (next.token.type === 'document' && next.token.value) waiting.push({ token: next.token.value, depth: 0 })
    if (!('items' in next.token)) continue
    for (const { key, value } of next.token.items) {
      if (key) waiting.push({ token: key, depth })
      if (value) waiting.push({ token: value, depth })
    }
  }
  return false
}

/** Ends the reading of a file that would grow without bounds. */
class Endless extends Error {}

/** One pass over a document: builds the tree and notes where everything stands. */
class Reading {
  readonly #file: string
  readonly #lines: LineCounter
  readonly #kind: DocumentKind
  readonly #faults: Fault[] = []
  readonly #placed = new Map<string, number>()
  readonly #anchors = new Map<string, Node>()
  /** Aliased nodes that are being read: one of them inside itself has no end. */
  readonly #open = new Set<Node>()
  #values = 0
  /** How many merge keys deep it reads. */
  #merging = 0

  constructor(file: string, lines: LineCounter, kind: DocumentKind) {
    this.#file = file
    this.#lines = lines
    this.#kind = kind
  }

  read(document: Document.Parsed): { document: ComposeDocument | null; faults: readonly Fault[] } {
    let tree: Json
    try {
      tree = this.#value(document.contents, [])
    } catch (error) {
      if (!(error instanceof Endless)) throw error
      this.#fault([], null, error.message)
      return { document: null, faults: this.#faults }
    }
    if (this.#faults.length > 0) return { document: null, faults: this.#faults }
    if (tree === null || typeof tree !== 'object' || Array.isArray(tree)) {
      this.#fault([], 1, `is not ${this.#kind.name}: expected ${this.#kind.expected}`)
      return { document: null, faults: this.#faults }
    }
    return { document: { tree: tree as { [key: string]: Json }, places: placesOf(this.#placed) }, faults: [] }
  }

  #value(node: Node | null, path: Path): Json {
    this.#count()
    if (path.length > MAX_DEPTH) throw new Endless(`is nested more than ${MAX_DEPTH} levels deep`)
    if (node === null) return null
    if (isAlias(node)) return this.#aliased(node.source, node, (target) => this.#value(target, path))
    if (node.anchor !== undefined && this.#open.size === 0) this.#anchors.set(node.anchor, node)
    const line = this.#lineOf(node)
    const { tag } = node
    if (tag !== undefined && !tag.startsWith('tag:yaml.org,2002:')) {
      const reset = /^!(reset|override)$/.test(tag)
      const reason = reset ? 'has a meaning only where several Compose files are merged' : 'is not known to Compose'
      // What is no such word may be a secret that was written without quotes.
      const words = reset ? `the tag ${tag} ${reason}: take it away` : `has a tag, which ${reason}: ${QUOTE}`
      this.#fault(path, line, words)
      return null
    }
    if (isMap(node)) return this.#mapping(node, path)
    if (isSeq(node)) return this.#list(node, path)
    if (!isScalar(node)) return null
    const text = String(node.value ?? '')
    const read =
      tag === undefined ? (node.type === 'PLAIN' ? plainScalar(text) : { value: text }) : taggedScalar(tag, text)
    if ('value' in read) return read.value
    this.#fault(path, line, read.fault)
    return null
  }

  #count(): void {
    this.#values += 1
    const { values } = this.#kind
    if (this.#values > values) throw new Endless(`has more than ${values} values once its aliases are put in`)
  }

  #list(node: YAMLSeq, path: Path): Json {
    return node.items.map((item, index) => {
      const inner = [...path, index]
      this.#place(inner, this.#lineOf(item as Node))
      return this.#value(item as Node, inner)
    })
  }

  #mapping(node: YAMLMap, path: Path): Json {
    const own: Record<string, Json> = {}
    const seen = new Map<string, number | null>()
    const merged: Node[] = []
    for (const pair of node.items as Pair<Node | null, Node | null>[]) {
      const line = this.#lineOf(pair.key ?? pair.value)
      const name = this.#keyOf(pair.key, path, line)
      if (name === null) continue
      if (name === '<<' && isScalar(pair.key) && pair.key.type === 'PLAIN') {
        if (pair.value) merged.push(pair.value)
        continue
      }
      const inner = [...path, name]
      const before = seen.get(name)
      if (before !== undefined) this.#fault(inner, line, `stands here twice: first on line ${before}`)
      seen.set(name, line)
      this.#place(inner, line)
      own[name] = this.#value(pair.value, inner)
    }
    return merged.reduce((all: Record<string, Json>, from) => this.#merge(all, from, path), own)
  }

  /** Merge key language-independent type for YAML 1.1: keys that are there already win, of several mappings the first. */
  #merge(into: Record<string, Json>, from: Node, path: Path): Record<string, Json> {
    // An empty mapping has no values, and can be merged a million times all the same.
    this.#count()
    if (isAlias(from)) {
      this.#aliased(from.source, from, (target) => this.#merge(into, target, path))
      return into
    }
    if (isSeq(from)) {
      return (from.items as Node[]).reduce((all: Record<string, Json>, item) => this.#merge(all, item, path), into)
    }
    if (!isMap(from)) {
      this.#fault([...path, '<<'], this.#lineOf(from), 'expected a mapping, or a list of mappings, to merge')
      return into
    }
    this.#merging += 1
    const added = this.#mapping(from, path) as Record<string, Json>
    this.#merging -= 1
    for (const [name, value] of Object.entries(added)) if (!Object.hasOwn(into, name)) into[name] = value
    return into
  }

  #aliased<T extends Json>(name: string, alias: Node, work: (target: Node) => T): T | null {
    const target = this.#anchors.get(name)
    if (target === undefined) {
      this.#fault([], this.#lineOf(alias), `has an alias without an anchor before it: ${QUOTE}`)
      return null
    }
    if (this.#open.has(target)) throw new Endless(`has the alias *${name} inside of what it stands for`)
    this.#open.add(target)
    const result = work(target)
    this.#open.delete(target)
    return result
  }

  #keyOf(key: Node | null, path: Path, line: number | null): string | null {
    const node = isAlias(key) ? (this.#anchors.get(key.source) ?? null) : key
    if (!isScalar(node)) {
      this.#fault(path, line, 'has a key that is not a text')
      return null
    }
    if (node.anchor !== undefined && this.#open.size === 0) this.#anchors.set(node.anchor, node)
    const name = String(node.value ?? '')
    if (name === '' || name === '__proto__') {
      this.#fault(path, line, `has the key ${JSON.stringify(name)}, which cannot be one`)
      return null
    }
    return name
  }

  #lineOf(node: Node | null): number | null {
    return node?.range ? this.#lines.linePos(node.range[0]).line : null
  }
  #place(path: Path, line: number | null): void {
    if (line === null) return
    const key = keyText(path)
    // Places of keys that stand here themselves stay.
    if (this.#merging === 0 || !this.#placed.has(key)) this.#placed.set(key, line)
  }
  #fault(path: Path, line: number | null, message: string): void {
    if (this.#faults.length < 100) this.#faults.push({ file: this.#file, line, key: keyText(path), message })
  }
}

function placesOf(placed: ReadonlyMap<string, number>): Places {
  // Names may have dots themselves: what is cut off may be part of a name, and the next cut finds the whole.
  const lineOfKey = (key: string): number | null => {
    for (let rest = key; rest !== ''; rest = rest.replace(/(^|\.|\[)[^.[]*$/, '')) {
      const found = placed.get(rest)
      if (found !== undefined) return found
    }
    return null
  }
  return { lineOfKey }
}
