import { randomBytes } from 'node:crypto'
import type { Knex } from 'knex'
import type { HostName } from '../domain/host.ts'

interface RecordRow {
  backend: string
  key: string
  value: string
}

/** Everything that a backend had kept. */
export async function backendRecords(db: Knex, backend: string): Promise<ReadonlyMap<string, string>> {
  const rows = await db<RecordRow>('backend_records').where({ backend })
  return new Map(rows.map(({ key, value }) => [key, value]))
}

/** @param value null: removes it */
export async function putBackendRecord(db: Knex, backend: string, key: string, value: string | null): Promise<void> {
  if (value === null) await db('backend_records').where({ backend, key }).delete()
  else await db('backend_records').insert({ backend, key, value }).onConflict(['backend', 'key']).merge({ value })
}

/** The one id of this installation: made by whoever asks first, 16 hex digits. */
export async function installationId(db: Knex): Promise<string> {
  const fresh = { one: 1, id: randomBytes(8).toString('hex') }
  await db('installation').insert(fresh).onConflict('one').ignore()
  const row = await db<{ one: number; id: string }>('installation').where({ one: 1 }).first()
  return row?.id ?? fresh.id
}

/** Living instances of a backend by target, without those that have none yet. */
export async function loadOf(db: Knex, backend: string): Promise<ReadonlyMap<HostName, number>> {
  const rows: readonly { host: HostName; n: string | number }[] = await db('instances')
    .where({ backend })
    .whereNot('state', 'gone')
    .whereNotNull('host')
    .groupBy('host')
    .select('host', db.raw('count(*) as n'))
  return new Map(rows.map(({ host, n }) => [host, Number(n)]))
}
