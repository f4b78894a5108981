import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { wording } from '../common/errors.ts'
import type { InstanceDetailShape, InstanceShape, TemplateDetailShape } from '../orchestrator/api/wire.ts'
import { DhcpClient } from './clients.ts'
import { LabError, run, waitFor } from './command.ts'
import { wipeLab } from './lab.ts'
import { openMachinesPlace } from './machines-place.ts'
import { LAB_NETWORK } from './namespaces.ts'
import type { OpenPlace } from './place.ts'
import { DEFAULT_PREFIX } from './places.ts'
import { quoted } from './processes.ts'
import { SAMPLES } from './samples.ts'
import { Site } from './site.ts'
import { openSwarmPlace } from './swarm-place.ts'

/** What `--backend` may name beside docker. */
const PLACES: Readonly<Record<string, OpenPlace>> = { swarm: openSwarmPlace, coreos: openMachinesPlace }

const usage = `npm run demo [-- OPTIONS]

The main job, for real: devices take DHCPv6 leases from dnsmasq, and each gets a machine of its own that only it reaches.
Host, bridges and devices are network namespaces; this machine's own network and firewall are not touched. Stays up until
Ctrl-C, which undoes everything.

--clients N  devices (3; at most 50)
--template T what each device gets: sample (the default), or one of docs/samples:
             ${Object.keys(SAMPLES).join(', ')}
--backend B  where they run: docker, on the host that gave the lease (the default), or ${Object.keys(PLACES).join(', ')}
--once       give the leases back after the tour, check that nothing is left, and end with 0 if so
--wipe       remove what is kept between runs for speed (/var/lib/orchestrator-lab), and end
--help       this text
`

const { values } = parseArgs({
  options: {
    clients: { type: 'string', default: '3' },
    template: { type: 'string', default: 'sample' },
    backend: { type: 'string', default: 'docker' },
    once: { type: 'boolean', default: false },
    wipe: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
})

const began = performance.now()
function say(text: string): void {
  process.stderr.write(`[${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s] ${text}\n`)
}
function show(text = ''): void {
  process.stdout.write(`${text}\n`)
}

const STAGES = ['hook', 'stored', 'decided', 'sandbox', 'started', 'reachable'] as const
/** What the machine's own network could show of a lab that leaked into it. */
const MACHINE_LISTS = [
  ['ip', '-brief', 'link', 'show'],
  ['ip', 'netns', 'list'],
  ['nft', 'list', 'tables'],
] as const

/** Names that only a lab or its daemons give; whatever else comes and goes on this machine is not ours to judge. */
const OURS = new RegExp(
  `netns list: ${DEFAULT_PREFIX}(s|sn\\d+)?-|tables: .*unionize|show: (br-(clients|instances)|ui-)`,
)

/** Lines that are in the machine's own network: names of links and namespaces, firewall tables. */
async function machineTraces(): Promise<Set<string>> {
  const lists = MACHINE_LISTS.map(async ([file, ...args]) => {
    const lines = (await run(file, args)).split('\n').filter((line) => line !== '')
    return lines.map((line) => `${args.join(' ')}: ${file === 'ip' ? line.split(/\s/)[0] : line}`)
  })
  return new Set((await Promise.all(lists)).flat())
}

async function instances(site: Site): Promise<InstanceShape[]> {
  return (await site.orctlJson<{ items: InstanceShape[] }>('get', 'instances')).items
}

/** All about an instance, once it has told what its template says that it will tell. */
async function described(site: Site, { id, template }: InstanceShape): Promise<InstanceDetailShape> {
  const { outputs } = await site.orctlJson<TemplateDetailShape>(
    'get',
    'template',
    `${template.name}@${template.number}`,
  )
  return await waitFor(
    `the outputs of ${id}`,
    async () => {
      const detail = await site.orctlJson<InstanceDetailShape>('describe', 'instance', id)
      return outputs.length === 0 || detail.outputs !== null ? detail : undefined
    },
    { timeoutMs: 30_000, everyMs: 200 },
  )
}

/** What is done with an instance of the sample template: its page is opened. */
async function visitSample(client: DhcpClient, instance: InstanceShape): Promise<string> {
  const url = `http://my.${LAB_NETWORK.domain}/`
  const fetching = performance.now()
  const page = await client.get(url)
  const pageMs = performance.now() - fetching
  if (page.status !== 200 || !page.body.includes(`content="${instance.id}"`)) {
    throw new LabError('wrong-page', `${client.hostname} got a page at ${url} that is not that of ${instance.id}`)
  }
  return `${url} -> ${page.status}, its own, in ${Math.round(pageMs)} ms`
}

/** Elsewhere nobody tells when its port answers: it is tried until it does. */
async function patiently(visit: () => Promise<string>, signal: AbortSignal): Promise<string> {
  let last: unknown
  const look = () =>
    visit().catch((error) => {
      last = error
      return undefined
    })
  return await waitFor('its first answer', look, { timeoutMs: 20_000, everyMs: 100, signal }).catch((error) => {
    throw last ?? error
  })
}

/** One device from the plug to the use of its instance. @returns its instance @throws LabError when it is not as promised */
async function tour(site: Site, client: DhcpClient, signal: AbortSignal): Promise<InstanceShape> {
  const elsewhere = values.backend !== 'docker'
  const asked = await client.request(signal)
  const lease = await client.lease(30_000, signal)
  const leasedMs = Date.now() - asked
  const instance = await waitFor(
    `an instance for ${client.hostname}`,
    async () => {
      const found = (await instances(site)).find((i) => i.owner.duid === client.duid && i.owner.iaid === client.iaid)
      return (elsewhere ? found?.state === 'running' : found?.timelineMs.reachable !== undefined) ? found : undefined
    },
    { timeoutMs: elsewhere ? 60_000 : 30_000, everyMs: 50, signal },
  )
  const visit = SAMPLES[values.template] ?? visitSample
  const detail = await described(site, instance)
  const visited = elsewhere ? await patiently(() => visit(client, detail), signal) : await visit(client, detail)
  const times = STAGES.flatMap((stage) => {
    const ms = instance.timelineMs[stage]
    return ms === undefined ? [] : [`${stage} ${Math.round(ms)}`]
  })
  const through = instance.reach === null ? '' : `, reached through ${instance.reach.address}`
  show(`
  ${client.hostname}
    lease     ${lease.address}, ${leasedMs} ms after it first asked (a second of that is its own address detection)
    instance  ${instance.name}.${LAB_NETWORK.domain} = ${instance.address} (${instance.id})
    runs on   ${instance.host}${through}
    use       ${visited}
    timeline  ${times.join(' · ')} ms`)
  return instance
}

/** Each device knocks at its neighbour's instance. @throws LabError when one is let in */
async function knock(clients: readonly DhcpClient[], theirs: readonly InstanceShape[]): Promise<void> {
  for (const [index, client] of clients.entries()) {
    const neighbour = theirs[(index + 1) % theirs.length]
    if (neighbour === undefined || clients.length < 2) return
    const outcome = await client.agent.call('dial', { address: neighbour.address, port: 80, timeoutMs: 300 })
    if (outcome === 'accepted') throw new LabError('not-isolated', `${client.hostname} reached ${neighbour.name}`)
    show(`  ${client.hostname} knocks at ${neighbour.name} (${neighbour.address}): ${outcome}`)
  }
}

/** Writes an `orctl` that works from any shell on this machine. @returns its path */
function writeOrctl(site: Site): string {
  const path = site.path('orctl')
  const command = ['nsenter', `--net=/run/netns/${site.namespace}`, '--', ...site.orctlCommand()]
  writeFileSync(path, `#!/bin/sh\nexec ${command.map(quoted).join(' ')} "$@"\n`, { mode: 0o755 })
  return path
}

function lookAround(orctl: string, clients: readonly DhcpClient[]): void {
  const [first] = clients
  if (first === undefined) return
  const enter = `nsenter --target ${first.agent.process.pid} --net --mount --uts --`
  show(`
Look around (another terminal, as root):
  ${orctl} get instances            also: leases, hosts, templates; describe instance NAME; events; logs NAME
  ${enter} curl http://my.${LAB_NETWORK.domain}/
                                    what ${first.hostname} sees; without a command: a shell there
  ls ${orctl.replace(/orctl$/, 'log')}
Ctrl-C undoes everything.`)
}

/** All devices give their leases back. Resolves when no instance and no container of one is left. */
async function release(site: Site, clients: readonly DhcpClient[]): Promise<void> {
  say('the devices give their leases back')
  await Promise.all(clients.map((client) => client.release()))
  await waitFor(
    'the end of every instance',
    async () => {
      const containers = await site.engine.containers('org.orchestrator.role=service')
      return containers.length === 0 && (await instances(site)).length === 0
    },
    { timeoutMs: 30_000, everyMs: 100 },
  )
  say('every instance is gone')
}

async function demo(count: number, signal: AbortSignal): Promise<void> {
  const place = PLACES[values.backend]
  const site = await Site.open({ prefix: DEFAULT_PREFIX, say, signal, template: values.template, place })
  let left: string[] = []
  try {
    say(`plugging in ${count} device(s), each a namespace with a link of its own`)
    const clients = await Promise.all(
      Array.from({ length: count }, (_, i) => new DhcpClient(site.prefix, i + 1).plug(signal)),
    )
    say('they ask for leases (dhcpcd)')
    const theirs = await Promise.all(clients.map((client) => tour(site, client, signal)))
    show()
    await knock(clients, theirs)
    if (!values.once) {
      lookAround(writeOrctl(site), clients)
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    }
    if (values.once) await release(site, clients)
  } finally {
    say('undoing everything …')
    left = await site.close()
  }
  if (left.length > 0) throw new LabError('left-behind', `left behind:\n${left.join('\n')}`)
}

async function main(): Promise<void> {
  if (values.help) return show(usage)
  if (values.wipe) {
    await wipeLab(DEFAULT_PREFIX)
    return say('nothing is kept any more')
  }
  const count = Number(values.clients)
  if (!Number.isInteger(count) || count < 1 || count > 50) {
    throw new LabError('bad-option', `--clients: expected a number from 1 to 50, got ${values.clients}`)
  }
  if (values.template !== 'sample' && SAMPLES[values.template] === undefined) {
    const known = ['sample', ...Object.keys(SAMPLES)].join(', ')
    throw new LabError('bad-option', `--template: there is no sample ${values.template}; there are ${known}`)
  }
  if (values.backend !== 'docker' && PLACES[values.backend] === undefined) {
    const known = ['docker', ...Object.keys(PLACES)].join(', ')
    throw new LabError('bad-option', `--backend: there is no backend ${values.backend} in the lab; there are ${known}`)
  }
  const stop = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => stop.abort())
  const before = await machineTraces()
  try {
    await demo(count, stop.signal)
  } catch (error) {
    if (!stop.signal.aborted || (error instanceof LabError && error.code === 'left-behind')) throw error
  }
  const after = [...(await machineTraces())].filter((trace) => !before.has(trace) && OURS.test(trace))
  if (after.length > 0) throw new LabError('left-behind', `left behind:\n${after.join('\n')}`)
  say('nothing is left of it')
}

try {
  await main()
} catch (error) {
  process.stderr.write(`\ndemo: ${error instanceof LabError ? error.message : wording(error)}\n`)
  process.exitCode = 1
}
