import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import knex, { type Knex } from 'knex'
// Knex publishes its dialects for this purpose only as files; the subclass below is the whole shim.
import BetterSqlite3 from 'knex/lib/dialects/better-sqlite3/index.js'

interface Query {
  sql: string
  bindings?: unknown[]
  response?: unknown
  context?: unknown
}

/** Knex's SQLite dialect over Node's own SQLite: no native package to build, and commits that survive a power cut. */
class NodeSqliteClient extends BetterSqlite3 {
  override _driver(): unknown {
    return DatabaseSync
  }

  override async acquireRawConnection(): Promise<DatabaseSync> {
    const db = new DatabaseSync(this.connectionSettings.filename)
    db.exec(
      'pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on; pragma busy_timeout = 5000',
    )
    return db
  }

  override async _query(connection: DatabaseSync, query: Query): Promise<Query> {
    const statement = connection.prepare(query.sql)
    const bindings = this._formatBindings(query.bindings) as SQLInputValue[]
    if (statement.columns().length > 0) query.response = statement.all(...bindings)
    else {
      const result = statement.run(...bindings)
      query.response = { changes: Number(result.changes), lastInsertRowid: Number(result.lastInsertRowid) }
      query.context = { lastID: Number(result.lastInsertRowid), changes: Number(result.changes) }
    }
    return query
  }
}

/** Errors quote the SQL without the values, which may be secrets; they are thrown, so knex need not print them too. */
export const quiet = { compileSqlOnError: false, log: { warn: () => {}, error: () => {} } } as const

/**
 * A knex instance on one SQLite file, with one connection: a query outside an open transaction waits for its end.
 */
export function knexOnSqlite(filename: string): Knex {
  return knex({
    client: NodeSqliteClient as unknown as typeof Knex.Client,
    connection: { filename },
    useNullAsDefault: true,
    ...quiet,
    pool: { min: 1, max: 1 },
  })
}
