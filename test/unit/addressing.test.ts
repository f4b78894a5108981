import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Duid } from '../../common/duid.ts'
import { contains, hostBits, type Ipv6, join, parseIpv6, parsePrefix } from '../../common/ipv6.ts'
import { type AddressPool, allows, candidates } from '../../orchestrator/domain/addressing.ts'
import type { Owner } from '../../orchestrator/domain/lease.ts'

const owners: fc.Arbitrary<Owner> = fc.record({
  duid: fc
    .uint8Array({ minLength: 3, maxLength: 20 })
    .map((all) => [...all].map((o) => o.toString(16).padStart(2, '0')).join(':') as Duid),
  iaid: fc.nat(0xffff_ffff),
})
const addresses = fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }).map((n) => join(parsePrefix('::/0'), n))
const pools: fc.Arbitrary<AddressPool> = fc.record({
  prefix: fc.integer({ min: 112, max: 124 }).map((length) => parsePrefix(`fd00:1::/${length}`)),
  reserved: fc.integer({ min: 0, max: 14 }),
})
const wide: AddressPool = { prefix: parsePrefix('fd00:1::/64'), reserved: 15 }
function take(pool: AddressPool, owner: Owner, lease: Ipv6, n: number): Ipv6[] {
  const found: Ipv6[] = []
  for (const address of candidates(pool, owner, lease)) if (found.push(address) === n) break
  return found
}

describe('candidates', () => {
  it('lie in the prefix and are never reserved', () => {
    fc.assert(
      fc.property(fc.oneof(pools, fc.constant(wide)), owners, addresses, (pool, owner, lease) => {
        for (const address of take(pool, owner, lease, 100)) {
          assert.equal(contains(pool.prefix, address), true)
          assert.ok(hostBits(address, pool.prefix.length) > BigInt(pool.reserved), address)
          assert.equal(parseIpv6(address), address)
        }
      }),
    )
  })

  it('are the same each time', () => {
    fc.assert(
      fc.property(owners, addresses, (owner, lease) => {
        assert.deepEqual(take(wide, owner, lease, 40), take(wide, owner, lease, 40))
      }),
    )
  })

  it('will be the same in every later version: an instance keeps its address over an upgrade', () => {
    const owner = { duid: '00:03:00:01:02:00:00:00:00:01' as Duid, iaid: 7 }
    assert.deepEqual(take(wide, owner, parseIpv6('fd00:c::1234'), 3), [
      'fd00:1::1234',
      'fd00:1::8653:fbcd:dabd:f9a',
      'fd00:1::8653:facd:dabd:869',
    ])
  })

  it('begin with the low bits of the lease address, so that people see what belongs together', () => {
    assert.equal(take(wide, { duid: '00:03:00' as Duid, iaid: 1 }, parseIpv6('fd00:c::abc'), 1)[0], 'fd00:1::abc')
    const reserved = take(wide, { duid: '00:03:00' as Duid, iaid: 1 }, parseIpv6('fd00:c::1'), 1)[0]
    assert.notEqual(reserved, 'fd00:1::1')
  })

  it('are all addresses there are, in a small prefix', () => {
    fc.assert(
      fc.property(pools, owners, addresses, (pool, owner, lease) => {
        const all = new Set(candidates(pool, owner, lease))
        assert.equal(BigInt(all.size), (1n << BigInt(128 - pool.prefix.length)) - BigInt(pool.reserved) - 1n)
      }),
      { numRuns: 10 },
    )
  })

  it('end, in a large prefix and in one that is all reserved', () => {
    const owner = { duid: '00:03:00' as Duid, iaid: 1 }
    assert.equal([...candidates(wide, owner, parseIpv6('fd00:c::abc'))].length, 33)
    assert.deepEqual(
      [...candidates({ prefix: parsePrefix('fd00:1::/124'), reserved: 15 }, owner, parseIpv6('::8'))],
      [],
    )
  })

  it('differ between owners', () => {
    const seen = new Set<string>()
    for (let iaid = 0; iaid < 2000; iaid++) {
      const [, hashed] = take(wide, { duid: '00:03:00:01' as Duid, iaid }, parseIpv6('fd00:c::abc'), 2)
      seen.add(hashed ?? '')
    }
    assert.equal(seen.size, 2000)
  })
})

describe('allows', () => {
  it('takes the first address above the reserved ones and the last of the prefix', () => {
    const pool = { prefix: parsePrefix('fd00:1::/124'), reserved: 3 }
    const allowed = ['fd00:1::4', 'fd00:1::f'].map((a) => allows(pool, parseIpv6(a)))
    const not = ['fd00:1::', 'fd00:1::3', 'fd00:1::10', 'fd00:2::4'].map((a) => allows(pool, parseIpv6(a)))
    assert.deepEqual(
      [allowed, not],
      [
        [true, true],
        [false, false, false, false],
      ],
    )
  })
})
