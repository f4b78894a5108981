import type { Knex } from 'knex'
import type { Template } from '../domain/template.ts'
import { type HeadRow, type InstanceRow, type TemplateRow, templateOf } from './rows.ts'
import { KnexTransaction } from './transaction.ts'

/**
 * Forgets rules that are no longer in force and template versions that nothing refers to (head, rule, instance, derived
 * template), when they were applied before `over`. The newest version of a name stays: no number is ever used twice.
 */
export async function pruneCatalog(trx: Knex.Transaction, over: number): Promise<void> {
  const tx = new KnexTransaction(trx)
  const inForce = await tx.rulesRevision()
  await trx('rulesets').where('created_at', '<', over).whereNot('revision', inForce).delete()
  const rows = await trx<TemplateRow>('templates').orderBy('number')
  if (!rows.some((row) => row.created_at < over)) return
  const templates = rows.map(templateOf)
  const used = await directlyUsed(trx, templates)
  for (const { name, number, version } of templates) {
    const newest = templates.every((other) => other.name !== name || other.number <= number)
    if (newest) used.add(keyOf(name, version))
  }
  // What a kept version was derived from is kept, too; a base is always there before what was derived from it.
  for (let before = -1; before !== used.size; ) {
    before = used.size
    for (const { name, version, base } of templates) {
      if (base !== null && used.has(keyOf(name, version))) used.add(keyOf(base.name, base.version))
    }
  }
  for (const { name, version, created_at } of rows) {
    if (created_at >= over || used.has(keyOf(name, version))) continue
    await trx('templates').where({ name, version }).delete()
  }
}

async function directlyUsed(trx: Knex.Transaction, templates: readonly Template[]): Promise<Set<string>> {
  const used = new Set<string>()
  for (const { name, version, previous } of await trx<HeadRow>('template_heads')) {
    used.add(keyOf(name, version))
    if (previous !== null) used.add(keyOf(name, previous))
  }
  const made = await trx<InstanceRow>('instances').distinct('template_name', 'template_version')
  for (const { template_name, template_version } of made) used.add(keyOf(template_name, template_version))
  for (const { give } of (await new KnexTransaction(trx).ruleset())?.rules ?? []) {
    const pinned = templates.find(
      ({ name, version, number }) => name === give?.template && [version, number].includes(give.version ?? ''),
    )
    if (pinned !== undefined) used.add(keyOf(pinned.name, pinned.version))
  }
  return used
}

function keyOf(name: string, version: string): string {
  return `${name}@${version}`
}
