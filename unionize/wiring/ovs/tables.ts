import type { Database, Operation } from './database.ts'
import { type Atom, entriesOf, idsOf, numbersOf, type Row, textsOf, uuid } from './notation.ts'

/**
 * The rows of ovs-vswitchd.conf.db(5) that we read and the operations on them. What is ours bears `unionize` among the
 * external ids of its bridge or port; there it holds, as JSON, the keys of the external ids that we gave its interface.
 */
export const MARK = 'unionize'

export interface BridgeRow {
  readonly id: string
  readonly name: string
  readonly ours: boolean
  readonly datapathType: string
  /** Ids of its ports, its own local one among them. */
  readonly ports: readonly string[]
}

export interface PortRow {
  readonly id: string
  readonly ours: boolean
  readonly tag: number | null
  readonly trunks: readonly number[]
  readonly vlanMode: string | null
  /** Keys of the interface's external ids that are ours. */
  readonly keys: readonly string[]
}

export interface InterfaceRow {
  readonly externalIds: Readonly<Record<string, string>>
  /** Number of the port in the switch; null: not there yet, or refused. */
  readonly number: number | null
  readonly error: string | null
}

export function bridgesWhere(database: Database, column: 'name' | 'ports', value: Atom): BridgeRow[] {
  const where = [[column, column === 'name' ? '==' : 'includes', value]] as const
  const columns = ['_uuid', 'name', 'datapath_type', 'ports', 'external_ids']
  return rowsOf(database, { op: 'select', table: 'Bridge', where, columns }).map((row) => ({
    id: idsOf(row['_uuid'])[0] ?? '',
    name: String(row['name']),
    ours: MARK in entriesOf(row['external_ids']),
    datapathType: String(row['datapath_type']),
    ports: idsOf(row['ports']),
  }))
}

export function portNamed(database: Database, name: string): PortRow | null {
  const columns = ['_uuid', 'tag', 'trunks', 'vlan_mode', 'external_ids']
  const [row] = rowsOf(database, { op: 'select', table: 'Port', where: [['name', '==', name]], columns })
  if (row === undefined) return null
  const mark = entriesOf(row['external_ids'])[MARK]
  return {
    id: idsOf(row['_uuid'])[0] ?? '',
    ours: mark !== undefined,
    tag: numbersOf(row['tag'])[0] ?? null,
    trunks: numbersOf(row['trunks']).sort((a, b) => a - b),
    vlanMode: textsOf(row['vlan_mode'])[0] ?? null,
    keys: keysIn(mark),
  }
}

export function interfaceNamed(database: Database, name: string): InterfaceRow | null {
  const columns = ['external_ids', 'ofport', 'error']
  const [row] = rowsOf(database, { op: 'select', table: 'Interface', where: [['name', '==', name]], columns })
  if (row === undefined) return null
  const number = numbersOf(row['ofport'])[0] ?? -1
  return {
    externalIds: entriesOf(row['external_ids']),
    number: number < 0 ? null : number,
    error: textsOf(row['error'])[0] ?? null,
  }
}

/** Names of the ports with these ids. */
export function portNames(database: Database, ids: readonly string[]): string[] {
  if (ids.length === 0) return []
  const select = (id: string): Operation => ({
    op: 'select',
    table: 'Port',
    where: [['_uuid', '==', uuid(id)]],
    columns: ['name'],
  })
  return database.transact(...ids.map(select)).flatMap(({ rows }) => (rows ?? []).map((row) => String(row['name'])))
}

/** Lets the transaction fail (`timed out`) unless the table has just these rows that bear the name. */
export function expect(table: string, name: string, rows: readonly Row[]): Operation {
  const columns = Object.keys(rows[0] ?? { name })
  return { op: 'wait', table, where: [['name', '==', name]], columns, until: '==', rows, timeout: 0 }
}

/** Takes rows into a set of rows, or out of it. */
export function mutateSet(table: string, name: string, column: string, how: 'insert' | 'delete', row: Atom): Operation {
  return { op: 'mutate', table, where: [['name', '==', name]], mutations: [[column, how, row]] }
}

function rowsOf(database: Database, select: Operation): readonly Row[] {
  return database.transact(select)[0]?.rows ?? []
}

/** Anything else than our own list means that somebody edited it: then none of the ids counts as ours. */
function keysIn(mark: string | undefined): string[] {
  try {
    const keys: unknown = JSON.parse(mark ?? '[]')
    return Array.isArray(keys) ? keys.filter((key) => typeof key === 'string') : []
  } catch {
    return []
  }
}
