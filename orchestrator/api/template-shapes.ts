import { stackDocument } from '../catalog/document.ts'
import type { Uses } from '../catalog/removal.ts'
import { isSealed, type Parameter, type StoredParameters, type StoredValue } from '../domain/parameter.ts'
import type { Template, TemplateHead } from '../domain/template.ts'
import type { ParameterShape, TemplateDetailShape, TemplateShape } from './wire.ts'

/** What is said of a template beside its content. */
export interface TemplateStanding {
  /** null: no version of that name is rolled out. */
  readonly head: TemplateHead | null
  /** Living instances of this version. */
  readonly instances: number
  /** Number of the version that it was derived from; null: of none, or it is not known. */
  readonly baseNumber: number | null
}

export function templateToShape(template: Template, { head, instances, baseNumber }: TemplateStanding): TemplateShape {
  const { name, version, number, kind, summary, backend, base, images, entry, lifetime } = template
  return {
    name,
    version,
    number,
    current: head?.version === version,
    origin: head?.origin ?? 'api',
    kind,
    summary,
    backend,
    base: base === null ? null : `${base.name}@${baseNumber ?? base.version}`,
    images: [...images],
    entryPort: entry.port,
    graceSeconds: lifetime.graceMs / 1000,
    lifetimeSeconds: lifetime.mostMs === null ? null : lifetime.mostMs / 1000,
    instances,
  }
}

export function templateToDetail(template: Template, standing: TemplateStanding, uses: Uses): TemplateDetailShape {
  return {
    ...templateToShape(template, standing),
    parameters: template.parameters.map(parameterToShape),
    outputs: template.outputs.map((output) => ({ ...output })),
    stack: stackDocument(template),
    files: Object.entries(template.files).map(([path, base64]) => ({
      path,
      bytes: Buffer.byteLength(base64, 'base64'),
    })),
    weakens: [...template.weakens],
    usedBy: { rules: [...uses.rules], templates: [...uses.templates], instances: [...uses.instances] },
  }
}

function parameterToShape(parameter: Parameter): ParameterShape {
  const { type, default: preset, values } = parameter
  const hidden = type === 'secret' && preset !== null
  return { ...parameter, default: hidden ? { secret: true } : preset, values: values === null ? null : [...values] }
}

/**
 * Values as they may be told: of a secret only that it is one.
 * @param declared of the template that they are for: what it calls secret is, however it is stored
 */
export function parametersToShape(
  stored: StoredParameters,
  declared: readonly Parameter[],
): Record<string, ReturnType<typeof told>> {
  const secrets = new Set(declared.filter(({ type }) => type === 'secret').map(({ name }) => name))
  return Object.fromEntries(Object.entries(stored).map(([name, value]) => [name, told(value, secrets.has(name))]))
}

function told(value: StoredValue, secret: boolean): string | number | boolean | { secret: true } {
  return isSealed(value) || secret ? { secret: true } : value
}
