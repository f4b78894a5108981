import type { Support } from '../../orchestrator/compose/support.ts'
import type { FactVariable } from '../../orchestrator/compose/variables.ts'

/** The tables of docs/templates.md as they follow from the code. */

export function supportTable(support: readonly Support[]): string {
  // What needs no word is told with the key around it.
  const rows = support
    .filter(({ key, note, only }) => note !== '' || only !== undefined || !/\.\*$/.test(key))
    .map(({ key, supported, note, only }) => {
      const values = only === undefined ? '' : `only \`${only[0]}\`${note === '' ? '' : '; '}`
      return `| \`${key}\` | ${supported ? 'yes' : '**no**'} | ${`${values}${note}`.replaceAll('|', '\\|')} |`
    })
  return ['| key | supported | |', '|---|---|---|', ...rows].join('\n')
}

export function variableTable(variables: readonly FactVariable[]): string {
  const rows = variables.map(({ name, meaning, sample }) => `| \`${name}\` | ${meaning} | \`${sample}\` |`)
  return ['| variable | meaning | such as |', '|---|---|---|', ...rows].join('\n')
}
