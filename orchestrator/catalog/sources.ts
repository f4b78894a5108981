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
 * What editors (Vim, Emacs), version control and Kubernetes (`..data`) put beside files. Other names that begin with a dot
 * stay: an `.env` is what templates refer to.
 */
const BESIDE = /^(\.\..*|\.#.*|\.(git|hg|svn|bzr)|#.*#|.*~|4913|\..*\.sw[a-px])$/

/** Whether a file or folder of this name is none of the catalog's, wherever it lies. */
export function isBeside(name: string): boolean {
  return BESIDE.test(name)
}

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
  const below = filesBelow(files, new Set(paths.filter((path) => YAML_FILE.test(path)).map(dirname)))
  for (const path of paths) {
    const name = basename(path)
    if (!YAML_FILE.test(name) || name.startsWith('.')) continue
    const folder = dirname(path)
    const owned = isWithinOne(folder, folders)
    if (owned && !COMPOSE_FILE.test(name) && !RULES_FILE.test(name)) continue
    const text = Buffer.from(files.get(path) ?? []).toString('utf8')
    const { keys, named } = topOf(text)
    if (keys.has('services') || keys.has('x-orchestrator') || COMPOSE_FILE.test(name)) {
      templates.push({ name: named ?? nameOf(path), file: path, text, files: below.get(folder) ?? new Map() })
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
    // Repeated keys are told later: here each would be compared with each.
    const data: unknown = parse(text, { logLevel: 'silent', uniqueKeys: false })
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

/** The files in and below each of these folders, by their paths from there. */
function filesBelow(
  files: ReadonlyMap<string, Uint8Array>,
  folders: ReadonlySet<string>,
): ReadonlyMap<string, ReadonlyMap<string, Uint8Array>> {
  const all = new Map([...folders].map((folder) => [folder, new Map<string, Uint8Array>()]))
  for (const [path, bytes] of files) {
    let folder = path
    do {
      folder = dirname(folder)
      all.get(folder)?.set(folder === '.' ? path : path.slice(folder.length + 1), bytes)
    } while (folder !== '.' && folder !== '/')
  }
  return all
}

/** Whether a folder is one of these, or lies in one. */
function isWithinOne(folder: string, others: ReadonlySet<string>): boolean {
  if (others.has(folder)) return true
  return folder !== '.' && isWithinOne(dirname(folder), others)
}
