import { systemClock } from '../../common/clock.ts'
import { LabSwarm, type SwarmNode, type SwarmOptions } from '../../lab/swarm.ts'
import type { Backend, BackendContext, Records } from '../../orchestrator/backends/backend.ts'
import { LABEL } from '../../orchestrator/backends/swarm/names.ts'
import { backend } from '../../orchestrator/backends/swarm/swarm.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { Order } from '../../orchestrator/domain/instance.ts'
import { dockerEngine } from '../../unionize/engine/containers.ts'
import { ensurePauseImage } from '../../unionize/instances/pause.ts'
import { service, silent } from './fixtures.ts'
import { order } from './orders.ts'
import { importTinyImage } from './tiny-image.ts'

export const SWARM = 'swarm' as HostName
export const INSTALLATION = '0123456789abcdef'
/** A shell and a few programs; it does nothing unless told. */
export const TINY = 'orchestrator/tiny:1'

/** A swarm whose nodes have the images of tests, and forbid new privileges. */
export async function openSwarm(
  options: Pick<SwarmOptions, 'prefix' | 'managers' | 'workers'>,
  further: NonNullable<SwarmOptions['arguments']> = () => [],
): Promise<LabSwarm> {
  const swarm = await LabSwarm.open({ ...options, arguments: (node) => ['--no-new-privileges', ...further(node)] })
  try {
    await Promise.all(swarm.nodes.map(({ engine }) => imagesInto(engine.socket)))
    return swarm
  } catch (error) {
    await swarm.close()
    throw error
  }
}

async function imagesInto(socket: string): Promise<void> {
  const engine = dockerEngine(socket)
  await ensurePauseImage(engine)
  if (!(await engine.hasImage(TINY))) await importTinyImage(engine, { name: 'orchestrator/tiny', tag: '1' })
}

/** What a backend remembers, in memory. */
export function memoryRecords(): Records {
  const kept = new Map<string, string>()
  return {
    all: async () => new Map(kept),
    async put(key, value) {
      if (value === null) kept.delete(key)
      else kept.set(key, value)
    },
  }
}

/** The backend on these managers, asked over their sockets. */
export async function swarmBackend(
  nodes: readonly SwarmNode[],
  change: { readonly settings?: object; readonly context?: Partial<BackendContext> } = {},
): Promise<Backend> {
  const settings = {
    managers: nodes.map(({ engine }) => `unix://${engine.socket}`),
    ...{ nodesForbidNewPrivileges: true, monitorSeconds: 1, pollSeconds: 0.3, callSeconds: 5 },
    ...change.settings,
  }
  const context: BackendContext = {
    ...{ name: SWARM, installation: INSTALLATION, log: silent, clock: systemClock, records: memoryRecords() },
    credential: async () => ({}),
    ...change.context,
  }
  return await backend.create(settings, context)
}

/** An order for a task that does nothing and ends at once when told, at home on the node `n1`. */
export function swarmOrder(n: number, generation = 1, change: Partial<Order> = {}): Order {
  return {
    ...order(n, generation),
    services: [service({ image: 'orchestrator/pause:1', memoryBytes: 16 << 20, pids: 8 })],
    home: { name: 'n1' as HostName, address: null },
    ...change,
  }
}

/** Services, networks and secrets of one installation; of any of ours unless told. */
export async function thingsIn({ first: docker }: LabSwarm, installation?: string): Promise<readonly string[]> {
  const filters = { label: [LABEL.instance, ...(installation ? [`${LABEL.installation}=${installation}`] : [])] }
  const services = (await docker.listServices({ filters })).map((one) => `service ${one.Spec?.Name}`)
  const networks = (await docker.listNetworks({ filters })).map((one) => `network ${one.Name}`)
  const secrets = (await docker.listSecrets({ filters: filters as never })) as { Spec?: { Name?: string } }[]
  return [...services, ...networks, ...secrets.map((one) => `secret ${one.Spec?.Name}`)]
}
