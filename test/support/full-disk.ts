import assert from 'node:assert/strict'
import { closeSync, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { OrchestratorError, wording } from '../../common/errors.ts'
import { openStore } from '../../orchestrator/store/knex.ts'

/** What a store on a disk of a few megabytes does when that is full. Run in a mount namespace of its own; exits 0 when all is as promised. */
const directory = process.argv[2] ?? ''
const filler = join(directory, 'filler')
const store = await openStore(`sqlite:${join(directory, 'test.db')}`)
const event = (message: string) => ({ level: 'info', kind: 'test.commit', message }) as const
const told = (error: unknown) => {
  assert.ok(error instanceof OrchestratorError && error.code === 'store-failed' && error.retryable, wording(error))
  assert.match(wording(error), /full/)
  return true
}

function fill(): void {
  const file = openSync(filler, 'a')
  for (const bytes of [65_536, 4096, 1]) {
    try {
      for (;;) writeSync(file, Buffer.alloc(bytes))
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'ENOSPC')
    }
  }
  closeSync(file)
}

const acknowledged: string[] = []
for (let round = 1; round <= 2; round++) {
  fill()
  const until = async (): Promise<unknown> => {
    for (let n = 0; n < 10_000; n++) {
      const message = `round ${round} ${n} ${'x'.repeat(1000)}`
      try {
        await store.appendEvent(event(message), n)
        acknowledged.push(message)
      } catch (error) {
        return error
      }
    }
    return assert.fail('the disk was never full')
  }
  told(await until())
  await assert.rejects(
    store.transaction(async (tx) => {
      // More than SQLite's page cache holds: the disk is needed, and missing, before the commit.
      for (let n = 0; n < 100; n++) await tx.appendEvent(event('big '.padEnd(100_000, 'x')), n)
    }),
    told,
  )
  const kept = (await store.events({ limit: 100_000 })).map((e) => e.message)
  assert.deepEqual(kept, acknowledged, 'reads go on, and show exactly what was acknowledged')
  rmSync(filler)
  await store.check()
  const message = `room again ${round}`
  await store.transaction((tx) => tx.appendEvent(event(message), 1))
  acknowledged.push(message)
}
await store.close()
