import type { Knex } from 'knex'
import { type FormerTemplate, fromFormerTemplate } from './former-templates.ts'

/** One step of the schema. Steps are never changed after a release; times are epoch ms, objects are JSON texts. */
interface Migration {
  readonly name: string
  up(db: Knex): Promise<void>
}

const first: Migration = {
  name: '0001-leases-and-instances',
  async up(db) {
    await db.schema.createTable('leases', (t) => {
      t.string('duid', 400).notNullable()
      t.bigInteger('iaid').notNullable()
      t.primary(['duid', 'iaid'])
      t.string('source', 64).notNullable()
      t.string('address', 45).notNullable()
      t.bigInteger('expires_at')
      t.string('state', 8).notNullable()
      t.text('facts').notNullable()
      t.bigInteger('granted_at').notNullable()
      t.bigInteger('updated_at').notNullable()
      t.bigInteger('ended_at')
      t.text('refusal')
      t.index(['source', 'state'])
    })
    await db.schema.createTable('instances', (t) => {
      t.string('id', 42).primary()
      t.string('duid', 400).notNullable()
      t.bigInteger('iaid').notNullable()
      t.string('name', 63).notNullable()
      t.string('template_name', 63).notNullable()
      t.string('template_version', 64).notNullable()
      t.string('backend', 63).notNullable()
      t.string('host', 63)
      t.string('wanted', 8).notNullable()
      t.integer('generation').notNullable()
      t.string('state', 8).notNullable()
      t.integer('settled').notNullable()
      t.string('address', 45).notNullable()
      t.string('owner_address', 45).notNullable()
      t.string('source', 64).notNullable()
      t.integer('failures').notNullable()
      t.bigInteger('due_at')
      t.text('last_error')
      t.text('marks').notNullable()
      t.bigInteger('created_at').notNullable()
      t.bigInteger('updated_at').notNullable()
      t.index(['duid', 'iaid'])
      t.index(['name'])
      t.index(['host'])
      t.index(['due_at'])
    })
    // The promise "one living instance an owner, one an address, one a name" is the database's, not the code's.
    await db.raw(`create unique index instances_live_owner on instances (duid, iaid) where state <> 'gone'`)
    await db.raw(`create unique index instances_live_address on instances (address) where state <> 'gone'`)
    await db.raw(`create unique index instances_live_name on instances (name) where state <> 'gone'`)
    await db.raw('create index instances_due on instances (coalesce(host, source), due_at)')
    await db.schema.createTable('addresses', (t) => {
      t.string('address', 45).primary()
      t.string('duid', 400).notNullable()
      t.bigInteger('iaid').notNullable()
      t.bigInteger('assigned_at').notNullable()
      t.unique(['duid', 'iaid'])
    })
    await db.schema.createTable('journal_offsets', (t) => {
      t.string('source', 64).notNullable()
      t.string('journal', 128).notNullable()
      t.bigInteger('position').notNullable()
      t.bigInteger('updated_at').notNullable()
      t.primary(['source', 'journal'])
    })
  },
}

const second: Migration = {
  name: '0002-hosts-templates-events-tokens',
  async up(db) {
    await db.schema.createTable('hosts', (t) => {
      t.string('name', 63).primary()
      t.string('fingerprint', 64).notNullable()
      t.integer('epoch').notNullable()
      t.boolean('connected').notNullable()
      t.bigInteger('joined_at').notNullable()
      t.bigInteger('seen_at')
      t.text('facts').notNullable()
    })
    await db.schema.createTable('templates', (t) => {
      t.string('name', 63).notNullable()
      t.string('version', 64).notNullable()
      t.text('content').notNullable()
      t.primary(['name', 'version'])
    })
    await db.schema.createTable('events', (t) => {
      t.bigIncrements('id')
      t.bigInteger('at').notNullable()
      t.string('level', 8).notNullable()
      t.string('kind', 64).notNullable()
      t.text('message').notNullable()
      t.string('instance', 42)
      t.string('duid', 400)
      t.bigInteger('iaid')
      t.string('host', 63)
      t.index(['instance', 'id'])
    })
    await db.schema.createTable('tokens', (t) => {
      t.string('hash', 64).primary()
      t.string('kind', 8).notNullable()
      t.string('host', 63)
      t.bigInteger('expires_at')
      t.bigInteger('used_at')
    })
  },
}

const third: Migration = {
  name: '0003-catalog-rules-builds',
  async up(db) {
    await db.schema.alterTable('templates', (t) => {
      t.integer('number').notNullable().defaultTo(0)
      t.bigInteger('created_at').notNullable().defaultTo(0)
    })
    await db.schema.createTable('template_heads', (t) => {
      t.string('name', 63).primary()
      t.string('version', 64).notNullable()
      t.string('previous', 64)
      t.string('origin', 16).notNullable()
      t.bigInteger('updated_at').notNullable()
    })
    await db.schema.createTable('rulesets', (t) => {
      t.integer('revision').primary()
      t.text('content').notNullable()
      t.string('origin', 16).notNullable()
      t.bigInteger('created_at').notNullable()
    })
    await db.schema.createTable('builds', (t) => {
      t.string('id', 16).primary()
      t.string('template', 63).notNullable()
      t.text('source').notNullable()
      t.string('state', 16).notNullable()
      t.string('host', 63)
      t.text('image')
      t.text('error')
      t.bigInteger('created_at').notNullable()
      t.bigInteger('updated_at').notNullable()
      t.index(['created_at'])
    })
    await db.schema.alterTable('instances', (t) => {
      t.string('rule', 255)
      t.text('parameters').notNullable().defaultTo('{}')
      t.bigInteger('grace_ms').notNullable().defaultTo(0)
      t.bigInteger('ends_at')
      t.text('outputs')
    })
    await convertTemplates(db)
    // The promise "a number means one version" is the database's.
    await db.raw('create unique index templates_number on templates (name, number)')
    await db.raw(`create index instances_live_rule on instances (rule) where state <> 'gone'`)
    await db.raw(`create index instances_template on instances (template_name, template_version)`)
    await db.raw('create index leases_refused on leases (granted_at) where refusal is not null')
  },
}

const fourth: Migration = {
  name: '0004-backends',
  async up(db) {
    await db.schema.alterTable('instances', (t) => {
      t.text('otherwise').notNullable().defaultTo('[]')
      t.text('reach')
    })
    await db.raw(`create index instances_elsewhere on instances (source) where state <> 'gone' and reach is not null`)
    await db.raw(`create index instances_of_backend on instances (backend, host) where state <> 'gone'`)
    await db.schema.createTable('installation', (t) => {
      t.integer('one').primary()
      t.string('id', 16).notNullable()
    })
    await db.schema.createTable('backend_records', (t) => {
      t.string('backend', 63).notNullable()
      t.string('key', 255).notNullable()
      t.text('value').notNullable()
      t.primary(['backend', 'key'])
    })
  },
}

const fifth: Migration = {
  name: '0005-credentials-and-prices',
  async up(db) {
    await db.schema.createTable('credentials', (t) => {
      t.string('name', 63).primary()
      t.text('sealed').notNullable()
      t.text('fields').notNullable()
      t.bigInteger('changed_at').notNullable()
    })
    await db.schema.alterTable('instances', (t) => {
      t.bigInteger('price_micros')
      t.string('price_currency', 3)
    })
  },
}

/** Templates of the former format become stacks, numbered as they were first used; the one that was used last is the head. */
async function convertTemplates(db: Knex): Promise<void> {
  const rows: readonly { name: string; version: string; content: string }[] = await db('templates')
    .leftJoin('instances', { template_name: 'templates.name', template_version: 'templates.version' })
    .groupBy('templates.name', 'templates.version', 'templates.content')
    .select(['templates.name', 'templates.version', 'templates.content'])
    .orderByRaw('templates.name, coalesce(min(instances.created_at), 0), templates.version')
  const numbers = new Map<string, number>()
  for (const { name, version, content } of rows) {
    const converted = fromFormerTemplate(JSON.parse(content) as FormerTemplate)
    const number = (numbers.get(name) ?? 0) + 1
    numbers.set(name, number)
    await db('templates')
      .where({ name, version })
      .update({ number, content: JSON.stringify(converted) })
    await db('instances')
      .where({ template_name: name, template_version: version })
      .update({ grace_ms: converted.lifetime.graceMs })
    const head = { name, version, previous: null, origin: 'api', updated_at: 0 }
    await db('template_heads').insert(head).onConflict('name').merge()
  }
}

const migrations: readonly Migration[] = [first, second, third, fourth, fifth]

const config: Knex.MigratorConfig = {
  migrationSource: {
    getMigrations: async () => [...migrations],
    getMigrationName: (m: Migration) => m.name,
    getMigration: async (m: Migration) => ({ up: (k: Knex) => m.up(k), down: async () => {} }),
  },
}

/** Any number that no other program locks in our database: "orch" in ASCII. */
const MIGRATION_LOCK = 0x6f726368

/**
 * Brings the schema up to date; does nothing when it is. Knex's own lock is a row, which outlives a process that was
 * killed while it held it: PostgreSQL's advisory lock keeps orchestrators apart instead, and SQLite has only one.
 */
export async function migrate(db: Knex, sqlite: boolean): Promise<void> {
  if (sqlite) return run(db)
  await db.transaction(async (lock) => {
    await lock.raw('select pg_advisory_xact_lock(?)', [MIGRATION_LOCK])
    await run(db)
  })
}

async function run(db: Knex): Promise<void> {
  const [, pending] = await db.migrate.list(config)
  if (pending.length === 0) return
  await db.migrate.forceFreeMigrationsLock(config)
  await db.migrate.latest(config)
}
