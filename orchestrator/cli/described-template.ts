import { plain } from '../../common/plain.ts'
import { aligned } from '../../common/table.ts'
import type { ParameterShape, TemplateDetailShape } from '../api/wire.ts'
import { span } from './ages.ts'
import { valueText } from './values.ts'

/** A template in words, with its stack. */
export function describedTemplate(template: TemplateDetailShape): string {
  const { usedBy } = template
  const rows: [string, string][] = [
    ['Name', `${plain(template.name)}@${template.number}${template.current ? '' : ' (not rolled out)'}`],
    ['Hash', plain(template.version)],
    ['Summary', plain(template.summary)],
    ['Kind', template.kind],
    ['Kept in', template.origin],
    ['Backend', plain(template.backend)],
    ['Base', plain(template.base)],
    ['Images', plain(template.images.join(', '))],
    ['Port', plain(template.entryPort)],
    ['Lifetime', lifetime(template)],
    ['Weakens', plain(template.weakens.join(', ') || null)],
    ['Rules', plain(usedBy.rules.join(', ') || null)],
    ['Templates', plain(usedBy.templates.join(', ') || null)],
    ['Instances', plain(usedBy.instances.join(', ') || null)],
  ]
  const parameters = template.parameters.map((parameter) => [
    `  ${plain(parameter.name)}`,
    parameter.type,
    asked(parameter),
    plain(parameter.description),
  ])
  const outputs = template.outputs.map(({ name, type, description }) => [`  ${plain(name)}`, type, plain(description)])
  const files = template.files.map(({ path, bytes }) => [`  ${plain(path)}`, `${bytes} bytes`])
  return [
    aligned(rows.map(([name, value]) => [`${name}:`, value])),
    section('Parameters', parameters),
    section('Outputs', outputs),
    section('Files', files),
    'Stack:\n',
    template.stack.replace(/^(?=.)/gm, '  '),
  ].join('')
}

function lifetime({ graceSeconds, lifetimeSeconds }: TemplateDetailShape): string {
  const most = lifetimeSeconds === null ? 'as long as the lease' : `at most ${span(lifetimeSeconds * 1000)}`
  return graceSeconds === 0 ? most : `${most}, and ${span(graceSeconds * 1000)} after the lease`
}

function asked(parameter: ParameterShape): string {
  if (parameter.default !== null) return `default ${valueText(parameter.default)}`
  return parameter.required ? 'required' : 'may be left out'
}

function section(name: string, rows: string[][]): string {
  return rows.length === 0 ? '' : `${name}:\n${aligned(rows)}`
}
