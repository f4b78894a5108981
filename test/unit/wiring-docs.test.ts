import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Command } from 'commander'
import { wiringDocument } from '../../common/wiring-spec.ts'
import { addInterfaceFlags } from '../../unionize/cli/flags.ts'

const ROOT = join(import.meta.dirname, '../..')
const PAGE = readFileSync(join(ROOT, 'docs/wiring.md'), 'utf8')

/** The rows of the tables in one section of the page, without their heads. */
function rowsOf(heading: string): string[][] {
  const section = PAGE.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? ''
  const lines = section.split('\n').filter((line) => line.startsWith('|'))
  const isHead = (i: number) => /^\|[-|]+\|$/.test(lines[i] ?? '') || /^\|[-|]+\|$/.test(lines[i + 1] ?? '')
  return lines.filter((_, i) => !isHead(i)).map(cellsOf)
}
/** A bar inside of a cell is written with a backslash. */
function cellsOf(line: string): string[] {
  const cells = line.split(/(?<!\\)\|/).slice(1, -1)
  return cells.map((cell) => cell.trim())
}

test('the table "From pipework" has no empty cell, and every test that it names is there', () => {
  const rows = rowsOf('From pipework')
  assert.ok(rows.length > 40, `only ${rows.length} rows were found`)
  for (const row of rows) {
    const [what = ''] = row
    assert.equal(row.length, 4, what)
    assert.ok(
      row.every((cell) => cell !== ''),
      `${what}: an empty cell`,
    )
    const [, file = '', name = ''] = /^`([\w/.-]+\.test\.ts)`: (.+)$/.exec(row[3] ?? '') ?? []
    const path = join(ROOT, 'test', file)
    assert.ok(file !== '' && existsSync(path), `${what}: there is no ${row[3]}`)
    const source = readFileSync(path, 'utf8').replaceAll("\\'", "'")
    const titles = [...source.matchAll(/^\s*(?:test|it)\(\s*(['"`])(.*?)\1,/gm)].map((match) => match[2])
    assert.ok(titles.includes(name), `${what}: ${file} has no test "${name}"`)
  }
})

test('every flag of "unionize wire" about an interface is on the page', () => {
  for (const option of addInterfaceFlags(new Command()).options) {
    assert.ok(PAGE.includes(`${option.long}`), `${option.long} is not on the page`)
  }
})

test('every field of the spec is on the page', () => {
  const names = new Set<string>()
  const collect = (schema: unknown): void => {
    if (typeof schema !== 'object' || schema === null) return
    for (const name of Object.keys((schema as { properties?: object }).properties ?? {})) names.add(name)
    for (const part of Object.values(schema)) collect(part)
  }
  collect(wiringDocument.toJSONSchema({ io: 'input', unrepresentable: 'any' }))
  assert.ok(names.size > 40)
  for (const name of names) assert.match(PAGE, new RegExp(`\\b${name}\\b`), `${name} is not on the page`)
})
