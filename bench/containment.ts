import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { NETWORK, percentiles, placement, WiringLab } from '../test/support/wiring-lab.ts'
import { answer, Remote } from '../test/support/wiring-remote.ts'
import { connectWiring } from '../unionize/wiring/service/remote.ts'
import { serveWiring } from '../unionize/wiring/service/server.ts'
import { startWiringService } from '../unionize/wiring/service/service.ts'
import { startWiring, type Wiring } from '../unionize/wiring/wiring.ts'

const usage = `node bench/containment.ts [--rounds N]

Where the wiring should live: in a worker thread of the agent, in a worker thread of a process of its own, or on the main
thread of such a process. Times attach and place as the agent sees them, the three taking turns; what the agent's main
thread spends on one wiring; how much each part keeps in memory; and how long nobody wires after SIGSEGV. Needs root.
The figures are in docs/decisions/0007-wiring-process.md.
`
const SELF = fileURLToPath(import.meta.url)
const KINDS = ['thread of the agent', 'process, worker thread', 'process, main thread'] as const
type Kind = (typeof KINDS)[number]
const quiet = () => {}

/** The process in which the wiring is, where that is not the agent. */
async function serve(kind: Kind, socket: string): Promise<void> {
  if (kind === 'process, main thread') {
    await startWiringService({
      socket,
      directory: join(tmpdir(), 'none'),
      dockerSocket: '/none',
      version: 'bench',
      log: quiet,
    })
    return
  }
  const wiring = startWiring({ log: quiet })
  const interfaces = () => Promise.reject(new Error('not part of this bench'))
  await serveWiring({ socket, version: 'bench', hosted: { wiring, interfaces }, log: quiet })
}

/** The process that wants something wired. */
function agent(kind: Kind, socket: string): void {
  const wiring: Wiring =
    kind === 'thread of the agent'
      ? startWiring({ log: quiet })
      : connectWiring({ socket, version: 'bench', log: quiet }).wiring
  answer({
    ready: () => true,
    prepare: () => wiring.prepare(NETWORK),
    links: () => wiring.links(),
    async round(pid: number, number: number) {
      const here = placement(pid, number, 'fd00:c::1')
      const cpu = process.threadCpuUsage()
      const times = [performance.now()]
      for (const verb of ['attach', 'place'] as const) {
        await wiring[verb](here)
        times.push(performance.now())
      }
      const { user, system } = process.threadCpuUsage(cpu)
      await wiring.unplace(here)
      await wiring.detach(here.link)
      const [begun = 0, attached = 0, placed = 0] = times
      return { attach: attached - begun, place: placed - attached, main: (user + system) / 1000 }
    },
  })
}

interface Round {
  readonly attach: number
  readonly place: number
  readonly main: number
}

/** Resident and private memory in MiB. */
function memoryOf(pid: number): string {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  const mib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1]) / 1024
  return `${Math.round(mib('Rss'))} MiB resident, ${Math.round(mib('Private_Dirty'))} MiB of its own`
}

async function bench(rounds: number): Promise<void> {
  await using lab = await WiringLab.start()
  const folder = mkdtempSync(join(tmpdir(), 'wt-bench-'))
  const inside = (role: string, kind: Kind) => [
    ...['nsenter', `--net=/run/netns/${lab.host}`, process.execPath],
    ...[SELF, '--role', role, '--kind', kind, '--socket', join(folder, `${KINDS.indexOf(kind)}.sock`)],
  ]
  const services = new Map<Kind, ChildProcess>()
  const start = (kind: Kind) => {
    const [file = '', ...args] = inside('serve', kind)
    services.set(kind, spawn(file, args, { stdio: 'inherit' }))
  }
  const agents = new Map<Kind, Remote>()
  try {
    for (const kind of KINDS) {
      if (kind !== 'thread of the agent') start(kind)
      const remote = new Remote(inside('agent', kind))
      agents.set(kind, remote)
      await remote.ask('prepare')
    }
    const sandbox = await lab.idle()
    const taken = new Map<Kind, Round[]>(KINDS.map((kind) => [kind, []]))
    for (let n = 0; n < rounds + 20; n++) {
      for (const [kind, remote] of agents) {
        const round = await remote.ask<Round>('round', sandbox.pid, n % 200)
        if (n >= 20) taken.get(kind)?.push(round)
      }
    }
    for (const [kind, all] of taken) {
      const told = (['attach', 'place', 'main'] as const).map((what) => {
        const { median, p99 } = percentiles(all.map((round) => round[what]))
        return `${what} ${median.toFixed(2)} / ${p99.toFixed(2)} ms`
      })
      const service = services.get(kind)
      console.log(`${kind}: ${told.join(', ')} (median / p99 of ${all.length})`)
      console.log(`  agent ${memoryOf(agents.get(kind)?.pid ?? 0)}`)
      if (service?.pid !== undefined) console.log(`  wiring ${memoryOf(service.pid)}`)
    }
    for (const [kind, service] of services) {
      const gaps: number[] = []
      for (let n = 0; n < 5; n++) {
        const dying = services.get(kind) ?? service
        const ended = once(dying, 'exit')
        dying.kill('SIGSEGV')
        await ended
        const begun = performance.now()
        start(kind)
        await agents.get(kind)?.ask('links')
        gaps.push(performance.now() - begun)
      }
      console.log(`${kind}: wires again ${percentiles(gaps).median.toFixed(0)} ms after its start (median of 5)`)
    }
  } finally {
    for (const remote of agents.values()) await remote.kill()
    for (const service of services.values()) service.kill('SIGKILL')
    rmSync(folder, { recursive: true })
  }
}

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '300' },
    role: { type: 'string', default: 'bench' },
    kind: { type: 'string', default: KINDS[0] },
    socket: { type: 'string', default: '' },
    help: { type: 'boolean', short: 'h', default: false },
  },
})
const kind = KINDS.find((one) => one === values.kind) ?? KINDS[0]
if (values.help) process.stdout.write(usage)
else if (values.role === 'serve') await serve(kind, values.socket)
else if (values.role === 'agent') agent(kind, values.socket)
else await bench(Number(values.rounds))
