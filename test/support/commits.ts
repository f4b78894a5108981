import { openStore } from '../../orchestrator/store/knex.ts'

/** A process that commits 100,000 events, several at once, and prints the number of each one that was acknowledged. */
const store = await openStore(process.argv[2] ?? '')
const numbers = Array.from({ length: 100_000 }, (_, n) => n).values()
await Promise.all(
  Array.from({ length: 4 }, async () => {
    for (const n of numbers) {
      await store.transaction((tx) => tx.appendEvent({ level: 'info', kind: 'test.commit', message: `n${n}` }, n))
      process.stdout.write(`n${n}\n`)
    }
  }),
)
