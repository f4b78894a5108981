import { dirname, join } from 'node:path/posix'
import { InvalidInput } from '../../common/errors.ts'
import { compile } from '../compose/compile.ts'
import type { Fault } from '../compose/faults.ts'
import { patternTime } from '../compose/parameters.ts'
import type { TemplateSource } from '../compose/source.ts'
import { versionOf } from '../compose/version.ts'
import type { Template, TemplateHead } from '../domain/template.ts'
import type { Sources } from './sources.ts'

/** What the store has, or will have: every version, and which is rolled out. */
export interface Known {
  readonly templates: readonly Template[]
  readonly heads: readonly TemplateHead[]
}

/** What the operator allows, and what backends can do. */
export interface Limits {
  /** Names of templates that may weaken isolation. */
  readonly trusted: readonly string[]
  /** @throws InvalidInput naming what its backend cannot honour */
  readonly checkTemplate: (template: Template) => void
}

/** Templates as files mean them, by name. A number is that of the same version in the store, or what it will get. */
export interface Compiled {
  readonly templates: ReadonlyMap<string, Template>
  readonly faults: readonly Fault[]
  readonly notes: readonly Fault[]
  /** Names of all templates that there are then. */
  readonly names: readonly string[]
  /** A template as it is with these: of the files, or of the store. Without a version: the one that is rolled out. */
  find(name: string, version?: string | number): Template | null
}

/** Compiles all templates among files, each after what it is derived from. */
export function compileAll(sources: Sources, known: Known, limits: Limits): Compiled {
  const byName = new Map<string, TemplateSource>()
  const done = new Map<string, Template | null>()
  const under = new Set<string>()
  const time = patternTime()
  const faults: Fault[] = []
  const notes: Fault[] = []
  for (const source of sources.templates) {
    const other = byName.get(source.name)
    if (other === undefined) byName.set(source.name, source)
    else
      faults.push(
        fault(
          source,
          'name',
          `the template ${source.name} is in ${other.file} too; give one of them a name of its own`,
        ),
      )
  }

  const compiled = (source: TemplateSource): Template | null => {
    const ready = done.get(source.name)
    if (ready !== undefined) return ready
    if (under.has(source.name)) {
      faults.push(fault(source, 'x-orchestrator.base', `${[...under].join(' from ')} is derived from itself`))
      return null
    }
    under.add(source.name)
    const result = compile(source, { base: find, trusted: (name) => limits.trusted.includes(name), time })
    under.delete(source.name)
    faults.push(...result.faults)
    notes.push(...result.notes)
    const template = result.content === null ? null : numbered(result.name, result.content, known)
    const refused = template === null ? null : refusal(source, template, limits)
    if (refused !== null) faults.push(refused)
    done.set(source.name, template)
    return template
  }
  const find = (name: string, version?: string | number): Template | null => {
    const source = byName.get(name)
    const own = source === undefined || source.name !== name ? null : compiled(source)
    if (version === undefined) return source === undefined ? rolledOut(known, name) : own
    const means = (one: Template) =>
      one.name === name && (one.version === version || String(one.number) === String(version))
    return known.templates.find(means) ?? (own !== null && means(own) ? own : null)
  }

  for (const source of byName.values()) compiled(source)
  const templates = [...done.values()].filter((one) => one !== null)
  if (templates.length === byName.size) faults.push(...unused(sources, templates))
  const names = [...new Set([...byName.keys(), ...known.heads.map(({ name }) => name)])].sort()
  return { templates: new Map(templates.map((one) => [one.name, one])), faults, notes, names, find }
}

/** The version of that name which is rolled out. */
export function rolledOut({ heads, templates }: Known, name: string): Template | null {
  const head = heads.find((one) => one.name === name)
  return templates.find((one) => one.name === name && one.version === head?.version) ?? null
}

function numbered(name: string, content: Parameters<typeof versionOf>[0], known: Known): Template {
  const version = versionOf(content)
  const versions = known.templates.filter((one) => one.name === name)
  const number =
    versions.find((one) => one.version === version)?.number ?? Math.max(0, ...versions.map((one) => one.number)) + 1
  return { name, version, number, ...content }
}

function refusal(source: TemplateSource, template: Template, limits: Limits): Fault | null {
  try {
    limits.checkTemplate(template)
    return null
  } catch (error) {
    if (!(error instanceof InvalidInput)) throw error
    return fault(source, error.field, error.message.slice(error.field.length + 2))
  }
}

/** YAML that is no template, no rules, and that no template uses: forgotten, misspelt, or half written. */
function unused(sources: Sources, templates: readonly Template[]): Fault[] {
  const used = new Set<string>()
  for (const { name, file } of sources.templates) {
    const template = templates.find((one) => one.name === name)
    for (const path of Object.keys(template?.files ?? {})) used.add(join(dirname(file), path))
  }
  return sources.others
    .filter((path) => !used.has(path))
    .map((file) => ({
      file,
      line: null,
      key: '',
      message:
        'expected a template (`services` or `x-orchestrator`), `rules`, or a file that a template beside it refers to',
    }))
}

function fault({ file }: TemplateSource, key: string, message: string): Fault {
  return { file, line: null, key, message }
}
