import assert from 'node:assert/strict'
import { it } from 'node:test'
import { parseIpv6, parsePrefix } from '../../common/ipv6.ts'
import { createIntake, type Intake } from '../../orchestrator/intake.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { alwaysGives } from '../support/choosers.ts'
import { journal, leaseEvent, manualClock, owner, pool, rollOut, template } from '../support/fixtures.ts'
import { onBothStores } from '../support/stores.ts'

onBothStores('intake', (open) => {
  async function setUp(options: { prefix?: string; graceMs?: number; mostMs?: number } = {}) {
    const { store } = await open()
    const clock = manualClock()
    let wakes = 0
    const used = { ...template, lifetime: { graceMs: options.graceMs ?? 0, mostMs: options.mostMs ?? null } }
    await rollOut(store, used)
    const addresses = options.prefix ? { prefix: parsePrefix(options.prefix), reserved: 1 } : pool
    const intake = createIntake({ store, clock, pool: addresses, chooser: alwaysGives(used), wake: () => wakes++ })
    return { store, clock, intake, place: journal(), wakes: () => wakes }
  }
  const live = (store: Store) => store.instances({ live: true })
  const gone = async (store: Store, intake: Intake, n: number) => {
    for (const instance of await live(store)) {
      if (instance.owner.iaid === n) await store.settle(instance, { state: 'gone', settled: instance.generation }, 1)
    }
    void intake
  }

  it('makes one instance of a lease, named after the device, with the low bits of its address', async () => {
    const { store, clock, intake, place, wakes } = await setUp()
    await intake.applyLeases('h1', [place(leaseEvent(1, clock.now()))])
    const [instance, ...more] = await live(store)
    assert.deepEqual(more, [])
    assert.equal(instance?.name, 'device1')
    assert.equal(instance?.address, 'fd00:1::1001')
    assert.equal(instance?.ownerAddress, 'fd00:c::1001')
    assert.equal(instance?.dueAt, clock.now())
    assert.equal(wakes(), 1)
  })

  it('merges repeated and reordered events into one instance', async () => {
    const { store, clock, intake, place } = await setUp()
    const now = clock.now()
    const add = leaseEvent(1, now)
    const old = leaseEvent(1, now, { kind: 'confirmed', facts: {} })
    await intake.applyLeases('h1', [place(old), place(add), place(old), place(old), place(add)])
    assert.equal((await live(store)).length, 1)
    assert.equal((await live(store))[0]?.generation, 1)
    assert.equal((await store.lease(owner(1)))?.facts.hostname, 'device1', 'an event without data erases nothing')
  })

  it('changes nothing when the journal is replayed from its beginning', async () => {
    const { store, clock, intake, place } = await setUp()
    const now = clock.now()
    const items = [
      place(leaseEvent(1, now)),
      place(leaseEvent(2, now)),
      place(leaseEvent(2, now, { kind: 'ended' })),
      place(leaseEvent(1, now + 5000, { kind: 'ended' })),
      place(leaseEvent(1, now + 9000)),
    ]
    await intake.applyLeases('h1', items)
    const before = [await store.leases(), await store.instances()]
    await intake.applyLeases('h1', items)
    await intake.applyLeases('h1', items)
    assert.deepEqual([await store.leases(), await store.instances()], before)
  })

  it('ends in the same place when the same text is appended to the journal again', async () => {
    const { store, clock, intake, place } = await setUp()
    const now = clock.now()
    const history = [
      leaseEvent(1, now),
      leaseEvent(1, now, { kind: 'ended' }),
      leaseEvent(1, now + 10_000),
      leaseEvent(2, now),
      leaseEvent(2, now, { kind: 'ended' }),
    ]
    await intake.applyLeases('h1', history.map(place))
    await intake.applyLeases('h1', history.map(place))
    const wanted = (await live(store)).filter((i) => i.wanted === 'running')
    assert.deepEqual(
      wanted.map((i) => i.owner.iaid),
      [1],
    )
  })

  it('ends what a release ends, and not what an old release meant', async () => {
    const { store, clock, intake, place } = await setUp()
    const now = clock.now()
    await intake.applyLeases('h1', [
      place(leaseEvent(1, now)),
      place(leaseEvent(1, now + 60_000, { kind: 'confirmed' })),
    ])
    await intake.applyLeases('h1', [place(leaseEvent(1, now, { kind: 'ended' }))])
    assert.equal((await live(store))[0]?.wanted, 'running', 'a release with the expiry of before the renewal is stale')
    await intake.applyLeases('h1', [place(leaseEvent(1, now + 60_000, { kind: 'ended' }))])
    assert.equal((await live(store))[0]?.wanted, 'gone')
    assert.equal((await live(store))[0]?.generation, 2)
  })

  it('gives the same owner the same address again, also after others came', async () => {
    const { store, clock, intake, place } = await setUp()
    const now = clock.now()
    await intake.applyLeases('h1', [place(leaseEvent(1, now)), place(leaseEvent(1, now, { kind: 'ended' }))])
    await gone(store, intake, 1)
    const taken = leaseEvent(2, now, { address: parseIpv6('fd00:c::1001') })
    await intake.applyLeases('h1', [
      place(taken),
      place(leaseEvent(1, now + 1000, { address: parseIpv6('fd00:c::2222') })),
    ])
    const byOwner = new Map((await live(store)).map((i) => [i.owner.iaid, i]))
    assert.equal(byOwner.get(1)?.address, 'fd00:1::1001')
    assert.equal(byOwner.get(1)?.ownerAddress, 'fd00:c::2222')
    assert.notEqual(byOwner.get(2)?.address, 'fd00:1::1001')
  })

  it('revives an instance whose lease returns before it is gone', async () => {
    const { store, clock, intake, place } = await setUp({ graceMs: 30_000 })
    const now = clock.now()
    await intake.applyLeases('h1', [place(leaseEvent(1, now)), place(leaseEvent(1, now, { kind: 'ended' }))])
    assert.equal((await live(store))[0]?.dueAt, now + 30_000, 'the grace of the template')
    await intake.applyLeases('h1', [place(leaseEvent(1, now + 1000))])
    const [instance, ...more] = await live(store)
    assert.deepEqual([instance?.wanted, instance?.generation, more.length], ['running', 3, 0])
  })

  it('follows an owner that gets another address', async () => {
    const { store, clock, intake, place } = await setUp()
    const now = clock.now()
    const moved = leaseEvent(1, now + 1000, { address: parseIpv6('fd00:c::9') })
    await intake.applyLeases('h1', [place(leaseEvent(1, now)), place(moved)])
    await intake.applyLeases('h1', [place(leaseEvent(1, now, { kind: 'ended' }))])
    const [instance] = await live(store)
    assert.deepEqual([instance?.ownerAddress, instance?.generation, instance?.wanted], ['fd00:c::9', 2, 'running'])
  })

  it('ignores a lease that had expired, and keeps one that never does', async () => {
    const { store, clock, intake, place } = await setUp()
    const now = clock.now()
    await intake.applyLeases('h1', [
      place(leaseEvent(1, now, { expiresAt: now - 1 })),
      place(leaseEvent(2, now, { expiresAt: null })),
    ])
    assert.deepEqual(
      (await live(store)).map((i) => i.owner.iaid),
      [2],
    )
  })

  it('finds in the lease table what events missed, and trusts events younger than the reading', async () => {
    const { store, clock, intake, place } = await setUp()
    const now = clock.now()
    await intake.applyLeases('h1', [place(leaseEvent(1, now)), place(leaseEvent(2, now))])
    clock.advance(60_000)
    await intake.applyLeases('h1', [place(leaseEvent(3, clock.now()))])
    const table = [leaseEvent(2, now), leaseEvent(4, clock.now())]
    await intake.applySnapshot('h1', table, clock.now())
    const wanted = (await live(store)).filter((i) => i.wanted === 'running').map((i) => i.owner.iaid)
    assert.deepEqual(wanted.sort(), [2, 3, 4])
    const before = await store.instances()
    await intake.applySnapshot('h1', table, clock.now())
    assert.deepEqual(await store.instances(), before, 'the same table again changes nothing')
    await intake.applySnapshot('h2', [], clock.now())
    assert.deepEqual(await store.instances(), before, "another host's table says nothing about this one's leases")
  })

  it('says once that no address is free, keeps the lease, and serves it when there is room', async () => {
    const { store, clock, intake, place } = await setUp({ prefix: 'fd00:1::/126' })
    const now = clock.now()
    for (const n of [1, 2, 3]) await intake.applyLeases('h1', [place(leaseEvent(n, now))])
    assert.equal((await live(store)).length, 2)
    assert.match((await store.lease(owner(3)))?.refusal ?? '', /no address is free.*instances.prefix/)
    const renewed = () => place(leaseEvent(3, clock.now(), { kind: 'confirmed' }))
    await intake.applyLeases('h1', [renewed()])
    const refusals = (await store.events({ limit: 100 })).filter((e) => e.kind === 'lease.refused')
    assert.equal(refusals.length, 1)
    await intake.applyLeases('h1', [place(leaseEvent(1, now, { kind: 'ended' }))])
    await gone(store, intake, 1)
    await intake.applyLeases('h1', [renewed()])
    assert.equal((await store.lease(owner(3)))?.refusal, null)
    assert.equal(
      (await live(store)).some((i) => i.owner.iaid === 3),
      true,
    )
  })

  it('gives two devices of one hostname two names, and none to a hostile one', async () => {
    const { store, clock, intake, place } = await setUp()
    const now = clock.now()
    const named = (n: number, hostname: string) => place(leaseEvent(n, now, { facts: { hostname } }))
    await intake.applyLeases('h1', [
      named(1, 'Laptop'),
      named(2, 'laptop'),
      named(3, '$(reboot)<script>'),
      named(4, '…'),
      named(5, 'my'),
    ])
    const names = (await live(store)).map((i) => i.name)
    assert.equal(new Set(names).size, 5)
    for (const name of names) assert.match(name, /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/)
    assert.equal(names.includes('laptop'), true)
    assert.equal(names.includes('my'), false)
  })

  it('keeps a refused line as an event, and the rest of the batch goes on', async () => {
    const { store, clock, intake, place } = await setUp()
    const refused = {
      refused: { reason: 'lease.duid: has 200 octets', original: '1\tadd\t…' },
      position: { journal: 'j0', offset: 7 },
    }
    await intake.applyLeases('h1', [refused, place(leaseEvent(1, clock.now()))])
    await intake.applyLeases('h1', [refused])
    const told = (await store.events({ limit: 10 })).filter((e) => e.kind === 'lease.event-refused')
    assert.equal(told.length, 1)
    assert.match(told[0]?.message ?? '', /200 octets/)
    assert.equal((await live(store)).length, 1)
  })

  it('moves an instance with its device to another host, and is not called back by the former lease', async () => {
    const { store, clock, intake, place } = await setUp()
    const now = clock.now()
    await intake.applyLeases('h1', [place(leaseEvent(1, now))])
    const elsewhere = { source: 'h2', address: parseIpv6('fd00:d::7'), expiresAt: now + 60_000 }
    await intake.applyLeases('h2', [journal('j2')(leaseEvent(1, now, elsewhere))])
    assert.equal((await live(store))[0]?.wanted, 'gone')
    assert.match((await store.lease(owner(1)))?.refusal ?? '', /at h1 must be gone first/)
    await gone(store, intake, 1)
    clock.advance(30_000)
    await intake.applySnapshot('h2', [leaseEvent(1, now, elsewhere)], clock.now())
    const [instance] = await live(store)
    assert.deepEqual([instance?.source, instance?.ownerAddress], ['h2', 'fd00:d::7'])
    await intake.applyLeases('h1', [place(leaseEvent(1, now + 1000, { kind: 'confirmed' }))])
    await intake.applySnapshot('h1', [leaseEvent(1, now)], clock.now())
    await intake.applyLeases('h1', [place(leaseEvent(1, now, { kind: 'ended' }))])
    assert.deepEqual([(await live(store))[0]?.wanted, (await store.lease(owner(1)))?.source], ['running', 'h2'])
  })

  it('lets an operator end an instance; only a new grant makes another', async () => {
    const { store, clock, intake, place } = await setUp()
    const now = clock.now()
    await intake.applyLeases('h1', [place(leaseEvent(1, now))])
    const [instance] = await live(store)
    assert.ok(instance)
    assert.equal((await intake.dismiss(instance.id))?.wanted, 'gone')
    assert.equal((await intake.dismiss(instance.id))?.generation, 2, 'twice is once')
    await gone(store, intake, 1)
    assert.equal(await intake.dismiss(instance.id), null)
    clock.advance(60_000)
    await intake.applyLeases('h1', [place(leaseEvent(1, now, { kind: 'confirmed' }))])
    await intake.applySnapshot('h1', [leaseEvent(1, now)], clock.now())
    assert.equal((await live(store)).length, 0)
  })

  it('lets an operator end at once what has some grace left after its lease', async () => {
    const { store, clock, intake, place } = await setUp({ graceMs: 300_000 })
    const now = clock.now()
    await intake.applyLeases('h1', [place(leaseEvent(1, now))])
    await intake.applyLeases('h1', [place(leaseEvent(1, now, { kind: 'ended' }))])
    const [waiting] = await live(store)
    assert.ok(waiting)
    assert.equal(waiting.dueAt, now + 300_000)
    clock.advance(1000)
    const hastened = await intake.dismiss(waiting.id)
    assert.deepEqual([hastened?.wanted, hastened?.dueAt], ['gone', now + 1000])
    assert.equal((await live(store))[0]?.dueAt, now + 1000)
  })

  it('ends an instance whose time is over although its lease goes on, and makes another for a new grant only', async () => {
    const { store, clock, intake, place, wakes } = await setUp({ mostMs: 60_000, graceMs: 5_000 })
    const now = clock.now()
    const long = (change = {}) => leaseEvent(1, now, { expiresAt: null, ...change })
    await intake.applyLeases('h1', [place(long())])
    const [instance] = await live(store)
    assert.ok(instance)
    assert.equal(instance.endsAt, now + 60_000)
    clock.advance(59_999)
    await intake.expire(instance.id)
    assert.equal((await live(store))[0]?.wanted, 'running', 'not a millisecond too early')
    clock.advance(1)
    const before = wakes()
    await intake.expire(instance.id)
    await intake.expire(instance.id)
    const [expired] = await live(store)
    assert.deepEqual([expired?.wanted, expired?.generation, expired?.dueAt], ['gone', 2, now + 60_000])
    assert.equal(wakes(), before + 1, 'twice is once')
    const told = (await store.events({ limit: 20 })).filter((e) => e.kind === 'instance.expired')
    assert.equal(told.length, 1)
    await gone(store, intake, 1)
    clock.advance(60_000)
    await intake.applyLeases('h1', [place(long({ kind: 'confirmed' }))])
    await intake.applySnapshot('h1', [long()], clock.now())
    await intake.retryRefused()
    assert.deepEqual(await live(store), [], 'the lease that goes on gets no other')
    await intake.applyLeases('h1', [place(long({ kind: 'ended' })), place(long({ hookAt: clock.now() }))])
    assert.equal((await live(store))[0]?.endsAt, clock.now() + 60_000)
  })

  it('gives a lease that is granted anew a new instance when the former one is over its time and not gone yet', async () => {
    const { store, clock, intake, place } = await setUp({ mostMs: 60_000, graceMs: 600_000 })
    const event = (change = {}) => place(leaseEvent(1, clock.now(), { expiresAt: null, ...change }))
    await intake.applyLeases('h1', [event()])
    const [first] = await live(store)
    clock.advance(60_000)
    await intake.applyLeases('h1', [event({ kind: 'ended' }), event()])
    assert.equal((await live(store))[0]?.wanted, 'gone')
    assert.match((await store.lease(owner(1)))?.refusal ?? '', /former instance device1 must be gone first/)
    await gone(store, intake, 1)
    await intake.retryRefused()
    const [second] = await live(store)
    assert.notEqual(second?.id, first?.id)
    assert.equal(second?.endsAt, clock.now() + 60_000)
    assert.equal((await store.lease(owner(1)))?.refusal, null)
  })

  it('serves the one that waits longest first when an address is free again, also without any event', async () => {
    const { store, clock, intake, place } = await setUp({ prefix: 'fd00:1::/126' })
    for (const n of [1, 2, 5, 4, 3]) {
      await intake.applyLeases('h1', [place(leaseEvent(n, clock.now(), { expiresAt: null }))])
      clock.advance(1000)
    }
    await intake.applyLeases('h1', [place(leaseEvent(1, clock.now(), { kind: 'ended', expiresAt: null }))])
    await gone(store, intake, 1)
    await intake.retryRefused()
    const served = (await live(store)).map((i) => i.owner.iaid)
    assert.deepEqual(served.sort(), [2, 5])
    assert.equal((await store.lease(owner(5)))?.refusal, null)
    assert.match((await store.lease(owner(4)))?.refusal ?? '', /no address is free/)
  })

  it('doubles nothing when the same lease arrives at the same time in ten transactions', async () => {
    const { store, clock, intake } = await setUp()
    const now = clock.now()
    const at = (n: number) => ({ event: leaseEvent(1, now), position: { journal: `j${n}`, offset: 1 } })
    await Promise.all(Array.from({ length: 10 }, (_, n) => intake.applyLeases('h1', [at(n)])))
    assert.equal((await live(store)).length, 1)
  })
})
