import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { parseDuid } from '../../common/duid.ts'
import { contains, parseIpv6, parsePrefix } from '../../common/ipv6.ts'
import { type LeaseFacts, ownerKey } from '../../orchestrator/domain/lease.ts'
import { compilePattern } from '../../orchestrator/domain/pattern.ts'
import type { Day, Rule, RuleMatch } from '../../orchestrator/domain/rule.ts'
import { compileRules, decide, explain, type Subject } from '../../orchestrator/domain/ruling.ts'
import { drawOf, standing } from '../../orchestrator/domain/share.ts'
import { owner } from '../support/fixtures.ts'

/** 2026-12-25, a Friday, 23:30 in Berlin and 22:30 in UTC. */
const FRIDAY_NIGHT = Date.UTC(2026, 11, 25, 22, 30)

const rule = (match: RuleMatch, name = 'r'): Rule => ({ name, match, give: null })
const subject = (facts: LeaseFacts = {}, change: Partial<Subject> = {}): Subject => ({
  owner: owner(1),
  address: parseIpv6('fd00:c::1001'),
  source: 'h1',
  facts,
  ...change,
})
const decides = (match: RuleMatch, lease: Subject, now = FRIDAY_NIGHT) =>
  decide(compileRules([rule(match)]), lease, now) !== null
const mismatch = (match: RuleMatch, lease: Subject, now = FRIDAY_NIGHT) =>
  explain(compileRules([rule(match)]), lease, now).considered[0]?.mismatch

function escaped(text: string): string {
  return text.replace(/[^a-z0-9]/gi, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`)
}

/** What a rule means, said again without any haste: regular expressions, a calendar, and no index. */
function meant(match: RuleMatch, name: string, lease: Subject, now: number): boolean {
  const { facts } = lease
  const glob = (pattern: string, value: string, flags = '') =>
    new RegExp(`^${pattern.split('*').map(escaped).join('.*')}$`, `su${flags}`).test(value)
  const one = (patterns: readonly string[] | undefined, values: readonly (string | undefined)[], flags = '') =>
    patterns === undefined || patterns.some((p) => values.some((v) => v !== undefined && glob(p, v, flags)))
  const inside = (prefix: string, address: string | undefined) =>
    address !== undefined && contains(parsePrefix(prefix), parseIpv6(address))
  const tags = facts.tags ?? []
  return (
    one(match.duid, [lease.owner?.duid], 'i') &&
    one(match.mac, [facts.mac], 'i') &&
    one(match.tags?.any, tags) &&
    (match.tags?.all ?? []).every((p) => tags.some((t) => glob(p, t))) &&
    !(match.tags?.none ?? []).some((p) => tags.some((t) => glob(p, t))) &&
    (match.subnet === undefined || match.subnet.some((p) => inside(p, lease.address))) &&
    (match.relay === undefined ||
      match.relay.some((p) => (p === 'none' ? facts.relay === undefined : inside(p, facts.relay)))) &&
    one(match.interface, [facts.interface]) &&
    one(match.source, [lease.source]) &&
    one(match.hostname, [facts.hostname], 'i') &&
    one(match.mudUrl, [facts.mudUrl]) &&
    one(match.vendorClass, [facts.vendorClass]) &&
    one(match.userClass, facts.userClasses ?? []) &&
    (match.time === undefined || withinWindow(match.time, now)) &&
    (match.percent === undefined ||
      (lease.owner !== undefined && standing(drawOf(name), ownerKey(lease.owner)) < match.percent))
  )
}

/** Walks back minute by minute to the last moment at which the window could have begun. */
function withinWindow(time: NonNullable<RuleMatch['time']>, now: number): boolean {
  const shown = (at: number) => {
    const text = new Date(at).toLocaleString('en-GB', {
      timeZone: time.zone,
      weekday: 'short',
      hour: '2-digit',
      minute: '2-digit',
    })
    const [, day = '', clock = ''] = /^(\w{3}),? (\d\d:\d\d)$/.exec(text) ?? assert.fail(text)
    return { day: day.toLowerCase() as Day, clock }
  }
  const { from = '00:00', to = '24:00' } = time
  const here = shown(now)
  const over = from > to
  if (over ? here.clock < from && here.clock >= to : here.clock < from || here.clock >= to) return false
  const yesterday = over && here.clock < to
  const order: Day[] = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun']
  const begun = yesterday ? order[(order.indexOf(here.day) + 6) % 7] : here.day
  return time.days === undefined || (begun !== undefined && time.days.includes(begun))
}

const macs = ['02:00:5e:00:00:01', '02:00:5e:00:00:02', '02:00:5f:00:00:01', '0a:00:00:00:00:01']
const names = ['printer-1', 'Printer-2', 'laptop', 'a*b', '']
const tagNames = ['lab', 'guest', 'lab-2', 'known']
const duids = [1, 2, 0x102].map((n) => owner(n).duid as string)
const some = (...values: string[]) => fc.subarray(values, { minLength: 1 })
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined, freq: 3 })
const clock = fc
  .record({ h: fc.integer({ min: 0, max: 23 }), m: fc.constantFrom(0, 30) })
  .map(({ h, m }) => `${String(h).padStart(2, '0')}:${String(m).padStart(2, '0')}`)
const windows = fc
  .record({
    days: maybe(fc.subarray<Day>(['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'], { minLength: 1 })),
    from: maybe(clock),
    to: maybe(clock),
    zone: fc.constantFrom('UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Kolkata', 'Pacific/Auckland'),
  })
  .filter(({ from, to }) => from === undefined || from !== to)
const matches: fc.Arbitrary<RuleMatch> = fc.record({
  duid: maybe(some(...duids, '*:01', '00:03:*', (duids[2] as string).toUpperCase())),
  mac: maybe(some(...macs, '02:00:5e:*', '02:00:5E:00:*', '02:*', '*')),
  tags: maybe(
    fc.record({
      any: maybe(some(...tagNames, 'lab*')),
      all: maybe(some(...tagNames, '*-2')),
      none: maybe(some('guest', 'k*')),
    }) as fc.Arbitrary<NonNullable<RuleMatch['tags']>>,
  ),
  subnet: maybe(some('fd00:c::/64', 'fd00:c::/120', 'fd00::/16', '::/0', 'fd00:c::7/128')),
  relay: maybe(some('none', 'fe80::/10', 'fd00:9::/64')),
  interface: maybe(some('eth0', 'eth*')),
  source: maybe(some('h1', 'h*', 'h2')),
  hostname: maybe(some('printer-*', 'LAPTOP', '*', 'a*b', '*p*')),
  mudUrl: maybe(some('https://*.example/*')),
  vendorClass: maybe(some('dhcpcd*', 'x')),
  userClass: maybe(some('gold', 's*r')),
  time: maybe(windows),
  percent: maybe(fc.constantFrom(0, 10, 50, 100)),
})
const subjects: fc.Arbitrary<Subject> = fc.record({
  owner: maybe(fc.constantFrom(1, 2, 0x102).map(owner)),
  address: maybe(fc.constantFrom('fd00:c::7', 'fd00:c::1', 'fd00:d::1', '2001:db8::1').map((a) => parseIpv6(a))),
  source: maybe(fc.constantFrom('h1', 'h2', 'other')),
  facts: fc.record({
    mac: maybe(fc.constantFrom(...macs)),
    hostname: maybe(fc.constantFrom(...names)),
    interface: maybe(fc.constantFrom('eth0', 'eth1', 'wlan0')),
    relay: maybe(fc.constantFrom('fe80::1', 'fd00:9::1', 'fd00:8::1')),
    mudUrl: maybe(fc.constantFrom('https://a.example/mud', 'http://a.example/mud')),
    vendorClass: maybe(fc.constantFrom('dhcpcd-9', 'x', 'y')),
    tags: maybe(fc.subarray(tagNames)),
    userClasses: maybe(fc.subarray(['gold', 'silver', 'other'])),
  }),
})
const moments = fc.integer({ min: Date.UTC(2026, 0, 1), max: Date.UTC(2027, 11, 31) })
// Rules without most fields are the likeliest to match, and the most alike: both are wanted.
const sparse = fc.tuple(matches, fc.subarray(Object.keys({ ...fullKeys() }) as (keyof RuleMatch)[], { maxLength: 2 }))
const ruleLists = fc
  .array(sparse.map(([match, kept]) => Object.fromEntries(kept.map((key) => [key, match[key]])) as RuleMatch))
  .map((all) => all.map((match, i) => rule(match, `rule-${i}`)))

function fullKeys(): Record<keyof RuleMatch, true> {
  return {
    duid: true,
    mac: true,
    tags: true,
    subnet: true,
    relay: true,
    interface: true,
    source: true,
    hostname: true,
    mudUrl: true,
    vendorClass: true,
    userClass: true,
    time: true,
    percent: true,
  }
}

describe('rules', () => {
  it('decide as the first one that matches does, whatever the rules and the lease', () => {
    let decided = 0
    fc.assert(
      fc.property(ruleLists, subjects, moments, (rules, lease, now) => {
        const first = rules.find(({ match, name }) => meant(match, name, lease, now)) ?? null
        const compiled = compileRules(rules)
        assert.equal(decide(compiled, lease, now)?.name, first?.name)
        const told = explain(compiled, lease, now)
        assert.equal(told.rule?.name, first?.name)
        assert.equal(told.considered.length, first === null ? rules.length : rules.indexOf(first) + 1)
        for (const { name, mismatch } of told.considered) assert.equal(mismatch === null, name === first?.name)
        if (first !== null) decided++
      }),
      { numRuns: 3000 },
    )
    assert.ok(decided > 500, `only ${decided} leases met a rule at all`)
  })

  it('decide each field alone as it is meant', () => {
    fc.assert(
      fc.property(matches, subjects, moments, (match, lease, now) => {
        for (const key of Object.keys(fullKeys()) as (keyof RuleMatch)[]) {
          const alone = { [key]: match[key] } as RuleMatch
          assert.equal(decides(alone, lease, now), meant(alone, 'r', lease, now), key)
        }
      }),
      { numRuns: 2000 },
    )
  })

  it('give the same leases the same rules in whatever order they arrive', () => {
    const arrivals = fc
      .array(subjects, { minLength: 2, maxLength: 12 })
      .chain((all) => fc.tuple(fc.constant(all), fc.shuffledSubarray([...all.keys()], { minLength: all.length })))
    fc.assert(
      fc.property(ruleLists, arrivals, moments, (rules, [leases, order], now) => {
        const [one, other] = [compileRules(rules), compileRules(rules)]
        const straight = leases.map((lease) => decide(one, lease, now)?.name)
        const shuffled: (string | undefined)[] = []
        for (const index of order) shuffled[index] = decide(other, leases[index] as Subject, now)?.name
        assert.deepEqual(shuffled, straight)
      }),
    )
  })

  it('match nothing by a fact that the lease does not have', () => {
    const nothing: Subject = { facts: {} }
    const all = ['*']
    const fields: RuleMatch[] = [
      { duid: all },
      { mac: all },
      { tags: { any: all } },
      { tags: { all } },
      { subnet: ['::/0'] },
      { relay: ['::/0'] },
      { interface: all },
      { source: all },
      { hostname: all },
      { mudUrl: all },
      { vendorClass: all },
      { userClass: all },
      { percent: 100 },
    ]
    for (const match of fields) {
      assert.equal(decides(match, nothing), false, JSON.stringify(match))
      assert.match(mismatch(match, nothing) ?? '', /not known|not there|not relayed/, JSON.stringify(match))
    }
    assert.equal(decides({ relay: ['none'] }, nothing), true)
    assert.equal(decides({ tags: { none: all } }, nothing), true)
    assert.equal(decides({}, nothing), true)
  })

  it('say which field does not match, in words', () => {
    const lease = subject({ mac: '02:00:00:00:00:01', hostname: 'laptop', tags: ['guest', 'lab'], relay: 'fd00:9::1' })
    const said: [RuleMatch, string][] = [
      [{ mac: ['02:00:5e:*'] }, 'mac 02:00:00:00:00:01 is none of 02:00:5e:*'],
      [{ mac: ['02:*'], hostname: ['printer-*', 'scanner'] }, 'hostname laptop is none of printer-*, scanner'],
      [{ interface: ['eth0'] }, 'interface is not known; the rule wants eth0'],
      [{ subnet: ['fd00:d::/64'] }, 'address fd00:c::1001 is in none of fd00:d::/64'],
      [{ relay: ['none'] }, 'relay fd00:9::1 is in none of none'],
      [{ tags: { any: ['gold'] } }, 'tags guest, lab: none of gold is there'],
      [{ tags: { all: ['lab', 'gold'] } }, 'tags: gold is not there; there are guest, lab'],
      [{ tags: { none: ['g*'] } }, 'tags: guest must not be there'],
      [{ percent: 0 }, 'percent: this owner is not among the 0 percent that the rule takes'],
      [
        { time: { days: ['sat'], from: '08:00', to: '17:30', zone: 'Europe/Berlin' } },
        'time fri 23:30 is not within sat 08:00 to 17:30 in Europe/Berlin',
      ],
      [{ source: ['a', 'b', 'c', 'd', 'e', 'f'] }, 'source h1 is none of a, b, c, d and 2 more'],
    ]
    for (const [match, words] of said) assert.equal(mismatch(match, lease), words)
  })

  it('take MACs, DUIDs and hostnames in any case, and a relay that is no address for a relay in no prefix', () => {
    const lease = subject({ mac: '02:00:5E:00:00:0A', hostname: 'Printer-1', relay: 'nonsense' })
    assert.equal(decides({ mac: ['02:00:5e:00:00:0a'] }, lease), true)
    assert.equal(decides({ mac: ['02:00:5E:*'] }, lease), true)
    assert.equal(decides({ hostname: ['printer-*'] }, lease), true)
    assert.equal(decides({ duid: [owner(1).duid.toUpperCase()] }, lease), true)
    assert.equal(decides({ relay: ['::/0'] }, lease), false)
    assert.equal(decides({ relay: ['none'] }, lease), false)
    assert.equal(decides({ duid: ['00:03:*'] }, { duid: parseDuid('00:03:01'), facts: {} }), true)
  })

  it('end a window that goes over midnight on the day after, in its own time zone', () => {
    const nights = { days: ['fri'] as const, from: '22:00', to: '06:00', zone: 'Europe/Berlin' }
    const at = (day: number, hour: number, minute = 0) => Date.UTC(2026, 11, day, hour - 1, minute)
    const holds = (when: number) => decides({ time: nights }, subject(), when)
    assert.deepEqual([at(25, 21, 59), at(25, 22), at(26, 5, 59), at(26, 6), at(26, 23), at(25, 3)].map(holds), [
      false,
      true,
      true,
      false,
      false,
      false,
    ])
    // In summer Berlin is two hours ahead of UTC.
    assert.equal(holds(Date.UTC(2026, 6, 24, 20, 0)), true)
    assert.equal(holds(Date.UTC(2026, 6, 24, 19, 59)), false)
  })
})

describe('patterns', () => {
  it('mean what a regular expression with .* means', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '*', '.', '\n', 'é'), maxLength: 8 })
    fc.assert(
      fc.property(text, text, (pattern, value) => {
        const same = new RegExp(`^${pattern.split('*').map(escaped).join('.*')}$`, 'su')
        assert.equal(compilePattern(pattern).matches(value), same.test(value))
      }),
      { numRuns: 5000 },
    )
  })

  it('are decided at once for values made to be slow', () => {
    const slow = compilePattern(`${'*a'.repeat(40)}*b`)
    assert.equal(slow.matches('a'.repeat(100_000)), false)
  })
})

describe('shares', () => {
  it('keep those who were in when they grow, spread evenly, and differ from rule to rule', () => {
    const keys = Array.from({ length: 20_000 }, (_, n) => `00:03:00:01:02:00:00:00:00:${n.toString(16)}/${n}`)
    const [one, other] = [drawOf('trial'), drawOf('trial-2')]
    for (const percent of [1, 10, 50]) {
      const within = keys.filter((key) => standing(one, key) < percent).length / keys.length
      assert.ok(Math.abs(within - percent / 100) < 0.015, `${percent} percent took ${within}`)
    }
    const both = keys.filter((key) => standing(one, key) < 50 && standing(other, key) < 50).length / keys.length
    assert.ok(Math.abs(both - 0.25) < 0.02, `two halves meet in ${both}`)
    for (const key of keys.slice(0, 500)) {
      const place = standing(one, key)
      assert.ok(place >= 0 && place < 100)
      assert.equal(standing(drawOf('trial'), key), place)
    }
  })
})
