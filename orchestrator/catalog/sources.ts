import { basename, dirname } from 'node:path/posix'
import { parse } from 'yaml'
import type { Fault } from '../compose/faults.ts'
import type { TemplateSource } from '../compose/source.ts'

/** Templates and rules among files, and what is wrong with how they are laid out. */
export interface Sources {
  readonly templates: readonly TemplateSource[]
  /** The file of the rules; null: there is none. */
  readonly rules: { readonly file: string; readonly text: string } | null
  readonly faults: readonly Fault[]
  /** YAML files that are neither: one that no template uses either is a fault. */
  readonly others: readonly string[]
}

/** Names that Docker Compose looks for: the folder gives the template its name, and all in it belongs to the template. */
const COMPOSE_FILE = /^(docker-)?compose\.ya?ml$/
const RULES_FILE = /^rules\.ya?ml$/
const YAML_FILE = /\.ya?ml$/

/**
 * Tells templates and rules from the files beside them: a YAML file with `services` or `x-orchestrator` is a template,
 * one with `rules` the rules. Within the folder of a compose.yaml all other files are that template's own.
 * @param files bytes by path, with `/`, relative to what was named
 */
export function findSources(files: ReadonlyMap<string, Uint8Array>): Sources {
  const paths = [...files.keys()].sort()
  const folders = new Set(paths.filter((path) => COMPOSE_FILE.test(basename(path))).map(dirname))
  const templates: TemplateSource[] = []
  const rules: { file: string; text: string }[] = []
  const others: string[] = []
  const faults: Fault[] = []
  for (const path of paths) {
    const name = basename(path)
    if (!YAML_FILE.test(name) || name.startsWith('.')) continue
    const folder = dirname(path)
    const owned = [...folders].some((compose) => isWithin(folder, compose))
    if (owned && !COMPOSE_FILE.test(name) && !RULES_FILE.test(name)) continue
    const text = Buffer.from(files.get(path) ?? []).toString('utf8')
    const { keys, named } = topOf(text)
    if (keys.has('services') || keys.has('x-orchestrator') || COMPOSE_FILE.test(name)) {
      templates.push({ name: named ?? nameOf(path), file: path, text, files: filesBelow(files, folder, path) })
    } else if (keys.has('rules')) rules.push({ file: path, text })
    else others.push(path)
  }
  const [first, ...more] = rules
  for (const { file } of more) {
    faults.push({
      file,
      line: null,
      key: 'rules',
      message: `the rules are in ${first?.file} already; all of them belong in one file`,
    })
  }
  return { templates, rules: first ?? null, faults, others }
}

/** Keys at the top of a YAML text, and its `name:`; of one that cannot be parsed, the keys that begin a line. */
function topOf(text: string): { readonly keys: ReadonlySet<string>; readonly named: string | null } {
  try {
    const data: unknown = parse(text, { logLevel: 'silent' })
    if (typeof data !== 'object' || data === null || Array.isArray(data)) return { keys: new Set(), named: null }
    const named = 'name' in data && typeof data.name === 'string' ? data.name : null
    return { keys: new Set(Object.keys(data)), named }
  } catch {
    const keys = [...text.matchAll(/^(services|x-orchestrator|rules)\s*:/gm)].map(([, key]) => key ?? '')
    return { keys: new Set(keys), named: null }
  }
}

/** The name that a path gives: that of the folder of a compose.yaml, else of the file; '' when there is no folder. */
function nameOf(path: string): string {
  const file = basename(path)
  if (!COMPOSE_FILE.test(file)) return file.replace(YAML_FILE, '')
  const folder = basename(dirname(path))
  return folder === '.' ? '' : folder
}

function filesBelow(
  files: ReadonlyMap<string, Uint8Array>,
  folder: string,
  but: string,
): ReadonlyMap<string, Uint8Array> {
  const prefix = folder === '.' ? '' : `${folder}/`
  const below = [...files].filter(([path]) => path.startsWith(prefix) && path !== but)
  return new Map(below.map(([path, bytes]) => [path.slice(prefix.length), bytes]))
}

function isWithin(folder: string, other: string): boolean {
  return other === '.' || folder === other || folder.startsWith(`${other}/`)
}
