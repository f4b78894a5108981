import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { type Summary, summarize, table } from './statistics.ts'
import { enterOwnNamespaces, type Sandbox, verify, verifyGone, WireLab } from './wire-lab.ts'
import { batches, compiled, declared, type Ours, ours, pipework, type Subject, type Times } from './wire-subjects.ts'

const usage = `npm run bench:wire [-- OPTIONS]

What wiring a sandbox costs: link, address, route, neighbours, firewall. Ours is measured by the one who asks for it; against
a C program that sends the same messages (and measures itself), \`ip -batch\`, and pipework, in turn in one run. Then many
wirings in a row, in parallel, and removed. Each result is looked at with \`ip\`; a wrong one fails the run, a slow one does not.

--rounds N        counted rounds (30)
--many N          wirings in a row, in parallel, and removed; at most 1000, what a bridge takes (1000)
--pipework PATH   the script of https://github.com/jpetazzo/pipework; without it pipework is left out
--no-declared     leave out the declared wiring (\`unionize wire\`)
--json FILE       write the figures there
`
const WARM_UP = 5
const BATCH = 40

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '30' },
    many: { type: 'string', default: '1000' },
    pipework: { type: 'string' },
    'no-declared': { type: 'boolean', default: false },
    json: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) {
  process.stdout.write(usage)
  process.exit(0)
}
const count = (name: 'rounds' | 'many', most: number): number => {
  const value = Number(values[name])
  if (Number.isInteger(value) && value >= 1 && value <= most) return value
  throw new Error(`--${name}: expected a number from 1 to ${most}, got ${values[name]}`)
}
const rounds = count('rounds', 10_000)
const many = count('many', 1_000)

/** Every subject in turn, in another order each round. @returns milliseconds by subject and by what was measured */
async function compare(subjects: readonly Subject[], sandboxes: readonly Sandbox[]): Promise<Map<string, number[]>> {
  const samples = new Map<string, number[]>()
  for (let round = -WARM_UP; round < rounds; round++) {
    for (let i = 0; i < subjects.length; i++) {
      const subject = subjects[(i + round + WARM_UP) % subjects.length]
      if (subject === undefined) continue
      const batch = sandboxes.slice(0, subject.batch)
      const times: Times[] = []
      const { change, processor = () => 0 } = subject
      const worked = processor()
      for (const sandbox of batch) times.push(await subject.wire(sandbox))
      const took = (processor() - worked) / batch.length
      if (took > 0) times.push({ 'wire, time of a processor': took })
      await verify(batch, (sandbox) => subject.promised(sandbox, false))
      if (change !== undefined) {
        for (const sandbox of batch) times.push(await change(sandbox))
        await verify(batch, (sandbox) => subject.promised(sandbox, true))
      }
      await subject.unwire(batch)
      verifyGone()
      if (round < 0) continue
      for (const [what, ms] of times.flatMap((one) => Object.entries(one))) {
        const key = `${what}: ${subject.name}`
        samples.set(key, [...(samples.get(key) ?? []), ms])
      }
    }
    process.stderr.write(`\rround ${round + 1} of ${rounds} `)
  }
  process.stderr.write('\n')
  return samples
}

/** Of many wirings: milliseconds for all, and of that how long this process's one thread was busy. */
interface Total {
  readonly wirings: number
  readonly ms: number
  readonly busyMs: number
}

async function total(wirings: number, work: () => Promise<unknown>): Promise<Total> {
  const [began, utilization, cpu] = [performance.now(), performance.eventLoopUtilization(), process.threadCpuUsage()]
  await work()
  const { active } = performance.eventLoopUtilization(utilization)
  const { user, system } = process.threadCpuUsage(cpu)
  return { wirings, ms: performance.now() - began, busyMs: Math.max(active, (user + system) / 1000) }
}

async function crowd({ wiring, subject }: Ours, baseline: Subject, sandboxes: readonly Sandbox[]) {
  const n = sandboxes.length
  const promised = (sandbox: Sandbox) => subject.promised(sandbox, false)
  const wireAll = (list: readonly Sandbox[]) =>
    Promise.all(
      list.map(async (sandbox) => {
        await wiring.attach(sandbox)
        await wiring.place(sandbox)
      }),
    )
  const baselineRow = await total(n, async () => {
    for (const sandbox of sandboxes) await baseline.wire(sandbox)
  })
  await verify(sandboxes, promised)
  await wiring.replacePassages([], [])
  await subject.unwire(sandboxes)
  verifyGone()
  const removed = () => total(n, () => subject.unwire(sandboxes))
  const row = await total(n, async () => {
    for (const sandbox of sandboxes) await subject.wire(sandbox)
  })
  await verify(sandboxes, promised)
  const afterRow = await removed()
  verifyGone()
  const parallel = await total(n, () => wireAll(sandboxes))
  await verify(sandboxes, promised)
  const afterParallel = await removed()
  verifyGone()
  return { baselineRow, row, parallel, detach: afterRow.ms < afterParallel.ms ? afterParallel : afterRow }
}

function report(summaries: ReadonlyMap<string, Summary>): string {
  const rows = [...summaries].map(([name, s]) => {
    const baseline = summaries.get(`${name.split(':')[0]}: C program`)
    return [name, s.n, s.median, s.p99, s.least, s.most, baseline === undefined ? '' : s.median / baseline.median]
  })
  return table(['milliseconds', 'n', 'median', 'p99', 'least', 'most', 'to C'], rows.sort())
}

enterOwnNamespaces()
const lab = new WireLab()
try {
  const mine = await ours(lab, BATCH)
  const sandboxes = await lab.sandboxes(Math.max(many, BATCH))
  const baseline = compiled(lab, BATCH)
  const subjects = [
    mine.subject,
    baseline,
    batches(2),
    ...(values['no-declared'] ? [] : [declared(mine.interfaces, BATCH)]),
    ...(values.pipework === undefined ? [] : [pipework(lab, values.pipework, 1)]),
  ]
  const samples = await compare(subjects, sandboxes)
  const summaries = new Map([...samples].map(([name, list]) => [name, summarize(list)]))
  process.stdout.write(report(summaries))
  const restless = [...summaries].filter(([name, s]) => name.endsWith('C program') && s.p99 > 3 * s.median)
  for (const [name] of restless) process.stdout.write(`the baseline "${name}" was restless (p99 above 3 medians)\n`)
  const pipes = summaries.get('wire: pipework')?.median
  const wire = summaries.get('wire: unionize')?.median ?? Number.NaN
  if (pipes !== undefined)
    process.stdout.write(`\npipework takes ${(pipes / wire).toFixed(0)} times as long as unionize\n`)

  const totals = await crowd(mine, baseline, sandboxes.slice(0, many))
  const { baselineRow } = totals
  const row = (name: string, t: Total) => [name, t.wirings, t.ms, t.ms / t.wirings, t.busyMs / t.wirings]
  process.stdout.write(
    `\n${table(
      ['milliseconds', 'wirings', 'in total', 'each', 'main thread busy, each'],
      [
        row('in a row: C program', baselineRow).with(-1, ''),
        row('in a row', totals.row),
        row('in parallel', totals.parallel),
        row('removed', totals.detach),
      ],
    )}`,
  )
  const figures = { rounds, summaries: Object.fromEntries(summaries), totals }
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(figures, null, 2)}\n`)
  await mine.wiring.stop()
} finally {
  await lab[Symbol.asyncDispose]()
}
process.exit()
