import { InvalidInput, OrchestratorError } from '../../common/errors.ts'
import type { Template } from '../domain/template.ts'
import type { Store, Transaction } from '../store/store.ts'
import { type CatalogContext, labelOf, refuseKept } from './apply.ts'
import { unifiedDiff } from './diff.ts'
import { templateDocument } from './document.ts'
import { noTemplate } from './removal.ts'
import { distrust } from './trust.ts'

/**
 * Makes a version the one that rules mean when they name none. Instances that run stay on theirs.
 * @param to a version's number or hash, or `previous`: the one before the last rollout
 * @throws OrchestratorError `not-found`, `kept-in-directory`; InvalidInput `to` when there is no previous one, or when the
 *   version weakens isolation and its name is not trusted
 */
export async function rollOutTemplate(context: CatalogContext, name: string, to: string | number): Promise<Template> {
  const { template, changed } = await context.store.transaction(async (tx) => {
    const versions = await versionsIn(tx, name)
    const head = await tx.head(name)
    refuseKept(head, 'api')
    if (to === 'previous' && head?.previous == null) {
      throw new InvalidInput('to', `template ${name} has no previous version; name one by its number`)
    }
    const wanted = versionAmong(versions, name, to === 'previous' ? (head?.previous ?? '') : to)
    if (head?.version === wanted.version) return { template: wanted, changed: false }
    const distrusted = distrust(wanted, context.trusted)
    if (distrusted !== null) throw new InvalidInput('to', distrusted)
    const now = context.clock.now()
    const { version } = wanted
    await tx.putHead({ name, version, previous: head?.version ?? null, origin: 'api' }, now)
    const message = `template ${labelOf(wanted)} was rolled out; instances that run stay on their versions`
    await tx.appendEvent({ level: 'info', kind: 'template.rolled-out', message }, now)
    return { template: wanted, changed: true }
  })
  if (changed) context.changed()
  return template
}

/**
 * Unified diff of two versions, without secrets.
 * @param given numbers or hashes; absent: the version that is rolled out, and the one before it
 * @throws OrchestratorError `not-found`; InvalidInput `from` when there is none before
 */
export async function diffVersions(
  store: Pick<Store, 'transaction'>,
  name: string,
  given: { readonly from?: string | undefined; readonly to?: string | undefined },
): Promise<{ readonly from: number; readonly to: number; readonly diff: string }> {
  return await store.transaction(async (tx) => {
    const versions = await versionsIn(tx, name)
    const newest = versions.at(-1)?.number ?? 0
    const to = versionAmong(versions, name, given.to ?? (await tx.head(name))?.version ?? newest)
    const before = versions.findLast(({ number }) => number < to.number)
    if (given.from === undefined && before === undefined) {
      throw new InvalidInput('from', `template ${name} has no version before ${to.number}`)
    }
    const from = versionAmong(versions, name, given.from ?? before?.version ?? '')
    const base = async ({ base: ref }: Template) => (ref === null ? null : await tx.template(ref))
    const texts = [templateDocument(from, await base(from)), templateDocument(to, await base(to), from)] as const
    const diff = unifiedDiff(...texts, { from: labelOf(from), to: labelOf(to) })
    return { from: from.number, to: to.number, diff }
  })
}

/** Every version of a template, oldest first. @throws OrchestratorError `not-found` */
export async function versionsIn(tx: Transaction, name: string): Promise<readonly Template[]> {
  const versions = await tx.templateVersions(name)
  if (versions.length === 0) throw noTemplate(name)
  return versions
}

/** The version of that hash or number. @throws OrchestratorError `not-found` */
export function versionAmong(versions: readonly Template[], name: string, wanted: string | number): Template {
  const found =
    versions.find(({ version }) => version === wanted) ??
    versions.find(({ number }) => String(number) === String(wanted))
  if (found !== undefined) return found
  const known = versions.map(({ number }) => number).join(', ')
  throw new OrchestratorError('not-found', `template ${name} has no version ${wanted}; it has ${known}`)
}
