import { statSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { waitFor } from '../lab/command.ts'
import { Crowd } from '../lab/crowd.ts'
import type { Device } from '../lab/crowd-agent.ts'
import { SAMPLE_IMAGE } from '../lab/images.ts'
import { LAB_NETWORK } from '../lab/namespaces.ts'
import { Site } from '../lab/site.ts'
import type { InstanceShape } from '../orchestrator/api/wire.ts'
import { summarize, table } from './statistics.ts'

const usage = `npm run bench:lease [-- OPTIONS]

From the lease event (the hook's line in the journal) to the first TCP connection that the owner's own device gets
answered, cold: the container does not exist before. Against creating and starting a container of the same image on
Docker's default bridge by the engine's API, interleaved in one run. The baseline is not asked to answer anything.

--rounds N   counted rounds (50)
--json FILE  write the figures there
`
const WARM_UP = 3

interface Round {
  readonly leaseMs: number
  readonly baselineMs: number
  readonly stages: InstanceShape['timelineMs']
}

async function baseline(site: Site): Promise<number> {
  const began = performance.now()
  const container = await site.engine.docker.createContainer({
    Image: SAMPLE_IMAGE,
    Labels: { 'org.orchestrator.host': 'lab', 'org.orchestrator.role': 'bench' },
  })
  await container.start()
  const ms = performance.now() - began
  await container.remove({ force: true })
  return ms
}

async function lease(site: Site, crowd: Crowd, device: Device): Promise<Pick<Round, 'leaseMs' | 'stages'>> {
  const [answer] = await crowd.take([device])
  if (answer?.address == null) throw new Error('the device got no address')
  const written = statSync(site.journal).mtimeMs
  const target = { address: LAB_NETWORK.myAddress, port: 80, from: answer.address, deadlineMs: 20_000 }
  const reached = await crowd.reachable(target)
  const stages = await waitFor('the timeline', async () => {
    const { items } = await site.orctlJson<{ items: InstanceShape[] }>('get', 'instances')
    const [instance] = items
    return instance?.timelineMs.reachable !== undefined && instance.timelineMs
  })
  await crowd.release([device])
  await waitFor('the end of the instance', async () => {
    const { items } = await site.orctlJson<{ items: InstanceShape[] }>('get', 'instances')
    return items.length === 0
  })
  await waitFor('a full pool', async () => (await site.engine.containers('org.orchestrator.role=sandbox')).length >= 4)
  return { leaseMs: reached - written, stages }
}

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '50' },
    json: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) {
  process.stdout.write(usage)
  process.exit(0)
}
async function run(count: number): Promise<Round[]> {
  const site = await Site.open({ prefix: 'orcb', say: (text) => process.stderr.write(`${text}\n`) })
  const rounds: Round[] = []
  try {
    const crowd = await new Crowd(site.prefix, 100).plug()
    for (let round = -WARM_UP; round < count; round++) {
      const baselineMs = await baseline(site)
      const [device] = crowd.devices(1, 1 + round + WARM_UP)
      if (device === undefined) throw new Error('no device')
      const measured = await lease(site, crowd, device)
      if (round >= 0) rounds.push({ ...measured, baselineMs })
      process.stderr.write(`\rround ${round + 1} of ${count} `)
    }
  } finally {
    process.stderr.write('\n')
    for (const trace of await site.close()) process.stderr.write(`left behind: ${trace}\n`)
  }
  return rounds
}

const rounds = await run(Number(values.rounds))
const stage = (name: keyof Round['stages']) => summarize(rounds.map((r) => r.stages[name] ?? Number.NaN))
const [cold, bare] = [summarize(rounds.map((r) => r.leaseMs)), summarize(rounds.map((r) => r.baselineMs))]
const row = (name: string, s: ReturnType<typeof summarize>) => [
  name,
  s.n,
  s.median,
  s.p99,
  s.least,
  s.most,
  s.median / bare.median,
]
process.stdout.write(
  table(
    ['milliseconds', 'n', 'median', 'p99', 'least', 'most', 'ratio'],
    [
      row('Docker create + start, default bridge', bare),
      row('lease event to first answer', cold),
      ...(['stored', 'decided', 'sandbox', 'started', 'reachable'] as const).map((s) =>
        row(`  of which until ${s}`, stage(s)),
      ),
    ],
  ),
)
process.stdout.write(
  `\nratio of the medians ${(cold.median / bare.median).toFixed(2)}, of the p99s ${(cold.p99 / bare.p99).toFixed(2)}\n`,
)
if (bare.p99 > 3 * bare.median)
  process.stdout.write('the baseline itself was restless (p99 above 3 medians): run it again\n')
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ cold, bare, rounds }, null, 2)}\n`)
