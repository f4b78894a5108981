import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { CLOSED, type Policy, policyShape } from '../../common/wiring-policy.ts'
import { parsePolicy } from '../../unionize/wiring/policy-input.ts'

const port = fc.integer({ min: 1, max: 65535 })
const groups = fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 2, maxLength: 2 })
const prefix = groups.map(([a = 0, b = 0]) => `${(0x2000 | (a & 0x1fff)).toString(16)}:${b.toString(16)}::/32`)
const policy: fc.Arbitrary<Policy> = fc.record({
  public: fc.array(fc.record({ protocol: fc.constantFrom('tcp', 'udp'), port }, { noNullPrototype: true }), {
    maxLength: 5,
  }),
  egress: fc.oneof(fc.constantFrom('none', 'internet'), fc.array(prefix, { minLength: 1, maxLength: 5 })),
  limits: fc.record({ packets: fc.integer({ min: 1, max: 1_000_000 }) }, { requiredKeys: [], noNullPrototype: true }),
}) as fc.Arbitrary<Policy>

describe('a policy that comes from another process', () => {
  it('is taken as it is if its shape is right, each time the same', () => {
    fc.assert(
      fc.property(policy, (given) => {
        const parsed = parsePolicy(policyShape.parse(given))
        assert.deepEqual(parsePolicy(parsed), parsed)
        assert.deepEqual(parsed.public, given.public)
        assert.deepEqual(parsed.limits, given.limits)
      }),
    )
    assert.deepEqual(parsePolicy(CLOSED), CLOSED)
  })

  it('has prefixes that are within no other, each in its shortest spelling', () => {
    const egress = ['2001:DB8:1::/48', '2001:db8::/32', '2001:db8::/32', '2600::1/128']
    assert.deepEqual(parsePolicy({ ...CLOSED, egress }).egress, ['2001:db8::/32', '2600::1/128'])
  })

  it('is refused, naming the field, where it could reach the firewall as something else', () => {
    const limits = (value: unknown) => ({ ...CLOSED, limits: { packets: value } })
    const faults: [unknown, RegExp][] = [
      [null, /policy/],
      ['internet', /policy/],
      [{ ...CLOSED, egress: 'all' }, /policy.egress/],
      [{ ...CLOSED, egress: [] }, /policy.egress/],
      [{ ...CLOSED, egress: ['::/0 } accept; {'] }, /policy.egress/],
      [{ ...CLOSED, egress: ['2001:db8::1/32'] }, /policy.egress/],
      [{ ...CLOSED, egress: ['10.0.0.0/8'] }, /policy.egress/],
      [{ ...CLOSED, public: [{ protocol: 'icmp', port: 1 }] }, /policy.public.protocol/],
      [{ ...CLOSED, public: [{ protocol: 'tcp', port: '22' }] }, /policy.public.port/],
      [{ ...CLOSED, public: [{ protocol: 'tcp', port: 0 }] }, /policy.public.port/],
      [{ ...CLOSED, public: [{ protocol: 'tcp', port: 9, last: 8 }] }, /policy.public.last/],
      [{ ...CLOSED, public: Array(65).fill({ protocol: 'tcp', port: 1 }) }, /policy.public/],
      [{ ...CLOSED, limits: null }, /policy.limits/],
      ...[0, -1, 1.5, '9', Number.NaN, 1e12].map(
        (value) => [limits(value), /policy.limits.packets/] as [unknown, RegExp],
      ),
    ]
    for (const [value, message] of faults) assert.throws(() => parsePolicy(value as Policy), message)
  })
})
