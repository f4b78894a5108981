import type { Knex } from 'knex'
import type { Ipv6 } from '../../common/ipv6.ts'
import type { OperatorEvent } from '../domain/event.ts'
import type { Instance, InstanceId } from '../domain/instance.ts'
import type { Lease, Owner } from '../domain/lease.ts'
import type { Template, TemplateRef } from '../domain/template.ts'
import {
  type EventRow,
  type InstanceRow,
  instanceOf,
  instanceRow,
  type LeaseRow,
  leaseOf,
  leaseRow,
  type OwnerColumns,
  ownerOf,
} from './rows.ts'
import type { JournalPosition, Transaction } from './store.ts'

/** The transaction's verbs over one knex transaction (or over the pool, for single statements). */
export class KnexTransaction implements Transaction {
  readonly #db: Knex
  constructor(db: Knex) {
    this.#db = db
  }

  async lease(owner: Owner): Promise<Lease | null> {
    const row = await this.#db<LeaseRow>('leases')
      .where({ ...owner })
      .first()
    return row ? leaseOf(row) : null
  }

  async putLease(lease: Lease): Promise<void> {
    await this.#db('leases').insert(leaseRow(lease)).onConflict(['duid', 'iaid']).merge()
  }

  async activeLeases(source: string): Promise<readonly Lease[]> {
    const rows = await this.#db<LeaseRow>('leases').where({ source, state: 'active' })
    return rows.map(leaseOf)
  }

  async liveInstance(owner: Owner): Promise<Instance | null> {
    const row = await this.#db<InstanceRow>('instances')
      .where({ ...owner })
      .whereNot('state', 'gone')
      .first()
    return row ? instanceOf(row) : null
  }

  async instance(id: InstanceId): Promise<Instance | null> {
    const row = await this.#db<InstanceRow>('instances').where({ id }).first()
    return row ? instanceOf(row) : null
  }

  async nameTaken(name: string): Promise<boolean> {
    return (
      (await this.#db<InstanceRow>('instances').where({ name }).whereNot('state', 'gone').first('id')) !== undefined
    )
  }

  async insertInstance(instance: Instance): Promise<void> {
    await this.#db('instances').insert(instanceRow(instance))
  }

  async updateInstance(instance: Instance): Promise<void> {
    const { id, ...columns } = instanceRow(instance)
    await this.#db('instances').where({ id }).update(columns)
  }

  async addressOf(owner: Owner): Promise<Ipv6 | null> {
    const row = await this.#db<{ address: string } & OwnerColumns>('addresses')
      .where({ ...owner })
      .first()
    return (row?.address ?? null) as Ipv6 | null
  }

  async holderOf(address: Ipv6): Promise<Owner | null> {
    const row = await this.#db<{ address: string } & OwnerColumns>('addresses').where({ address }).first()
    return row ? ownerOf(row) : null
  }

  async assignAddress(address: Ipv6, owner: Owner, at: number): Promise<void> {
    await this.#db('addresses')
      .where({ address })
      .orWhere({ ...owner })
      .delete()
    await this.#db('addresses').insert({ address, ...owner, assigned_at: at })
  }

  async idleAddresses(limit: number): Promise<readonly Ipv6[]> {
    const living = this.#db('instances').select('address').whereNot('state', 'gone')
    const rows = await this.#db<{ address: string; assigned_at: number }>('addresses')
      .whereNotIn('address', living)
      .orderBy('assigned_at')
      .limit(limit)
      .select('address')
    return rows.map((row) => row.address as Ipv6)
  }

  async journalOffset(source: string, journal: string): Promise<number> {
    const row = await this.#db<{ source: string; journal: string; position: number }>('journal_offsets')
      .where({ source, journal })
      .first('position')
    return row?.position ?? 0
  }

  async putJournalOffset(place: JournalPosition, at: number): Promise<void> {
    await this.#db('journal_offsets')
      .insert({ source: place.source, journal: place.journal, position: place.offset, updated_at: at })
      .onConflict(['source', 'journal'])
      .merge()
  }

  async appendEvent(event: OperatorEvent, at: number): Promise<void> {
    const row: Omit<EventRow, 'id'> = {
      at,
      level: event.level,
      kind: event.kind,
      message: event.message,
      instance: event.instance ?? null,
      duid: event.owner?.duid ?? null,
      iaid: event.owner?.iaid ?? null,
      host: event.host ?? null,
    }
    await this.#db('events').insert(row)
  }

  async template(ref: TemplateRef): Promise<Template | null> {
    const row = await this.#db('templates').where({ name: ref.name, version: ref.version }).first('content')
    return row ? (JSON.parse(row.content) as Template) : null
  }

  async putTemplate(template: Template): Promise<void> {
    const { name, version } = template
    await this.#db('templates')
      .insert({ name, version, content: JSON.stringify(template) })
      .onConflict(['name', 'version'])
      .ignore()
  }
}
