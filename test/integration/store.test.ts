import assert from 'node:assert/strict'
import { it } from 'node:test'
import { OrchestratorError, wording } from '../../common/errors.ts'
import { parseIpv6 } from '../../common/ipv6.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { Instance, InstanceId } from '../../orchestrator/domain/instance.ts'
import type { Store, StoredToken } from '../../orchestrator/store/store.ts'
import { leaseEvent, owner } from '../support/fixtures.ts'
import { instance } from '../support/instances.ts'
import { onBothStores } from '../support/stores.ts'

const h1 = 'h1' as HostName
const h2 = 'h2' as HostName
const DAY = 86_400_000

onBothStores('store', (open) => {
  async function holding(...instances: Instance[]): Promise<Store> {
    const { store } = await open()
    await store.transaction(async (tx) => {
      for (const one of instances) await tx.insertInstance(one)
    })
    return store
  }
  const read = async (store: Store, n: number) => (await store.instance(instance(n).id)) ?? assert.fail()
  const token = (hash: string, expiresAt: number | null = null): StoredToken => ({
    hash,
    kind: 'join',
    host: null,
    expiresAt,
    usedAt: null,
  })
  const failed = (error: unknown) =>
    error instanceof OrchestratorError && error.code === 'store-failed' && error.retryable

  it('gives back an instance as it was put in', async () => {
    const full = instance(1, {
      ...{ host: h1, lastError: 'x', dueAt: null, marks: { hookAt: 1, startedAt: 2 }, failures: 3 },
      ...{ rule: 'staff', parameters: { TITLE: 'a', PIN: { sealed: 'v1.x' }, N: 1.5, ON: false } },
      ...{ graceMs: 5000, endsAt: 1_900_000_000_000, outputs: { url: 'http://x/', ready: true } },
    })
    const store = await holding(full)
    assert.deepEqual(await store.instance(full.id), full)
    assert.equal(await store.instance('i-none' as InstanceId), null)
  })

  it('records what came of an action only for who saw the latest, and only once', async () => {
    const store = await holding(instance(1))
    const seen = await read(store, 1)
    const outcomes = await Promise.all(
      Array.from({ length: 10 }, (_, n) => store.settle(seen, { failures: n + 1 }, 5000)),
    )
    assert.equal(outcomes.filter(Boolean).length, 1)
    assert.equal(await store.settle({ ...(await read(store, 1)), generation: 2 }, { state: 'gone' }, 6000), false)
    assert.equal(await store.settle({ ...seen, id: 'i-none' as InstanceId }, { state: 'gone' }, 6000), false)
  })

  it('writes what it is told to and leaves the rest, and time goes on even if the clock does not', async () => {
    const store = await holding(instance(1, { lastError: 'x', failures: 2 }))
    const seen = await read(store, 1)
    assert.equal(
      await store.settle(seen, { host: h1, dueAt: null, marks: { decidedAt: 9 } }, seen.updatedAt - 100),
      true,
    )
    const after = await read(store, 1)
    assert.deepEqual(after, { ...seen, host: h1, dueAt: null, marks: { decidedAt: 9 }, updatedAt: seen.updatedAt + 1 })
    assert.equal(await store.settle(after, { lastError: null }, 7000), true)
    assert.deepEqual({ ...(await read(store, 1)), updatedAt: 0 }, { ...after, lastError: null, updatedAt: 0 })
  })

  it('adds later marks without undoing earlier ones, for the same generation of a living instance', async () => {
    const store = await holding(instance(1, { marks: { startedAt: 1 } }), instance(2, { state: 'gone' }))
    await store.addMarks(instance(1).id, 1, { startedAt: 9, reachableAt: 2 })
    await store.addMarks(instance(1).id, 2, { decidedAt: 3 })
    await store.addMarks(instance(2).id, 1, { reachableAt: 3 })
    await store.addMarks('i-none' as InstanceId, 1, { reachableAt: 3 })
    assert.deepEqual(
      [(await read(store, 1)).marks, (await read(store, 2)).marks],
      [{ startedAt: 1, reachableAt: 2 }, {}],
    )
  })

  it('finds where work waits, longest waiting first, each host once; before one is chosen the source counts', async () => {
    const store = await holding(
      instance(1, { host: h1, dueAt: 300 }),
      instance(2, { host: h2, source: 'h1', dueAt: 200 }),
      instance(3, { source: 'h3', dueAt: 100 }),
      instance(4, { host: h1, dueAt: 150 }),
      instance(5, { source: 'h4', dueAt: 900 }),
      instance(6, { source: 'h5', dueAt: null }),
    )
    assert.deepEqual(await store.dueHosts(400), ['h3', 'h1', 'h2'])
    assert.deepEqual(await store.dueHosts(99), [])
    const ids = async (host: string, limit: number) =>
      (await store.due(host as HostName, 400, limit)).map((i) => i.dueAt)
    assert.deepEqual([await ids('h1', 9), await ids('h1', 1), await ids('h3', 9)], [[150, 300], [150], [100]])
    assert.deepEqual([await ids('h4', 9), await store.nextDue(0)], [[], 100])
  })

  it('makes due what failed on a host, or waits for it to join, and nothing else', async () => {
    const late = { dueAt: 9000, lastError: 'away' }
    const store = await holding(
      instance(1, { ...late, host: h1 }),
      instance(2, { ...late, source: 'h1' }),
      instance(3, { ...late, host: h2, source: 'h1' }),
      instance(4, { host: h1, dueAt: 9000 }),
      instance(5, { host: h1, dueAt: null, lastError: 'x' }),
      instance(6, { host: h1, dueAt: 10, lastError: 'x' }),
    )
    await store.wakeHost(h1, 500)
    const due = await Promise.all([1, 2, 3, 4, 5, 6].map(async (n) => (await read(store, n)).dueAt))
    assert.deepEqual(due, [500, 500, 9000, 9000, null, 10])
  })

  it('finds an instance by id before name, the living before the gone, the newest before the old', async () => {
    const gone = { state: 'gone', name: 'same' } as const
    const store = await holding(
      instance(1, { ...gone, createdAt: 10 }),
      instance(2, { ...gone, createdAt: 20 }),
      instance(3, { name: instance(1).id }),
    )
    assert.equal((await store.findInstance('same'))?.id, instance(2).id)
    assert.equal((await store.findInstance(instance(1).id))?.id, instance(1).id)
    await store.transaction((tx) => tx.insertInstance(instance(4, { name: 'same', createdAt: 5 })))
    assert.equal((await store.findInstance('same'))?.id, instance(4).id)
  })

  it('holds one living instance an owner, an address and a name, whatever the code does', async () => {
    const store = await holding(instance(1), instance(9, { ...pick(instance(1)), state: 'gone' }))
    const clash = (change: Partial<Instance>) => store.transaction((tx) => tx.insertInstance(instance(2, change)))
    await assert.rejects(clash({ owner: owner(1) }), failed)
    await assert.rejects(clash({ address: instance(1).address }), failed)
    await assert.rejects(clash({ name: 'name1' }), failed)
    await clash({ ...pick(instance(1)), state: 'gone' })
    const revive = (tx: Parameters<Parameters<Store['transaction']>[0]>[0]) =>
      tx.updateInstance(instance(9, pick(instance(1))))
    await assert.rejects(store.transaction(revive), failed)
    assert.equal((await store.instances({ live: true })).length, 1)
  })

  it('takes all of a transaction back when it fails, and goes on', async () => {
    const { store } = await open()
    const reason = new OrchestratorError('enough', 'enough')
    const attempt = store.transaction(async (tx) => {
      await tx.insertInstance(instance(1))
      await tx.appendEvent({ level: 'info', kind: 'x.y', message: 'said' }, 1)
      await tx.putJournalOffset({ source: 'h1', journal: 'j', offset: 7 }, 1)
      assert.equal(await tx.journalOffset('h1', 'j'), 7)
      throw reason
    })
    await assert.rejects(attempt, (error) => error === reason)
    assert.deepEqual([await store.instances(), await store.events({ limit: 9 })], [[], []])
    assert.equal(await store.transaction((tx) => tx.journalOffset('h1', 'j')), 0)
  })

  it('gives a host a new epoch with each connection, and an older one cannot close it', async () => {
    const { store } = await open()
    await assert.rejects(
      store.hostConnected(h1, {}, 1),
      (e) => e instanceof OrchestratorError && e.code === 'host-unknown',
    )
    await store.putHost({ name: h1, fingerprint: 'a', joinedAt: 5 })
    const epochs = await Promise.all([1, 2, 3].map((at) => store.hostConnected(h1, { kernel: `k${at}` }, at)))
    assert.deepEqual([...epochs].sort(), [1, 2, 3])
    await store.hostDisconnected(h1, 2, 9)
    assert.equal((await store.host(h1))?.connected, true)
    await store.putHost({ name: h1, fingerprint: 'b', joinedAt: 6 })
    assert.deepEqual([(await store.host(h1))?.epoch, await store.hostFingerprint(h1)], [3, 'b'])
    await store.hostDisconnected(h1, 3, 10)
    assert.deepEqual([(await store.host(h1))?.connected, (await store.host(h1))?.seenAt], [false, 10])
    await store.hostConnected(h1, {}, 11)
    await store.disconnectAllHosts(12)
    assert.deepEqual(
      (await store.hosts()).map((h) => [h.name, h.connected, h.seenAt]),
      [['h1', false, 12]],
    )
    assert.equal(await store.host(h2), null)
  })

  it('lets one of ten use a token, and never changes one that is there', async () => {
    const { store } = await open()
    await store.putToken(token('a'))
    const uses = await Promise.all(Array.from({ length: 10 }, (_, n) => store.useToken('a', 100 + n)))
    assert.equal(uses.filter(Boolean).length, 1)
    await store.putToken(token('a'))
    assert.notEqual((await store.token('a'))?.usedAt, null)
    assert.equal(await store.useToken('none', 1), false)
  })

  it('numbers events without a gap in their order, and pages them forward, or the newest last', async () => {
    const { store } = await open()
    for (let n = 1; n <= 7; n++) {
      const mine = n % 2 === 0 ? { instance: instance(1).id, owner: owner(1), host: 'h1' } : {}
      await store.appendEvent({ level: 'info', kind: 'x.y', message: `m${n}`, ...mine }, n)
    }
    const said = async (page: Parameters<Store['events']>[0]) => (await store.events(page)).map((e) => e.message)
    assert.deepEqual(await said({ limit: 3 }), ['m5', 'm6', 'm7'])
    const [first] = await store.events({ limit: 1, after: 0 })
    assert.deepEqual(await said({ limit: 2, after: first?.id }), ['m2', 'm3'])
    assert.deepEqual(await said({ limit: 9, instance: instance(1).id }), ['m2', 'm4', 'm6'])
    const [own] = await store.events({ limit: 1, instance: instance(1).id })
    assert.deepEqual([own?.owner, own?.host, own?.at], [owner(1), 'h1', 6])
  })

  it('forgets old events and what is over for long, and nothing that lives or belongs to an owner', async () => {
    const now = 200 * DAY
    const store = await holding(
      instance(1, { state: 'gone', updatedAt: now - 91 * DAY }),
      instance(2, { state: 'gone', updatedAt: now - 89 * DAY }),
      instance(3, { updatedAt: now - 199 * DAY }),
    )
    await store.transaction(async (tx) => {
      for (const [n, age, state] of [
        [1, 91, 'ended'],
        [2, 89, 'ended'],
        [3, 199, 'active'],
      ] as const) {
        const { owner: o, source, address, facts } = leaseEvent(n, now)
        const at = now - age * DAY
        await tx.putLease({
          owner: o,
          source,
          address,
          facts,
          expiresAt: null,
          state,
          grantedAt: at,
          updatedAt: at,
          endedAt: null,
          refusal: null,
        })
      }
      await tx.assignAddress(parseIpv6('fd00:1::1'), owner(1), 1)
      await tx.putJournalOffset({ source: 'h1', journal: 'old', offset: 7 }, now - 91 * DAY)
      await tx.putJournalOffset({ source: 'h1', journal: 'new', offset: 8 }, now)
    })
    for (const [hash, expiresAt] of [
      ['old', now - 91 * DAY],
      ['new', now],
      ['never', null],
    ] as const)
      await store.putToken(token(hash, expiresAt))
    for (let n = 0; n < 12; n++) await store.appendEvent({ level: 'info', kind: 'x.y', message: `m${n}` }, n)
    await store.prune(5, now)
    assert.deepEqual(
      (await store.events({ limit: 99 })).map((e) => e.message),
      ['m7', 'm8', 'm9', 'm10', 'm11'],
    )
    assert.deepEqual((await store.instances()).map((i) => i.id).sort(), [instance(2).id, instance(3).id])
    assert.deepEqual((await store.leases()).map((l) => l.owner.iaid).sort(), [2, 3])
    assert.deepEqual(
      [await store.token('old'), (await store.token('new'))?.hash, (await store.token('never'))?.hash],
      [null, 'new', 'never'],
    )
    const kept = await store.transaction(async (tx) => [
      await tx.journalOffset('h1', 'old'),
      await tx.journalOffset('h1', 'new'),
      await tx.addressOf(owner(1)),
    ])
    assert.deepEqual(kept, [0, 8, 'fd00:1::1'])
  })

  it('gives an address to one owner at a time and one address to an owner, and finds those that lie idle', async () => {
    const store = await holding(instance(1))
    const [a, b] = [instance(1).address, parseIpv6('fd00:1::b')]
    const held = await store.transaction(async (tx) => {
      await tx.assignAddress(a, owner(1), 1)
      assert.deepEqual(await tx.idleAddresses(10), [])
      await tx.assignAddress(b, owner(2), 2)
      assert.deepEqual(await tx.idleAddresses(10), [b])
      await tx.assignAddress(b, owner(1), 3)
      return [await tx.holderOf(a), await tx.holderOf(b), await tx.addressOf(owner(1)), await tx.addressOf(owner(2))]
    })
    assert.deepEqual(held, [null, owner(1), b, null])
  })

  it('words its failures as such, without the values that it was given', async () => {
    const { store } = await open()
    await store.close()
    for (const attempt of [
      store.check(),
      store.instances(),
      store.putToken(token('hunter2')),
      store.transaction((tx) => tx.lease(owner(1))),
    ]) {
      await assert.rejects(attempt, (error) => failed(error) && !wording(error).includes('hunter2'))
    }
  })
})

function pick({ owner: o, address, name }: Instance): Pick<Instance, 'owner' | 'address' | 'name'> {
  return { owner: o, address, name }
}
