import { z } from 'zod'
import composeSpec from './compose-spec.json' with { type: 'json' }
import { EXTENSION, extensionShape } from './extension.ts'

/**
 * A JSON Schema (draft 7) of template files for editors: that of the Compose Specification
 * (github.com/compose-spec/compose-go, Apache-2.0), and `x-orchestrator`.
 */
export function editorSchema(): Record<string, unknown> {
  const { $schema: _dialect, ...extension } = z.toJSONSchema(extensionShape, {
    target: 'draft-7',
    io: 'input',
    unrepresentable: 'any',
  })
  return {
    ...composeSpec,
    $schema: 'http://json-schema.org/draft-07/schema#',
    $id: 'orchestrator-template.json',
    title: 'Template of the orchestrator',
    description: 'A Compose file with x-orchestrator. Not every key of Compose is supported: see docs/templates.md.',
    properties: { ...composeSpec.properties, [EXTENSION]: extension },
    required: [EXTENSION],
  }
}
