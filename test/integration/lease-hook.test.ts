import assert from 'node:assert/strict'
import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, test } from 'node:test'
import { parseJournalLine } from '../../unionize/leases/dnsmasq/event.ts'

const HOOK = join(import.meta.dirname, '../../dnsmasq/lease-hook')
let folder: string
let journal: string

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'orchestrator-hook-'))
  journal = join(folder, 'journal')
})
beforeEach(() => rmSync(journal, { force: true }))
after(() => rmSync(folder, { recursive: true, force: true }))

type Environment = Readonly<Record<string, string>>

/** Runs it; one that computes for longer than `cpuSeconds` is killed. */
function hook(args: readonly string[], environment: Environment = {}, cpuSeconds = 1): SpawnSyncReturns<string> {
  const env = { PATH: process.env.PATH, ORCHESTRATOR_JOURNAL: journal, ...environment }
  return spawnSync('prlimit', [`--cpu=${cpuSeconds}`, HOOK, ...args], { env, encoding: 'utf8' })
}

/** The fields of the journal's lines, decoded. */
function lines(): string[][] {
  const text = readFileSync(journal, 'utf8')
  assert.ok(text.endsWith('\n'), 'the last line is whole')
  const encoded: Record<string, string> = { '%25': '%', '%09': '\t', '%0A': '\n', '%0D': '\r' }
  const decode = (field: string): string => field.replace(/%(25|09|0A|0D)/g, (code) => encoded[code] ?? code)
  return text
    .slice(0, -1)
    .split('\n')
    .map((line) => line.split('\t').map(decode))
}

const DUID = '00:03:00:01:02:00:00:00:00:01'
const ADD = ['add', DUID, 'fd00:c::1000', 'laptop']

test('a lease event becomes one line with argv and every variable that dnsmasq sets', () => {
  const environment = { DNSMASQ_IAID: '1', DNSMASQ_LEASE_EXPIRES: '1795227072', DNSMASQ_TAGS: 'dhcpv6 br-clients' }
  assert.equal(hook(ADD, environment).status, 0)
  assert.deepEqual(lines(), [['1', ...ADD, 'IAID=1', 'LEASE_EXPIRES=1795227072', 'TAGS=dhcpv6 br-clients']])
})

test('a missing hostname is an empty field, and further arguments are kept by number', () => {
  assert.equal(hook(['del', DUID, 'fd00:c::1000']).status, 0)
  assert.equal(hook([...ADD, 'five', 'six']).status, 0)
  assert.deepEqual(lines(), [
    ['1', 'del', DUID, 'fd00:c::1000', ''],
    ['1', ...ADD, 'ARG5=five', 'ARG6=six'],
  ])
})

test('what is no lease event is left alone with success', () => {
  for (const action of ['init', 'arp-add', 'arp-del', 'tftp', 'relay-snoop', 'something-new', '']) {
    assert.equal(hook([action, 'x', 'y']).status, 0)
  }
  assert.equal(hook([]).status, 0)
  assert.throws(() => readFileSync(journal), { code: 'ENOENT' })
})

const NASTY = {
  quotes: `it's "quoted" \\ back\\slash`,
  commands: '$(touch /tmp/pwned) `id` $HOME $\x7bHOME} ; rm -rf / & | > <',
  lines: 'one\ntwo\n\n\nthree\n',
  blanks: '\t tab\t\tand  spaces \t',
  percent: '100% %25 %0A %% %s %d \\n \\0',
  returns: 'a\rb\r\n',
  utf8: 'Ünïcödé 漢字 🦆 \u202e',
  controls: '\u0001\u001b[31m\u007f\u000b\u000c',
  patterns: '* ? [a-z] ~ {a,b} #',
  dash: '-n',
}
for (const [kind, value] of Object.entries(NASTY)) {
  test(`values with ${kind} survive exactly, in arguments, variables and class lists`, () => {
    const environment = {
      DNSMASQ_SUPPLIED_HOSTNAME: value,
      DNSMASQ_MUD_URL: value,
      DNSMASQ_USER_CLASS0: value,
      DNSMASQ_VENDOR_CLASS1: value,
    }
    const result = hook(['add', DUID, 'fd00:c::1000', value, value], environment)
    assert.equal(result.status, 0, result.stderr)
    assert.deepEqual(lines(), [
      [
        ...['1', 'add', DUID, 'fd00:c::1000', value, `ARG5=${value}`],
        ...[`SUPPLIED_HOSTNAME=${value}`, `MUD_URL=${value}`, `USER_CLASS0=${value}`, `VENDOR_CLASS1=${value}`],
      ],
    ])
  })
}

test('60 KB of anything survive in well under a second, and so do 5,000 classes', () => {
  for (const unit of ['x', '%', '\n', '€', '%\t']) {
    rmSync(journal, { force: true })
    const value = unit.repeat(Math.floor(60_000 / Buffer.byteLength(unit)))
    assert.equal(hook(ADD, { DNSMASQ_TAGS: value }).status, 0, JSON.stringify(unit))
    assert.deepEqual(lines(), [['1', ...ADD, `TAGS=${value}`]])
  }
  rmSync(journal, { force: true })
  const classes = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`DNSMASQ_USER_CLASS${i}`, `%${i}`]))
  assert.equal(hook(ADD, classes, 2).status, 0)
  assert.deepEqual(
    lines()[0]?.slice(5),
    Array.from({ length: 5000 }, (_, i) => `USER_CLASS${i}=%${i}`),
  )
})

test('the agent reads from the line what dnsmasq said', () => {
  const environment = { DNSMASQ_IAID: '7', DNSMASQ_LEASE_EXPIRES: '1795227072', DNSMASQ_MAC: '02:00:00:00:00:01' }
  hook(['add', DUID, 'fd00:c::1000', 'lap%top'], environment)
  const event = parseJournalLine(readFileSync(journal, 'utf8').trimEnd())
  assert.equal(event.kind, 'granted')
  assert.deepEqual(event.lease.owner, { duid: DUID, iaid: 7 })
  assert.equal(event.lease.address, 'fd00:c::1000')
  assert.equal(event.lease.facts.hostname, 'lap%top')
  assert.equal(event.lease.expiresAt, 1795227072_000)
})

test('hooks that run at once never mix their lines, up to 4 KB each', async () => {
  const count = 64
  const ends = Array.from({ length: count }, (_, i) => {
    const env = {
      PATH: process.env.PATH,
      ORCHESTRATOR_JOURNAL: journal,
      DNSMASQ_TAGS: `${i} `.repeat(1000).slice(0, 3900),
    }
    const child = spawn(HOOK, ADD, { env, stdio: 'ignore' })
    return new Promise<number | null>((resolve) => child.once('exit', resolve))
  })
  assert.deepEqual(await Promise.all(ends), Array(count).fill(0))
  const expected = Array.from({ length: count }, (_, i) => `TAGS=${`${i} `.repeat(1000).slice(0, 3900)}`)
  assert.deepEqual(
    lines()
      .map((fields) => fields[5])
      .sort(),
    expected.sort(),
  )
})

test('the usual case forks nothing and writes the line in one piece', () => {
  const trace = join(folder, 'trace')
  const traced = (environment: Environment): string => {
    rmSync(trace, { force: true })
    const env = { PATH: process.env.PATH, ORCHESTRATOR_JOURNAL: journal, ...environment }
    const result = spawnSync('strace', ['-f', '-o', trace, HOOK, ...ADD], { env, encoding: 'utf8' })
    assert.equal(result.status, 0, result.stderr)
    return readFileSync(trace, 'utf8')
  }
  const usual = {
    DNSMASQ_IAID: '1',
    DNSMASQ_TAGS: 'dhcpv6',
    DNSMASQ_USER_CLASS0: 'gold',
    DNSMASQ_MUD_URL: 'x'.repeat(3000),
  }
  const calls = traced(usual)
  assert.doesNotMatch(calls, /\b(v?fork|clone3?)\(/)
  assert.equal(calls.match(/\bwrite\(/g)?.length, 1)
  assert.match(traced({ DNSMASQ_TAGS: '100%' }), /\b(v?fork|clone3?)\(/, 'this test would see a fork')
})

test('a journal that cannot be written is told and never a success', () => {
  const missing = join(folder, 'nowhere', 'journal')
  const result = hook(ADD, { ORCHESTRATOR_JOURNAL: missing })
  assert.notEqual(result.status, 0)
  assert.ok(result.stderr.includes(missing), result.stderr)
})

test('a journal that is a pipe is refused instead of waited for', () => {
  const pipe = join(folder, 'pipe')
  assert.equal(spawnSync('mkfifo', [pipe]).status, 0)
  const result = hook(ADD, { ORCHESTRATOR_JOURNAL: pipe })
  assert.notEqual(result.status, 0)
  assert.match(result.stderr, /not a regular file/)
})

test('a full disk is told and never a success', () => {
  const script = `mount -t tmpfs -o size=4k tmpfs "$1" && head -c 4096 /dev/zero >"$1/fill"; shift; exec "$@"`
  const full = mkdtempSync(join(folder, 'full-'))
  writeFileSync(join(full, 'keep'), '')
  const env = { PATH: process.env.PATH, ORCHESTRATOR_JOURNAL: join(full, 'journal') }
  const args = ['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh', full, HOOK, ...ADD]
  const result = spawnSync('unshare', args, { env, encoding: 'utf8' })
  assert.notEqual(result.status, 0)
  assert.match(result.stderr, /lease-hook/)
})
