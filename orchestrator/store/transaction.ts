import type { Knex } from 'knex'
import type { Ipv6 } from '../../common/ipv6.ts'
import type { Build } from '../domain/build.ts'
import type { OperatorEvent } from '../domain/event.ts'
import type { Instance, InstanceId } from '../domain/instance.ts'
import type { Lease, Owner } from '../domain/lease.ts'
import { type Price, priceFrom } from '../domain/price.ts'
import type { Ruleset } from '../domain/rule.ts'
import type { Template, TemplateContent, TemplateHead, TemplateRef } from '../domain/template.ts'
import {
  buildRow,
  type EventRow,
  type HeadRow,
  headOf,
  type InstanceRow,
  instanceOf,
  instanceRow,
  type LeaseRow,
  leaseOf,
  leaseRow,
  type OwnerColumns,
  ownerOf,
  type RulesetRow,
  rulesetOf,
  type TemplateRow,
  templateOf,
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
    const { name, version } = ref
    const row = await this.#db<TemplateRow>('templates').where({ name, version }).first()
    return row ? templateOf(row) : null
  }

  async templateVersions(name?: string): Promise<readonly Template[]> {
    const query = this.#db<TemplateRow>('templates').orderBy(['name', 'number'])
    if (name !== undefined) query.where({ name })
    return (await query).map(templateOf)
  }

  async putTemplate(ref: TemplateRef, content: TemplateContent, at: number): Promise<Template> {
    const { name, version } = ref
    const known = await this.template(ref)
    if (known !== null) return known
    const last = await this.#db('templates').where({ name }).max({ number: 'number' }).first()
    const number = Number(last?.number ?? 0) + 1
    const row: TemplateRow = { name, version, number, content: JSON.stringify(content), created_at: at }
    await this.#db('templates').insert(row)
    return templateOf(row)
  }

  async head(name: string): Promise<TemplateHead | null> {
    const row = await this.#db<HeadRow>('template_heads').where({ name }).first()
    return row ? headOf(row) : null
  }

  async heads(): Promise<readonly TemplateHead[]> {
    return (await this.#db<HeadRow>('template_heads').orderBy('name')).map(headOf)
  }

  async putHead(head: TemplateHead, at: number): Promise<void> {
    const { name, version, previous, origin } = head
    const row: HeadRow = { name, version, previous, origin, updated_at: at }
    await this.#db('template_heads').insert(row).onConflict('name').merge()
  }

  async removeTemplate(name: string): Promise<void> {
    await this.#db('template_heads').where({ name }).delete()
    const used = this.#db('instances').select('template_version').where({ template_name: name })
    await this.#db('templates').where({ name }).whereNotIn('version', used).delete()
  }

  async ruleset(): Promise<Ruleset | null> {
    const row = await this.#db<RulesetRow>('rulesets').orderBy('revision', 'desc').first()
    return row ? rulesetOf(row) : null
  }

  async rulesRevision(): Promise<number> {
    const row = await this.#db('rulesets').max({ revision: 'revision' }).first()
    return Number(row?.revision ?? 0)
  }

  async putRuleset(ruleset: Omit<Ruleset, 'revision'>, at: number): Promise<Ruleset> {
    const { rules, quotas, origin } = ruleset
    const revision = (await this.rulesRevision()) + 1
    const row: RulesetRow = { revision, content: JSON.stringify({ rules, quotas }), origin, created_at: at }
    await this.#db('rulesets').insert(row)
    return rulesetOf(row)
  }

  async countLive(of: { readonly rule?: string; readonly duid?: string }): Promise<number> {
    const query = this.#db('instances').whereNot('state', 'gone')
    if (of.rule !== undefined) query.where({ rule: of.rule })
    if (of.duid !== undefined) query.where({ duid: of.duid })
    return Number((await query.count({ n: '*' }).first())?.n ?? 0)
  }

  async spentLive(of: { readonly rule?: string }): Promise<readonly Price[]> {
    const query = this.#db('instances').whereNot('state', 'gone').whereNotNull('price_currency')
    if (of.rule !== undefined) query.where({ rule: of.rule })
    const rows = await query.groupBy('price_currency').select('price_currency').sum({ micros: 'price_micros' })
    return rows.map((row: Record<string, unknown>) => priceFrom(Number(row['micros']), String(row['price_currency'])))
  }

  async liveNames(template: { readonly name: string; readonly version?: string }): Promise<readonly string[]> {
    const query = this.#db<InstanceRow>('instances').where({ template_name: template.name }).whereNot('state', 'gone')
    if (template.version !== undefined) query.where({ template_version: template.version })
    return (await query.orderBy('name').select('name')).map(({ name }) => name)
  }

  async refusedLeases(limit: number, after?: Lease): Promise<readonly Lease[]> {
    const query = this.#db<LeaseRow>('leases').where({ state: 'active' }).whereNotNull('refusal')
    if (after !== undefined) {
      const { grantedAt, owner } = after
      query.whereRaw('(granted_at, duid, iaid) > (?, ?, ?)', [grantedAt, owner.duid, owner.iaid])
    }
    return (await query.orderBy(['granted_at', 'duid', 'iaid']).limit(limit)).map(leaseOf)
  }

  async putBuild(build: Build): Promise<void> {
    await this.#db('builds').insert(buildRow(build)).onConflict('id').merge()
  }
}
