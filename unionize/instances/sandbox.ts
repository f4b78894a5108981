import { randomBytes } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'
import { wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import { LABEL } from '../contract.ts'
import type { ContainerSpec, Engine, ListedContainer } from '../engine/containers.ts'
import { ContainerFailure } from '../engine/failure.ts'
import type { Wiring } from '../wiring/wiring.ts'
import { ensurePauseImage, PAUSE_IMAGE } from './pause.ts'
import type { Slots } from './slots.ts'

/** A tiny running container that owns a network namespace, wired to the bridge. Its link and MAC follow from its id. */
export interface Sandbox {
  readonly id: string
  readonly pid: number
  readonly link: string
  readonly mac: string
}

/** A sandbox that lives. `restarted`: it was dead, and what ran in it saw its former namespace. */
export interface Revived {
  readonly sandbox: Sandbox
  readonly restarted: boolean
}

/** Sandboxes made beforehand, so that nobody waits for one. */
export interface SandboxPool {
  /** Takes over free sandboxes that are alive (as many as the pool holds), removes the others, and begins to fill up. */
  adopt(free: readonly ListedContainer[], signal?: AbortSignal): Promise<void>
  /** A ready one, or a new one when there is none. The caller holds a slot. */
  take(signal?: AbortSignal): Promise<Sandbox>
  /** One without a link to the bridge: alone until it is put on private networks. The caller holds a slot. */
  takeAlone(signal?: AbortSignal): Promise<Sandbox>
  /** Takes back what was taken and not used: wired, without an address. */
  giveBack(sandbox: Sandbox): void
  /**
   * The sandbox of an instance, started and wired again if it was dead.
   * @param beforeStart what is to be done before a dead one is started; it is repeated until that has succeeded
   * @throws code not-found
   */
  revive(id: string, beforeStart: () => Promise<void>, signal?: AbortSignal): Promise<Revived>
  /** A sandbox that was taken alone, started again if it was dead, like {@link revive}. @throws code not-found */
  reviveAlone(id: string, beforeStart: () => Promise<void>, signal?: AbortSignal): Promise<Revived>
  /** Kills and removes; its link goes with its namespace. Gone already is success. */
  discard(id: string, signal?: AbortSignal): Promise<void>
  /** Tells that a container died: it is dropped if it was in the pool. */
  died(id: string): void
  /** Whether it is in the pool or being made: not an orphan. */
  holds(id: string): boolean
  ready(): number
  /** Ends the filling up; what is in the pool stays for the next start. */
  stop(): Promise<void>
}

/** What `docker create` accepts as the least memory (20.10 and newer: 6 MiB). */
const LEAST_MEMORY = 6 * 1024 * 1024
/** Milliseconds between two attempts to fill up after a failure. */
const REFILL_BACKOFF = { first: 1_000, most: 30_000 }

export function createSandboxPool(options: {
  engine: Engine
  wiring: Wiring
  slots: Slots
  log: Log
  host: string
  gateway: string
  size: number
}): SandboxPool {
  const { engine, wiring, slots, log, host, gateway, size } = options
  const pool: Sandbox[] = []
  const making = new Set<string>()
  const stopped = new AbortController()
  let filling: Promise<void> | null = null

  const create = async (signal?: AbortSignal): Promise<string> => {
    const spec = sandboxSpec(host, gateway)
    try {
      return await engine.create(spec, signal)
    } catch (error) {
      if (!(error instanceof ContainerFailure && error.code === 'image-missing')) throw error
      await ensurePauseImage(engine, signal)
      return engine.create(spec, signal)
    }
  }
  const wired = async (id: string, signal?: AbortSignal): Promise<Sandbox> => {
    const { pid } = await engine.inspect(id, signal)
    const sandbox = { id, pid, ...portOf(id) }
    await wiring.attach(sandbox)
    return sandbox
  }
  /** Whether it had to be started. */
  const started = async (id: string, beforeStart: () => Promise<void>, signal?: AbortSignal): Promise<boolean> => {
    const { running } = await engine.inspect(id, signal)
    if (running) return false
    await beforeStart()
    await engine.start(id)
    return true
  }
  const removeFailed = (id: string) =>
    engine.remove(id).catch((error) => {
      log.warn('sandbox.left', 'a broken sandbox could not be removed; it is collected later', {
        sandbox: id,
        error: wording(error),
      })
    })
  const make = async (signal?: AbortSignal): Promise<Sandbox> => {
    const id = await create(signal)
    making.add(id)
    try {
      await engine.start(id)
      return await wired(id, signal)
    } catch (error) {
      await removeFailed(id)
      throw error
    } finally {
      making.delete(id)
    }
  }
  const fill = async (): Promise<void> => {
    let backoff = REFILL_BACKOFF.first
    while (pool.length < size && !stopped.signal.aborted) {
      try {
        const sandbox = await slots.run('refill', () => make(), stopped.signal)
        pool.push(sandbox)
        backoff = REFILL_BACKOFF.first
      } catch (error) {
        if (stopped.signal.aborted) return
        log.warn('pool.refill-failed', 'no sandbox could be made for the pool', { error: wording(error) })
        await wait(backoff, undefined, { signal: stopped.signal }).catch(() => {})
        backoff = Math.min(backoff * 2, REFILL_BACKOFF.most)
      }
    }
  }
  const refill = () => {
    if (filling || stopped.signal.aborted) return
    filling = fill().finally(() => {
      filling = null
    })
  }

  const take = async (signal?: AbortSignal): Promise<Sandbox> => {
    const ready = pool.shift()
    const taken = ready ?? (await make(signal))
    refill()
    return taken
  }

  return {
    async adopt(free, signal) {
      const known = new Set(pool.map((sandbox) => sandbox.id))
      const alive = new Set(free.filter((c) => c.running).map((c) => c.id))
      for (let at = pool.length - 1; at >= 0; at--) if (!alive.has(pool[at]?.id ?? '')) pool.splice(at, 1)
      for (const container of free.filter((c) => !making.has(c.id) && (!known.has(c.id) || !alive.has(c.id)))) {
        const wanted = container.running && pool.length < size
        if (!wanted) {
          await engine.remove(container.id, signal)
          continue
        }
        try {
          pool.push(await wired(container.id, signal))
        } catch (error) {
          log.warn('sandbox.not-adopted', 'a free sandbox cannot be wired', {
            sandbox: container.id,
            error: wording(error),
          })
          await removeFailed(container.id)
        }
      }
      refill()
    },
    take,
    giveBack(sandbox) {
      pool.unshift(sandbox)
    },
    async takeAlone(signal) {
      const sandbox = await take(signal)
      try {
        await wiring.detach(sandbox.link)
        return sandbox
      } catch (error) {
        await removeFailed(sandbox.id)
        throw error
      }
    },
    async revive(id, beforeStart, signal) {
      const restarted = await started(id, beforeStart, signal)
      return { sandbox: await wired(id, signal), restarted }
    },
    async reviveAlone(id, beforeStart, signal) {
      const restarted = await started(id, beforeStart, signal)
      const { pid } = await engine.inspect(id, signal)
      const sandbox = { id, pid, ...portOf(id) }
      // A crash may have come between its taking and its detaching.
      await wiring.detach(sandbox.link)
      return { sandbox, restarted }
    },
    discard: (id, signal) => engine.remove(id, signal),
    died(id) {
      const at = pool.findIndex((sandbox) => sandbox.id === id)
      if (at < 0) return
      pool.splice(at, 1)
      void removeFailed(id)
      refill()
    },
    holds: (id) => making.has(id) || pool.some((sandbox) => sandbox.id === id),
    ready: () => pool.length,
    async stop() {
      stopped.abort(new Error('unionize is stopping'))
      await filling
    },
  }
}

/** Host-side link name (at most 15 characters, IFNAMSIZ) and locally administered MAC of a sandbox. */
export function portOf(id: string): { link: string; mac: string } {
  const octets = id.slice(0, 10).match(/../g) ?? []
  return { link: `ui-${id.slice(0, 12)}`, mac: ['02', ...octets].join(':') }
}

function sandboxSpec(host: string, gateway: string): ContainerSpec {
  return {
    ...IDLE,
    name: `orc-sandbox-${randomBytes(6).toString('hex')}`,
    labels: { [LABEL.role]: 'sandbox', [LABEL.host]: host },
    hostname: 'instance',
    dns: [gateway],
    // The engine switches IPv6 off in a namespace without a network.
    sysctls: { 'net.ipv6.conf.all.disable_ipv6': '0', 'net.ipv6.conf.default.disable_ipv6': '0' },
  }
}

/** How the hub of a client's private networks is made: IPv6 stays off, and nothing is forwarded, in its own namespace. */
export function hubSpec(name: string, host: string, owner: string): ContainerSpec {
  return {
    ...IDLE,
    name,
    labels: { [LABEL.role]: 'hub', [LABEL.host]: host, [LABEL.owner]: owner },
    hostname: 'hub',
    sysctls: { 'net.ipv4.ip_forward': '0' },
  }
}

/** A container that does nothing. */
const IDLE = {
  image: `${PAUSE_IMAGE.name}:${PAUSE_IMAGE.tag}`,
  network: 'none',
  user: '65534:65534',
  readOnly: true,
  capabilities: [],
  memoryBytes: LEAST_MEMORY,
  pids: 2,
  stopGraceMs: 0,
  output: null,
} as const
