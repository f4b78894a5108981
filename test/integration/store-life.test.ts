import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import pg from 'pg'
import { wording } from '../../common/errors.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import { instance } from '../support/instances.ts'
import { onBothStores } from '../support/stores.ts'

const support = join(import.meta.dirname, '../support')

/** Runs SQL past the store. */
async function sql(url: string, ...statements: string[]): Promise<void> {
  if (url.startsWith('sqlite:')) {
    const db = new DatabaseSync(url.slice('sqlite:'.length))
    for (const statement of statements) db.exec(statement)
    return db.close()
  }
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  for (const statement of statements) await client.query(statement)
  await client.end()
}

onBothStores('store in trouble', (open) => {
  it('loses no acknowledged commit when its process is killed in the middle of a thousand', async () => {
    const { store, url } = await open()
    const child = spawn(process.execPath, [join(support, 'commits.ts'), url], { stdio: ['ignore', 'pipe', 'inherit'] })
    const exited = new Promise<string | null>((resolve) => child.once('exit', (_, signal) => resolve(signal)))
    let output = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      output += chunk
      if (output.length > 1500) child.kill('SIGKILL')
    })
    assert.equal(await exited, 'SIGKILL')
    const acknowledged = output.slice(0, output.lastIndexOf('\n')).split('\n')
    assert.ok(acknowledged.length > 200 && acknowledged.length < 1000, `${acknowledged.length} were acknowledged`)
    const kept = new Set((await store.events({ limit: 2000 })).map((event) => event.message))
    assert.deepEqual(
      acknowledged.filter((n) => !kept.has(n)),
      [],
    )
    assert.ok(kept.size <= acknowledged.length + 4, 'at most those under way came on top')
    await store.check()
  })

  it('opens after a start that was killed while it brought the schema up to date', async () => {
    const { store, url } = await open()
    await store.transaction((tx) => tx.insertInstance(instance(1)))
    await store.close()
    const undone = ['hosts', 'templates', 'events', 'tokens'].map((table) => `drop table ${table}`)
    const half = [
      `delete from knex_migrations where name like '0002%'`,
      'update knex_migrations_lock set is_locked = 1',
    ]
    await sql(url, ...undone, ...half)
    const again = await openStore(url)
    assert.equal((await again.instances()).length, 1)
    await again.check()
    await again.close()
  })
})

describe('a store that several open', () => {
  it('is made once by orchestrators that start together', async () => {
    const { startPostgres } = await import('../support/postgres.ts')
    const postgres = await startPostgres()
    try {
      const url = await postgres.database()
      const opened = await Promise.all(Array.from({ length: 5 }, () => openStore(url)))
      for (const store of opened) await store.check()
      for (const store of opened) await store.close()
    } finally {
      await postgres.stop()
    }
  })
})

describe('a store that cannot be opened', () => {
  it('says why, and never the password', async () => {
    for (const url of [
      'postgres://user:hunter2@localhost:1/db',
      'postgres://user:hunter2@[::1]:1/db',
      'postgres://user:hunter2@[bad/db',
      'postgres://user:hunter2@nowhere.invalid/db',
      'sqlite:/nonexistent/folder/test.db',
    ]) {
      await assert.rejects(openStore(url), (error: Error & { code?: string }) => {
        assert.equal(error.code, 'store-failed', url)
        assert.match(error.message, /^the (SQLite|PostgreSQL) store cannot be opened: \w/)
        assert.doesNotMatch(`${wording(error)}${error.stack}`, /hunter2|AggregateError/)
        return true
      })
    }
  })
})

describe('a full disk under SQLite', () => {
  it('is told as such, reads go on, nothing acknowledged is lost, and work goes on when there is room', async () => {
    const directory = mkdtempSync('/tmp/orchestrator-full-')
    try {
      // The mount lives and dies with this process's own mount namespace.
      const script = 'mount -t tmpfs -o size=3m orchestrator-test "$1" && exec "$2" "$3" "$1"'
      const child = ['sh', '-c', script, 'sh', directory, process.execPath, join(support, 'full-disk.ts')]
      await promisify(execFile)('unshare', ['--mount', '--propagation', 'private', ...child])
    } finally {
      rmSync(directory, { recursive: true })
    }
  })
})
