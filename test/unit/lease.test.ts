import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { parseIpv6 } from '../../common/ipv6.ts'
import { type Lease, type LeaseEvent, mergeLease, ownerKey } from '../../orchestrator/domain/lease.ts'
import { leaseEvent, owner } from '../support/fixtures.ts'

const now = 1_800_000_000_000
const address = (n: number) => parseIpv6(`fd00:c::${n + 1}`)

function replay(events: readonly LeaseEvent[]): Lease | null {
  let lease: Lease | null = null
  for (const [index, event] of events.entries()) {
    const change = mergeLease(lease, event, now + index)
    if (change.kind !== 'stale') lease = change.lease
  }
  return lease
}

/** What of a lease the order of arrival must not decide. */
function essence(lease: Lease | null) {
  return lease && { state: lease.state, address: lease.address, expiresAt: lease.expiresAt, facts: lease.facts }
}

/** Runs of one owner: each lease has an address and is granted and renewed with ever later expiries; all but the last end. */
const histories = fc
  .array(fc.record({ address: fc.nat(2), renewals: fc.nat(3) }), { minLength: 1, maxLength: 4 })
  .map((runs) => {
    let expiresAt = now + 3_600_000
    const next = () => {
      expiresAt += 1000
      return expiresAt
    }
    const events: LeaseEvent[] = []
    for (const [index, run] of runs.entries()) {
      const common = { address: address(run.address), facts: { hostname: 'device', tags: ['gold'] } }
      events.push(leaseEvent(1, now, { ...common, expiresAt: next() }))
      for (let n = 0; n < run.renewals; n++) {
        events.push(leaseEvent(1, now, { ...common, kind: 'confirmed', expiresAt: next(), facts: {} }))
      }
      if (index < runs.length - 1) events.push(leaseEvent(1, now, { ...common, kind: 'ended', expiresAt, facts: {} }))
    }
    return events
  })
/** The same events in any order, each at least once. */
const shuffled = histories.chain((events) =>
  fc
    .array(fc.constantFrom(...events), { maxLength: 6 })
    .chain((again) => fc.shuffledSubarray([...events, ...again], { minLength: events.length + again.length }))
    .map((arrived) => ({ events, arrived })),
)

describe('mergeLease', () => {
  it('ends with the newest lease in whatever order, and however often, its history arrives', () => {
    fc.assert(
      fc.property(shuffled, ({ events, arrived }) => {
        assert.deepEqual(essence(replay(arrived)), essence(replay(events)))
      }),
      { numRuns: 2000 },
    )
  })

  it('ends what its own last end ends, however shuffled what came before it, and whatever ends come after', () => {
    fc.assert(
      fc.property(shuffled, fc.nat(3), ({ events, arrived }, repeats) => {
        const { address: last, expiresAt } = events.at(-1) ?? assert.fail()
        const end = leaseEvent(1, now, { kind: 'ended', address: last, expiresAt, facts: {} })
        const olderEnds = events.filter((event) => event.kind === 'ended')
        assert.equal(replay([...arrived, end, ...olderEnds, ...Array(repeats).fill(end)])?.state, 'ended')
      }),
      { numRuns: 1000 },
    )
  })

  it('explained: an end that comes before its own grant is not remembered, the lease table corrects it', () => {
    const grant = leaseEvent(1, now)
    const end = leaseEvent(1, now, { kind: 'ended' })
    assert.equal(mergeLease(null, end, now).kind, 'stale')
    assert.equal(replay([end, grant])?.state, 'active')
    assert.equal(replay([end, grant, end])?.state, 'ended')
  })

  it('explained: a late copy of a grant begins an ended lease anew, for a shorter lease looks the same', () => {
    const [grant, end] = [leaseEvent(1, now), leaseEvent(1, now, { kind: 'ended' })]
    assert.equal(replay([grant, end, grant])?.state, 'active')
    assert.equal(replay([grant, end, leaseEvent(1, now, { expiresAt: now + 60_000 })])?.state, 'active')
  })

  it('changes nothing with an event that is stale, and says why', () => {
    const stored = replay([leaseEvent(1, now, { expiresAt: now + 9000 })])
    for (const event of [
      leaseEvent(1, now, { expiresAt: now }),
      leaseEvent(1, now, { expiresAt: now + 8000, address: address(9) }),
      leaseEvent(1, now, { kind: 'ended', expiresAt: now + 8000 }),
      leaseEvent(1, now, { kind: 'ended', expiresAt: now + 9000, address: address(9) }),
    ]) {
      const change = mergeLease(stored, event, now)
      assert.ok(change.kind === 'stale' && change.why.length > 10)
    }
  })

  it('never shortens a lease, and never ends one that lasts for ever by an older end', () => {
    fc.assert(
      fc.property(fc.array(fc.option(fc.integer({ min: 1, max: 1000 })), { minLength: 1 }), (expiries) => {
        const at = expiries.map((e) => (e === null ? null : now + 1_000_000 + e))
        const lease = replay(at.map((expiresAt) => leaseEvent(1, now, { expiresAt })))
        const longest = at.includes(null) ? null : Math.max(...at.map(Number))
        assert.equal(lease?.expiresAt, longest)
        if (longest !== null) return
        assert.equal(mergeLease(lease, leaseEvent(1, now, { kind: 'ended' }), now).kind, 'stale')
        assert.equal(mergeLease(lease, leaseEvent(1, now, { kind: 'ended', expiresAt: null }), now).kind, 'ended')
      }),
    )
  })

  it('keeps facts that a poorer event leaves out, also from the lease before', () => {
    const rich = leaseEvent(1, now, { facts: { hostname: 'a', tags: ['gold'], mac: '02:00:00:00:00:01' } })
    const poor = leaseEvent(1, now, { kind: 'confirmed', facts: { tags: [], hostname: undefined } })
    assert.deepEqual(replay([rich, poor])?.facts, rich.facts)
    const end = leaseEvent(1, now, { kind: 'ended', facts: {} })
    assert.deepEqual(replay([rich, end, poor])?.facts, rich.facts)
    assert.equal(replay([rich, leaseEvent(1, now, { facts: { hostname: 'b' } })])?.facts.hostname, 'b')
  })

  // dnsmasq says `add` only with a packet of the device before it, with all of its tags; `old` and tables may say nothing.
  it('forgets with a new grant what it does not say any more, as a tag that was taken away', () => {
    const gold = leaseEvent(1, now, { facts: { hostname: 'a', tags: ['gold'], mac: '02:00:00:00:00:01' } })
    const end = leaseEvent(1, now, { kind: 'ended', facts: {} })
    const plain = { hostname: 'a', mac: '02:00:00:00:00:01' }
    const again = leaseEvent(1, now + 5000, { facts: plain })
    assert.deepEqual(replay([gold, end, again])?.facts, plain)
    assert.deepEqual(replay([gold, again])?.facts, plain, 'its end was missed')
    const elsewhere = leaseEvent(1, now - 5000, { facts: plain, source: 'h2' })
    assert.deepEqual(replay([gold, elsewhere])?.facts, plain, 'it moved to where it has no tag')
    const silver = leaseEvent(1, now + 5000, { facts: { ...plain, tags: ['silver'] } })
    assert.deepEqual(replay([silver, leaseEvent(1, now, { facts: plain })])?.facts.tags, ['silver'], 'an old copy')
    const poor = leaseEvent(1, now + 9000, { kind: 'confirmed', facts: {} })
    assert.deepEqual(replay([silver, end, poor])?.facts.tags, ['silver'])
  })

  it('keeps the time of the first grant over renewals, and forgets a refusal when the lease ends', () => {
    const lease = replay([leaseEvent(1, now), leaseEvent(1, now + 5000, { kind: 'confirmed' })])
    assert.deepEqual([lease?.grantedAt, lease?.updatedAt], [now, now + 1])
    const refused = lease && { ...lease, refusal: 'full' }
    const change = mergeLease(refused, leaseEvent(1, now + 5000, { kind: 'ended' }), now + 7)
    assert.ok(change.kind === 'ended')
    assert.deepEqual([change.lease.refusal, change.lease.endedAt], [null, now + 7])
  })

  it('knows an owner by DUID and IAID together', () => {
    assert.notEqual(ownerKey(owner(1)), ownerKey({ ...owner(1), iaid: 2 }))
  })
})
