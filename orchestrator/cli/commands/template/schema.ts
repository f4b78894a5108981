import type { Command } from 'commander'
import { editorSchema } from '../../../compose/schema.ts'
import { print } from '../../output.ts'

export function addSchema(template: Command): void {
  template
    .command('schema')
    .summary('print the JSON Schema of templates, for editors')
    .description(
      'Prints the JSON Schema of template files: that of Compose with x-orchestrator. The orchestrator serves it too, at /v1/schemas/template.json.',
    )
    .addHelpText(
      'after',
      `
Example, for editors with the YAML language server:
  orctl template schema >template.schema.json
  # first line of compose.yaml:  # yaml-language-server: $schema=./template.schema.json`,
    )
    .action(() => print(`${JSON.stringify(editorSchema(), null, 2)}\n`))
}
