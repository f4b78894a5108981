import type { Template } from '../domain/template.ts'
import { labelOf } from './apply.ts'

/**
 * Why no instance may be made of that version now: it weakens the isolation of instances, and the operator does not (any
 * more) let templates of its name do so. null: one may be.
 * @param trusted names of templates that may: the setting `templates.trusted`
 */
export function distrust(template: Template, trusted: readonly string[]): string | null {
  const { name, weakens } = template
  const [first] = weakens
  if (first === undefined || trusted.includes(name)) return null
  const others = weakens.length === 1 ? '' : ` and ${weakens.length - 1} more`
  return (
    `template ${labelOf(template)} weakens the isolation of instances (${first}${others}): ` +
    `an operator allows it by the setting templates.trusted: [${name}]`
  )
}
