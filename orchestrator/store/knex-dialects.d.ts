/** The part of knex's SQLite dialect that node-sqlite.ts builds on; knex types only its public face. */
declare module 'knex/lib/dialects/better-sqlite3/index.js' {
  export default class BetterSqlite3Client {
    connectionSettings: { filename: string }
    _driver(): unknown
    acquireRawConnection(): Promise<unknown>
    _query(connection: unknown, query: unknown): Promise<unknown>
    _formatBindings(bindings: unknown[] | undefined): unknown[]
  }
}
