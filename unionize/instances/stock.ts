import { wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import { LABEL, type WireOrder } from '../contract.ts'
import type { Engine, ListedContainer } from '../engine/containers.ts'
import type { Leads } from '../leads.ts'
import type { Networks } from '../networks/networks.ts'
import { hasNetworks, ownerKey } from '../networks/plan.ts'
import type { Tasks } from '../tasks/tasks.ts'
import type { Passage, Source, Way, Wiring } from '../wiring/wiring.ts'
import { homesIn, homesOf } from './homes.ts'
import type { Instances } from './instances.ts'
import type { Names } from './names.ts'
import { type Orders, readOrder } from './orders.ts'
import { portOf, type SandboxPool } from './sandbox.ts'

/** One instance as the engine shows it. */
interface Seen {
  readonly order: WireOrder
  readonly sandbox: ListedContainer
  /** The sandboxes of single services. */
  readonly others: readonly ListedContainer[]
  readonly services: readonly ListedContainer[]
}

/**
 * Takes stock after a start of unionize, or of the engine: makes passages and names exactly those of the instances that
 * are to exist, hands free sandboxes to the pool, and mends in the background what died or lost its wiring. An instance
 * that is well is not touched.
 */
export async function takeStock(parts: {
  engine: Engine
  wiring: Wiring
  pool: SandboxPool
  orders: Orders
  names: Names
  networks: Pick<Networks, 'keepOnly'>
  instances: Instances
  /** What a swarm runs here. */
  tasks: Pick<Tasks, 'stock' | 'mend'>
  leads: Pick<Leads, 'all'>
  host: string
  log: Log
  /** Whether a sandbox is in use though no container refers to it. */
  holds: (sandbox: string) => boolean
  /** What is mended in the background is started through this. */
  background: (what: string, work: () => Promise<void>) => void
}): Promise<void> {
  const { engine, wiring, pool, orders, names, networks, instances, tasks, leads, host, log, background } = parts
  const all = await engine.list({ [LABEL.host]: host })
  const links = new Set(await wiring.links())
  const { seen, incomplete } = sort(all, orders)
  for (const { order, sandbox, others } of seen) {
    if (orders.generation(order.instance) === 0) await orders.accept(order)
    instances.remember(order, [sandbox.id, ...others.map(({ id }) => id)])
  }
  const ofTasks = await tasks.stock()
  await wiring.replacePassages(
    [...ofTasks.paths, ...pathsOf(seen, leads, orders)],
    [...seen.filter(({ sandbox }) => sandbox.running).map(sourceOf), ...ofTasks.sources],
  )
  background('wire tasks', () => tasks.mend())
  await Promise.all([names, networks].map((all) => all.keepOnly(new Set(seen.map(({ order }) => order.instance)))))
  for (const { order } of seen) await names.put(order.instance, order.name, order.address)
  const hubs = new Set(all.filter((c) => c.labels[LABEL.role] === 'hub' && c.running).map((c) => c.labels[LABEL.owner]))
  const ill = seen.filter(
    ({ sandbox, others, services, order }) =>
      !sandbox.running ||
      others.some((other) => !other.running) ||
      others.length < homesOf(order).length - 1 ||
      (hasNetworks(order) && !hubs.has(ownerKey(order))) ||
      !links.has(portOf(sandbox.id).link) ||
      services.length < order.services.length ||
      // One that is to stay ended may have ended because its sandbox did: its times tell, which a repair looks at.
      services.some((service) => !service.running),
  )
  for (const { order } of ill) background(`mend ${order.instance}`, () => instances.repair(order.instance))
  for (const instance of incomplete) {
    if (orders.isRetired(instance))
      background(`finish removing ${instance}`, () => instances.clear(instance, async () => orders.isRetired(instance)))
  }
  const used = new Set(all.flatMap((c) => (c.namespaceOf ? [c.namespaceOf] : [])))
  // That of an instance whose containers are being made anew is not free: nothing but memory refers to it.
  const isFree = ({ id }: ListedContainer) => !used.has(id) && instances.instanceIn(id) === undefined
  const free = all.filter((c) => c.labels[LABEL.role] === 'sandbox' && isFree(c))
  await pool.adopt(free.filter((c) => pool.holds(c.id) || !parts.holds(c.id)))
  log.info('stock.taken', 'took stock of what runs here', {
    instances: seen.length,
    mending: ill.length,
    incomplete: incomplete.length,
    sandboxes: pool.ready(),
  })
}

/** The paths of owners to instances here and elsewhere, in the order in which they were said: `my.instance` leads to the last. */
function pathsOf(seen: readonly Seen[], leads: Pick<Leads, 'all'>, orders: Orders): (Passage | Way)[] {
  const here = seen.map(({ order }) => ({
    path: { owner: order.ownerAddress, instance: order.address },
    at: orders.notedAt(order.instance),
  }))
  const elsewhere = leads.all().map(({ way, at }) => ({ path: way, at }))
  return [...here, ...elsewhere].sort((a, b) => a.at - b.at).map(({ path }) => path)
}

/** What the port of an instance may send, and who else may reach it. */
function sourceOf({ order, sandbox }: Seen): Source {
  const policy = order.wiring?.policy
  return { ...portOf(sandbox.id), address: order.address, ...(policy ? { policy } : {}) }
}

/** Instances that are to exist and have a sandbox; and the names of those of which only leftovers exist. */
function sort(all: readonly ListedContainer[], orders: Orders): { seen: Seen[]; incomplete: string[] } {
  const byId = new Map(all.map((c) => [c.id, c]))
  const services = all.filter((c) => c.labels[LABEL.role] === 'service')
  const seen: Seen[] = []
  const incomplete: string[] = []
  for (const [instance, parts] of Map.groupBy(services, (c) => c.labels[LABEL.instance] ?? '')) {
    const homes = homesIn(parts.filter((c) => c.namespaceOf !== null && byId.has(c.namespaceOf)))
    const sandbox = byId.get(homes.get('') ?? '')
    const others = [...homes].flatMap(([home, id]) => (home === '' ? [] : (byId.get(id) ?? [])))
    const order = orders.isRetired(instance) ? null : (orders.current(instance) ?? newest(parts))
    if (order && sandbox) seen.push({ order, sandbox, others, services: parts })
    else incomplete.push(instance)
  }
  return { seen, incomplete }
}

/** The order with the highest generation on these containers' labels; null: none can be read. */
function newest(parts: readonly ListedContainer[]): WireOrder | null {
  const found = parts.map((c) => readOrder(c.labels[LABEL.order])).filter((order) => order !== null)
  return found.sort((a, b) => b.generation - a.generation)[0] ?? null
}

/** Runs work that nobody waits for, telling when it failed. */
export function backgroundOf(log: Log): (what: string, work: () => Promise<void>) => void {
  return (what, work) => {
    work().catch((error) => log.warn('background.failed', `could not ${what}`, { error: wording(error) }))
  }
}
