import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type Docker from 'dockerode'
import { run, waitFor } from './command.ts'
import { type EngineShape, engineNamespace, LabEngine, removeOwnEngine, type Say } from './engine.ts'
import { listNamespaces, removeNamespaces } from './namespaces.ts'
import { CACHE_DIRECTORY, RUN_DIRECTORY, runDirectory } from './places.ts'

/** The network that the nodes share: the host part of node N is 10 + N, in both families. */
export const FABRIC = { prefix6: 'fd00:feed::', prefix4: '10.77.0.', bridge: 'br-fabric' } as const

export interface SwarmOptions {
  /** Begins the names of all that it makes. */
  readonly prefix: string
  readonly managers: number
  readonly workers: number
  readonly say?: Say
  readonly signal?: AbortSignal
  /** Further arguments of each dockerd. */
  readonly arguments?: (node: { readonly name: string; readonly address: string }) => readonly string[]
}

/** One machine of the swarm: an engine in a network namespace of its own, on the fabric. */
export interface SwarmNode {
  /** Its host name, which is its name in the swarm: `n1`. */
  readonly name: string
  /** Its IPv6 address on the fabric. */
  readonly address: string
  readonly namespace: string
  readonly engine: LabEngine
  readonly manager: boolean
}

/** A Docker Swarm in network namespaces: managers first. {@link close} undoes all of it. */
export class LabSwarm {
  readonly prefix: string
  readonly nodes: readonly SwarmNode[]
  readonly fabric: string

  private constructor(prefix: string, nodes: readonly SwarmNode[]) {
    this.prefix = prefix
    this.nodes = nodes
    this.fabric = fabricOf(prefix)
  }

  /** Clears what a killed run left, then starts the engines and joins them. Resolves when every node is ready. */
  static async open(options: SwarmOptions): Promise<LabSwarm> {
    const { prefix, managers, workers, signal } = options
    const say = options.say ?? (() => {})
    await clearSwarm(prefix)
    await makeFabric(fabricOf(prefix), signal)
    const begun = Array.from({ length: managers + workers }, (_, at) => startNode(options, at + 1))
    const settled = await Promise.allSettled(begun)
    const failed = settled.find((one) => one.status === 'rejected')
    const nodes = settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
    const swarm = new LabSwarm(prefix, nodes)
    try {
      if (failed !== undefined) throw failed.reason
      await swarm.#join()
      say(`made a swarm of ${managers} managers and ${workers} workers`)
      return swarm
    } catch (error) {
      await swarm.close()
      throw error
    }
  }

  node(name: string): SwarmNode {
    const found = this.nodes.find((one) => one.name === name)
    if (found === undefined) throw new Error(`the swarm has no node ${name}`)
    return found
  }
  get managers(): readonly SwarmNode[] {
    return this.nodes.filter(({ manager }) => manager)
  }
  get first(): Docker {
    const [first] = this.nodes
    if (first === undefined) throw new Error('the swarm has no nodes')
    return first.engine.docker
  }

  /** Sets what the swarm may do with a node, asked of any manager that answers. */
  async setAvailability(name: string, availability: 'active' | 'pause' | 'drain'): Promise<void> {
    await this.change(name, (spec) => ({ ...spec, Availability: availability }))
  }
  /** Changes the spec of a node; repeated while somebody else changes it. */
  async change(name: string, change: (spec: object) => object): Promise<void> {
    await waitFor(`a change of node ${name}`, async () => {
      for (const { engine } of this.managers) {
        try {
          const node = (await engine.docker.listNodes()).find((one) => one.Description?.Hostname === name)
          if (node === undefined) continue
          const found = engine.docker.getNode(node.ID)
          const { ID, Version, Spec } = (await found.inspect()) as {
            ID: string
            Version: { Index: number }
            Spec: object
          }
          await found.update({ id: ID, version: Version.Index, ...change(Spec) } as object)
          return true
        } catch {
          // Not a manager that can: another one, or again.
        }
      }
      return undefined
    })
  }

  /** Names of the nodes that the swarm calls ready, by a manager that answers. */
  async ready(): Promise<readonly string[]> {
    for (const { engine } of this.managers) {
      const nodes = await engine.docker.listNodes().catch(() => null)
      if (nodes === null) continue
      return nodes.filter((one) => one.Status?.State === 'ready').map((one) => one.Description?.Hostname ?? '')
    }
    return []
  }

  async close(): Promise<void> {
    await Promise.all(this.nodes.map(({ engine }) => engine.kill().catch(() => {})))
    await clearSwarm(this.prefix)
  }

  async #join(): Promise<void> {
    const [leader, ...others] = this.nodes
    if (leader === undefined) return
    // IPv6 between the managers; the overlay's data plane of this engine speaks IPv4 alone (VXLAN over IPv6 is refused).
    const addresses = (node: SwarmNode) => ({
      ListenAddr: `[${node.address}]:2377`,
      AdvertiseAddr: `[${node.address}]:2377`,
      DataPathAddr: dataAddress(node),
    })
    await leader.engine.docker.swarmInit({ ...addresses(leader), ForceNewCluster: false })
    const { JoinTokens: tokens } = (await leader.engine.docker.swarmInspect()) as {
      JoinTokens: { Manager: string; Worker: string }
    }
    // One by one: the managers that there are must agree to each new one.
    for (const node of others) {
      const JoinToken = node.manager ? tokens.Manager : tokens.Worker
      await node.engine.docker.swarmJoin({
        ...addresses(node),
        RemoteAddrs: [`[${leader.address}]:2377`],
        JoinToken,
      })
    }
    await waitFor('every node', async () => (await this.ready()).length === this.nodes.length, { timeoutMs: 120_000 })
  }
}

/** Prefix of the swarm that belongs to a lab. */
export function swarmPrefix(lab: string): string {
  return `${lab}s`
}

/** Removes everything that a swarm of this prefix made, also after `kill -9`. Nothing there is fine. Images stay in the cache. */
export async function clearSwarm(prefix: string): Promise<void> {
  for (let n = 1; n <= MOST_NODES; n++) {
    const node = nodePrefix(prefix, n)
    if (!existsSync(join(RUN_DIRECTORY, node)) && listNamespaces(node).length === 0) continue
    await removeOwnEngine(node)
    await removeNamespaces(node)
    rmSync(join(RUN_DIRECTORY, node), { recursive: true, force: true })
  }
  for (let n = 1; n <= MOST_NODES; n++) forgetSwarm(nodePrefix(prefix, n))
  await removeNamespaces(prefix)
  rmSync(join(RUN_DIRECTORY, prefix), { recursive: true, force: true })
}

/** What the engine remembers of its swarm, unlike its images: the next one is another. */
function forgetSwarm(node: string): void {
  for (const folder of ['swarm', 'network']) {
    rmSync(join(CACHE_DIRECTORY, 'engines', node, folder), { recursive: true, force: true })
  }
}

/** Nodes at most: those of a killed run are looked for up to here. */
const MOST_NODES = 6

const fabricOf = (prefix: string) => `${prefix}-fabric`
const nodePrefix = (prefix: string, n: number) => `${prefix}n${n}`
const dataAddress = (node: SwarmNode) => `${FABRIC.prefix4}${10 + Number(node.name.slice(1))}`

async function startNode(options: SwarmOptions, n: number): Promise<SwarmNode> {
  const { prefix, signal } = options
  const name = `n${n}`
  const address = `${FABRIC.prefix6}${10 + n}`
  const shape: EngineShape = {
    hostName: name,
    arguments: ['--bip', `172.30.${10 + n}.1/24`, ...(options.arguments?.({ name, address }) ?? [])],
    // There is no registry to ask: an image that is here need not be looked for elsewhere first.
    environment: { DOCKER_SERVICE_PREFER_OFFLINE_IMAGE: '1' },
    connect: (namespace) => plug(fabricOf(prefix), namespace, n, signal),
  }
  const engine = await LabEngine.open(nodePrefix(prefix, n), () => {}, signal, true, shape)
  // Tasks of a former swarm, which ended with their engine.
  await engine.docker.pruneContainers()
  const namespace = engineNamespace(nodePrefix(prefix, n))
  return { name, address, namespace, engine, manager: n <= options.managers }
}

async function makeFabric(name: string, signal: AbortSignal | undefined): Promise<void> {
  runDirectory(name.slice(0, -'-fabric'.length))
  await run('ip', ['netns', 'add', name], { signal })
  const lines = `link set lo up
link add ${FABRIC.bridge} type bridge mcast_snooping 0
address add ${FABRIC.prefix4}1/24 dev ${FABRIC.bridge}
address add ${FABRIC.prefix6}1/64 dev ${FABRIC.bridge} nodad
link set ${FABRIC.bridge} up
`
  await run('ip', ['-n', name, '-batch', '-'], { input: lines, signal })
}

/** Gives a namespace a link to the fabric: host part 10 + `n` in both families, default routes, forwarding. */
export async function plug(fabric: string, namespace: string, n: number, signal?: AbortSignal): Promise<void> {
  const port = `p${n}`
  await run('ip', ['-n', fabric, 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'fab0', 'netns', namespace], {
    signal,
  })
  await run('ip', ['-n', fabric, 'link', 'set', port, 'master', FABRIC.bridge, 'up'], { signal })
  const settings = ['net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1', 'net.ipv6.conf.default.accept_dad=0']
  await run('nsenter', [`--net=/run/netns/${namespace}`, '--', 'sysctl', '-qw', ...settings], { signal })
  const lines = `link set fab0 up
address add ${FABRIC.prefix4}${10 + n}/24 dev fab0
address add ${FABRIC.prefix6}${10 + n}/64 dev fab0 nodad
route add default via ${FABRIC.prefix4}1
`
  await run('ip', ['-n', namespace, '-batch', '-'], { input: lines, signal })
}
