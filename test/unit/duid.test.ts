import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { parseDuid, parseIaid } from '../../common/duid.ts'
import { InvalidInput } from '../../common/errors.ts'

const refused = (field: string) => (error: unknown) =>
  error instanceof InvalidInput && error.field === field && error.message.length < 300
const octets = (least: number, most: number) =>
  fc
    .uint8Array({ minLength: least, maxLength: most })
    .map((all) => [...all].map((o) => o.toString(16).padStart(2, '0')))

describe('parseDuid', () => {
  it('takes 3 to 130 octets in any case and gives lower case', () => {
    fc.assert(
      fc.property(octets(3, 130), (all) => {
        const text = all.join(':')
        assert.equal(parseDuid(text.toUpperCase()), text)
        assert.equal(parseDuid(parseDuid(text)), text)
      }),
    )
  })

  it('refuses fewer and more octets, such as a DUID of 200 bytes, naming the field', () => {
    fc.assert(
      fc.property(fc.oneof(octets(0, 2), octets(131, 300)), (all) => {
        assert.throws(() => parseDuid(all.join(':'), 'lease.owner.duid'), refused('lease.owner.duid'))
      }),
    )
    assert.throws(() => parseDuid(Array(200).fill('ab').join(':')), /has 200 octets/)
  })

  it('refuses other notations and whatever strangers send', () => {
    const wrong = [
      '00030001',
      '0:3:0',
      '00:03:',
      ':00:03:00',
      '00:03:0g',
      '00-03-00',
      ' 00:03:00',
      '00:03:00\n',
      '00:03:00\0',
    ]
    for (const text of [...wrong, 'x'.repeat(1_000_000), '$(reboot)']) {
      assert.throws(() => parseDuid(text), refused('duid'))
    }
  })
})

describe('parseIaid', () => {
  it('takes every 32-bit number', () => {
    fc.assert(fc.property(fc.nat(0xffff_ffff), (n) => assert.equal(parseIaid(String(n)), n)))
    assert.equal(parseIaid('4294967295'), 0xffff_ffff)
  })

  it('refuses what is no number from 0 to 4294967295', () => {
    for (const text of [
      '',
      '-1',
      '1.5',
      '1e3',
      '0x10',
      '4294967296',
      '99999999999',
      ' 1',
      'NaN',
      '1'.repeat(100_000),
    ]) {
      assert.throws(() => parseIaid(text, 'lease.owner.iaid'), refused('lease.owner.iaid'), text.slice(0, 20))
    }
  })

  it('says of a temporary association that it is one', () => {
    assert.throws(() => parseIaid('T123'), /temporary association/)
  })
})
