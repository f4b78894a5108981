import { OrchestratorError } from '../../common/errors.ts'
import type { Origin } from '../domain/template.ts'
import type { Transaction } from '../store/store.ts'
import { type CatalogContext, refuseKept } from './apply.ts'

/** Who uses a template, by name: rules in force, templates derived from it that are rolled out, living instances. */
export interface Uses {
  readonly rules: readonly string[]
  readonly templates: readonly string[]
  readonly instances: readonly string[]
}

/** Names of each kind that an error lists. */
const SHOWN = 5

/**
 * Removes a template and all of its versions but those that instances were made from.
 * @param origin who asks: what the watched directory keeps, only it removes
 * @throws OrchestratorError `template-in-use` naming who uses it, `kept-in-directory`, `not-found`
 */
export async function removeTemplate(context: CatalogContext, name: string, origin: Origin): Promise<void> {
  await context.store.transaction(async (tx) => {
    const head = await tx.head(name)
    if (head === null && (await tx.templateVersions(name)).length === 0) throw noTemplate(name)
    refuseKept(head, origin)
    const said = usesText(await usesOf(tx, { name }))
    if (said !== '') {
      throw new OrchestratorError(
        'template-in-use',
        `template ${name} is in use by ${said}; it can be removed once nothing uses it`,
      )
    }
    await tx.removeTemplate(name)
    const message = `template ${name} was removed`
    await tx.appendEvent({ level: 'info', kind: 'template.removed', message }, context.clock.now())
  })
  context.changed()
}

/** Who uses a template: any version of it, or that one. */
export async function usesOf(tx: Transaction, template: { name: string; version?: string }): Promise<Uses> {
  const { name, version } = template
  const head = await tx.head(name)
  const versions = await tx.templateVersions(name)
  const number = versions.find((one) => one.version === version)?.number
  const named = (given: string | number | undefined) =>
    version === undefined || (given === undefined ? head?.version === version : given === version || given === number)
  const rules = (await tx.ruleset())?.rules ?? []
  const derived: string[] = []
  for (const other of await tx.heads()) {
    const base = (await tx.template(other))?.base
    if (base?.name === name && (version === undefined || base.version === version)) derived.push(other.name)
  }
  return {
    rules: rules.filter(({ give }) => give?.template === name && named(give.version)).map((rule) => rule.name),
    templates: derived,
    instances: await tx.liveNames(template),
  }
}

/** There is no template of that name. */
export function noTemplate(name: string): OrchestratorError {
  return new OrchestratorError('not-found', `there is no template ${JSON.stringify(name.slice(0, 64))}`)
}

function usesText({ rules, templates, instances }: Uses): string {
  const kinds = [
    ['rule', rules],
    ['template', templates],
    ['instance', instances],
  ] as const
  return kinds
    .filter(([, names]) => names.length > 0)
    .map(([kind, names]) => {
      const more = names.length > SHOWN ? ` and ${names.length - SHOWN} more` : ''
      return `${kind}${names.length === 1 ? '' : 's'} ${names.slice(0, SHOWN).join(', ')}${more}`
    })
    .join('; ')
}
