import type { Command } from 'commander'
import { stringify } from 'yaml'
import type { FaultShape } from '../../../api/wire.ts'
import { type Compiled, compileAll } from '../../../catalog/compiled.ts'
import { type RulesKnown, readRules } from '../../../catalog/rules-file.ts'
import { findSources, type Sources } from '../../../catalog/sources.ts'
import { EXIT } from '../../exit.ts'
import { counted, sayFaults } from '../../faults.ts'
import { type Format, print, say } from '../../output.ts'
import { dataFormat } from '../../session.ts'
import { readSourceFiles } from '../../source-files.ts'

export function addCheck(template: Command): void {
  template
    .command('check')
    .summary('check template and rules files, without a server')
    .description(
      'Checks templates and rules as `orctl apply` would, and names every fault with file, line and key. What only the orchestrator knows is left to `orctl apply --dry-run`: a template that is derived from one that is not among the files is a fault, a rule that gives one is noted.',
    )
    .argument('<path...>', 'folders or files; - for standard input')
    .addHelpText(
      'after',
      `
Examples:
  orctl template check web/
  orctl template check catalog/ && orctl apply -f catalog/`,
    )
    .action(async (paths: string[], _flags: unknown, command: Command) => {
      const { output } = command.optsWithGlobals<{ output: Format }>()
      const { files, shown } = await readSourceFiles(paths)
      show(checked(findSources(files)), shown, dataFormat(output))
    })
}

interface Outcome {
  readonly templates: readonly { readonly name: string; readonly version: string; readonly summary: string }[]
  /** Number of rules; null: there is no rules file, or it has faults. */
  readonly rules: number | null
  readonly faults: readonly FaultShape[]
  readonly notes: readonly FaultShape[]
}

/** Without a server nobody knows which templates are trusted: what needs it is a note. */
function checked(sources: Sources): Outcome {
  const trusted = sources.templates.map(({ name }) => name)
  const compiled: Compiled = compileAll(sources, { templates: [], heads: [] }, { trusted, checkTemplate: () => {} })
  const templates = [...compiled.templates.values()]
  const weakened = templates.flatMap(({ name, weakens }) =>
    weakens.map((key) => ({
      file: sources.templates.find((source) => source.name === name)?.file ?? name,
      line: null,
      key,
      message: `weakens isolation: the orchestrator takes it only when its setting templates.trusted names ${name}`,
    })),
  )
  const rules = sources.rules === null ? null : readRules(sources.rules, knownAmong(compiled))
  return {
    templates: templates.map(({ name, version, summary }) => ({ name, version, summary })),
    rules: rules?.content?.rules.length ?? null,
    faults: [...sources.faults, ...compiled.faults, ...(rules?.faults ?? [])],
    notes: [...compiled.notes, ...weakened, ...(rules?.notes ?? [])],
  }
}

/** What rules may name as far as files tell: numbers of versions are given by the orchestrator. */
function knownAmong({ find, names }: Compiled): RulesKnown {
  return {
    find: (name, version) => (typeof version === 'number' ? null : find(name, version)),
    names,
    backends: null,
    more: true,
    seal: { seal: () => ({ sealed: '' }) },
  }
}

function show(outcome: Outcome, shown: (path: string) => string, shape: ReturnType<typeof dataFormat>): void {
  const { templates, rules, faults, notes } = outcome
  const nothing = templates.length === 0 && rules === null && faults.length === 0
  if (shape === 'json') print(`${JSON.stringify(outcome, null, 2)}\n`)
  else if (shape === 'yaml') print(stringify(outcome))
  else {
    sayFaults('error', faults, shown)
    sayFaults('note', notes, shown)
    for (const { name, version } of templates) {
      if (shape === 'name') print(`${name}\n`)
      else say(`template ${name} is good (${version})`)
    }
    if (rules !== null && shape === 'text') say(`rules are good (${counted(rules, 'rule')})`)
    if (faults.length > 0) say(`orctl: ${counted(faults.length, 'fault')}`)
  }
  if (nothing)
    say(
      'orctl: there is neither a template nor a rules file: expected YAML with `services`, `x-orchestrator` or `rules`',
    )
  if (faults.length > 0 || nothing) process.exitCode = EXIT.refused
}
