import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { run } from '../../lab/command.ts'
import { FABRIC, type LabSwarm, plug, type SwarmNode } from '../../lab/swarm.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { Observed, Order } from '../../orchestrator/domain/instance.ts'
import { openSwarm, swarmOrder } from './swarm.ts'
import { until } from './until.ts'
import { type Agent, NETWORK, WiringLab, type WiringProcess } from './wiring-lab.ts'
import { Remote } from './wiring-remote.ts'

const PROCESS = fileURLToPath(new URL('./unionize-process.ts', import.meta.url))
/** Number of the home host on the fabric. */
const HOME = 50

/** A swarm whose nodes run unionize, and beside it the host at which an owner and a stranger are: their home. */
export class SwarmSite implements AsyncDisposable {
  readonly swarm: LabSwarm
  readonly lab: WiringLab
  readonly wiring: WiringProcess
  readonly owner: Agent
  readonly stranger: Agent
  readonly #unionize = new Map<string, { remote: Remote; readonly folders: readonly string[] }>()

  private constructor(swarm: LabSwarm, lab: WiringLab, wiring: WiringProcess, clients: readonly [Agent, Agent]) {
    this.swarm = swarm
    this.lab = lab
    this.wiring = wiring
    ;[this.owner, this.stranger] = clients
  }

  static async open(prefix: string): Promise<SwarmSite> {
    const swarm = await openSwarm({ prefix, managers: 3, workers: 0 })
    const lab = await WiringLab.start()
    await plug(swarm.fabric, lab.host, HOME)
    const clients = [await lab.client(1), await lab.client(2)] as const
    const wiring = await lab.wiring()
    await wiring.prepare(NETWORK)
    const site = new SwarmSite(swarm, lab, wiring, clients)
    for (const node of swarm.nodes) {
      await bridgeIn(node)
      await site.startUnionize(node.name)
    }
    return site
  }

  /** An order of the owner, whose home is the host beside the swarm. */
  order(n: number, generation = 1, change: Partial<Order> = {}): Order {
    const { address } = this.owner
    const home = { name: 'home' as HostName, address: `${FABRIC.prefix6}${10 + HOME}` as Order['address'] }
    return swarmOrder(n, generation, { ownerAddress: address as Order['address'], home, ...change })
  }

  /** Leads the owner there, as the home host's daemon does when it is told. */
  async lead(order: Order, { reach }: Observed): Promise<void> {
    if (reach === undefined) throw new Error('it runs on the home host')
    await this.wiring.lead({ owner: order.ownerAddress, address: order.address, reach })
  }

  async startUnionize(node: string): Promise<void> {
    const { namespace, engine } = this.swarm.node(node)
    const folders = [mkdtempSync(join(tmpdir(), 'unionize-')), mkdtempSync('/dev/shm/unionize-')]
    const [state = '', memory = ''] = folders
    const command = [process.execPath, PROCESS, engine.socket, state, node, '0', memory]
    const remote = new Remote(['nsenter', `--net=/run/netns/${namespace}`, ...command])
    this.#unionize.set(node, { remote, folders })
    await remote.ask('ready')
    await until('the engine was looked through', () => remote.ask<boolean>('isReady'), { deadlineMs: 30_000 })
  }
  async killUnionize(node: string): Promise<void> {
    const found = this.#unionize.get(node)
    await found?.remote.kill()
    for (const folder of found?.folders ?? []) rmSync(folder, { recursive: true })
    this.#unionize.delete(node)
  }
  unionize(node: string): Remote {
    const found = this.#unionize.get(node)
    if (found === undefined) throw new Error(`unionize does not run on ${node}`)
    return found.remote
  }

  /** Name of the node that runs a task of ours, by the engines themselves. */
  async nodesOf(order: Order): Promise<readonly string[]> {
    const filters = { label: [`org.orchestrator.instance=${order.instance}`] }
    const found = this.swarm.nodes.map(async ({ name, engine }) =>
      (await engine.docker.listContainers({ filters })).length > 0 ? [name] : [],
    )
    return (await Promise.all(found)).flat()
  }
  /** Names of links of ours on a node. */
  async linksOn(node: string): Promise<readonly string[]> {
    const { namespace } = this.swarm.node(node)
    const text = await run('ip', ['-n', namespace, '-j', 'link', 'show', 'type', 'veth'])
    return (JSON.parse(text) as { ifname?: string }[]).flatMap(({ ifname }) =>
      ifname?.startsWith('ui-') ? [ifname] : [],
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const node of [...this.#unionize.keys()]) {
      await this.unionize(node)
        .ask('stop')
        .catch(() => {})
      await this.killUnionize(node)
    }
    await this.lab[Symbol.asyncDispose]()
    await this.swarm.close()
  }
}

/** What an operator makes on a machine before unionize can wire there. */
async function bridgeIn({ namespace }: SwarmNode): Promise<void> {
  const lines = `link add ${NETWORK.bridge} type bridge mcast_snooping 0
link set ${NETWORK.bridge} up
address add ${NETWORK.gateway}/${NETWORK.prefixLength} dev ${NETWORK.bridge} nodad
`
  await run('ip', ['-n', namespace, '-batch', '-'], { input: lines })
}
