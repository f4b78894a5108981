import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { InvalidInput } from '../../common/errors.ts'
import { fromHost } from '../../unionize/contract.ts'
import { parseJournalLine } from '../../unionize/leases/dnsmasq/event.ts'
import type { JournalLine } from '../../unionize/leases/journal.ts'
import { leaseItem } from '../../unionize/leases/source.ts'
import { silent } from '../support/fixtures.ts'

const DUID = '00:03:00:01:02:00:00:00:00:01'
const line = (...fields: string[]) => fields.join('\t')
const add = (...variables: string[]) => line('1', 'add', DUID, 'fd00:C::1005', 'box', 'IAID=42', ...variables)
const refusal = (text: string) => {
  try {
    parseJournalLine(text)
  } catch (error) {
    if (error instanceof InvalidInput) return error.field
    throw error
  }
  return 'taken'
}

test('a full add line becomes a granted lease with its facts', () => {
  const event = parseJournalLine(
    add(
      'LEASE_EXPIRES=1795300000',
      'MAC=02:00:00:00:00:01',
      'TAGS=known br-clients gold',
      'SUPPLIED_HOSTNAME=my%2525box%09',
      'REQUESTED_OPTIONS=23,24,x,39',
      'USER_CLASS0=a',
      'USER_CLASS2=c=d',
      'MUD_URL=https://example.org/mud',
      'RELAY_ADDRESS=fd00::1',
    ),
  )
  assert.deepEqual(event, {
    kind: 'granted',
    lease: {
      owner: { duid: DUID, iaid: 42 },
      address: 'fd00:c::1005',
      expiresAt: 1_795_300_000_000,
      facts: {
        mac: '02:00:00:00:00:01',
        hostname: 'my%25box\t',
        relay: 'fd00::1',
        mudUrl: 'https://example.org/mud',
        tags: ['known', 'br-clients', 'gold'],
        userClasses: ['a', 'c=d'],
        requestedOptions: [23, 24, 39],
      },
    },
  })
})

test('actions mean granted, confirmed and ended; any other is refused', () => {
  const kindOf = (action: string) =>
    parseJournalLine(line('1', action, DUID, 'fd00::1', '', 'IAID=1', 'LEASE_EXPIRES=0')).kind
  assert.deepEqual(['add', 'old', 'del'].map(kindOf), ['granted', 'confirmed', 'ended'])
  for (const action of ['init', 'arp-add', 'tftp', 'constructor', '']) {
    assert.equal(refusal(line('1', action, DUID, 'fd00::1', '', 'IAID=1')), 'action')
  }
})

test('an expiry of 0 is never; without one only an end is understood', () => {
  assert.equal(parseJournalLine(add('LEASE_EXPIRES=0')).lease.expiresAt, null)
  assert.equal(refusal(add()), 'LEASE_EXPIRES')
  assert.equal(refusal(add('LEASE_EXPIRES=-1')), 'LEASE_EXPIRES')
  const ended = line('1', 'del', DUID, 'fd00:c::1', '', 'IAID=1', 'DATA_MISSING=1')
  assert.equal(parseJournalLine(ended).lease.expiresAt, null)
  assert.equal(parseJournalLine(`${ended}\tLEASE_EXPIRES=12`).lease.expiresAt, 12_000)
})

test('what is wrong is refused by the name of its field', () => {
  assert.equal(refusal('garbage'), 'format')
  assert.equal(refusal(''), 'format')
  assert.equal(refusal(line('2', 'add', DUID, 'fd00::1', '')), 'format')
  assert.equal(refusal(line('1', 'add', 'xx', 'fd00::1', '', 'IAID=1', 'LEASE_EXPIRES=0')), 'duid')
  assert.equal(refusal(line('1', 'add', `${'00:'.repeat(199)}00`, 'fd00::1', '', 'IAID=1', 'LEASE_EXPIRES=0')), 'duid')
  assert.equal(refusal(line('1', 'add', DUID, '10.0.0.1', '', 'IAID=1', 'LEASE_EXPIRES=0')), 'address')
  assert.equal(refusal(line('1', 'add', DUID, 'fd00::1', '', 'IAID=T123', 'LEASE_EXPIRES=0')), 'IAID')
  assert.equal(refusal(line('1', 'add', DUID, 'fd00::1', '', 'LEASE_EXPIRES=0')), 'IAID')
  assert.equal(refusal(line('1', 'add', DUID, 'fd00::1', '', 'no variable')), 'variable')
})

test('a hostile hostname is kept as a fact, cut to 255 characters', () => {
  const hostile = `$(reboot)<script>alert('x')</script>\u{1F600}`
  const hostname = (text: string) =>
    parseJournalLine(line('1', 'add', DUID, 'fd00::1', text, 'IAID=1', 'LEASE_EXPIRES=0')).lease.facts.hostname
  assert.equal(hostname(hostile), hostile)
  assert.equal(hostname('x'.repeat(1000)), 'x'.repeat(255))
  assert.equal(hostname(`${'x'.repeat(254)}\u{1F600}`)?.isWellFormed(), true)
})

test('whatever a line holds, what is sent of it is a valid message', () => {
  const field = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 400 }),
    fc.constantFrom('add', 'old', 'del', DUID, 'fd00::1'),
  )
  const variable = fc.tuple(
    fc.constantFrom('IAID', 'LEASE_EXPIRES', 'TAGS', 'MAC', 'USER_CLASS0', 'REQUESTED_OPTIONS'),
    field,
  )
  const variables = fc.array(variable.map(([name, value]) => `${name}=${value}`))
  const texts = fc.oneof(
    fc.tuple(fc.array(field), variables).map(([fields, more]) => ['1', ...fields, ...more].join('\t')),
    variables.map((more) => add('LEASE_EXPIRES=5', ...more)),
    fc.string({ unit: 'binary' }),
  )
  fc.assert(
    fc.property(texts, (text) => {
      const position = { journal: 'j', offset: 1 }
      const taken: JournalLine = {
        text,
        reason: '',
        beginning: text.slice(0, 4096).toWellFormed(),
        position,
        writtenAt: 1,
      }
      fromHost.parse({ type: 'leases', id: 'x', items: [leaseItem(taken, silent)] })
    }),
    { numRuns: 500 },
  )
})
