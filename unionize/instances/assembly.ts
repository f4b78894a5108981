import type { Log } from '../../common/log.ts'
import { LABEL, type WireOrder } from '../contract.ts'
import type { ListedContainer } from '../engine/answers.ts'
import type { Engine } from '../engine/containers.ts'
import type { Images } from '../images/images.ts'
import type { Networks } from '../networks/networks.ts'
import type { Interfaces } from '../wiring/interfaces/interfaces.ts'
import type { Wiring } from '../wiring/wiring.ts'
import { createBelongings } from './belongings.ts'
import { type Build, createBuild } from './building.ts'
import { createExtras } from './extras.ts'
import type { Files } from './files.ts'
import { homeOf, homesIn, ordersOf } from './homes.ts'
import { createMend, type Mend } from './mending.ts'
import type { Names } from './names.ts'
import { type Orders, readOrder } from './orders.ts'
import type { Restarts } from './restarts.ts'
import type { Sandbox, SandboxPool } from './sandbox.ts'
import { createServices, type Started } from './services.ts'
import type { Slots } from './slots.ts'
import { createTaking } from './taking.ts'
import type { Volumes } from './volumes.ts'
import { createWays, type Ways } from './ways.ts'

/** An instance as it was put together. `restarted`: a service was started, so its port has to be probed again. */
export interface Assembled extends Started {
  readonly sandbox: Sandbox
  /** Ids of all its sandboxes, those of single services too. */
  readonly sandboxes: readonly string[]
  readonly sandboxAt: number
  readonly startedAt: number
}

/**
 * What a mend may do. `previous`: the order that was carried out last, whose way may have to be closed; null: not known.
 * `sandbox`: the id of that which the instance was put into last, if that is known. `environment` false: the order came
 * from a label or a file, without values, so nothing can be created. `eager`: what died is started again at once, however
 * often it did.
 */
export interface MendOptions {
  readonly previous: WireOrder | null
  readonly sandbox: string | null
  readonly environment: boolean
  readonly eager: boolean
}

/** Puts one instance together and takes it apart. Each verb may be repeated after a crash between any two of its steps. */
export interface Assembly {
  readonly build: Build
  readonly mend: Mend
  readonly cutOff: Ways['cutOff']
  /** Cuts off what was found, then removes it. Gone already is success. */
  dismantle(instance: string, found: readonly ListedContainer[], signal?: AbortSignal): Promise<void>
  /** Whether a sandbox is in somebody's hands though no container refers to it yet. */
  holds(sandbox: string): boolean
}

/** The parts that an assembly works with. */
export interface AssemblyParts {
  readonly engine: Engine
  readonly wiring: Wiring
  readonly interfaces: Pick<Interfaces, 'wire' | 'unwire'>
  readonly networks: Networks
  readonly files: Files
  readonly volumes: Volumes
  readonly images: Images
  readonly pool: SandboxPool
  readonly slots: Slots
  readonly names: Names
  readonly orders: Orders
  readonly restarts: Restarts
  readonly host: string
  readonly log: Log
  readonly now: () => number
}

export function createAssembly(parts: AssemblyParts): Assembly {
  const { pool, slots, names } = parts
  const belongings = createBelongings(parts)
  const extras = createExtras(parts)
  const services = createServices(parts)
  const taking = createTaking()
  const ways = createWays(parts.wiring)
  const build = createBuild(parts, { belongings, extras, services, taking, ways })
  const mend = createMend(parts, { belongings, build, extras, services, taking, ways })

  return {
    build,
    mend,
    cutOff: ways.cutOff,
    async dismantle(instance, found, signal) {
      const homes = new Map(found.flatMap((c) => (c.namespaceOf ? [[c.namespaceOf, c] as const] : [])))
      for (const [sandbox, container] of homes) {
        const order = homeOf(container) === '' ? readOrder(container.labels[LABEL.order]) : null
        if (order) await ways.cutOff(order, sandbox)
      }
      const former = ordersOf(found)
      if (former.some(extras.wanted)) {
        // While their containers are there, but have ended: a sandbox that none refers to must be clean.
        await services.stop(found, signal)
        await extras.undo(former, homesIn(found).get('') ?? null, signal)
      }
      await services.remove(instance, found, signal)
      for (const id of homes.keys()) await slots.run('remove', () => pool.discard(id, signal), signal)
      await Promise.all([
        names.remove(instance),
        belongings.forget(instance, found.length === 0 ? null : former, signal),
      ])
    },
    holds: (sandbox) => taking.holds(sandbox) || pool.holds(sandbox),
  }
}
