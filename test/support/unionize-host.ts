import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { serviceShape } from '../../common/service-spec.ts'
import { LabEngine } from '../../lab/engine.ts'
import { rememberIfNew, removeImages } from '../../lab/images.ts'
import { runDirectory } from '../../lab/places.ts'
import { LABEL, type WireObserved, type WireOrder, type WireService } from '../../unionize/contract.ts'
import { until } from './until.ts'
import { type Agent, type BRIEF, WiringLab } from './wiring-lab.ts'
import { Remote } from './wiring-remote.ts'

const PROCESS = fileURLToPath(new URL('./unionize-process.ts', import.meta.url))
/** Sandboxes that its pool holds. */
export const POOL = 2

/** A host of the wiring lab on which unionize makes instances with a real engine, with an owner and a stranger beside it. */
export class UnionizeHost {
  readonly name: string
  readonly engine: LabEngine
  /** Where its unionize finds the engine. */
  readonly socket: string
  readonly lab: WiringLab
  readonly owner: Agent
  readonly stranger: Agent
  /** Folder of its state. */
  readonly state: string
  /** Folder of files that are kept in memory. */
  readonly memory: string
  unionize: Remote
  #lastId = 0

  private constructor(
    parts: Pick<UnionizeHost, 'name' | 'engine' | 'socket' | 'lab' | 'owner' | 'stranger' | 'state' | 'memory'>,
  ) {
    this.name = parts.name
    this.engine = parts.engine
    this.socket = parts.socket
    this.lab = parts.lab
    this.owner = parts.owner
    this.stranger = parts.stranger
    this.state = parts.state
    this.memory = parts.memory
    this.unionize = this.#launch()
  }

  /**
   * Resolves when unionize has looked around and its pool is full.
   * @param prefix of all that the engine makes
   * @param through what is to stand between unionize and the engine's socket; gives the socket to take instead
   */
  static async open(
    prefix: string,
    through: (socket: string) => Promise<string> = async (socket) => socket,
  ): Promise<UnionizeHost> {
    const engine = await LabEngine.open(prefix, () => {})
    const socket = await through(engine.socket)
    const lab = await WiringLab.start()
    const [owner, stranger] = [await lab.client(1), await lab.client(2)]
    const state = mkdtempSync(join(tmpdir(), 'unionize-'))
    const memory = mkdtempSync('/dev/shm/unionize-')
    await rememberIfNew(engine, 'orchestrator/pause:1')
    const host = new UnionizeHost({
      name: `${prefix}-${process.pid}`,
      engine,
      socket,
      lab,
      owner,
      stranger,
      state,
      memory,
    })
    await host.#ready()
    return host
  }

  async close(): Promise<void> {
    await this.unionize.ask('stop').catch(() => {})
    await this.unionize.kill()
    await this.engine.removeContainers(this.label)
    await removeImages(this.engine)
    await this.engine.close()
    rmSync(runDirectory(this.engine.prefix), { recursive: true })
    await this.lab[Symbol.asyncDispose]()
    rmSync(this.state, { recursive: true })
    rmSync(this.memory, { recursive: true })
  }

  /** Kills unionize; {@link start} begins anew. */
  async kill(): Promise<void> {
    await this.unionize.kill()
  }
  async start(): Promise<void> {
    this.unionize = this.#launch()
    await this.#ready()
  }
  async poolFull(): Promise<void> {
    const full = async () => (await this.unionize.ask<number>('poolReady')) === POOL
    await until('the pool is full', full, { deadlineMs: 30_000 })
  }

  /** An order for the owner; every call is another instance. */
  newOrder(change: Partial<WireOrder> = {}): WireOrder {
    const n = ++this.#lastId
    return {
      instance: `i-${this.engine.prefix}${process.pid}-${n}`,
      generation: 1,
      owner: { duid: '00:03:00:01:02:00:00:00:00:01', iaid: n },
      name: `box${n}`,
      address: `fd00:1::${(0x1000 + n).toString(16)}`,
      ownerAddress: this.owner.address,
      services: [service('web'), service('log')],
      outputs: false,
      entryPort: null,
      ...change,
    }
  }

  ensure = (order: WireOrder) => this.unionize.ask<WireObserved>('ensure', order)
  remove = (order: WireOrder) => this.unionize.ask<void>('remove', order.instance, order.generation + 1)
  list = () => this.unionize.ask<WireObserved[]>('list')
  stateOf = async (order: WireOrder) => (await this.list()).find((o) => o.instance === order.instance)?.state
  containersOf = (order: WireOrder) => this.engine.containers(`${LABEL.instance}=${order.instance}`)
  reaches = async (who: Agent, order: WireOrder, time?: typeof BRIEF) =>
    (await who.icmp(order.address, time)).result === 'answered'
  rules = () => this.lab.run('nft', 'list', 'ruleset')
  /** Ids of all sandboxes that run. */
  sandboxes = async () => this.#ids('sandbox')
  /** Ids of all hubs of private networks that run. */
  hubs = async () => this.#ids('hub')
  /** A process of a container, by the container's id or name. */
  async pidOf(id: string): Promise<number> {
    return (await this.engine.docker.getContainer(id).inspect()).State.Pid
  }
  /** Id of the sandbox of one service, by default of the first that is found. */
  async sandboxOf(order: WireOrder, name?: string): Promise<string> {
    const found = await this.containersOf(order)
    const container = name === undefined ? found[0] : found.find((c) => c.name === `orc-${order.instance}-${name}`)
    const inspected = await this.engine.docker.getContainer(container?.id ?? '').inspect()
    return inspected.HostConfig.NetworkMode?.replace('container:', '') ?? ''
  }

  /** The label of everything that it makes. */
  get label(): string {
    return `${LABEL.host}=${this.name}`
  }

  async #ids(role: string): Promise<string[]> {
    const filters = { label: [`${LABEL.role}=${role}`, this.label] }
    return (await this.engine.docker.listContainers({ filters })).map((c) => c.Id)
  }

  #launch(): Remote {
    const parts = [this.socket, this.state, this.name, String(POOL), this.memory]
    const command = [process.execPath, PROCESS, ...parts]
    return new Remote(['nsenter', `--net=/run/netns/${this.lab.host}`, ...command])
  }

  async #ready(): Promise<void> {
    const { unionize } = this
    await unionize.ask('ready')
    await until('the engine was looked through', () => unionize.ask<boolean>('isReady'), { deadlineMs: 30_000 })
    await this.poolFull()
  }
}

/** A service that does nothing. */
export function service(name: string, change: Partial<WireService> = {}): WireService {
  const least = {
    name,
    image: 'orchestrator/pause:1',
    environment: { GREETING: 'hello' },
    memoryBytes: 16 << 20,
    pids: 8,
  }
  return { ...serviceShape.parse({ ...least, capabilities: ['NET_BIND_SERVICE'], stopGraceMs: 0 }), ...change }
}
