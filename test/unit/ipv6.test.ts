import assert from 'node:assert/strict'
import { isIPv6 } from 'node:net'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { InvalidInput } from '../../common/errors.ts'
import { contains, formatPrefix, hostBits, type Ipv6, join, parseIpv6, parsePrefix, size } from '../../common/ipv6.ts'

const groups = fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff })), { minLength: 8, maxLength: 8 })
const spelled = groups.map((all) => all.map((group) => group.toString(16)).join(':'))
const refused = (field: string) => (error: unknown) => error instanceof InvalidInput && error.field === field

/** RFC 5952 by its words: the first longest run of at least two zero groups becomes `::`. */
function canonical(all: readonly number[]): string {
  const text = all.map((group) => group.toString(16)).join(':')
  const runs = [...text.matchAll(/\b0(:0)+\b/g)].sort((a, b) => b[0].length - a[0].length || a.index - b.index)
  const run = runs[0]
  if (run === undefined) return text
  const before = text.slice(0, run.index).replace(/:$/, '')
  const after = text.slice(run.index + run[0].length).replace(/^:/, '')
  return `${before}::${after}`
}

describe('parseIpv6', () => {
  it('gives the text of RFC 5952 for every address, also where one zero group stands alone', () => {
    fc.assert(
      fc.property(groups, (all) => {
        const text = all.map((group) => group.toString(16).padStart(4, '0').toUpperCase()).join(':')
        assert.equal(parseIpv6(text), canonical(all))
      }),
      { numRuns: 2000 },
    )
    assert.equal(parseIpv6('1:0:2:3:4:5:6:7'), '1:0:2:3:4:5:6:7')
    assert.equal(parseIpv6('1:2:3:4:5:6:7::'), '1:2:3:4:5:6:7:0')
    assert.equal(parseIpv6('1:0:0:2:0:0:3:4'), '1::2:0:0:3:4')
  })

  it('agrees with the URL standard, and is a fixed point', () => {
    fc.assert(
      fc.property(fc.ipV6(), (text) => {
        const parsed = parseIpv6(text)
        assert.equal(parsed, new URL(`http://[${text}]/`).hostname.slice(1, -1))
        assert.equal(parseIpv6(parsed), parsed)
      }),
      { numRuns: 2000 },
    )
  })

  it('takes a dotted end as its two groups', () => {
    fc.assert(
      fc.property(fc.ipV4(), (dotted) => {
        const [a = 0, b = 0, c = 0, d = 0] = dotted.split('.').map(Number)
        const hex = `64:ff9b::${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`
        assert.equal(parseIpv6(`64:ff9b::${dotted}`), parseIpv6(hex))
      }),
    )
    assert.equal(parseIpv6('::ffff:1.2.3.4'), '::ffff:102:304')
    assert.equal(parseIpv6('1:2:3:4:5:6:1.2.3.4'), '1:2:3:4:5:6:102:304')
  })

  it('refuses octal-looking, zoned and mangled texts, naming the field', () => {
    const wrong = [
      '',
      '::ffff:010.1.1.1',
      '::1.2.3.04',
      'fe80::1%eth0',
      '1.2.3.4',
      '00001::',
      '1::2::3',
      '[::1]',
      '::1/64',
    ]
    for (const text of [...wrong, ' ::1', '::1\n', '::g', ':'.repeat(100_000)]) {
      assert.throws(() => parseIpv6(text, 'lease.address'), refused('lease.address'), text)
    }
  })

  it('never throws anything but a refusal, and never takes what node:net refuses', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'0123456789abcdfF:.%/ ') }), (text) => {
        try {
          parseIpv6(text)
          assert.equal(isIPv6(text), true)
        } catch (error) {
          assert.ok(error instanceof InvalidInput)
        }
      }),
      { numRuns: 2000 },
    )
  })

  it('shows no more than the beginning of a huge text', () => {
    assert.throws(
      () => parseIpv6('x'.repeat(1_000_000)),
      (error: Error) => error.message.length < 200,
    )
  })
})

describe('prefixes', () => {
  const lengths = fc.integer({ min: 0, max: 128 })
  const prefixes = fc.tuple(spelled, lengths).map(([text, length]) => {
    const host = hostBits(parseIpv6(text), length)
    const all = parsePrefix('::/0')
    return { base: join(all, hostBits(parseIpv6(text), 0) - host), length }
  })

  it('survive writing and reading', () => {
    fc.assert(fc.property(prefixes, (prefix) => assert.deepEqual(parsePrefix(formatPrefix(prefix)), prefix)))
  })

  it('contain exactly what was joined into them, with its host bits kept', () => {
    fc.assert(
      fc.property(prefixes, fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }), (prefix, host) => {
        const address = join(prefix, host)
        assert.equal(contains(prefix, address), true)
        assert.equal(hostBits(address, prefix.length), host % size(prefix))
      }),
    )
  })

  it('do not contain an address that differs above their length', () => {
    fc.assert(
      fc.property(spelled, fc.integer({ min: 1, max: 128 }), fc.nat(), (text, length, n) => {
        const address = parseIpv6(text)
        const base = join(
          parsePrefix('::/0'),
          (hostBits(address, 0) / (1n << BigInt(128 - length))) << BigInt(128 - length),
        )
        const flipped = hostBits(address, 0) ^ (1n << BigInt(128 - 1 - (n % length)))
        assert.equal(contains({ base, length }, join(parsePrefix('::/0'), flipped)), false)
      }),
    )
  })

  it('have two to the number of host bits addresses', () => {
    assert.equal(size(parsePrefix('::/0')), 1n << 128n)
    assert.equal(size(parsePrefix('fd00::/124')), 16n)
    assert.equal(size(parsePrefix('fd00::1/128')), 1n)
  })

  it('are refused when they are not one, and the right one is suggested when host bits are set', () => {
    for (const text of [
      '',
      'fd00::',
      'fd00::/',
      'fd00::/129',
      'fd00::/-1',
      'fd00::/6 4',
      'fd00::/64/64',
      '10.0.0.0/8',
    ]) {
      assert.throws(() => parsePrefix(text, 'instances.prefix'), refused('instances.prefix'), text)
    }
    assert.throws(() => parsePrefix('fd00:1::5/64'), /write fd00:1::\/64/)
    const whole: Ipv6 = parsePrefix('fd00::1/128').base
    assert.equal(whole, 'fd00::1')
  })
})
