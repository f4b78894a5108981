import type { Command } from 'commander'
import { stringify } from 'yaml'
import type { FaultShape } from '../../../api/wire.ts'
import { type Compiled, compileAll } from '../../../catalog/compiled.ts'
import { findSources, type Sources } from '../../../catalog/sources.ts'
import { EXIT } from '../../exit.ts'
import { sayFaults } from '../../faults.ts'
import { print, say } from '../../output.ts'
import { dataFormat } from '../../session.ts'
import { readSourceFiles } from '../../source-files.ts'

export function addCheck(template: Command): void {
  template
    .command('check')
    .summary('check template files, without a server')
    .description(
      'Checks templates as `orctl apply` would, and names every fault with file, line and key. A template that is derived from one that is not among the files can only be checked by `orctl apply --dry-run`, and so can rules.',
    )
    .argument('<path...>', 'folders or files; - for standard input')
    .addHelpText(
      'after',
      '\nExamples:\n  orctl template check web/\n  orctl template check catalog/ && orctl apply -f catalog/',
    )
    .action(async (paths: string[], _flags: unknown, command: Command) => {
      const { output } = command.optsWithGlobals<{ output: 'table' }>()
      const files = new Map<string, Uint8Array>()
      for (const path of paths) for (const [name, content] of await readSourceFiles(path)) files.set(name, content)
      const sources = findSources(files)
      show(sources, checked(sources), dataFormat(output))
    })
}

interface Outcome {
  readonly templates: readonly { readonly name: string; readonly version: string; readonly summary: string }[]
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
  return {
    templates: templates.map(({ name, version, summary }) => ({ name, version, summary })),
    faults: [...sources.faults, ...compiled.faults],
    notes: [...compiled.notes, ...weakened],
  }
}

function show(sources: Sources, outcome: Outcome, shape: ReturnType<typeof dataFormat>): void {
  if (shape === 'json') print(`${JSON.stringify(outcome, null, 2)}\n`)
  else if (shape === 'yaml') print(stringify(outcome))
  else {
    sayFaults('error', outcome.faults)
    sayFaults('note', outcome.notes)
    for (const { name, version } of outcome.templates) {
      if (shape === 'name') print(`${name}\n`)
      else say(`template ${name} is good (${version})`)
    }
    if (sources.templates.length === 0)
      say('there is no template: expected a YAML file with `services` or `x-orchestrator`')
  }
  if (outcome.faults.length > 0 || sources.templates.length === 0) process.exitCode = EXIT.refused
}
