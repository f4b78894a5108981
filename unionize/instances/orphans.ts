import { wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import { LABEL } from '../contract.ts'
import type { Engine, ListedContainer } from '../engine/containers.ts'
import { hasNetworks, ownerKey } from '../networks/plan.ts'
import type { Tasks } from '../tasks/tasks.ts'
import type { Interfaces } from '../wiring/interfaces/interfaces.ts'
import type { Wiring } from '../wiring/wiring.ts'
import { keyOf } from './extras.ts'
import type { Files } from './files.ts'
import type { Instances } from './instances.ts'
import type { Orders } from './orders.ts'
import { portOf, type SandboxPool } from './sandbox.ts'

/**
 * Finds what crashes left behind: sandboxes that nothing uses, instances that can no longer run (their sandbox is gone)
 * or were told to go, volumes and files of instances that are not to exist, hubs of clients without private networks, and
 * links to a sandbox that the engine no longer knows (killed amid its work it can forget a container whose process lives
 * on). They are removed once they have looked so for the whole grace period. No container or volume without our host
 * label, and no link without our name, is ever looked at.
 */
export interface OrphanCollector {
  /** One look. @returns what was removed: container ids, names of instances, links and volumes, `files of` an instance */
  collect(): Promise<readonly string[]>
}

export function createOrphanCollector(options: {
  engine: Engine
  wiring: Wiring
  interfaces: Pick<Interfaces, 'unwire'>
  pool: SandboxPool
  orders: Orders
  files: Files
  instances: Instances
  host: string
  graceMs: number
  /** Whether a sandbox is in use though no container refers to it. */
  holds: (sandbox: string) => boolean
  /** What a swarm runs here has links that are none of a sandbox. */
  tasks: Pick<Tasks, 'links'>
  log: Log
  now: () => number
}): OrphanCollector {
  const { engine, wiring, interfaces, pool, orders, files, instances, host, graceMs, holds, tasks, log, now } = options
  /** When something was first seen orphaned, by id; an instance that is asked for anew starts anew. */
  const firstSeen = new Map<string, number>()

  const due = (suspects: ReadonlyMap<string, () => Promise<void>>) => {
    for (const key of firstSeen.keys()) if (!suspects.has(key)) firstSeen.delete(key)
    for (const key of suspects.keys()) if (!firstSeen.has(key)) firstSeen.set(key, now())
    return [...suspects].filter(([key]) => now() - (firstSeen.get(key) ?? 0) >= graceMs)
  }

  return {
    async collect() {
      const links = await wiring.links()
      const all = await engine.list({ [LABEL.host]: host })
      const suspects = new Map<string, () => Promise<void>>()
      const wired = tasks.links()
      for (const link of strayLinks(links, all).filter((one) => !wired.has(one)))
        suspects.set(link, () => wiring.detach(link))
      for (const id of unusedSandboxes(all))
        if (!holds(id)) {
          suspects.set(id, async () => {
            // A crash may have come between its last container's end and this.
            await interfaces.unwire(keyOf(id))
            await pool.discard(id)
          })
        }
      for (const hub of unusedHubs(all, orders)) suspects.set(hub, () => pool.discard(hub))
      const unwanted = (instance: string) => orders.current(instance) === null && !isSeen(all, instance)
      for (const { name, labels } of await engine.volumes({ [LABEL.host]: host })) {
        if (unwanted(labels[LABEL.instance] ?? '')) suspects.set(name, () => engine.removeVolume(name))
      }
      for (const instance of (await files.instances()).filter(unwanted)) {
        suspects.set(`files of ${instance}`, () =>
          instances.clear(instance, async () => orders.current(instance) === null),
        )
      }
      for (const instance of homeless(all, orders)) {
        const generation = orders.generation(instance)
        const still = async () =>
          orders.generation(instance) === generation &&
          homeless(await engine.list({ [LABEL.host]: host }), orders).has(instance)
        suspects.set(`${instance}@${generation}`, () => instances.clear(instance, still))
      }
      const removed: string[] = []
      for (const [key, remove] of due(suspects)) {
        try {
          await remove()
          removed.push(key)
          log.info('orphan.removed', 'removed a leftover that nobody asked for', { orphan: key })
        } catch (error) {
          log.warn('orphan.not-removed', 'a leftover could not be removed', { orphan: key, error: wording(error) })
        }
      }
      await orders.forgetOld()
      return removed
    },
  }
}

function strayLinks(links: readonly string[], all: readonly ListedContainer[]): string[] {
  const known = new Set(all.filter((c) => c.labels[LABEL.role] === 'sandbox').map((c) => portOf(c.id).link))
  return links.filter((link) => !known.has(link))
}

/** Hubs of owners who have no private network any more. */
function unusedHubs(all: readonly ListedContainer[], orders: Orders): string[] {
  const owners = new Set(orders.wanted().filter(hasNetworks).map(ownerKey))
  const hubs = all.filter((c) => c.labels[LABEL.role] === 'hub')
  return hubs.filter((c) => !owners.has(c.labels[LABEL.owner] ?? '')).map((c) => c.id)
}

function isSeen(all: readonly ListedContainer[], instance: string): boolean {
  return all.some((c) => c.labels[LABEL.instance] === instance)
}

function unusedSandboxes(all: readonly ListedContainer[]): string[] {
  const used = new Set(all.flatMap((c) => (c.namespaceOf ? [c.namespaceOf] : [])))
  return all.filter((c) => c.labels[LABEL.role] === 'sandbox' && !used.has(c.id)).map((c) => c.id)
}

/** Instances whose sandbox is gone, or that were told to go. */
function homeless(all: readonly ListedContainer[], orders: Orders): Set<string> {
  const ids = new Set(all.map((c) => c.id))
  const services = all.filter((c) => c.labels[LABEL.role] === 'service')
  const lost = services.filter((c) => {
    const instance = c.labels[LABEL.instance] ?? ''
    return orders.isRetired(instance) || c.namespaceOf === null || !ids.has(c.namespaceOf)
  })
  return new Set(lost.map((c) => c.labels[LABEL.instance] ?? ''))
}
