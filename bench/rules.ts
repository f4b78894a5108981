import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { parseDuid } from '../common/duid.ts'
import { parseIpv6 } from '../common/ipv6.ts'
import type { Rule, RuleMatch } from '../orchestrator/domain/rule.ts'
import { type CompiledRules, compileRules, decide, type Subject } from '../orchestrator/domain/ruling.ts'
import { prepare } from '../orchestrator/domain/subject.ts'
import { summarize, table } from './statistics.ts'

const usage = `npm run bench:rules [-- OPTIONS]

How long rules take to decide what a lease becomes, in one process, each lease asked of each in turn: 10,000 rules of all
kinds; 10,000 rules of which none can be found by a key (patterns, windows, shares), which is the worst there is; the mixed
ones again, tried one after the other as they stand; and one rule alone. Half of the leases meet a rule, anywhere in the
list, half meet none.

--rules N    rules (10000)
--rounds N   counted leases (4000)
--json FILE  write the figures there
`
const WARM_UP = 400
/** The most that a decision by the mixed rules may cost at the median, ms. */
const ALLOWED_MS = 1
/** 2026-12-25 22:30 UTC, a Friday. */
const NOW = 1_798_237_800_000

const { values } = parseArgs({
  options: {
    rules: { type: 'string', default: '10000' },
    rounds: { type: 'string', default: '4000' },
    json: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) {
  process.stdout.write(usage)
  process.exit(0)
}
const number = (name: 'rules' | 'rounds'): number => {
  const value = Number(values[name])
  if (Number.isInteger(value) && value >= 1) return value
  throw new Error(`--${name}: expected a number from 1, got ${values[name]}`)
}
const [count, rounds] = [number('rules'), number('rounds')]

/** The same numbers in every run (mulberry32). */
function dice(seed: number): (sides: number) => number {
  let state = seed
  return (sides) => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % sides
  }
}

const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0')
const mac = (n: number) => `02:${hex(n >> 16, 2)}:${hex((n >> 8) & 255, 2)}:${hex(n & 255, 2)}:00:01`
const address = (n: number) => parseIpv6(`fd00:${hex(n & 0xffff, 1)}::1`)

/** One rule of each kind in turn; the n-th is met by a lease with the n-th of everything. */
const mixed: readonly ((n: number) => RuleMatch)[] = [
  (n) => ({ mac: [mac(n)] }),
  (n) => ({ mac: [`${mac(n).slice(0, 11)}:*`], tags: { none: ['blocked'] } }),
  (n) => ({ duid: [`00:03:00:01:${mac(n)}`] }),
  (n) => ({ tags: { any: [`group-${n}`, `team-${n}`] }, interface: ['eth0'] }),
  (n) => ({ subnet: [`fd00:${hex(n & 0xffff, 1)}::/64`] }),
  (n) => ({ hostname: [`printer-${n}-*`, `scanner-${n}`] }),
  (n) => ({ hostname: [`host-${n}`], time: { from: '22:00', to: '06:00', zone: 'Europe/Berlin' } }),
  (n) => ({ tags: { all: ['lab', `group-${n}`] }, percent: 50 }),
]
const keyless: readonly ((n: number) => RuleMatch)[] = [
  (n) => ({ hostname: [`*-${n}-*`] }),
  (n) => ({ hostname: [`*-${n}`], percent: 50 }),
  (n) => ({ tags: { any: [`*-group-${n}`] } }),
  (n) => ({ time: { days: ['sun'], from: n % 2 ? '08:00' : '09:00', zone: 'UTC' }, percent: 50 }),
]
const rulesOf = (kinds: readonly ((n: number) => RuleMatch)[]): Rule[] =>
  Array.from({ length: count }, (_, n) => ({
    name: `rule-${n}`,
    match: kinds[n % kinds.length]?.(n) ?? {},
    give: { template: 'web', parameters: {} },
  }))

function lease(n: number): Subject {
  const known = n % 2 === 0
  const m = known ? n % count : count + n
  return {
    owner: { duid: parseDuid(`00:03:00:01:${mac(m)}`), iaid: 1 },
    address: known ? address(m) : parseIpv6('2001:db8::1'),
    source: 'h1',
    facts: {
      mac: mac(m),
      hostname: `printer-${m}-${m}-x`,
      interface: 'eth0',
      tags: ['lab', 'dhcpv6', `group-${m}`],
      vendorClass: 'dhcpcd-9.4.1:Linux',
    },
  }
}

/** What there is without an index: each rule in order. */
function scan(compiled: CompiledRules, subject: Subject): Rule | null {
  const prepared = prepare(subject, NOW, compiled.wall)
  return compiled.rules.find(({ conditions }) => conditions.every((one) => one.holds(prepared)))?.rule ?? null
}

const all = compileRules(rulesOf(mixed))
const worst = compileRules(rulesOf(keyless))
const one = compileRules(rulesOf(mixed).slice(0, 1))
const subjects: readonly [string, (subject: Subject) => Rule | null][] = [
  [`${count} mixed rules`, (subject) => decide(all, subject, NOW)],
  [`${count} rules without a key`, (subject) => decide(worst, subject, NOW)],
  [`${count} mixed rules, one after the other`, (subject) => scan(all, subject)],
  ['one rule', (subject) => decide(one, subject, NOW)],
]
const times = subjects.map((): number[] => [])
let met = 0
const roll = dice(1)
for (let round = -WARM_UP; round < rounds; round++) {
  const subject = lease(roll(count * 4))
  const decided = subjects.map(([, work], index) => {
    const began = performance.now()
    const rule = work(subject)
    if (round >= 0) times[index]?.push((performance.now() - began) * 1000)
    return rule
  })
  if (decided[0]?.name !== decided[2]?.name) throw new Error('the index decided otherwise than the list')
  if (round >= 0 && decided[0] !== null) met++
}

const summaries = times.map(summarize)
const [indexed, , , baseline] = summaries
if (indexed === undefined || baseline === undefined) throw new Error('nothing was measured')
const within = indexed.median / 1000 <= ALLOWED_MS
process.stdout.write(
  table(
    ['per lease, µs', 'n', 'median', 'p99', 'least', 'most', 'of one rule'],
    summaries.map((s, i) => [
      subjects[i]?.[0] ?? '',
      ...[s.n, s.median, s.p99, s.least, s.most, s.median / baseline.median],
    ]),
  ),
)
process.stdout.write(
  `${met} of ${rounds} leases met a mixed rule; allowed ${ALLOWED_MS} ms at the median: ${within ? 'kept' : 'NOT KEPT'}\n`,
)
if (values.json !== undefined) {
  const cases = summaries.map((summary, i) => ({ name: subjects[i]?.[0], ...summary }))
  writeFileSync(values.json, `${JSON.stringify({ cases, met, allowedMs: ALLOWED_MS, within }, null, 2)}\n`)
}
if (!within) process.exitCode = 1
