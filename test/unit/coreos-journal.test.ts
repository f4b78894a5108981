import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createJournal } from '../../orchestrator/backends/coreos/journal.ts'
import type { MachineWay } from '../../orchestrator/domain/machine.ts'

test("events of units are told of their instance, however its services are called, and no others'", async () => {
  const services = ['web', 'my-outputs', 'web-wire', 'a-s-b', 's-s']
  const units = ['wire', 'outputs', ...services.map((name) => `s-${name}`)].map(
    (part) => `orc-i-0a1b2c-${part}.service`,
  )
  const lines = [...units, 'ssh.service', 'orc-i-0a1b2c-secrets.service'].map(
    (UNIT, n) => `${JSON.stringify({ __CURSOR: `c${n}`, UNIT })}\n`,
  )
  const journal = createJournal({
    run: async () => ({ code: 0, out: '-- cursor: c\n', err: '' }),
    async *follow() {
      yield* lines
    },
  })
  const seen: string[] = []
  const way = { name: 'm1' } as MachineWay
  await journal.follow(
    way,
    (instance) => seen.push(instance),
    () => {},
    new AbortController().signal,
  )
  assert.deepEqual(seen, Array(units.length).fill('i-0a1b2c'))
})
