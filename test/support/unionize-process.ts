/**
 * What unionize does with containers, in a process of its own. Arguments: engine socket, state folder, host name, pool
 * size, folder in memory.
 */
import { join } from 'node:path'
import { parseIpv6, parsePrefix } from '../../common/ipv6.ts'
import type { WiringSpec } from '../../common/wiring-spec.ts'
import type { WireObserved, WireOrder, WireWay } from '../../unionize/contract.ts'
import { dockerEngine, type Engine } from '../../unionize/engine/containers.ts'
import { ContainerFailure } from '../../unionize/engine/failure.ts'
import { createImages } from '../../unionize/images/images.ts'
import { createAssembly } from '../../unionize/instances/assembly.ts'
import { createFiles } from '../../unionize/instances/files.ts'
import { createInstances } from '../../unionize/instances/instances.ts'
import { hostsDirectory } from '../../unionize/instances/names.ts'
import { createOrders } from '../../unionize/instances/orders.ts'
import { createOrphanCollector } from '../../unionize/instances/orphans.ts'
import { createOutputs } from '../../unionize/instances/outputs.ts'
import { ensurePauseImage } from '../../unionize/instances/pause.ts'
import { createRestarts } from '../../unionize/instances/restarts.ts'
import { createSandboxPool } from '../../unionize/instances/sandbox.ts'
import { createSlots } from '../../unionize/instances/slots.ts'
import { backgroundOf, takeStock } from '../../unionize/instances/stock.ts'
import { createVolumes } from '../../unionize/instances/volumes.ts'
import { createLeads } from '../../unionize/leads.ts'
import { hostFiles } from '../../unionize/networks/host-files.ts'
import { createNetworks } from '../../unionize/networks/networks.ts'
import { followTasks } from '../../unionize/tasks/follow.ts'
import { createTasks } from '../../unionize/tasks/tasks.ts'
import { watchEngine } from '../../unionize/watch.ts'
import { WiringError } from '../../unionize/wiring/errors.ts'
import type { Interfaces } from '../../unionize/wiring/interfaces/interfaces.ts'
import { startWiring } from '../../unionize/wiring/wiring.ts'
import { silent as log } from './fixtures.ts'
import { NETWORK } from './wiring-lab.ts'
import { answer } from './wiring-remote.ts'

const [socket = '', state = '', host = '', size = '2', memory = ''] = process.argv.slice(2)
const now = Date.now
const told: WireObserved[] = []
const notices: string[] = []
const docker = dockerEngine(socket)
/** How the next starts of containers end. */
let starts: ('succeeds' | 'fails')[] = []
const engine: Engine = {
  ...docker,
  async start(id) {
    if (starts.shift() === 'fails') throw new ContainerFailure('engine-failed', 'it has no room', { retryable: true })
    await docker.start(id)
  },
}
const wiring = startWiring({ log: () => {} })
/** What the engine of extra interfaces was told, and whether it is to refuse. */
const wired = new Map<string, WiringSpec>()
let refusal: string | null = null
const interfaces: Pick<Interfaces, 'wire' | 'unwire'> = {
  async wire({ key }, spec) {
    if (refusal !== null) throw new WiringError('device-missing', refusal)
    wired.set(key, spec)
    return []
  },
  async unwire(key) {
    wired.delete(key)
    return []
  },
}
const slots = createSlots(4)
const names = hostsDirectory({ directory: join(state, 'hosts.d'), domain: 'instance' })
const orders = createOrders({ directory: join(state, 'generations'), now })
const pool = createSandboxPool({ engine, wiring, slots, log, host, gateway: NETWORK.gateway, size: Number(size) })
const networks = createNetworks({
  ...{ engine, wiring, host },
  files: hostFiles({ directory: join(state, 'hosts') }),
  around: { instances: parsePrefix('fd00:1::/64'), myAddress: parseIpv6(NETWORK.myAddress) },
})
const files = createFiles({ directory: memory })
const volumes = createVolumes({ engine })
const images = createImages({ engine, log, now })
const restarts = createRestarts(now)
const assembly = createAssembly({
  ...{ engine, wiring, interfaces, networks, files, volumes, images, pool, slots, names, orders, restarts },
  ...{ host, log, now },
})
const instances = createInstances({ engine, assembly, orders, host, log, now, tell: (o) => told.push(o) })
const tasks = createTasks({ engine, wiring, host, log, notice: (_level, code) => notices.push(code) })
const leads = createLeads({
  ...{ wiring, file: join(state, 'ways.json'), address: () => undefined, now },
  notice: (_level, code) => notices.push(code),
})
const background = backgroundOf(log)
const { holds } = assembly
const collector = createOrphanCollector({
  ...{ engine, wiring, interfaces, pool, orders, files, instances, tasks, host, graceMs: 0, holds, log, now },
})
const stopping = new AbortController()
const never = new AbortController().signal
let ready = false

await orders.load()
await leads.load()
const watching = watchEngine({
  ...{ engine, pool, instances, restarts, host, log, now, background },
  notice: (_level, code) => notices.push(code),
  async returned() {
    await wiring.prepare(NETWORK)
    await ensurePauseImage(engine)
    await takeStock({
      ...{ engine, wiring, pool, orders, names, networks, instances, tasks, leads, host, log, holds, background },
    })
    ready = true
  },
  away: () => {
    ready = false
  },
  signal: stopping.signal,
})
const standing = {
  work: <T>(carryOut: () => Promise<T>) => carryOut(),
  beside: async (work: () => Promise<unknown>) => void (await work()),
  fault: () => (ready ? null : new Error('the engine is away')),
}
const followingTasks = followTasks({ engine, tasks, standing, now, background, signal: stopping.signal })
const outputs = createOutputs({ engine, orders, notice: (_level, code) => notices.push(code), now })
const reading = outputs.watch(stopping.signal, instances.tellOutputs)

answer({
  ready: () => true,
  isReady: () => ready,
  poolReady: () => pool.ready(),
  startsEnd(...next: typeof starts) {
    starts = next
  },
  ensure: (order: WireOrder) => instances.ensure(order, never),
  ensureFor: (order: WireOrder, ms: number) => instances.ensure(order, AbortSignal.timeout(ms)),
  remove: (instance: string, generation: number) => instances.remove(instance, generation, never),
  list: () => instances.list(never),
  lead: (way: WireWay) => leads.lead(way),
  unlead: (instance: string, generation: number) => leads.unlead(instance, generation),
  collect: () => collector.collect(),
  wired: () => [...wired],
  refuseInterfaces: (why: string | null) => {
    refusal = why
  },
  told: () => told.splice(0),
  notices: () => notices.splice(0),
  async stop() {
    stopping.abort(new Error('the test ends'))
    await Promise.all([pool.stop(), watching, followingTasks, reading, instances.settled()])
    await wiring.stop()
  },
})
