import { createHash } from 'node:crypto'
import { stringify } from 'yaml'
import type { Parameter } from '../domain/parameter.ts'
import type { Json, TemplateContent } from '../domain/template.ts'

/** What stands where a secret is. */
const hidden = (changed: boolean) => (changed ? '(secret, changed)' : '(secret)')
/** How YAML is written for people. */
export const YAML = { lineWidth: 0, aliasDuplicateObjects: false } as const

/**
 * A template as one YAML text for people, to be compared with another: all that it means, without the values of secrets.
 * @param base what it was derived from, as far as that is known: some of its parameters may be secrets
 * @param other what it is compared with: a secret that is another there is told to be changed
 */
export function templateDocument(
  content: TemplateContent,
  base: TemplateContent | null,
  other: TemplateContent | null = null,
): string {
  const { summary, backend, entry, wiring, lifetime, parameters, outputs, fixed, stack, weakens } = content
  const secrets = new Set(base?.parameters.filter(({ type }) => type === 'secret').map(({ name }) => name))
  const set = Object.entries(fixed).map(([name, value]) => [
    name,
    secrets.has(name) ? hidden(other !== null && other.fixed[name] !== value) : value,
  ])
  const options = {
    summary,
    backend,
    ...(content.base === null ? {} : { base: `${content.base.name}@${content.base.version}` }),
    ...(set.length === 0 ? {} : { set: Object.fromEntries(set) }),
    entry,
    parameters: Object.fromEntries(
      parameters.map((parameter) => [parameter.name, parameterDocument(parameter, other)]),
    ),
    outputs: Object.fromEntries(outputs.map(({ name, ...rest }) => [name, withoutNulls(rest)])),
    ...(wiring === undefined ? {} : { wiring }),
    lifetime: withoutNulls(lifetime),
    ...(content.options === undefined ? {} : { options: content.options }),
    weakens,
  }
  const files = Object.entries(content.files).map(([path, bytes]) => [path, fileText(content, path, bytes, other)])
  return stringify({ ...stack, 'x-orchestrator': options, files: Object.fromEntries(files) }, YAML)
}

/** The stack alone, as YAML. What it refers to by name stays a name. */
export function stackDocument(content: TemplateContent): string {
  return stringify(content.stack, YAML)
}

function parameterDocument(parameter: Parameter, other: TemplateContent | null): Record<string, unknown> {
  const { name, ...rest } = parameter
  if (rest.type !== 'secret' || rest.default === null) return withoutNulls(rest)
  const there = other?.parameters.find((one) => one.name === name)?.default ?? null
  return withoutNulls({ ...rest, default: hidden(there !== null && there !== rest.default) })
}

/** A file as text where it is one; of a secret's file, and of bytes, only what tells that it changed. */
function fileText(content: TemplateContent, path: string, base64: string, other: TemplateContent | null): string {
  const bytes = Buffer.from(base64, 'base64')
  if (secretFiles(content).has(path)) return hidden((other?.files[path] ?? base64) !== base64)
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    const digest = createHash('sha256').update(bytes).digest('hex').slice(0, 12)
    return `(${bytes.length} bytes, SHA-256 ${digest}…)`
  }
}

/** Paths of the files that hold secrets: `secrets.*.file`. */
function secretFiles({ stack }: TemplateContent): Set<string> {
  const paths = Object.values(section(stack['secrets'])).flatMap((secret) => {
    const { file } = section(secret)
    return typeof file === 'string' ? [file, file.replace(/^\.\//, '')] : []
  })
  return new Set(paths)
}

function section(value: Json | undefined): { readonly [key: string]: Json } {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return {}
  return value as { readonly [key: string]: Json }
}

function withoutNulls(object: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== null))
}
