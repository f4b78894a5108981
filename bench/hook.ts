import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import koffi from 'koffi'
import { pauseProgram } from '../unionize/instances/pause.ts'
import { summarize, table } from './statistics.ts'

const usage = `npm run bench:hook [-- OPTIONS]

What one lease event costs dnsmasq's script helper, which runs one script at a time: the hook from posix_spawn to its
end, against the smallest static program, which ends at once, interleaved in one run.

--rounds N   counted rounds (400)
--json FILE  write the figures there
`
const WARM_UP = 20
/** The most that an event may cost, ms. */
const ALLOWED_MS = 4

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '400' },
    json: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) {
  process.stdout.write(usage)
  process.exit(0)
}
const rounds = Number(values.rounds)
if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds: expected a number from 1, got ${values.rounds}`)

const libc = koffi.load('libc.so.6')
const posixSpawn = libc.func(
  'int posix_spawn(_Out_ int *pid, const char *path, void *actions, void *attributes, const char **argv, const char **envp)',
)
const waitpid = libc.func('int waitpid(int pid, _Out_ int *status, int options)')

/** Runs a program to its end as a small C program would. @returns milliseconds @throws when it does not end with 0 */
function run(path: string, args: readonly string[], environment: readonly string[]): number {
  const pid = [0]
  const status = [0]
  const began = performance.now()
  const refused = posixSpawn(pid, path, null, null, [path, ...args, null], [...environment, null]) as number
  if (refused !== 0) throw new Error(`posix_spawn of ${path}: errno ${refused}`)
  if (waitpid(pid[0], status, 0) !== pid[0] || status[0] !== 0)
    throw new Error(`${path} ended with status ${status[0]}`)
  return performance.now() - began
}

/** Machine code of `exit(0)` in the place of that of the sandboxes' program, which is no shorter. */
function smallestProgram(): Buffer {
  const code: Readonly<Record<string, readonly number[]>> = {
    x64: [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05],
    arm64: [0x00, 0x00, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4],
  }
  const program = pauseProgram(process.arch)
  program.set(code[process.arch] ?? [], 64 + 56)
  return program
}

const folder = mkdtempSync(join(tmpdir(), 'orchestrator-bench-'))
try {
  const smallest = join(folder, 'smallest')
  const journal = join(folder, 'journal')
  const hook = join(import.meta.dirname, '../dnsmasq/lease-hook')
  writeFileSync(smallest, smallestProgram(), { mode: 0o755 })
  const event = ['add', '00:03:00:01:02:00:00:01:00:01', 'fd00:c::9805', 'laptop']
  // As dnsmasq 2.90 sets them for a dhcpcd.
  const environment = [
    ...['PATH=/usr/sbin:/usr/bin:/sbin:/bin', `ORCHESTRATOR_JOURNAL=${journal}`, 'DNSMASQ_IAID=1'],
    ...['DNSMASQ_SERVER_DUID=00:01:00:01:32:93:b9:b3:02:00:00:00:00:0c', 'DNSMASQ_MAC=02:00:00:01:00:01'],
    ...['DNSMASQ_INTERFACE=br-clients', 'DNSMASQ_LEASE_EXPIRES=1795227072', 'DNSMASQ_TIME_REMAINING=3600'],
    ...['DNSMASQ_DOMAIN=clients', 'DNSMASQ_SUPPLIED_HOSTNAME=laptop', 'DNSMASQ_REQUESTED_OPTIONS=23,24,82,83'],
    ...['DNSMASQ_TAGS=dhcpv6 br-clients', 'DNSMASQ_VENDOR_CLASS_ID=40712', 'DNSMASQ_VENDOR_CLASS0=dhcpcd-9.4.1:Linux'],
  ]
  const hooks: number[] = []
  const baselines: number[] = []
  for (let round = -WARM_UP; round < rounds; round++) {
    const baseline = run(smallest, [], environment)
    const hooked = run(hook, event, environment)
    if (round < 0) continue
    baselines.push(baseline)
    hooks.push(hooked)
  }
  const lines = readFileSync(journal, 'utf8').split('\n').length - 1
  if (lines !== rounds + WARM_UP) throw new Error(`${lines} lines in the journal after ${rounds + WARM_UP} events`)

  const hooked = summarize(hooks)
  const baseline = summarize(baselines)
  const result = {
    hook: hooked,
    baseline,
    ratio: hooked.median / baseline.median,
    eventsPerSecond: 1000 / hooked.median,
    allowedMs: ALLOWED_MS,
    within: hooked.median <= ALLOWED_MS,
  }
  const row = (name: string, s: typeof hooked): (string | number)[] => [name, s.n, s.median, s.p99, s.least, s.most]
  const head = ['per event, ms', 'n', 'median', 'p99', 'least', 'most']
  process.stdout.write(table(head, [row('lease-hook', hooked), row('smallest static program', baseline)]))
  process.stdout.write(
    `ratio ${result.ratio.toFixed(2)}; allowed ${ALLOWED_MS} ms: ${result.within ? 'kept' : 'NOT KEPT'}\n`,
  )
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(result, null, 2)}\n`)
  if (!result.within) process.exitCode = 1
} finally {
  rmSync(folder, { recursive: true, force: true })
}
