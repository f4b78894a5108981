import { createHash } from 'node:crypto'
import type { TemplateContent } from '../domain/template.ts'

/** The version of a template: 12 hexadecimal digits of the SHA-256 of what it means, in whatever order its keys stand. */
export function versionOf(content: TemplateContent): string {
  return createHash('sha256').update(canonical(content)).digest('hex').slice(0, 12)
}

/** JSON with the keys of every object in the order of their UTF-16 code units, as RFC 8785 has it. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined)
  const sorted = entries.sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${sorted.map(([key, inner]) => `${JSON.stringify(key)}:${canonical(inner)}`).join(',')}}`
}
