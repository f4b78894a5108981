import assert from 'node:assert/strict'
import { appendFileSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { eventsFirst, type Patience } from '../../unionize/leases/events-first.ts'
import { followJournal, type JournalExtent } from '../../unionize/leases/journal.ts'
import { loadOffsets } from '../../unionize/leases/offsets.ts'
import { followLeases, type LeaseSink } from '../../unionize/leases/source.ts'
import { silent } from '../support/fixtures.ts'
import { until } from '../support/until.ts'

/** What an orchestrator would have been told, in order: an event by its IAID, a table by the IAIDs in it. */
type Told = number | readonly number[]

/** dnsmasq's files and an orchestrator that stores as a test wants. */
class Scene implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'unionize-source-'))
  readonly path = join(this.folder, 'journal')
  readonly told: Told[] = []
  readonly warnings: string[] = []
  /** Whether there is a connection, and what happens before something is stored. */
  isConnected = true
  beforeEvents: () => Promise<void> = async () => {}
  beforeTable: () => void = () => {}
  readonly #ends: (() => Promise<void>)[] = []

  /** Devices whose lines the journal gets. */
  grants(...devices: number[]): void {
    appendFileSync(
      this.path,
      devices.map((n) => `1\tadd\t${duid(n)}\t${address(n)}\t\tIAID=${n}\tLEASE_EXPIRES=0\n`).join(''),
    )
  }

  /** Devices in dnsmasq's lease file. */
  table(...devices: number[]): void {
    const leases = devices.map((n) => `0 ${n} ${address(n)} * ${duid(n)}\n`)
    writeFileSync(join(this.folder, 'leases'), `duid 00:01:00:01:00\n${leases.join('')}`)
  }

  async follow(patience: Patience): Promise<void> {
    writeFileSync(join(this.folder, 'dnsmasq.conf'), `dhcp-leasefile=${join(this.folder, 'leases')}\n`)
    const { offsets } = await loadOffsets(join(this.folder, 'saved.json'))
    const journal = await followJournal({ path: this.path, offsets, log: silent, now: Date.now })
    const stop = new AbortController()
    const following = followLeases(
      {
        journal,
        sink: this.#sink(),
        configPath: join(this.folder, 'dnsmasq.conf'),
        compareMs: 50,
        log: { ...silent, warn: (code) => void this.warnings.push(code) },
        now: Date.now,
        notice: (_level, code) => void this.warnings.push(code),
        patience,
      },
      stop.signal,
    )
    this.#ends.push(async () => {
      stop.abort(new Error('the test ends'))
      await following
      await journal.close()
    })
  }

  /** All that is told up to the `count`-th table. */
  async untilTables(count: number): Promise<Told[]> {
    const look = () => {
      const tables = this.told.filter((told) => typeof told !== 'number')
      return tables.length >= count && this.told.slice(0, this.told.indexOf(tables[count - 1] ?? []) + 1)
    }
    return until(`${count} tables are compared`, look, { deadlineMs: 60_000 })
  }

  #sink(): LeaseSink {
    let last = Promise.resolve()
    return {
      connected: (signal) => until('connected', () => signal.aborted || this.isConnected).then(() => {}),
      deliver: (_id, items) => {
        last = last.then(async () => {
          await until('connected', () => this.isConnected)
          await this.beforeEvents()
          for (const item of items) if (item.type === 'event') this.told.push(item.lease.owner.iaid)
        })
        return last
      },
      compare: async (_id, _readAt, leases) => {
        this.beforeTable()
        if (!this.isConnected) throw new Error('the connection ended')
        this.told.push(leases.map(({ owner }) => owner.iaid))
      },
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.isConnected = true
    this.beforeEvents = async () => {}
    for (const end of this.#ends) await end()
    rmSync(this.folder, { recursive: true })
  }
}

const never = new AbortController().signal
const duid = (n: number) => `00:03:00:01:02:00:00:00:00:${n.toString(16).padStart(2, '0')}`
const address = (n: number) => `fd00:c::1${n.toString(16).padStart(2, '0')}`
const devices = (count: number) => Array.from({ length: count }, (_, n) => n + 1)
/** Long enough that a slow machine cannot end it. */
const PATIENT: Patience = { quietMs: 100, settleMs: 60_000, stuckMs: 60_000 }
/** Soon over. */
const HASTY: Patience = { quietMs: 20, settleMs: 200, stuckMs: 200 }

test('all events that the journal has go before the first table', async () => {
  await using scene = new Scene()
  scene.grants(...devices(200))
  scene.table(...devices(200))
  scene.beforeEvents = () => wait(30)
  await scene.follow(PATIENT)
  assert.deepEqual(await scene.untilTables(1), [...devices(200), devices(200)])
})

test('events that came while there was no connection go before the next table', async () => {
  await using scene = new Scene()
  scene.grants(1)
  scene.table(1)
  await scene.follow(PATIENT)
  await scene.untilTables(1)
  scene.beforeTable = () => {
    scene.isConnected = false
  }
  await until('it is cut', () => !scene.isConnected)
  scene.beforeTable = () => {}
  scene.beforeEvents = () => wait(30)
  const before = scene.told.length
  scene.grants(...devices(200))
  scene.table(...devices(200))
  scene.isConnected = true
  await until('a table is compared', () => scene.told.slice(before).some((told) => typeof told !== 'number'))
  assert.deepEqual(scene.told.slice(before, before + 201), [...devices(200), devices(200)])
})

test('lines that hooks write after the table was read go before it: the journal must have come to rest', async () => {
  let looks = 0
  const asked: JournalExtent[] = []
  const rested = await eventsFirst(
    {
      extent: async () => [{ journal: 'j', bytes: Math.min(++looks, 5), followed: true }],
      hasStored: (extent) => asked.push(extent) === 3,
    },
    () => 0,
    never,
    { ...PATIENT, quietMs: 1 },
  )
  assert.ok(rested)
  assert.deepEqual([looks, asked.length], [6, 3])
  assert.deepEqual(asked[0], [{ journal: 'j', bytes: 5, followed: true }])
})

test('a journal that cannot even be looked at is given the time in which it might come to rest', async () => {
  let looks = 0
  const extent = async () => {
    looks++
    throw new Error('no such device')
  }
  assert.equal(await eventsFirst({ extent, hasStored: () => true }, () => 0, never, HASTY), false)
  assert.ok(looks > 1)
})

test('a table waits for a journal that grows all the time no longer than it may', async () => {
  await using scene = new Scene()
  scene.table(1)
  const writing = setInterval(() => scene.grants(1), 5)
  try {
    await scene.follow({ ...HASTY, stuckMs: 60_000 })
    await scene.untilTables(3)
    assert.deepEqual(scene.warnings, [])
  } finally {
    clearInterval(writing)
  }
})

test('a journal that cannot be read holds no table up for ever, and that is told once', async () => {
  await using scene = new Scene()
  scene.grants(1)
  renameSync(scene.path, join(scene.folder, 'elsewhere'))
  symlinkSync('elsewhere', scene.path)
  scene.table(7)
  await scene.follow(HASTY)
  assert.deepEqual(await scene.untilTables(2), [[7], [7]])
  assert.deepEqual(scene.warnings.toSorted(), ['journal-unreadable', 'lease.compared-early'])
})

test('events that cannot be stored hold no table up for ever, and those that are slow do as long as they get on', async () => {
  await using scene = new Scene()
  scene.grants(...devices(100))
  scene.table(...devices(100))
  const stuck = Promise.withResolvers<void>()
  const stuckMs = 4000
  let batches = 0
  scene.beforeEvents = async () => {
    if (++batches === 4) await stuck.promise
    await wait(stuckMs * 0.4)
  }
  await scene.follow({ ...HASTY, stuckMs })
  const early = await scene.untilTables(1)
  assert.deepEqual(early, [...devices(96), devices(100)], 'three batches took longer than the wait is without any')
  stuck.resolve()
  await until('the rest is stored', () => scene.told.includes(100))
})

test('a lease that only the table knows is told by the table', async () => {
  await using scene = new Scene()
  scene.grants(1)
  scene.table(1, 2)
  await scene.follow(PATIENT)
  assert.deepEqual(await scene.untilTables(1), [1, [1, 2]])
})
