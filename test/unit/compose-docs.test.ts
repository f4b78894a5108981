import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Ajv } from 'ajv'
import { parse } from 'yaml'
import { compile } from '../../orchestrator/compose/compile.ts'
import { extensionShape } from '../../orchestrator/compose/extension.ts'
import { faultText } from '../../orchestrator/compose/faults.ts'
import { editorSchema } from '../../orchestrator/compose/schema.ts'
import { SUPPORT } from '../../orchestrator/compose/support.ts'
import { FACT_VARIABLES } from '../../orchestrator/compose/variables.ts'
import { versionOf } from '../../orchestrator/compose/version.ts'
import type { Template } from '../../orchestrator/domain/template.ts'
import { supportTable, variableTable } from '../support/template-tables.ts'

const PAGE = readFileSync(join(import.meta.dirname, '../../docs/templates.md'), 'utf8')
const between = (name: string) => PAGE.split(`<!-- ${name} -->\n`)[1]?.split(`\n<!-- /${name} -->`)[0]
const EXAMPLES = [...PAGE.matchAll(/```yaml\n(# (\S+)\.yaml\n[\s\S]*?)```/g)].map(([, text = '', name = '']) => ({
  text,
  name,
}))

test('the table of keys on the page is that of the code', () => {
  assert.equal(between('support'), supportTable(SUPPORT))
})

test('the table of variables on the page is that of the code', () => {
  assert.equal(between('variables'), variableTable(FACT_VARIABLES))
})

test('every key of x-orchestrator is on the page', () => {
  for (const key of Object.keys(extensionShape.shape))
    assert.ok(PAGE.includes(`\`${key}\``), `${key} is not on the page`)
})

test('every example on the page is a template without faults or notes', () => {
  assert.ok(EXAMPLES.length >= 5)
  const bases: Template[] = []
  for (const { text, name } of EXAMPLES) {
    const source = { name, file: `${name}.yaml`, text, files: new Map([['index.html', Buffer.from('x')]]) }
    const options = { base: (wanted: string) => bases.find((one) => one.name === wanted) ?? null, trusted: () => false }
    const { content, faults, notes } = compile(source, options)
    assert.deepEqual([...faults, ...notes].map(faultText), [])
    assert.ok(content)
    bases.push({ name, version: versionOf(content), number: 1, ...content })
  }
})

test('the schema for editors is valid, accepts the examples, and knows x-orchestrator', () => {
  const schema = editorSchema()
  const validate = new Ajv({ strict: false, allErrors: true }).compile(schema)
  for (const { text, name } of EXAMPLES) {
    assert.ok(validate(parse(text)), `${name}: ${JSON.stringify(validate.errors)}`)
  }
  const page = (extension: object) => ({ 'x-orchestrator': extension, services: { web: { image: 'nginx' } } })
  assert.ok(validate(page({ summary: 'x' })))
  for (const wrong of [
    {},
    { summary: 3 },
    { summary: 'x', sumary: 'x' },
    { summary: 'x', parameters: { A: { type: 'foo' } } },
  ]) {
    assert.ok(!validate(page(wrong)), JSON.stringify(wrong))
  }
  assert.ok(!validate({ services: {} }), 'a file without x-orchestrator')
})
