import type { Clock } from '../../common/clock.ts'
import { OrchestratorError } from '../../common/errors.ts'
import type { Fault } from '../compose/faults.ts'
import type { Origin, Template, TemplateHead } from '../domain/template.ts'
import type { Seal } from '../pki/seal.ts'
import type { Store, Transaction } from '../store/store.ts'
import { type Compiled, compileAll, type Known, type Limits, rolledOut } from './compiled.ts'
import { unifiedDiff } from './diff.ts'
import { templateDocument } from './document.ts'
import { planRules, type RulesChange } from './rules-change.ts'
import { findSources } from './sources.ts'

/** What the catalog works with. */
export interface CatalogContext extends Limits {
  readonly store: Store
  readonly clock: Clock
  readonly seal: Seal
  /** Names of the backends that rules may name. */
  readonly backends: readonly string[]
  /** Called after each commit by which a lease may become something else, or other images are wanted. */
  readonly changed: () => void
  /** Told of what came of each apply that was no dry run, for metrics. */
  readonly counted: (origin: Origin, outcome: 'changed' | 'unchanged' | 'faulty') => void
}

/** What one template or the rules become. */
export interface Change {
  readonly kind: 'template' | 'rules'
  readonly name: string
  readonly action: 'created' | 'changed' | 'unchanged'
  /** The version's number or the rules' revision; of a dry run: what it would be. */
  readonly version: number
  /** Unified, without secrets; '' when unchanged. */
  readonly diff: string
}

/** What came of it. With faults nothing was changed. */
export interface Applied {
  readonly changes: readonly Change[]
  readonly faults: readonly Fault[]
  readonly notes: readonly Fault[]
}

export interface ApplyOptions {
  readonly origin: Origin
  /** Says what would change, and changes nothing. */
  readonly dryRun?: boolean
  /** Keeps new versions without rolling them out. */
  readonly hold?: boolean
}

interface TemplateChange {
  readonly change: Change
  readonly template: Template
  /** What to write; null: the head stays. */
  readonly head: TemplateHead | null
}

/**
 * Makes files the catalog's content, all of them or, when one has a fault, none: templates become versions that are
 * rolled out at once, rules replace the former ones. Applying the same again changes nothing.
 * @param files bytes by path, with `/`
 * @throws OrchestratorError `kept-in-directory` when a person applies what the watched directory keeps
 */
export async function applyFiles(
  context: CatalogContext,
  files: ReadonlyMap<string, Uint8Array>,
  options: ApplyOptions,
): Promise<Applied> {
  const sources = findSources(files)
  const written = await context.store.transaction(async (tx) => {
    const known = await knownIn(tx)
    const compiled = compileAll(sources, known, context)
    const templates = [...compiled.templates.values()].map((one) => changeOf(one, known, compiled, options))
    const rules = await planRules(tx, context, sources.rules, compiled, options.origin)
    const faults = [...sources.faults, ...compiled.faults, ...rules.faults]
    const changes = [...templates.map(({ change }) => change), ...(rules.change === null ? [] : [rules.change.change])]
    const applied: Applied = { changes, faults, notes: [...compiled.notes, ...rules.notes] }
    if (faults.length > 0 || options.dryRun === true) return { applied, news: false }
    return { applied, news: await write(tx, context, templates, rules.change) }
  })
  const { applied, news } = written
  if (news) context.changed()
  if (options.dryRun !== true) {
    context.counted(options.origin, applied.faults.length > 0 ? 'faulty' : news ? 'changed' : 'unchanged')
  }
  return applied
}

/** Everything that the store has of templates. */
export async function knownIn(tx: Transaction): Promise<Known> {
  const heads = await tx.heads()
  return { heads, templates: await tx.templateVersions() }
}

/** @throws OrchestratorError `kept-in-directory` */
export function refuseKept(head: Pick<TemplateHead, 'name' | 'origin'> | null, origin: Origin): void {
  if (head?.origin !== 'directory' || origin === 'directory') return
  throw new OrchestratorError(
    'kept-in-directory',
    `template ${head.name} follows its file in the catalog directory; change it there, or take it out of there first`,
  )
}

function changeOf(template: Template, known: Known, compiled: Compiled, options: ApplyOptions): TemplateChange {
  const { name, version, number } = template
  const head = known.heads.find((one) => one.name === name) ?? null
  const former = rolledOut(known, name)
  const isKnown = known.templates.some((one) => one.name === name && one.version === version)
  const same = options.hold === true ? isKnown : head?.version === version
  if (!same) refuseKept(head, options.origin)
  const action = same ? 'unchanged' : former === null ? 'created' : 'changed'
  const change: Change = {
    kind: 'template',
    name,
    action,
    version: number,
    diff: same ? '' : diffOf(former, template, compiled),
  }
  return { change, template, head: nextHead(head, template, same, options) }
}

/** The head as it is to be; null: it stays as it is. */
function nextHead(
  head: TemplateHead | null,
  { name, version }: Template,
  same: boolean,
  options: ApplyOptions,
): TemplateHead | null {
  if (options.hold === true) return null
  if (head === null) return { name, version, previous: null, origin: options.origin }
  const origin = options.origin === 'directory' ? 'directory' : head.origin
  if (same) return origin === head.origin ? null : { ...head, origin }
  return { name, version, previous: head.version, origin }
}

/** What is in force against what is to be. */
function diffOf(former: Template | null, template: Template, { find }: Compiled): string {
  const base = (one: Template) => (one.base === null ? null : find(one.base.name, one.base.version))
  const names = { from: former === null ? '(nothing)' : labelOf(former), to: labelOf(template) }
  const before = former === null ? '' : templateDocument(former, base(former))
  return unifiedDiff(before, templateDocument(template, base(template), former), names)
}

/** `web@3` */
export function labelOf({ name, number }: Pick<Template, 'name' | 'number'>): string {
  return `${name}@${number}`
}

/** @returns whether anything was written */
async function write(
  tx: Transaction,
  { clock }: CatalogContext,
  templates: readonly TemplateChange[],
  rules: RulesChange | null,
): Promise<boolean> {
  const now = clock.now()
  let news = false
  for (const { change, template, head } of templates) {
    if (change.action === 'unchanged' && head === null) continue
    news = true
    const { name, version, number: _, ...content } = template
    const kept = await tx.putTemplate({ name, version }, content, now)
    if (head !== null) await tx.putHead(head, now)
    if (change.action === 'unchanged') continue
    const held = head === null ? '; it is held until it is rolled out' : ''
    const message = `template ${labelOf(kept)} was applied${held}`
    await tx.appendEvent({ level: 'info', kind: 'template.applied', message }, now)
  }
  if (rules !== null && rules.change.action !== 'unchanged') {
    news = true
    const { revision, rules: all } = await tx.putRuleset(rules.ruleset, now)
    const message = `revision ${revision} of the rules was applied: ${all.length} rule${all.length === 1 ? '' : 's'}`
    await tx.appendEvent({ level: 'info', kind: 'rules.applied', message }, now)
  }
  return news
}
