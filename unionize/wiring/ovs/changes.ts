import { WiringError } from '../errors.ts'
import type { Database, Operation } from './database.ts'
import { map, named, set, uuid } from './notation.ts'
import {
  type BridgeRow,
  bridgesWhere,
  expect,
  interfaceNamed,
  MARK,
  mutateSet,
  type PortRow,
  portNamed,
} from './tables.ts'

/*
 * Changes of bridges and ports, each as the operations of one transaction that fails (`timed out`) when what it was made for
 * has changed meanwhile.
 */

/** What a port is to be. */
export interface PortWish {
  readonly bridge: string
  /** Name of the device, which is there already. */
  readonly port: string
  /** VLAN of an access port, 1 to 4094; beside `trunks` the one that untagged frames belong to. */
  readonly tag?: number | undefined
  /** VLANs of a trunk, tagged. Without these and `tag`: all of them. */
  readonly trunks?: readonly number[] | undefined
  /** For the external ids of the interface, where controllers look for them (`iface-id`). */
  readonly externalIds?: Readonly<Record<string, string>> | undefined
}

export function bridgeInsertion(name: string, datapathType: 'system' | 'netdev'): Operation[] {
  const datapath = datapathType === 'system' ? '' : datapathType
  return [
    expect('Bridge', name, []),
    { op: 'insert', table: 'Interface', row: { name, type: 'internal' }, 'uuid-name': 'device' },
    { op: 'insert', table: 'Port', row: { name, interfaces: named('device') }, 'uuid-name': 'port' },
    {
      op: 'insert',
      table: 'Bridge',
      row: { name, ports: named('port'), datapath_type: datapath, external_ids: map({ [MARK]: '[]' }) },
      'uuid-name': 'bridge',
    },
    { op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['bridges', 'insert', named('bridge')]] },
  ]
}

export function bridgeRemoval(id: string): Operation {
  return { op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['bridges', 'delete', uuid(id)]] }
}

export function portInsertion(database: Database, wish: PortWish): Operation[] {
  const bridge = bridgeOf(database, wish.bridge)
  const ids = wish.externalIds ?? {}
  const device = { name: wish.port, external_ids: map(ids) }
  const port = { name: wish.port, interfaces: named('device'), ...vlans(wish), external_ids: mark(ids) }
  return [
    expect('Bridge', wish.bridge, [{ _uuid: uuid(bridge.id) }]),
    expect('Port', wish.port, []),
    { op: 'insert', table: 'Interface', row: device, 'uuid-name': 'device' },
    { op: 'insert', table: 'Port', row: port, 'uuid-name': 'port' },
    mutateSet('Bridge', wish.bridge, 'ports', 'insert', named('port')),
  ]
}

/** Null when the port is as it is to be. */
export function portChange(database: Database, port: PortRow, wish: PortWish): Operation[] | null {
  if (!port.ours) throw foreign(wish.port)
  const bridge = bridgeOf(database, wish.bridge)
  const former = bridgesWhere(database, 'ports', uuid(port.id))[0]
  const found = interfaceNamed(database, wish.port)?.externalIds ?? {}
  const ids = wish.externalIds ?? {}
  const wrong = [
    ...port.keys.filter((key) => key in found && !(key in ids)),
    ...Object.keys(ids).filter((key) => key in found && found[key] !== ids[key]),
  ]
  const missing = Object.entries(ids).filter(([key, text]) => found[key] !== text)
  const moves = former?.id !== bridge.id
  const sameVlans =
    port.tag === (wish.tag ?? null) &&
    port.vlanMode === vlanMode(wish) &&
    port.trunks.join() === sorted(wish.trunks).join()
  const sameKeys = [...port.keys].sort().join('\0') === Object.keys(ids).sort().join('\0')
  if (!moves && sameVlans && sameKeys && wrong.length + missing.length === 0) return null
  return [
    expect('Bridge', wish.bridge, [{ _uuid: uuid(bridge.id) }]),
    expect('Port', wish.port, [{ _uuid: uuid(port.id) }]),
    ...(moves && former !== undefined ? [mutateSet('Bridge', former.name, 'ports', 'delete', uuid(port.id))] : []),
    ...(moves ? [mutateSet('Bridge', wish.bridge, 'ports', 'insert', uuid(port.id))] : []),
    { op: 'update', table: 'Port', where: [['name', '==', wish.port]], row: vlans(wish) },
    {
      op: 'mutate',
      table: 'Port',
      where: [['name', '==', wish.port]],
      mutations: [
        ['external_ids', 'delete', set([MARK])],
        ['external_ids', 'insert', mark(ids)],
      ],
    },
    {
      op: 'mutate',
      table: 'Interface',
      where: [['name', '==', wish.port]],
      mutations: [
        ['external_ids', 'delete', set(wrong)],
        ['external_ids', 'insert', map(Object.fromEntries(missing))],
      ],
    },
  ]
}

/** Null when there is none. */
export function portRemoval(database: Database, name: string): Operation[] | null {
  const port = portNamed(database, name)
  if (port === null) return null
  if (!port.ours) throw foreign(name)
  const [bridge] = bridgesWhere(database, 'ports', uuid(port.id))
  if (bridge === undefined) return null
  return [
    expect('Port', name, [{ _uuid: uuid(port.id) }]),
    mutateSet('Bridge', bridge.name, 'ports', 'delete', uuid(port.id)),
  ]
}

function vlans(wish: PortWish) {
  const mode = vlanMode(wish)
  return {
    tag: set(wish.tag === undefined ? [] : [wish.tag]),
    trunks: set(sorted(wish.trunks)),
    vlan_mode: set(mode === null ? [] : [mode]),
  }
}

/** Left to Open vSwitch, which knows access ports by `tag` and trunks by its absence, unless there are both. */
function vlanMode(wish: PortWish): string | null {
  return wish.tag !== undefined && sorted(wish.trunks).length > 0 ? 'native-untagged' : null
}

function sorted(numbers: readonly number[] | undefined): number[] {
  return [...new Set(numbers)].sort((a, b) => a - b)
}

function mark(externalIds: Readonly<Record<string, string>>) {
  return map({ [MARK]: JSON.stringify(Object.keys(externalIds)) })
}

function bridgeOf(database: Database, name: string): BridgeRow {
  const [bridge] = bridgesWhere(database, 'name', name)
  if (bridge !== undefined) return bridge
  throw new WiringError('bridge-missing', `Open vSwitch has no bridge ${name}: run "ovs-vsctl add-br ${name}"`)
}

function foreign(port: string): WiringError {
  return new WiringError(
    'interface-in-use',
    `Open vSwitch has a port ${port} that is not ours: remove it with "ovs-vsctl del-port ${port}" or choose another name`,
  )
}
