import { WiringError } from '../errors.ts'
import { bridgeInsertion, bridgeRemoval, type PortWish, portChange, portInsertion, portRemoval } from './changes.ts'
import { Database, DatabaseRefusal, type Operation } from './database.ts'
import { numbersOf, set, uuid } from './notation.ts'
import { bridgesWhere, expect, type InterfaceRow, interfaceNamed, MARK, portNamed, portNames } from './tables.ts'

/** A bridge of Open vSwitch. */
export interface OvsBridge {
  readonly name: string
  /** Made by us, so that it may go with its last port. */
  readonly ours: boolean
  /** `netdev`, or empty: `system`, the kernel's. */
  readonly datapathType: string
  /** Names of its ports, without its own local one. */
  readonly ports: readonly string[]
}

/** A port of a bridge of Open vSwitch, with the one interface of the same name. */
export interface OvsPort {
  readonly name: string
  readonly bridge: string
  readonly ours: boolean
  readonly tag: number | null
  readonly trunks: readonly number[]
  /** Those of the interface. */
  readonly externalIds: Readonly<Record<string, string>>
  /** Keys of those that we gave it. */
  readonly ourIds: readonly string[]
  /** Number of the port in the switch; null: the switch does not have the device. */
  readonly number: number | null
  /** Why not, in the words of Open vSwitch. */
  readonly error: string | null
}

/**
 * Ports and bridges of Open vSwitch, by its database. Every call blocks the thread, may be repeated, and ends in the same
 * state; each change is one transaction that fails if something else changed meanwhile, and then is made again. What is not
 * marked as ours is never touched. Every call may fail with WiringError `ovs-unreachable` (retryable) and `ovs-refused`.
 */
export interface OpenVswitch {
  bridgeOf(name: string): OvsBridge | null
  /** Makes a bridge if there is none; one that is there is left as it is. @returns whether it was made */
  ensureBridge(name: string, options?: { readonly datapathType?: 'system' | 'netdev' }): boolean
  /** Removes a bridge if we made it and it has no port any more; the switch follows by itself. @returns whether it was removed */
  removeBridge(name: string): boolean
  portOf(name: string): OvsPort | null
  /**
   * Makes a device a port, moves it from another bridge, or changes it. Returns when the switch has it.
   * @returns whether anything was changed
   * @throws WiringError `bridge-missing`, `interface-in-use` (a port of that name is not ours)
   */
  ensurePort(wish: PortWish): boolean
  /** Takes a port away; the switch follows by itself. @returns whether there was one @throws WiringError `interface-in-use` */
  removePort(name: string): boolean
}

export const DEFAULT_SOCKET = '/var/run/openvswitch/db.sock'
const DEFAULT_TIMEOUT_MS = 5000
/** How often a change is made anew because somebody else was faster. */
const ATTEMPTS = 5
/** The database keeps the time of a wait itself; this much later it is the database that does not answer. */
const GRACE_MS = 1000

/** Nothing is opened before the first call. */
export function openVswitch(options: { readonly socket?: string; readonly timeoutMs?: number } = {}): OpenVswitch {
  const { socket = DEFAULT_SOCKET, timeoutMs = DEFAULT_TIMEOUT_MS } = options
  const withDatabase = <T>(work: (database: Database) => T): T => {
    const database = new Database(socket, timeoutMs + GRACE_MS)
    try {
      return work(database)
    } finally {
      database.close()
    }
  }
  /** Carries out what `plan` makes of the present state, anew when that changed under it. Null: nothing to do. */
  const change = (database: Database, plan: () => readonly Operation[] | null): boolean => {
    for (let attempt = 1; ; attempt++) {
      const operations = plan()
      if (operations === null) return false
      try {
        database.transact(...operations)
        return true
      } catch (thrown) {
        const overtaken = thrown instanceof DatabaseRefusal && thrown.reason === 'timed out'
        if (!overtaken) throw thrown
        if (attempt < ATTEMPTS) continue
        const text = `somebody else changed the same bridge or port of Open vSwitch ${ATTEMPTS} times meanwhile`
        throw new WiringError('ovs-refused', text, { retryable: true })
      }
    }
  }
  return {
    bridgeOf: (name) =>
      withDatabase((database) => {
        const [row] = bridgesWhere(database, 'name', name)
        if (row === undefined) return null
        const ports = portNames(database, row.ports).filter((port) => port !== name)
        return { name, ours: row.ours, datapathType: row.datapathType, ports }
      }),
    ensureBridge: (name, { datapathType = 'system' } = {}) =>
      withDatabase((database) => {
        const made = change(database, () =>
          bridgesWhere(database, 'name', name).length > 0 ? null : bridgeInsertion(name, datapathType),
        )
        if (!made) return false
        settle(database, timeoutMs)
        const local = interfaceNamed(database, name)
        if (local?.number != null) return true
        database.transact(bridgeRemoval(bridgesWhere(database, 'name', name)[0]?.id ?? ''))
        throw refusedDevice(`make the bridge ${name}`, local)
      }),
    removeBridge: (name) =>
      withDatabase((database) => {
        return change(database, () => {
          const [bridge] = bridgesWhere(database, 'name', name)
          if (bridge === undefined || !bridge.ours) return null
          const others = portNames(database, bridge.ports).filter((port) => port !== name)
          if (others.length > 0) return null
          return [expect('Bridge', name, [{ ports: set(bridge.ports.map(uuid)) }]), bridgeRemoval(bridge.id)]
        })
      }),
    portOf: (name) => withDatabase((database) => describePort(database, name)),
    ensurePort: (wish) =>
      withDatabase((database) => {
        let present = true
        const changed = change(database, () => {
          const port = portNamed(database, wish.port)
          present = port !== null
          return port === null ? portInsertion(database, wish) : portChange(database, port, wish)
        })
        if (!changed && interfaceNamed(database, wish.port)?.number != null) return false
        settle(database, timeoutMs)
        const device = interfaceNamed(database, wish.port)
        if (device?.number != null) return changed
        if (!present) change(database, () => portRemoval(database, wish.port))
        throw refusedDevice(`make ${wish.port} a port of ${wish.bridge}`, device)
      }),
    removePort: (name) => withDatabase((database) => change(database, () => portRemoval(database, name))),
  }
}

function describePort(database: Database, name: string): OvsPort | null {
  const port = portNamed(database, name)
  const device = port === null ? null : interfaceNamed(database, name)
  const bridge = port === null ? undefined : bridgesWhere(database, 'ports', uuid(port.id))[0]
  if (port === null || device === null || bridge === undefined) return null
  const { ours, tag, trunks, keys: ourIds } = port
  const externalIds = Object.fromEntries(Object.entries(device.externalIds).filter(([key]) => key !== MARK))
  return {
    name,
    bridge: bridge.name,
    ours,
    tag,
    trunks,
    externalIds,
    ourIds,
    number: device.number,
    error: device.error,
  }
}

/**
 * Waits until the switch has carried out what the database holds: it follows `next_cfg` with `cur_cfg`
 * (ovs-vswitchd.conf.db(5)).
 */
function settle(database: Database, timeoutMs: number): void {
  const deadline = performance.now() + timeoutMs
  const [, row] = database.transact(
    { op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['next_cfg', '+=', 1]] },
    { op: 'select', table: 'Open_vSwitch', where: [], columns: ['next_cfg', 'cur_cfg'] },
  )
  const wanted = numberIn(row?.rows?.[0]?.['next_cfg'])
  for (let current = numberIn(row?.rows?.[0]?.['cur_cfg']); current < wanted; ) {
    const wait = { table: 'Open_vSwitch', where: [], columns: ['cur_cfg'] }
    const timeout = Math.max(0, Math.round(deadline - performance.now()))
    try {
      const rows = [{ cur_cfg: current }]
      const [, now] = database.transact(
        { op: 'wait', ...wait, until: '!=', rows, timeout },
        { op: 'select', ...wait, columns: ['cur_cfg'] },
      )
      current = numberIn(now?.rows?.[0]?.['cur_cfg'])
    } catch (thrown) {
      if (!(thrown instanceof DatabaseRefusal && thrown.reason === 'timed out')) throw thrown
      throw new WiringError(
        'ovs-unreachable',
        `ovs-vswitchd did not carry out the change within ${timeoutMs} ms, though its database took it: ` +
          'run "systemctl restart openvswitch-switch"',
        { retryable: true },
      )
    }
  }
}

function numberIn(value: unknown): number {
  const [number] = numbersOf(value)
  if (number !== undefined) return number
  throw new WiringError('ovs-refused', 'the database of Open vSwitch is empty: run "ovs-vsctl init"')
}

function refusedDevice(purpose: string, device: InterfaceRow | null): WiringError {
  const reason =
    device?.error ??
    'it gave no reason; see ovs-vswitchd.log: the kernel may lack the datapath of the bridge (module openvswitch)'
  return new WiringError('ovs-refused', `Open vSwitch cannot ${purpose} (${reason})`)
}
