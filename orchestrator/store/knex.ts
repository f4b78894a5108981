import { setTimeout as delay } from 'node:timers/promises'
import knex, { type Knex } from 'knex'
import pg from 'pg'
import { OrchestratorError, wording } from '../../common/errors.ts'
import type { Build } from '../domain/build.ts'
import type { OperatorEvent, StoredEvent } from '../domain/event.ts'
import type { Host, HostName } from '../domain/host.ts'
import type { Instance, InstanceId } from '../domain/instance.ts'
import type { Lease, Owner } from '../domain/lease.ts'
import type { Parameters } from '../domain/parameter.ts'
import type { Ruleset } from '../domain/rule.ts'
import type { Template, TemplateHead, TemplateRef } from '../domain/template.ts'
import { backendRecords, installationId, loadOf, putBackendRecord } from './backend-records.ts'
import { pruneCatalog } from './catalog-pruning.ts'
import { credentialNamed, credentials, putCredential, removeCredential } from './credentials.ts'
import { failure, StoreFailure, worded } from './failure.ts'
import { migrate } from './migrations.ts'
import { knexOnSqlite, quiet } from './node-sqlite.ts'
import {
  type BuildRow,
  buildOf,
  type EventRow,
  eventOf,
  type HostRow,
  hostOf,
  type InstanceRow,
  instanceOf,
  type LeaseRow,
  leaseOf,
  priceColumns,
  type TemplateRow,
  type TokenRow,
  tokenOf,
} from './rows.ts'
import type { Page, SettleChange, Store, StoredCredential, StoredToken, Transaction } from './store.ts'
import { KnexTransaction } from './transaction.ts'

/** SQLSTATE of a serialization failure, a deadlock and a unique violation (PostgreSQL manual, appendix A). */
const CONFLICTS = new Set(['40001', '40P01', '23505'])
const CONFLICT_ATTEMPTS = 10
/** Milliseconds that a loser waits at most before its second attempt; twice as long before each further one, up to a limit. */
const CONFLICT_WAIT = { first: 8, most: 500 } as const
/** Milliseconds for which what is over is remembered: journals, tokens, instances, leases. Addresses stay with their owners. */
const MEMORY_MS = 90 * 86_400_000
/** Whose turn an instance takes; the index instances_due has the same expression. */
const DUE_HOST = 'coalesce(host, source)'
/** int8: epoch ms and counters stay far below 2^53. */
const PG_INT8 = 20

/**
 * Opens the store and brings its schema up to date.
 * @param url `sqlite:/path/file` or `postgres://user:password@host/database`
 * @throws StoreFailure naming what is wrong, never the password
 */
export async function openStore(url: string): Promise<Store> {
  const sqlite = url.startsWith('sqlite:')
  const db = sqlite ? knexOnSqlite(url.slice('sqlite:'.length)) : knexOnPostgres(url)
  try {
    await migrate(db, sqlite)
  } catch (cause) {
    await db.destroy()
    throw new StoreFailure(
      `the ${sqlite ? 'SQLite' : 'PostgreSQL'} store cannot be opened: ${wording(cause)}`,
      undefined,
    )
  }
  return worded(new KnexStore(db, sqlite))
}

function knexOnPostgres(connectionString: string): Knex {
  const types = {
    getTypeParser: (id: number, format?: 'text' | 'binary') =>
      id === PG_INT8 ? Number : pg.types.getTypeParser(id, format as 'text'),
  }
  return knex({
    client: 'pg',
    connection: { connectionString, types } as Knex.PgConnectionConfig,
    pool: { min: 0, max: 10 },
    ...quiet,
  })
}

class KnexStore implements Store {
  readonly #db: Knex
  readonly #sqlite: boolean
  constructor(db: Knex, sqlite: boolean) {
    this.#db = db
    this.#sqlite = sqlite
  }

  transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    return this.#transact((trx) => work(new KnexTransaction(trx)), this.#careful)
  }

  /** On PostgreSQL concurrent orchestrators are kept apart by serializability, not by locks that someone could forget. */
  get #careful(): Knex.TransactionConfig {
    return this.#sqlite ? {} : { isolationLevel: 'serializable' }
  }

  async #transact<T>(work: (trx: Knex.Transaction) => Promise<T>, config: Knex.TransactionConfig = {}): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      // After a full disk SQLite has rolled back by itself, and knex tells only that its own ROLLBACK failed.
      let first: unknown
      try {
        return await this.#db.transaction(async (trx) => {
          try {
            return await work(trx)
          } catch (error) {
            first = error
            throw error
          }
        }, config)
      } catch (last) {
        const error = first ?? last
        if (error instanceof OrchestratorError) throw error
        const conflict = CONFLICTS.has((error as { code?: string }).code ?? '')
        if (!conflict || attempt >= CONFLICT_ATTEMPTS) throw failure('a transaction failed', error)
        // Those that count the same things (quotas) would collide again and again if all of them began again at once.
        await delay(Math.random() * Math.min(CONFLICT_WAIT.most, CONFLICT_WAIT.first * 2 ** (attempt - 1)))
      }
    }
  }

  async leases(filter: { state?: 'active' | 'ended' } = {}): Promise<readonly Lease[]> {
    const query = this.#db<LeaseRow>('leases').orderBy('granted_at')
    if (filter.state) query.where({ state: filter.state })
    return (await query).map(leaseOf)
  }

  async lease(owner: Owner): Promise<Lease | null> {
    return new KnexTransaction(this.#db).lease(owner)
  }

  async instances(filter: { live?: boolean; host?: HostName } = {}): Promise<readonly Instance[]> {
    const query = this.#db<InstanceRow>('instances').orderBy('created_at')
    if (filter.live) query.whereNot('state', 'gone')
    if (filter.host) query.where({ host: filter.host })
    return (await query).map(instanceOf)
  }

  async instance(id: InstanceId): Promise<Instance | null> {
    return new KnexTransaction(this.#db).instance(id)
  }

  async findInstance(idOrName: string): Promise<Instance | null> {
    const row = await this.#db<InstanceRow>('instances')
      .where('id', idOrName)
      .orWhere('name', idOrName)
      .orderByRaw(`case when id = ? then 0 when state <> 'gone' then 1 else 2 end, created_at desc`, [idOrName])
      .first()
    return row ? instanceOf(row) : null
  }

  async dueHosts(now: number): Promise<readonly HostName[]> {
    const rows = await this.#db('instances')
      .where('due_at', '<=', now)
      .select(this.#db.raw(`${DUE_HOST} as due_host`))
      .min({ first: 'due_at' })
      .groupByRaw(DUE_HOST)
      .orderBy('first')
    return rows.map((row) => (row as unknown as { due_host: HostName }).due_host)
  }

  async due(host: HostName, now: number, limit: number): Promise<readonly Instance[]> {
    const rows = await this.#db<InstanceRow>('instances')
      .whereRaw(`${DUE_HOST} = ?`, [host])
      .where('due_at', '<=', now)
      .orderBy('due_at')
      .limit(limit)
    return rows.map(instanceOf)
  }

  async nextDue(now: number): Promise<number | null> {
    const row = await this.#db('instances').where('due_at', '>', now).min({ next: 'due_at' }).first()
    return row?.next ?? null
  }

  async counts(): ReturnType<Store['counts']> {
    const count = async (query: Knex.QueryBuilder) => Number((await query.count({ n: '*' }).first())?.n ?? 0)
    const [instances, leases] = [() => this.#db('instances'), () => this.#db('leases').where({ state: 'active' })]
    return {
      pending: await count(instances().where({ state: 'pending' })),
      running: await count(instances().where({ state: 'running' })),
      leases: await count(leases()),
      refused: await count(leases().whereNotNull('refusal')),
    }
  }

  async settle(
    seen: Pick<Instance, 'id' | 'generation' | 'updatedAt'>,
    change: SettleChange,
    at: number,
  ): Promise<boolean> {
    const columns: Partial<InstanceRow> = { updated_at: Math.max(at, seen.updatedAt + 1) }
    if (change.backend !== undefined) columns.backend = change.backend
    if (change.otherwise !== undefined) columns.otherwise = JSON.stringify(change.otherwise)
    if (change.host !== undefined) columns.host = change.host
    if (change.price !== undefined) Object.assign(columns, priceColumns(change.price))
    if (change.reach !== undefined) columns.reach = change.reach === null ? null : JSON.stringify(change.reach)
    if (change.state !== undefined) columns.state = change.state
    if (change.settled !== undefined) columns.settled = change.settled
    if (change.failures !== undefined) columns.failures = change.failures
    if (change.dueAt !== undefined) columns.due_at = change.dueAt
    if (change.lastError !== undefined) columns.last_error = change.lastError
    if (change.marks !== undefined) columns.marks = JSON.stringify(change.marks)
    const changed = await this.#db('instances')
      .where({ id: seen.id, generation: seen.generation, updated_at: seen.updatedAt })
      .update(columns)
    return changed === 1
  }

  async addMarks(id: InstanceId, generation: number, marks: Instance['marks']): Promise<void> {
    await this.transaction(async (tx) => {
      const instance = await tx.instance(id)
      if (instance === null || instance.generation !== generation || instance.state === 'gone') return
      await tx.updateInstance({ ...instance, marks: { ...marks, ...instance.marks } })
    })
  }

  async wakeHost(host: HostName, at: number): Promise<void> {
    await this.#db('instances')
      .whereRaw(`${DUE_HOST} = ?`, [host])
      .where('due_at', '>', at)
      .whereNotNull('last_error')
      .update({ due_at: at })
  }

  async elsewhere(source: HostName): Promise<readonly Instance[]> {
    const rows = await this.#db<InstanceRow>('instances')
      .where({ source })
      .whereNot('state', 'gone')
      .whereNotNull('reach')
    return rows.map(instanceOf)
  }

  load(backend: string): Promise<ReadonlyMap<HostName, number>> {
    return loadOf(this.#db, backend)
  }

  backendRecords(backend: string): Promise<ReadonlyMap<string, string>> {
    return backendRecords(this.#db, backend)
  }

  putBackendRecord(backend: string, key: string, value: string | null): Promise<void> {
    return putBackendRecord(this.#db, backend, key, value)
  }

  installation(): Promise<string> {
    return installationId(this.#db)
  }

  putCredential(credential: StoredCredential): Promise<void> {
    return putCredential(this.#db, credential)
  }

  credential(name: string): Promise<StoredCredential | null> {
    return credentialNamed(this.#db, name)
  }

  credentials(): Promise<readonly StoredCredential[]> {
    return credentials(this.#db)
  }

  removeCredential(name: string): Promise<boolean> {
    return removeCredential(this.#db, name)
  }

  async template(ref: TemplateRef): Promise<Template | null> {
    return new KnexTransaction(this.#db).template(ref)
  }

  async templates(): Promise<readonly Template[]> {
    return new KnexTransaction(this.#db).templateVersions()
  }

  async templateNumbers(): Promise<readonly (TemplateRef & { readonly number: number })[]> {
    return await this.#db<TemplateRow>('templates').select('name', 'version', 'number')
  }

  async heads(): Promise<readonly TemplateHead[]> {
    return new KnexTransaction(this.#db).heads()
  }

  async ruleset(): Promise<Ruleset | null> {
    return new KnexTransaction(this.#db).ruleset()
  }

  async setOutputs(id: InstanceId, outputs: Parameters): Promise<void> {
    await this.#db('instances')
      .where({ id })
      .update({ outputs: JSON.stringify(outputs) })
  }

  async builds(page: Page): Promise<readonly Build[]> {
    const query = this.#db<BuildRow>('builds').orderBy([
      { column: 'created_at', order: 'desc' },
      { column: 'id', order: 'desc' },
    ])
    return (await query.limit(page.limit)).map(buildOf)
  }

  async build(id: string): Promise<Build | null> {
    const row = await this.#db<BuildRow>('builds').where({ id }).first()
    return row ? buildOf(row) : null
  }

  async hosts(): Promise<readonly Host[]> {
    return (await this.#db<HostRow>('hosts').orderBy('name')).map(hostOf)
  }

  async host(name: HostName): Promise<Host | null> {
    const row = await this.#db<HostRow>('hosts').where({ name }).first()
    return row ? hostOf(row) : null
  }

  async putHost(host: { name: HostName; fingerprint: string; joinedAt: number }): Promise<void> {
    const { name, fingerprint } = host
    await this.#db('hosts')
      .insert({ name, fingerprint, joined_at: host.joinedAt, epoch: 0, connected: false, facts: '{}' })
      .onConflict('name')
      .merge({ fingerprint, joined_at: host.joinedAt })
  }

  async hostFingerprint(name: HostName): Promise<string | null> {
    const row = await this.#db<HostRow>('hosts').where({ name }).first('fingerprint')
    return row?.fingerprint ?? null
  }

  async hostConnected(name: HostName, facts: Host['facts'], at: number): Promise<number> {
    return this.#transact(async (trx) => {
      await trx('hosts')
        .where({ name })
        .update({ epoch: trx.raw('epoch + 1'), connected: true, seen_at: at, facts: JSON.stringify(facts) })
      const row = await trx<HostRow>('hosts').where({ name }).first('epoch')
      if (row === undefined) throw new OrchestratorError('host-unknown', `host ${name} has not joined`)
      return row.epoch
    })
  }

  async hostDisconnected(name: HostName, epoch: number, at: number): Promise<void> {
    await this.#db('hosts').where({ name, epoch }).update({ connected: false, seen_at: at })
  }

  async disconnectAllHosts(at: number): Promise<void> {
    await this.#db('hosts').where({ connected: true }).update({ connected: false, seen_at: at })
  }

  async appendEvent(event: OperatorEvent, at: number): Promise<void> {
    await new KnexTransaction(this.#db).appendEvent(event, at)
  }

  async events(page: Page & { instance?: InstanceId | undefined }): Promise<readonly StoredEvent[]> {
    const query = this.#db<EventRow>('events').limit(page.limit)
    if (page.instance !== undefined) query.where({ instance: page.instance })
    if (page.after !== undefined) return (await query.where('id', '>', page.after).orderBy('id')).map(eventOf)
    return (await query.orderBy('id', 'desc')).map(eventOf).reverse()
  }

  async putToken(token: StoredToken): Promise<void> {
    const { hash, kind, host, expiresAt, usedAt } = token
    await this.#db('tokens')
      .insert({ hash, kind, host, expires_at: expiresAt, used_at: usedAt })
      .onConflict('hash')
      .ignore()
  }

  async token(hash: string): Promise<StoredToken | null> {
    const row = await this.#db<TokenRow>('tokens').where({ hash }).first()
    return row ? tokenOf(row) : null
  }

  async useToken(hash: string, at: number): Promise<boolean> {
    return (await this.#db('tokens').where({ hash, used_at: null }).update({ used_at: at })) === 1
  }

  async prune(keepEvents: number, now: number): Promise<void> {
    const last = await this.#db('events').max({ id: 'id' }).first()
    await this.#db('events')
      .where('id', '<=', (last?.id ?? 0) - keepEvents)
      .delete()
    const over = now - MEMORY_MS
    await this.#db('journal_offsets').where('updated_at', '<', over).delete()
    await this.#db('tokens').where('expires_at', '<', over).delete()
    await this.#db('instances').where({ state: 'gone' }).where('updated_at', '<', over).delete()
    await this.#db('leases').where({ state: 'ended' }).where('updated_at', '<', over).delete()
    await this.#db('builds').whereIn('state', ['done', 'failed']).where('updated_at', '<', over).delete()
    await this.#transact((trx) => pruneCatalog(trx, over), this.#careful)
  }

  async check(): Promise<void> {
    // Writes and takes back: a full disk still answers reads.
    await this.#transact(async (trx) => {
      await trx('tokens').insert({ hash: 'check', kind: 'join', expires_at: 0 })
      await trx('tokens').where({ hash: 'check' }).delete()
    })
  }

  async close(): Promise<void> {
    await this.#db.destroy()
  }
}
