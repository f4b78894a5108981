import type { Support } from '../../orchestrator/compose/support.ts'
import type { FactVariable } from '../../orchestrator/compose/variables.ts'

/** The tables of docs/templates.md as they follow from the code. */

export function supportTable(support: readonly Support[]): string {
  // What needs no word is told with the key around it.
  const rows = support
    .filter(({ key, note, only }) => note !== '' || only !== undefined || !/\.\*$/.test(key))
    .map(({ key, supported, note, only }) => {
      const values = only === undefined ? '' : `only ${differing(only).join(' or ')}${note === '' ? '' : '; '}`
      return `| \`${key}\` | ${supported ? 'yes' : '**no**'} | ${`${values}${note}`.replaceAll('|', '\\|')} |`
    })
  return ['| key | supported | |', '|---|---|---|', ...rows].join('\n')
}

/** Values as text, each once: a number and its text are the same to an author. */
function differing(values: readonly unknown[]): string[] {
  return [...new Set(values.map((value) => `\`${value}\``))]
}

export function variableTable(variables: readonly FactVariable[]): string {
  const rows = variables.map(({ name, meaning, sample }) => `| \`${name}\` | ${meaning} | \`${sample}\` |`)
  return ['| variable | meaning | such as |', '|---|---|---|', ...rows].join('\n')
}
