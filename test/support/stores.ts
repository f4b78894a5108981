import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe } from 'node:test'
import { openStore } from '../../orchestrator/store/knex.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { type Postgres, startPostgres } from './postgres.ts'

/** Opens an empty store; it and its database go away with the suite. */
export type OpenStore = () => Promise<{ store: Store; url: string }>

/** Runs the same tests on SQLite and on PostgreSQL. */
export function onBothStores(title: string, tests: (open: OpenStore) => void): void {
  describe(`${title} (SQLite)`, () => {
    const opened: Store[] = []
    const directories: string[] = []
    after(async () => {
      for (const store of opened) await store.close()
      for (const directory of directories) rmSync(directory, { recursive: true, force: true })
    })
    tests(async () => {
      const directory = mkdtempSync('/tmp/orchestrator-store-')
      directories.push(directory)
      const url = `sqlite:${join(directory, 'test.db')}`
      const store = await openStore(url)
      opened.push(store)
      return { store, url }
    })
  })
  describe(`${title} (PostgreSQL)`, () => {
    let postgres: Postgres
    const opened: Store[] = []
    before(async () => {
      postgres = await startPostgres()
    })
    after(async () => {
      for (const store of opened) await store.close()
      await postgres.stop()
    })
    tests(async () => {
      const url = await postgres.database()
      const store = await openStore(url)
      opened.push(store)
      return { store, url }
    })
  })
}
