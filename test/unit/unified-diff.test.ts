import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import fc from 'fast-check'
import { unifiedDiff } from '../../orchestrator/catalog/diff.ts'

const names = { from: 'web@1', to: 'web@2' }

describe('a unified diff', () => {
  const directory = mkdtempSync('/tmp/orchestrator-diff-')
  after(() => rmSync(directory, { recursive: true }))

  it('is nothing when nothing changed, a last line feed or not', () => {
    assert.equal(unifiedDiff('a\nb\n', 'a\nb', names), '')
    assert.equal(unifiedDiff('', '', names), '')
  })

  it('shows what changed with three lines around it, changes far apart on their own', () => {
    const before = Array.from({ length: 20 }, (_, n) => `line ${n}`)
    const changed = before.with(2, 'other').toSpliced(15, 1)
    assert.equal(
      unifiedDiff(before.join('\n'), changed.join('\n'), names),
      [
        '--- web@1\n+++ web@2\n@@ -1,6 +1,6 @@\n line 0\n line 1\n-line 2\n+other\n line 3\n line 4\n line 5\n',
        '@@ -13,7 +13,6 @@\n line 12\n line 13\n line 14\n-line 15\n line 16\n line 17\n line 18\n',
      ].join(''),
    )
    assert.equal(unifiedDiff('', 'a\n', names), '--- web@1\n+++ web@2\n@@ -0,0 +1 @@\n+a\n')
  })

  it('turns the one text into the other when patch(1) applies it, whatever they are', () => {
    const text = fc
      .array(fc.constantFrom('a', 'b', 'c', 'd: e'), { maxLength: 30 })
      .map((lines) => lines.map((l) => `${l}\n`).join(''))
    fc.assert(
      fc.property(text, text, (before, wanted) => {
        const diff = unifiedDiff(before, wanted, names)
        const file = join(directory, 'file')
        writeFileSync(file, before)
        if (diff === '') assert.equal(before, wanted)
        else {
          const options = ['--force', '--quiet', '--posix', '--reject-file=-', '-o', `${file}.new`, file]
          execFileSync('patch', options, { input: diff, encoding: 'utf8' })
          assert.equal(execFileSync('cat', [`${file}.new`], { encoding: 'utf8' }), wanted)
        }
      }),
      { numRuns: 60 },
    )
  })

  it('shows texts that have next to nothing in common as replaced, in no time', () => {
    const lines = (what: string) => Array.from({ length: 20_000 }, (_, n) => `${what} ${n}`).join('\n')
    const diff = unifiedDiff(lines('a'), lines('b'), names)
    assert.equal(diff.split('\n').length, 40_000 + 4)
  })
})
