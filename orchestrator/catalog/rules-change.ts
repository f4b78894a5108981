import { stringify } from 'yaml'
import { errorCode, OrchestratorError } from '../../common/errors.ts'
import type { Fault } from '../compose/faults.ts'
import { isSealed } from '../domain/parameter.ts'
import type { Gift, Ruleset } from '../domain/rule.ts'
import type { Origin } from '../domain/template.ts'
import type { Seal } from '../pki/seal.ts'
import type { Transaction } from '../store/store.ts'
import type { CatalogContext, Change } from './apply.ts'
import type { Compiled } from './compiled.ts'
import { unifiedDiff } from './diff.ts'
import { YAML } from './document.ts'
import { keepSeals, type RulesContent, readRules, writtenRules } from './rules-file.ts'

/** What the rules are to become. */
export interface RulesChange {
  readonly change: Change
  readonly ruleset: Omit<Ruleset, 'revision'>
}

const NO_RULES: RulesContent = { rules: [], quotas: {} }

/**
 * Compares a rules file with the rules in force. Rules that came from the watched directory end when their file is taken
 * out of it; a person's files without rules leave the rules as they are.
 * @throws OrchestratorError `kept-in-directory`
 */
export async function planRules(
  tx: Transaction,
  context: Pick<CatalogContext, 'seal' | 'backends' | 'checkTemplate'>,
  source: { readonly file: string; readonly text: string } | null,
  compiled: Compiled,
  origin: Origin,
): Promise<{
  readonly change: RulesChange | null
  readonly faults: readonly Fault[]
  readonly notes: readonly Fault[]
}> {
  const former = await tx.ruleset()
  if (source === null) {
    const ended = origin === 'directory' && former?.origin === 'directory'
    const change = ended ? changeOf(former, { ...NO_RULES, origin: 'default' }, compiled) : null
    return { change, faults: [], notes: [] }
  }
  const { find, names } = compiled
  const { seal, backends, checkTemplate } = context
  const { content, faults, notes } = readRules(source, { find, names, backends, checkTemplate, seal })
  if (content === null) return { change: null, faults, notes }
  const kept = former === null ? content : withFormerSeals(content, former, seal)
  const change = changeOf(former, { ...kept, origin }, compiled)
  if (former?.origin === 'directory' && origin === 'api' && change.change.action !== 'unchanged') {
    throw new OrchestratorError(
      'kept-in-directory',
      'the rules follow their file in the catalog directory; change them there, or take the file out of there first',
    )
  }
  return { change, faults, notes }
}

function changeOf(
  former: Ruleset | null,
  ruleset: Omit<Ruleset, 'revision'>,
  compiled: Pick<Compiled, 'find'>,
): RulesChange {
  const revision = (former?.revision ?? 0) + 1
  const same = former !== null && meaning(former) === meaning(ruleset) && former.origin === ruleset.origin
  const name = 'rules'
  if (same) return { change: { kind: 'rules', name, action: 'unchanged', version: former.revision, diff: '' }, ruleset }
  const action = former === null ? 'created' : 'changed'
  const before = former === null ? '' : rulesDocument(former, null, compiled)
  const names = { from: former === null ? '(nothing)' : `rules@${former.revision}`, to: `rules@${revision}` }
  const diff = unifiedDiff(before, rulesDocument(ruleset, former, compiled), names)
  return { change: { kind: 'rules', name, action, version: revision, diff }, ruleset }
}

function meaning({ rules, quotas }: RulesContent): string {
  return JSON.stringify({ rules, quotas })
}

/** Rules as one YAML text for people. @param former what they are compared with: secrets that are others are told to be */
function rulesDocument(content: RulesContent, former: RulesContent | null, { find }: Pick<Compiled, 'find'>): string {
  const sealed = ({ rules }: RulesContent, rule: string, parameter: string): string | null => {
    const value = rules.find(({ name }) => name === rule)?.give?.parameters[parameter]
    return value !== undefined && isSealed(value) ? value.sealed : null
  }
  const secret = (rule: string, parameter: string) => {
    const before = former === null ? null : sealed(former, rule, parameter)
    return before === null || before === sealed(content, rule, parameter) ? '(secret)' : '(secret, changed)'
  }
  // What was applied when its parameter was none is a secret since the template says so.
  const isSecret = ({ template, version }: Gift, parameter: string) =>
    find(template, version)?.parameters.some(({ name, type }) => name === parameter && type === 'secret') === true
  return stringify(writtenRules(content, secret, isSecret), YAML)
}

/** After the key of the seal was lost, no secret is known to be the same: all of them are kept anew. */
function withFormerSeals(content: RulesContent, former: RulesContent, seal: Seal): RulesContent {
  try {
    return keepSeals(content, former, seal)
  } catch (error) {
    if (errorCode(error) !== 'seal-broken') throw error
    return content
  }
}
