import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { addressText, decode, duidOctets, duidText, encode, MESSAGE } from '../../lab/dhcpv6.ts'

const duid = duidOctets('00:03:00:01:02:00:00:00:00:01')

test('a Solicit is what RFC 8415 says, octet for octet', () => {
  const packet = encode({ type: 'solicit', transaction: 0x123456, duid, iaid: 7, hostname: 'pc' })
  const expected = [
    '01123456', // Solicit, transaction
    '0001000a00030001020000000001', // client identifier
    '000800020000', // elapsed time
    '000e0000', // rapid commit
    '000600020017', // option request: DNS servers
    '00270004' + '00' + '027063', // client FQDN: no flags, one label
    '0003000c' + '00000007' + '00000000' + '00000000', // IA_NA without an address
  ]
  assert.equal(packet.toString('hex'), expected.join(''))
})

test('a Renew names the server and the address', () => {
  const address = Buffer.from('fd00000c000000000000000000009805', 'hex')
  const packet = encode({ type: 'renew', transaction: 1, duid, iaid: 7, address, server: Buffer.from('0001ff', 'hex') })
  assert.equal(packet[0], MESSAGE.renew)
  assert.ok(packet.includes(Buffer.from('000200030001ff', 'hex')))
  assert.ok(packet.includes(Buffer.concat([Buffer.from('00050018', 'hex'), address])))
})

test('a Reply is read: address, lifetime, status', () => {
  const hex = [
    '07123456',
    '0001000a00030001020000000001',
    '00020003' + '0001ff',
    '00030028' + '00000007' + '0000003c' + '00000069',
    '00050018' + 'fd00000c000000000000000000009805' + '00000078' + '00000078',
  ].join('')
  const answer = decode(Buffer.from(hex, 'hex'))
  assert.ok(answer)
  assert.equal(answer.transaction, 0x123456)
  assert.equal(duidText(answer.duid), '00:03:00:01:02:00:00:00:00:01')
  assert.equal(answer.address && addressText(answer.address), 'fd00:c::9805')
  assert.equal(answer.validSeconds, 120)
  assert.equal(answer.status, 0)
})

test('a Reply without an address tells the status of its IA', () => {
  const ia = `00030012${'00000007'.repeat(3)}000d00020002`
  const hex = `070000010001000200ff0002000200ee${ia}`
  const answer = decode(Buffer.from(hex, 'hex'))
  assert.equal(answer?.address, null)
  assert.equal(answer?.status, 2)
})

test('no packet, however broken, makes the reader throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(2, 7), (octets, type) => {
      const packet = Buffer.from(octets)
      if (packet.length > 0) packet[0] = type
      decode(packet)
    }),
  )
})
