import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createLog, type LogLevel } from '../../common/log.ts'

function capture(level: LogLevel) {
  const lines: string[] = []
  const log = createLog({ name: 'unit', level, destination: { write: (line) => void lines.push(line) } })
  return { log, lines, entries: () => lines.map((line) => JSON.parse(line) as Record<string, unknown>) }
}

describe('log', () => {
  it('writes one JSON object a line with time, level by name, id and fields', () => {
    const { log, lines, entries } = capture('info')
    log.warn('lease.refused', 'no address\nis free', { host: 'h1' })
    const [entry] = entries()
    assert.equal(lines.length, 1)
    assert.match(lines[0] ?? '', /^[^\n]*\n$/)
    const { time, pid, ...rest } = entry ?? {}
    assert.deepEqual(rest, { level: 'warn', name: 'unit', id: 'lease.refused', msg: 'no address\nis free', host: 'h1' })
    assert.equal(pid, process.pid)
    assert.ok(!Number.isNaN(Date.parse(String(time))))
  })

  it('leaves out what is below its level', () => {
    const levels: LogLevel[] = ['debug', 'info', 'warn', 'error']
    for (const [index, least] of levels.entries()) {
      const { log, entries } = capture(least)
      for (const level of levels) log[level]('x.y', 'said')
      assert.deepEqual(
        entries().map((entry) => entry['level']),
        levels.slice(index),
      )
    }
  })

  it('keeps the message id, also when a field has the same name', () => {
    const { log, entries } = capture('info')
    log.info('real.id', 'said', { id: 'other' })
    assert.equal(entries()[0]?.['id'], 'real.id')
  })

  it('escapes what could change a terminal', () => {
    const { log, lines } = capture('info')
    log.info('x.y', 'device \u001b[2J\u0000 said', { hostname: '\u001b]0;x\u0007' })
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    assert.doesNotMatch(lines[0] ?? '', /[\u0000-\u0009\u000b-\u001f]/)
  })
})
