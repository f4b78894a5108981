import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { systemClock } from '../common/clock.ts'
import type { Backend } from '../orchestrator/backends/backend.ts'
import { fakeBackend } from '../orchestrator/backends/fake/fake.ts'
import type { HostName } from '../orchestrator/domain/host.ts'
import type { Template } from '../orchestrator/domain/template.ts'
import { createIntake } from '../orchestrator/intake.ts'
import { startReconciler } from '../orchestrator/reconciler/reconciler.ts'
import { openStore } from '../orchestrator/store/knex.ts'
import { alwaysGives } from '../test/support/choosers.ts'
import { journal, leaseEvent, pool, rollOut, silent, template } from '../test/support/fixtures.ts'
import { keptWays } from '../test/support/ways.ts'
import { summarize, table } from './statistics.ts'

const usage = `npm run bench:hung [-- OPTIONS]

Whether a cloud that hangs slows those who have nothing to do with it: from a lease event to the running instance of a host,
with the real reconciler and store and a host that takes a set time, in two processes: one alone, one with a backend beside it
whose targets take every call and never answer, and which has instances to make and to compare all the time. Interleaved,
each first by turns.

--rounds N     counted rounds (200)
--targets N    targets that hang (1)
--instances N  leases that wait for them (40)
--host-ms N    what the host takes for an instance (50)
--json FILE    write the figures there
`
const WARM_UP = 10
/** How much longer it may take beside a target that hangs, as a ratio of the medians. */
const ALLOWED = 1.1
const ROLE = 'BENCH_HUNG_ROLE'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '200' },
    targets: { type: 'string', default: '1' },
    instances: { type: 'string', default: '40' },
    'host-ms': { type: 'string', default: '50' },
    json: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
})
const number = (name: 'rounds' | 'targets' | 'instances' | 'host-ms'): number => {
  const value = Number(values[name])
  if (!Number.isInteger(value) || value < (name === 'host-ms' ? 0 : 1)) {
    throw new Error(`--${name}: expected a number from 1, got ${values[name]}`)
  }
  return value
}

/** Takes every call and answers none. */
function hangingBackend(count: number): Backend {
  const names = Array.from({ length: count }, (_, index) => `far-${index + 1}` as HostName)
  const hang = (signal: AbortSignal) =>
    new Promise<never>((_, reject) => {
      const end = () => reject(signal.reason)
      if (signal.aborted) end()
      else signal.addEventListener('abort', end, { once: true })
    })
  return {
    name: 'cloud',
    targets: () => names,
    checkTemplate: () => {},
    list: (_target, signal) => hang(signal),
    ensure: (_order, _target, signal) => hang(signal),
    remove: (_instance, _target, signal) => hang(signal),
    watch: (_target, _tell, signal) => hang(signal),
    async close() {},
  }
}

/** One orchestrator without API: asked by messages to make an instance, it answers with what that took, ms. */
async function world(role: string): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'orchestrator-bench-'))
  const store = await openStore(`sqlite:${join(directory, 'bench.db')}`)
  const near = fakeBackend({ latency: (signal) => systemClock.wait(number('host-ms'), signal) })
  const cloud = hangingBackend(number('targets'))
  const backends = [near, ...(role === 'hung' ? [cloud] : [])]
  let ran = () => {}
  const reconciler = startReconciler(
    {
      ...{ store, clock: systemClock, log: silent, random: Math.random, ways: keptWays(), actionMs: 60_000 },
      backends: new Map(backends.map((backend) => [backend.name, backend])),
      measured: (action, outcome) => action === 'ensure' && outcome === 'ok' && ran(),
      open: () => ({}),
      expire: async () => {},
      freed: () => {},
    },
    { concurrency: 64, perHost: 4, resyncMs: 60_000 },
  )
  await store.putHost({ name: 'h1' as HostName, fingerprint: 'f', joinedAt: 0 })
  await store.hostConnected('h1' as HostName, {}, 0)
  const far: Template = { ...template, name: 'far', backend: cloud.name }
  await rollOut(store)
  await rollOut(store, far)
  const wake = () => reconciler.wake()
  const place = journal()
  const grant = async (chosen: Template, ...numbers: number[]) => {
    const intake = createIntake({ store, clock: systemClock, pool, chooser: alwaysGives(chosen), wake })
    await intake.applyLeases(
      'h1',
      numbers.map((n) => place(leaseEvent(n, Date.now()))),
    )
  }
  if (role === 'hung') await grant(far, ...Array.from({ length: number('instances') }, (_, index) => 40_000 + index))
  let n = 0
  // Without whoever asks there is nothing to measure.
  process.once('disconnect', () => {
    rmSync(directory, { recursive: true, force: true })
    process.exit()
  })
  process.on('message', async (message) => {
    if (message === 'end') {
      await reconciler.stop()
      await store.close()
      process.disconnect()
      return
    }
    const running = new Promise<void>((resolve) => {
      ran = resolve
    })
    const began = performance.now()
    await grant(template, ++n)
    await running
    process.send?.(performance.now() - began)
  })
  process.send?.('ready')
}

async function asked(child: ChildProcess): Promise<number> {
  child.send('go')
  const [ms] = (await once(child, 'message')) as [number]
  return ms
}

async function run(count: number): Promise<{ alone: number[]; hung: number[] }> {
  const roles = ['alone', 'hung'] as const
  const children = roles.map((role) =>
    fork(import.meta.filename, process.argv.slice(2), { env: { ...process.env, [ROLE]: role } }),
  )
  const measured = { alone: [] as number[], hung: [] as number[] }
  try {
    await Promise.all(children.map((child) => once(child, 'message')))
    for (let round = -WARM_UP; round < count; round++) {
      const turns = [...roles.entries()]
      for (const [index, role] of round % 2 === 0 ? turns : turns.toReversed()) {
        const child = children[index]
        if (child === undefined) throw new Error(`there is no process ${role}`)
        const ms = await asked(child)
        if (round >= 0) measured[role].push(ms)
      }
      process.stderr.write(`\rround ${round + 1} of ${count} `)
    }
  } finally {
    process.stderr.write('\n')
    await Promise.all(
      children.map(async (child) => {
        if (child.exitCode !== null) return
        const ended = once(child, 'exit')
        child.send('end')
        await ended
      }),
    )
  }
  return measured
}

if (values.help) {
  process.stdout.write(usage)
} else if (process.env[ROLE] !== undefined) {
  await world(process.env[ROLE])
} else {
  const measured = await run(number('rounds'))
  const [alone, hung] = [summarize(measured.alone), summarize(measured.hung)]
  const row = (name: string, s: typeof alone) => [name, s.n, s.median, s.p99, s.least, s.most, s.median / alone.median]
  const head = ['milliseconds', 'n', 'median', 'p99', 'least', 'most', 'ratio']
  process.stdout.write(table(head, [row('no other backend', alone), row('beside targets that hang', hung)]))
  const ratio = hung.median / alone.median
  process.stdout.write(`\nratio of the medians ${ratio.toFixed(2)}, allowed ${ALLOWED}\n`)
  if (alone.p99 > 3 * alone.median) {
    process.stdout.write('the baseline itself was restless (p99 above 3 medians): run it again\n')
  }
  if (values.json !== undefined)
    writeFileSync(values.json, `${JSON.stringify({ alone, hung, rounds: measured }, null, 2)}\n`)
  if (ratio > ALLOWED) process.exitCode = 1
}
