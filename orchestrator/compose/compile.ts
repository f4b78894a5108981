import { posix } from 'node:path'
import { InvalidInput } from '../../common/errors.ts'
import type { Json, Template, TemplateContent } from '../domain/template.ts'
import { withAdHocFiles } from './ad-hoc-files.ts'
import { type Derived, derive, findBase, freePath } from './derived.ts'
import { type ComposeDocument, keyText, type Path, readDocument } from './document.ts'
import { entryOf, portOf } from './entry.ts'
import {
  declaredParameters,
  EXTENSION,
  type Extension,
  extensionShape,
  readExtension,
  templateName,
} from './extension.ts'
import { FaultList } from './fault-list.ts'
import type { Fault } from './faults.ts'
import { fileAt, referredFiles } from './file-references.ts'
import { mismatches } from './mismatches.ts'
import { defaultFault, type PatternTime, patternTime } from './parameters.ts'
import { Scope } from './scope.ts'
import type { TemplateSource } from './source.ts'
import { durationOf } from './stack/durations.ts'
import { isMap } from './stack/reading.ts'
import { supportedPart } from './support.ts'
import { knownImages, tryStack } from './trial.ts'
import { checkStackVariables } from './variable-use.ts'

/** What templates are compiled with. */
export interface CompileOptions {
  /** A template to derive from: the version that is rolled out, or the one with that number or hash; null: there is none. */
  readonly base: (name: string, version?: string | number) => Template | null
  /** Whether the operator lets templates of that name weaken isolation. */
  readonly trusted: (name: string) => boolean
  /** What patterns may take; of templates that are compiled together the same. */
  readonly time?: PatternTime
}

/** What became of a template file. */
export interface CompileResult {
  readonly name: string
  /** null if and only if there are faults. */
  readonly content: TemplateContent | null
  readonly faults: readonly Fault[]
  /** What is understood otherwise than Compose users may expect. */
  readonly notes: readonly Fault[]
}

type Stack = { readonly [section: string]: Json }
const SECTIONS = ['services', 'networks', 'volumes', 'configs', 'secrets']

/**
 * Makes a template of a Compose file and the files beside it. It is pure: the same source means the same, wherever it is
 * compiled. Each fault names the exact key and its line; as many as can be told at once are told at once.
 */
export function compile(source: TemplateSource, options: CompileOptions): CompileResult {
  const { document, faults } = readDocument(source.file, source.text)
  if (document === null) return { name: source.name, content: null, faults, notes: [] }
  const compilation = new Compilation(source, document, options)
  return compilation.result()
}

/** What a template is made of, before its texts are looked at. */
interface Parts extends Derived {
  /** null: it was not said, and cannot be guessed. */
  readonly entry: string | null
  readonly writtenKey: (key: string) => string
}

class Compilation {
  readonly #source: TemplateSource
  readonly #document: ComposeDocument
  readonly #options: CompileOptions
  readonly #time: PatternTime
  readonly #faults: FaultList
  readonly #notes: FaultList
  /** Keys that were taken out because they are not supported. */
  readonly #refused: Path[] = []
  #name: string

  constructor(source: TemplateSource, document: ComposeDocument, options: CompileOptions) {
    this.#source = source
    this.#document = document
    this.#options = options
    this.#time = options.time ?? patternTime()
    this.#faults = new FaultList(source.file, document.places)
    this.#notes = new FaultList(source.file, document.places)
    this.#name = source.name
  }

  result(): CompileResult {
    const content = this.#content()
    const faults = this.#faults.all()
    return { name: this.#name, content: faults.length > 0 ? null : content, faults, notes: this.#notes.all() }
  }

  #content(): TemplateContent | null {
    const { tree } = this.#document
    this.#readName(tree['name'])
    const wrong = mismatches(tree)
    for (const { path, message } of wrong) this.#faults.add(keyText(path), message)
    const supported = supportedPart(tree, (path, message) => {
      this.#refused.push(path)
      this.#faults.add(keyText(path), message)
    })
    const { extension, mismatches: wrongExtension } = readExtension(tree[EXTENSION])
    for (const { path, message } of wrongExtension) this.#faults.add(keyText(path), message)
    // A file without x-orchestrator is looked at all the same: its author gets to know the rest at once.
    if (wrong.length > 0 || (extension === null && tree[EXTENSION] !== undefined)) return null
    const stack = Object.fromEntries(SECTIONS.flatMap((name) => section(supported, name)))
    const read = extension ?? extensionShape.parse({ summary: '-' })
    return read.base === undefined ? this.#own(stack, read) : this.#derived(stack, read, read.base)
  }

  #readName(given: Json | undefined): void {
    const name = given ?? this.#source.name
    if (given !== undefined && typeof given !== 'string') return
    const parsed = templateName.safeParse(name)
    if (parsed.success) this.#name = parsed.data
    else this.#faults.add(given === undefined ? '' : 'name', `${parsed.error.issues[0]?.message}`)
  }

  #own(stack: Stack, extension: Extension): TemplateContent | null {
    const services = isMap(stack['services']) ? stack['services'] : {}
    if (Object.keys(services).length === 0) {
      this.#faults.add('services', 'expected at least one service')
      return null
    }
    if (Object.keys(extension.set).length > 0) {
      this.#faults.add(`${EXTENSION}.set`, 'only a template with a `base` has parameters of one to set')
    }
    const entry = entryOf(services, extension.entry, this.#faults)
    const adHoc = withAdHocFiles(stack, extension.files, entry ?? Object.keys(services)[0] ?? '', this.#faults)
    const written = { add: (key: string, message: string) => this.#faults.add(adHoc.writtenKey(key), message) }
    const files = referredFiles(adHoc.stack, this.#source.files, written)
    const scope = new Scope(declaredParameters(extension), {})
    this.#checkDefaults(extension)
    return this.#assembled({ ...adHoc, files, scope, entry }, extension, null)
  }

  #derived(stack: Stack, extension: Extension, baseName: string): TemplateContent | null {
    for (const name of Object.keys(stack)) {
      this.#faults.add(name, 'a derived template has the services of its base: take it away')
    }
    const base = findBase(baseName, this.#name, this.#options.base, this.#faults)
    if (base === null) return null
    this.#checkDefaults(extension)
    const faults = { add: this.#faults.add.bind(this.#faults), note: this.#notes.note.bind(this.#notes) }
    const derived = derive(base, extension, declaredParameters(extension), this.#source, faults, this.#time)
    if (!this.#faults.isEmpty) return null
    const files = { ...derived.files }
    const own = Object.entries(extension.files).map(([target, adHoc]) => {
      if (adHoc.file === undefined) return [target, adHoc] as const
      const reference = { file: adHoc.file, key: `${EXTENSION}.files.${target}.file`, required: true }
      const bytes = Buffer.from(fileAt(reference, this.#source.files, this.#faults) ?? '').toString('base64')
      const file = freePath(posix.normalize(adHoc.file), bytes, files)
      files[file] = bytes
      return [target, { ...adHoc, file }] as const
    })
    const { entry } = base
    const adHoc = withAdHocFiles(derived.stack, Object.fromEntries(own), entry.service, this.#faults)
    const writtenKey = (key: string) => adHoc.writtenKey(key)
    return this.#assembled({ ...derived, ...adHoc, writtenKey, files, entry: entry.service }, extension, base)
  }

  #checkDefaults(extension: Extension): void {
    for (const parameter of declaredParameters(extension)) {
      const message = defaultFault(parameter, this.#time)
      if (message !== null) this.#faults.add(`${EXTENSION}.parameters.${parameter.name}.default`, message)
    }
  }

  /** Tries the parts together, and puts them into one. */
  #assembled(parts: Parts, extension: Extension, base: Template | null): TemplateContent | null {
    const { stack, scope, files, entry } = parts
    const told = (key: string): { key: string; before: string } => {
      const written = parts.writtenKey(key)
      const isBase = base !== null && !written.startsWith(EXTENSION)
      return isBase
        ? { key: `${EXTENSION}.base`, before: `with these values, ${base.name}: ${key}: ` }
        : { key: written, before: '' }
    }
    const fault = (key: string, message: string) => {
      const { key: at, before } = told(key)
      this.#faults.add(at, `${before}${message}`)
    }
    const note = (key: string, message: string) => {
      const { key: at, before } = told(key)
      // What is to be known of a base was said when it was compiled.
      if (before === '') this.#notes.note(at, message)
    }
    checkStackVariables(stack, scope, { add: fault }, { note })
    const first = Object.keys(isMap(stack['services']) ? stack['services'] : {})[0] ?? ''
    const absent = this.#refused.map(keyText)
    const read = tryStack(stack, entry ?? first, files, scope, fault, absent)
    if (entry === null) return null
    for (const { key, message } of read.notes) note(key, message)
    if (!this.#options.trusted(this.#name)) {
      const remedy = `an operator allows it to this template by the setting templates.trusted: [${this.#name}]`
      for (const key of read.weakens) fault(key, `weakens the isolation of instances: ${remedy}`)
    }
    const port = base !== null ? base.entry.port : portOf(stack, entry, extension.entry, scope, { note })
    const wiring = base ? base.wiring : extension.wiring && { ...extension.wiring, networks: {} }
    return {
      summary: extension.summary,
      backend: base?.backend ?? extension.backend ?? 'docker',
      kind: base?.kind === 'ad-hoc' || Object.keys(extension.files).length > 0 ? 'ad-hoc' : 'standard',
      base: base === null ? null : { name: base.name, version: base.version },
      parameters: scope.parameters,
      fixed: scope.fixed,
      outputs: base?.outputs ?? outputsOf(extension),
      entry: { service: entry, port },
      ...(wiring === undefined ? {} : { wiring }),
      lifetime: this.#lifetime(extension, base),
      stack,
      files,
      images: knownImages(stack, scope),
      weakens: read.weakens,
      ...optionsOf(extension, base),
    }
  }

  #lifetime({ lifetime }: Extension, base: Template | null): TemplateContent['lifetime'] {
    const read = (name: 'grace' | 'most'): number | null => {
      const value = lifetime[name]
      if (value === undefined) return null
      const key = `${EXTENSION}.lifetime.${name}`
      try {
        const ms = durationOf(value, key)
        if (name === 'most' && ms === 0) throw new InvalidInput(key, 'expected more than 0')
        return ms
      } catch (error) {
        if (!(error instanceof InvalidInput)) throw error
        this.#faults.add(key, error.message.slice(error.field.length + 2))
        return null
      }
    }
    const former = base?.lifetime ?? { graceMs: 0, mostMs: null }
    return { graceMs: read('grace') ?? former.graceMs, mostMs: read('most') ?? former.mostMs }
  }
}

/** A derived template tells some backends otherwise than its base. */
function optionsOf(extension: Extension, base: Template | null): Pick<TemplateContent, 'options'> {
  const options = { ...base?.options, ...(extension.options as Record<string, Json>) }
  return Object.keys(options).length === 0 ? {} : { options }
}

function section(tree: Stack, name: string): [string, Json][] {
  const value = tree[name]
  return value === undefined || value === null ? [] : [[name, value]]
}

function outputsOf({ outputs }: Extension): TemplateContent['outputs'] {
  return Object.entries(outputs).map(([name, { type, description }]) => ({
    name,
    type,
    description: description ?? null,
  }))
}
