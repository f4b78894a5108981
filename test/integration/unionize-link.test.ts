import assert from 'node:assert/strict'
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { OrchestratorError } from '../../common/errors.ts'
import { parseIpv6 } from '../../common/ipv6.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { InstanceId } from '../../orchestrator/domain/instance.ts'
import type { Intake } from '../../orchestrator/intake.ts'
import { makeJoinToken } from '../../orchestrator/pki/tokens.ts'
import type { Way, Ways } from '../../orchestrator/reconciler/context.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import { type FromHost, MAX_WAYS, type WireObserved, type WireWay } from '../../unionize/contract.ts'
import { loadIdentity } from '../../unionize/identity.ts'
import type { Instances } from '../../unionize/instances/instances.ts'
import { StaleGeneration } from '../../unionize/instances/orders.ts'
import { joinOrchestrator } from '../../unionize/join.ts'
import { followJournal } from '../../unionize/leases/journal.ts'
import { loadOffsets } from '../../unionize/leases/offsets.ts'
import { followLeases } from '../../unionize/leases/source.ts'
import { createLink, type Link, type LinkOptions } from '../../unionize/link.ts'
import { createRequests } from '../../unionize/requests.ts'
import { type TestApi, type TestApiOptions, testApi } from '../support/api.ts'
import { silent } from '../support/fixtures.ts'
import { order } from '../support/orders.ts'
import { joinToken } from '../support/test-host.ts'
import { until } from '../support/until.ts'

const HOST = 'h1' as HostName
const never = new AbortController().signal
const nothing = async () => {}

/** An orchestrator's API over SQLite, a host's state folder, and links between them, all gone at the end. */
class Scene implements AsyncDisposable {
  readonly state = mkdtempSync(join(tmpdir(), 'unionize-link-'))
  readonly api: TestApi
  readonly #ends: (() => Promise<unknown>)[] = []

  constructor(api: TestApi) {
    this.api = api
  }

  static async open(options: Omit<TestApiOptions, 'store'> = {}): Promise<Scene> {
    const store = await openStore('sqlite::memory:')
    return new Scene(await testApi({ store, ...options }))
  }

  async join(token?: string, host = 'h1', server = this.api.url): Promise<string> {
    const given = token ?? (await joinToken(this.api))
    return joinOrchestrator({ server, token: given, host, stateDirectory: this.state, now: Date.now })
  }

  link(options: Partial<LinkOptions> = {}, stop = new AbortController()): Link {
    const link = createLink({
      url: this.api.url,
      identity: () => loadIdentity(this.state),
      hello: async () => ({ version: '1', facts: { engine: 'e', kernel: 'k', instances: 0 } }),
      address: () => undefined,
      connected: () => {},
      request: () => {},
      log: silent,
      status: () => {},
      ...options,
    })
    const running = link.run(stop.signal)
    this.#ends.push(async () => {
      stop.abort(new Error('the test ends'))
      await running
    })
    return link
  }

  onEnd(end: () => Promise<unknown>): void {
    this.#ends.push(end)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const end of this.#ends.reverse()) await end()
    await this.api[Symbol.asyncDispose]()
    await this.api.store.close()
    rmSync(this.state, { recursive: true })
  }
}

function line(n: number): string {
  const expires = Math.floor(Date.now() / 1000) + 3600
  const hex = n.toString(16).padStart(2, '0')
  return `1\tadd\t00:03:00:01:02:00:00:00:00:${hex}\tfd00:c::1${hex}\tbox${n}\tIAID=${n}\tLEASE_EXPIRES=${expires}\n`
}

test('joining writes key and certificate once, closed to others; again it changes nothing and needs no fresh token', async () => {
  await using scene = await Scene.open()
  const token = await joinToken(scene.api)
  assert.equal(await scene.join(token), 'joined')
  const key = readFileSync(join(scene.state, 'host.key'), 'utf8')
  assert.equal(statSync(join(scene.state, 'host.key')).mode & 0o777, 0o600)
  assert.equal(await scene.join(token), 'joined-before')
  assert.equal(readFileSync(join(scene.state, 'host.key'), 'utf8'), key)
  assert.deepEqual(readdirSync(scene.state).sort(), ['authority.crt', 'host.crt', 'host.key'])
})

test('a join that cannot be says why: used or unknown token, another server, no server, garbage', async () => {
  await using scene = await Scene.open()
  const token = await joinToken(scene.api, { host: 'h1' })
  await assert.rejects(scene.join('garbage'), { code: 'invalid-input' })
  await assert.rejects(scene.join(makeJoinToken(scene.api.authority.fingerprint)), { code: 'token-unknown' })
  await assert.rejects(scene.join(makeJoinToken('0'.repeat(64))), { code: 'fingerprint-mismatch' })
  await assert.rejects(scene.join(token, 'h2'), { code: 'token-for-another-host' })
  await assert.rejects(scene.join(token, 'h1', 'https://127.0.0.1:1'), { code: 'server-unreachable', retryable: true })
  await assert.rejects(loadIdentity(scene.state), { code: 'not-joined' })
  await scene.join(token)
  rmSync(join(scene.state, 'host.crt'))
  await assert.rejects(scene.join(token), { code: 'token-used' })
})

test('leases from the journal are stored once and in order, though the connection is cut again and again', async () => {
  const stored: number[] = []
  let failures = 3
  const intake = (real: Intake): Intake => ({
    ...real,
    async applyLeases(source, items) {
      if (failures-- > 0) throw new OrchestratorError('store-full', 'the disk is full', { retryable: true })
      await real.applyLeases(source, items)
      for (const item of items) if ('event' in item) stored.push(item.event.owner.iaid)
    },
  })
  await using scene = await Scene.open({ intake })
  await scene.join()
  const link = scene.link()
  const { offsets } = await loadOffsets(join(scene.state, 'journal.json'))
  const path = join(scene.state, 'journal')
  const journal = await followJournal({ path, offsets, log: silent, now: Date.now })
  const stop = new AbortController()
  const notices: string[] = []
  const notice = (_level: string, code: string) => notices.push(code)
  const source = { journal, sink: link, configPath: null, compareMs: 1000, log: silent, now: Date.now, notice }
  const following = followLeases(source, stop.signal)
  scene.onEnd(async () => {
    stop.abort(new Error('the test ends'))
    await following
    await journal.close()
  })
  for (let n = 1; n <= 40; n++) {
    appendFileSync(path, line(n))
    if (n % 10 === 0) {
      await until('some are stored', () => stored.length > 0, { deadlineMs: 20_000 })
      scene.api.hosts.rejoined(HOST)
    }
  }
  appendFileSync(path, 'garbage\n')
  await until('all are stored', async () => (await scene.api.store.leases()).length === 40, { deadlineMs: 20_000 })
  const first = stored.filter((iaid, at) => stored.indexOf(iaid) === at)
  assert.deepEqual(
    first,
    Array.from({ length: 40 }, (_, n) => n + 1),
  )
  const size = statSync(path).size
  await until('the offset is saved', () => Object.values(offsets.saved.offsets).includes(size))
  const events = await scene.api.store.events({ limit: 1000 })
  assert.equal(events.filter((event) => event.kind === 'lease.granted').length, 40, 'none twice')
  assert.equal(events.filter((event) => event.kind === 'lease.event-refused').length, 1)
})

test('what the journal says of a device is known before the lease table tells of it, after a start and a lost connection', async () => {
  const seen: (string | undefined)[][] = []
  let failures = 2
  const intake = (real: Intake): Intake => ({
    ...real,
    async applyLeases(source, items) {
      if (failures-- > 0) throw new OrchestratorError('store-full', 'the disk is full', { retryable: true })
      await real.applyLeases(source, items)
    },
    async applySnapshot(source, table, readAt) {
      await real.applySnapshot(source, table, readAt)
      seen.push((await scene.api.store.leases()).map(({ facts: { mac } }) => mac))
    },
  })
  await using scene = await Scene.open({ intake })
  await scene.join()
  const link = scene.link()
  const path = join(scene.state, 'journal')
  const configPath = join(scene.state, 'dnsmasq.conf')
  writeFileSync(configPath, `dhcp-leasefile=${join(scene.state, 'leases')}\n`)
  let granted = 0
  const grant = (count: number) => {
    const some = Array.from({ length: count }, (_, n) =>
      line(granted + n + 1).replace('\n', '\tMAC=02:00:00:00:00:01\n'),
    )
    granted += count
    const table = Array.from({ length: granted }, (_, n) => {
      const [, , duid, address, name] = line(n + 1).split('\t')
      return `0 ${n + 1} ${address} ${name} ${duid}\n`
    })
    writeFileSync(join(scene.state, 'leases'), `duid 00:01:00:01:00\n${table.join('')}`)
    appendFileSync(path, some.join(''))
  }
  grant(100)
  const { offsets } = await loadOffsets(join(scene.state, 'journal.json'))
  const journal = await followJournal({ path, offsets, log: silent, now: Date.now })
  const stop = new AbortController()
  const options = { journal, sink: link, configPath, log: silent, now: Date.now, notice: () => {} }
  const following = followLeases({ ...options, compareMs: 50 }, stop.signal)
  scene.onEnd(async () => {
    stop.abort(new Error('the test ends'))
    await following
    await journal.close()
  })
  await until('the first table is compared', () => seen.length > 0, { deadlineMs: 30_000 })
  assert.deepEqual(seen[0], Array(100).fill('02:00:00:00:00:01'))
  failures = 2
  grant(100)
  scene.api.hosts.rejoined(HOST)
  await until('the next table is compared', () => seen.some((macs) => macs.length > 100), { deadlineMs: 30_000 })
  assert.deepEqual(new Set(seen.flat()), new Set(['02:00:00:00:00:01']))
  assert.equal(seen.at(-1)?.length, 200)
})

test('a table in several parts is compared as a whole; when the connection ends first, the sender is told', async () => {
  const tables: number[] = []
  let hold: Promise<void> | null = null
  const intake = (real: Intake): Intake => ({
    ...real,
    async applySnapshot(_source, table) {
      tables.push(table.length)
      await hold
    },
  })
  await using scene = await Scene.open({ intake })
  await scene.join()
  const link = scene.link()
  await link.connected(never)
  const lease = (n: number) => ({
    owner: { duid: '00:03:00:01:02:00:00:00:00:01', iaid: n },
    address: `fd00:c::${n.toString(16)}`,
    expiresAt: null,
    facts: {},
  })
  const table = Array.from({ length: 4500 }, (_, n) => lease(n + 1))
  await link.compare('a', Date.now(), table)
  await link.compare('b', Date.now(), [])
  assert.deepEqual(tables, [4500, 0])
  const held = Promise.withResolvers<void>()
  hold = held.promise
  const third = link.compare('c', Date.now(), [])
  await until('it arrived', () => tables.length === 3)
  scene.api.hosts.rejoined(HOST)
  held.resolve()
  await assert.rejects(third, { code: 'connection-ended', retryable: true })
})

test('notices wait for a connection, and what changed by itself arrives', async () => {
  await using scene = await Scene.open()
  await scene.join()
  const link = scene.link()
  link.notice({ level: 'warning', code: 'early', message: 'before the connection' })
  await link.connected(never)
  link.observed({ instance: 'i-one', generation: 1, state: 'partial', address: null })
  await until('both arrived', () => scene.api.notices.length === 1 && scene.api.observed.length === 1)
  assert.equal(scene.api.notices[0]?.code, 'early')
})

test('requests are carried out, refused with their code, cancelled, and answered with output in pieces', async () => {
  await using scene = await Scene.open()
  await scene.join()
  const observed: WireObserved = { instance: 'i-test1', generation: 1, state: 'running', address: 'fd00:1::1' }
  const cancelled = Promise.withResolvers<void>()
  const instances = {
    ensure: async (wanted: { instance: string }) => {
      if (wanted.instance === 'i-test2') throw new OrchestratorError('bridge-missing', 'there is no br-x')
      return observed
    },
    remove: (_instance: string, _generation: number, signal: AbortSignal) =>
      new Promise<void>((_, reject) => {
        signal.addEventListener('abort', () => {
          cancelled.resolve()
          reject(signal.reason)
        })
      }),
    list: async () => [observed],
    async *logs() {
      yield 'x'.repeat(600_000)
      yield 'end'
    },
  } as unknown as Instances
  let unready: unknown = null
  const work = <T>(carryOut: () => Promise<T>) => carryOut()
  const standing = { fault: () => unready, work, aside: work }
  const request = createRequests({
    instances,
    standing,
    stock: { keep: nothing },
    builder: { build: nothing },
    leads: { lead: nothing, unlead: nothing, set: nothing },
    log: silent,
  })
  await scene.link({ request }).connected(never)
  const { hosts } = scene.api
  const wire = (n: number) => {
    const { services, ...rest } = order(n)
    return { ...rest, services: services.map((s) => ({ ...s, command: undefined, capabilities: [], environment: {} })) }
  }
  assert.equal((await hosts.ensure(HOST, wire(1), never)).state, 'running')
  await assert.rejects(hosts.ensure(HOST, wire(2), never), { code: 'bridge-missing', retryable: false })
  assert.equal((await hosts.list(HOST, never)).length, 1)
  const controller = new AbortController()
  const removing = hosts.remove(HOST, 'i-test1' as InstanceId, 2, controller.signal)
  setImmediate(() => controller.abort(new Error('enough')))
  await assert.rejects(removing, /enough/)
  await cancelled.promise
  let text = ''
  for await (const part of hosts.logs(HOST, 'i-test1' as InstanceId, { tail: 10, follow: false }, never)) text += part
  assert.equal(text.length, 600_003)
  unready = new OrchestratorError('engine-unreachable', 'no engine', { retryable: true })
  await assert.rejects(hosts.list(HOST, never), { code: 'engine-unreachable', retryable: true })
})

test('ways are opened, closed and set on the host, which refuses what was overtaken', async () => {
  await using scene = await Scene.open()
  await scene.join()
  const told: unknown[] = []
  const leads = {
    async lead(way: WireWay) {
      if (way.generation === 1) throw new StaleGeneration(way.instance, 1, 2)
      told.push(['lead', way])
    },
    unlead: async (instance: string, generation: number) => void told.push(['unlead', instance, generation]),
    set: async (ways: readonly WireWay[]) => void told.push(['set', ways]),
  }
  const work = <T>(carryOut: () => Promise<T>) => carryOut()
  const parts = {
    instances: {} as Instances,
    stock: { keep: nothing },
    builder: { build: nothing },
    leads,
    log: silent,
  }
  const request = createRequests({ ...parts, standing: { fault: () => null, work, aside: work } })
  await scene.link({ request }).connected(never)
  const { ways }: { ways: Ways } = scene.api.hosts
  const routed: Way = {
    instance: 'i-test1' as InstanceId,
    generation: 2,
    owner: parseIpv6('fd00:c::1'),
    address: parseIpv6('fd00:1::1'),
    reach: { kind: 'routed', via: parseIpv6('fd00:9::2') },
  }
  const translated: Way = { ...routed, reach: { kind: 'translated', address: parseIpv6('2001:db8::1') } }
  await ways.open(HOST, routed, never)
  await ways.set(HOST, [routed, translated], never)
  await ways.close(HOST, routed.instance, 3, never)
  assert.deepEqual(told, [
    ['lead', routed],
    ['set', [routed, translated]],
    ['unlead', 'i-test1', 3],
  ])
  await assert.rejects(ways.open(HOST, { ...routed, generation: 1 }, never), { code: 'stale-generation' })
  await assert.rejects(ways.open('h2' as HostName, routed, never), { code: 'host-unreachable' })
  const tooMany = Array<Way>(MAX_WAYS + 1).fill(routed)
  await assert.rejects(ways.set(HOST, tooMany, never), { code: 'invalid-input', retryable: false })
  await ways.set(HOST, tooMany.slice(1), never)
})

test('a host tells the address by which others reach it, as it follows from its connection', async () => {
  await using scene = await Scene.open()
  await scene.join()
  const seen: (string | undefined)[] = []
  const addresses = ['2001:DB8::1', undefined]
  const address = (local: string | undefined) => {
    seen.push(local)
    return addresses[seen.length - 1]
  }
  for (const expected of ['2001:db8::1', undefined]) {
    const stop = new AbortController()
    await scene.link({ address }, stop).connected(never)
    assert.equal((await scene.api.store.host(HOST))?.facts.address, expected)
    stop.abort(new Error('once more'))
  }
  assert.deepEqual(seen, ['127.0.0.1', '127.0.0.1'])
})

test('what we send is checked before it is sent', async () => {
  await using scene = await Scene.open()
  await scene.join()
  const link = scene.link()
  await link.connected(never)
  const broken = { instance: 'NOT AN ID', generation: 1, state: 'running', address: null } as const
  assert.throws(() => link.observed(broken), /instance/)
  const late: FromHost = { type: 'notice', level: 'info', code: 'after', message: 'the connection goes on' }
  link.notice(late)
  await until('it arrived', () => scene.api.notices.some((notice) => notice.code === 'after'))
})
