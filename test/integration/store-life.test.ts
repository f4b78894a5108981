import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
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

/** The third step of the schema, taken back. */
const third = {
  undo: [
    ...['templates_number', 'instances_live_rule', 'instances_template', 'leases_refused'].map(
      (i) => `drop index ${i}`,
    ),
    ...['number', 'created_at'].map((column) => `alter table templates drop column ${column}`),
    ...['rule', 'parameters', 'grace_ms', 'ends_at', 'outputs'].map((c) => `alter table instances drop column ${c}`),
    ...['template_heads', 'rulesets', 'builds'].map((table) => `drop table ${table}`),
    `delete from knex_migrations where name like '0003%'`,
  ],
}

onBothStores('store in trouble', (open) => {
  it('loses no acknowledged commit when its process is killed in the middle of many', async () => {
    const { store, url } = await open()
    const child = spawn(process.execPath, [join(support, 'commits.ts'), url], { stdio: ['ignore', 'pipe', 'inherit'] })
    const closed = once(child, 'close')
    let output = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      output += chunk
      if (output.length > 1500) child.kill('SIGKILL')
    })
    assert.deepEqual(await closed, [null, 'SIGKILL'])
    const acknowledged = output.slice(0, output.lastIndexOf('\n')).split('\n')
    assert.ok(acknowledged.length > 200, `${acknowledged.length} were acknowledged`)
    const kept = new Set((await store.events({ limit: 100_000 })).map((event) => event.message))
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
    await sql(url, ...third.undo, ...undone, ...half)
    const again = await openStore(url)
    assert.equal((await again.instances()).length, 1)
    await again.check()
    await again.close()
  })

  it('turns templates of the former format into stacks, numbered as they were first used, and instances stay on theirs', async () => {
    const { store, url } = await open()
    const made = (n: number, version: string) => instance(n, { template: { name: 'box', version }, createdAt: n })
    await store.transaction(async (tx) => {
      for (const one of [made(2, 'aaa'), made(1, 'bbb')]) await tx.insertInstance(one)
    })
    await store.close()
    const web = {
      ...{ name: 'web', image: 'nginx', command: ['echo', '$HOME'], environment: { COST: '5$' }, pids: 64 },
      ...{
        memoryBytes: 64 << 20,
        capabilities: ['CHOWN'],
        stopGraceMs: 1500,
        networks: { back: { aliases: ['front'] } },
      },
    }
    const { command: _, ...plain } = web
    const log = { ...plain, name: 'log', networks: { back: { aliases: [] } } }
    const db = { ...plain, name: 'db', sandbox: 'own', networks: { back: { aliases: [], address: 'fd00:9::5' } } }
    const former = (version: string) => ({
      ...{ name: 'box', version, summary: 'a box', backend: 'docker', entryPort: 80, graceMs: 30_000 },
      ...{ services: [web, log, db], wiring: { interfaces: [], networks: { back: { prefix: 'fd00:9::/64' } } } },
    })
    const rows = ['ccc', 'aaa', 'bbb'].map((version) => {
      const text = JSON.stringify(former(version)).replaceAll("'", "''")
      return `insert into templates (name, version, content) values ('box', '${version}', '${text}')`
    })
    await sql(url, ...third.undo, ...rows)
    const again = await openStore(url)
    const templates = await again.templates()
    assert.deepEqual(
      templates.map((t) => `${t.number} ${t.version}`),
      ['1 ccc', '2 bbb', '3 aaa'],
    )
    const first = templates.find((t) => t.version === 'bbb')
    const services = (first?.stack['services'] ?? {}) as Record<string, Record<string, unknown>>
    assert.deepEqual([first?.entry, first?.lifetime.graceMs], [{ service: 'web', port: 80 }, 30_000])
    assert.deepEqual(services['web']?.['command'], ['echo', '$$HOME'])
    assert.match(JSON.stringify(services['web']), /"COST":"5\$\$"/)
    assert.deepEqual(services['web']?.['networks'], { back: { aliases: ['front', 'log'] } })
    assert.equal(services['log']?.['network_mode'], 'service:web')
    assert.deepEqual(services['db']?.['networks'], { back: { aliases: [], ipv6_address: 'fd00:9::5' } })
    assert.deepEqual(first?.stack['networks'], { back: { ipam: { config: [{ subnet: 'fd00:9::/64' }] } } })
    const [one] = await again.instances()
    assert.deepEqual(
      [one?.template, one?.graceMs, one?.parameters, one?.rule],
      [{ name: 'box', version: 'bbb' }, 30_000, {}, null],
    )
    assert.deepEqual((await again.heads())[0]?.version, 'aaa')
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
