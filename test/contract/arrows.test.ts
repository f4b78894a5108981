import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, it } from 'node:test'
import { pathToFileURL } from 'node:url'
import { ESLint, type Linter } from 'eslint'

const root = resolve(import.meta.dirname, '../..')
const fixture = join(root, 'test/fixtures/arrows')

interface Zone {
  readonly target: string | readonly string[]
}
const { default: config, zones }: { default: readonly Linter.Config[]; zones: readonly Zone[] } = await import(
  pathToFileURL(join(root, 'eslint.config.js')).href
)

/** The rules of the real tree, taken to another one; without those that need types, which the fixture has none of. */
function rulesFor(basePath: string): Linter.Config[] {
  return config
    .filter((block) => block.rules !== undefined)
    .map((block) => {
      if (!block.rules?.['import-x/no-restricted-paths']) return block
      const rules: Linter.RulesRecord = {
        'import-x/no-cycle': block.rules['import-x/no-cycle'] ?? 'off',
        'import-x/no-restricted-paths': ['error', { zones, basePath }],
      }
      const languageOptions = { ...block.languageOptions, parserOptions: {} }
      return { ...block, languageOptions, rules }
    })
}

/** `file:line rule` of every error, sorted. */
async function errors(cwd: string): Promise<string[]> {
  const eslint = new ESLint({ cwd, overrideConfigFile: true, overrideConfig: rulesFor(cwd) })
  const results = await eslint.lintFiles(['{common,unionize,orchestrator,lab}/**/*.ts'])
  const found = results.flatMap(({ filePath, messages }) =>
    messages.map((m) => `${filePath.slice(cwd.length + 1)}:${m.line} ${m.ruleId ?? m.message}`),
  )
  return found.sort()
}

describe('the arrows between folders', () => {
  it('are each an error when broken: a tree that breaks them all has exactly the errors it says', async () => {
    const expected = globSync('**/*.ts', { cwd: fixture }).flatMap((file) =>
      readFileSync(join(fixture, file), 'utf8')
        .split('\n')
        .flatMap((line, index) =>
          line.split('// expect: ')[1] ? [`${file}:${index + 1} ${line.split('// expect: ')[1]}`] : [],
        ),
    )
    assert.deepEqual([...new Set(await errors(fixture))], expected.sort())
    assert.ok(expected.length > 40)
  })

  it('have a fixture for every zone', () => {
    const broken = globSync('**/*.ts', { cwd: fixture }).filter((f) =>
      readFileSync(join(fixture, f), 'utf8').includes('no-restricted-paths'),
    )
    const folders = new Set(broken.map((file) => file.replace(/\/[^/]*$/, '')))
    for (const target of zones.flatMap((zone) => zone.target)) {
      const folder = target.replace(/^\.\//, '').replace(/\/?([*!].*|[^/]*\.ts)$/, '')
      assert.ok(folders.has(folder), `no file in ${folder} breaks zone ${target}`)
    }
  })

  it('are whole in this tree', async () => {
    assert.deepEqual(await errors(root), [])
  })
})
