import { z } from 'zod'
import { InvalidInput, OrchestratorError } from '../../../../common/errors.ts'
import type { HostName } from '../../../domain/host.ts'
import type { Machine, Roll } from '../../../domain/machine.ts'
import type { Records } from '../../backend.ts'

/** The machines of one backend. What it holds in memory is what the store has: each change is kept before it counts. */
export interface Inventory {
  /** By name. */
  all(): readonly Machine[]
  find(name: string): Machine | null
  /** @throws OrchestratorError `machine-exists` */
  add(machine: Machine): Promise<void>
  /**
   * Changes one; changes of one machine happen one after the other. @param to `null` leaves it as it is
   * @returns what it is now; null: it is not there (any more)
   */
  change(name: string, to: (machine: Machine) => Machine | null): Promise<Machine | null>
  remove(name: string): Promise<void>
  /** The rolling upgrade that is under way, or was the last; null: there was none. */
  roll(): Roll | null
  putRoll(roll: Roll): Promise<void>
  /** Calls `told` after each change. @returns what ends it */
  onChange(told: () => void): () => void
}

const MACHINE = 'machine/'
const ROLL = 'roll'

/** Reads what the store has. @throws OrchestratorError `inventory-broken` for what is not understood */
export async function openInventory(records: Records): Promise<Inventory> {
  const kept = new Map<string, Machine>()
  let roll: Roll | null = null
  for (const [key, text] of await records.all()) {
    if (key === ROLL) roll = parsed<Roll>(rollShape, key, text)
    else if (key.startsWith(MACHINE)) kept.set(key.slice(MACHINE.length), parsed<Machine>(machineShape, key, text))
  }
  const listeners = new Set<() => void>()
  const chains = new Map<string, Promise<unknown>>()
  const changed = () => {
    for (const told of listeners) told()
  }
  const inTurn = <T>(key: string, work: () => Promise<T>): Promise<T> => {
    const next = (chains.get(key) ?? Promise.resolve()).then(work, work)
    const settled = next.then(
      () => {},
      () => {},
    )
    chains.set(key, settled)
    void settled.then(() => {
      if (chains.get(key) === settled) chains.delete(key)
    })
    return next
  }
  const keep = async (machine: Machine): Promise<void> => {
    await records.put(MACHINE + machine.name, JSON.stringify(machine))
    kept.set(machine.name, machine)
    changed()
  }
  return {
    all: () => [...kept.values()].toSorted((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true })),
    find: (name) => kept.get(name) ?? null,
    add: (machine) =>
      inTurn(machine.name, async () => {
        if (kept.has(machine.name)) {
          throw new OrchestratorError('machine-exists', `there is a machine ${machine.name} already; remove it first`)
        }
        await keep(machine)
      }),
    change: (name, to) =>
      inTurn(name, async () => {
        const machine = kept.get(name)
        if (machine === undefined) return null
        const next = to(machine)
        if (next !== null) await keep(next)
        return next ?? machine
      }),
    remove: (name) =>
      inTurn(name, async () => {
        await records.put(MACHINE + name, null)
        kept.delete(name)
        changed()
      }),
    roll: () => roll,
    putRoll: (next) =>
      inTurn(ROLL, async () => {
        await records.put(ROLL, JSON.stringify(next))
        roll = next
        changed()
      }),
    onChange(told) {
      listeners.add(told)
      return () => void listeners.delete(told)
    },
  }
}

/** The machine of that name. @throws OrchestratorError `not-found` */
export function found(inventory: Inventory, name: string): Machine {
  const machine = inventory.find(name)
  if (machine !== null) return machine
  throw new OrchestratorError('not-found', `there is no machine ${JSON.stringify(name.slice(0, 64))}`)
}

/** A name that a machine may have. @throws InvalidInput */
export function machineName(text: string): HostName {
  if (/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(text)) return text as HostName
  throw new InvalidInput(
    'name',
    `expected a-z, 0-9 and -, at most 63 characters, got ${JSON.stringify(text.slice(0, 80))}`,
  )
}

function parsed<T>(shape: z.ZodType, key: string, text: string): T {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new OrchestratorError('inventory-broken', `the record ${key} of the machines is not JSON`, { cause })
  }
  const result = shape.safeParse(value)
  if (result.success) return result.data as T
  const issue = result.error.issues[0]
  throw new OrchestratorError(
    'inventory-broken',
    `the record ${key} of the machines is not understood (${issue?.path.join('.')}: ${issue?.message}); was it written by a newer version?`,
  )
}

const text = z.string()
const count = z.number()
const machineShape = z.object({
  name: text,
  address: z.ipv6(),
  port: count,
  user: text,
  hostKey: text,
  labels: z.record(text, text),
  cordoned: z.boolean(),
  task: z
    .discriminatedUnion('kind', [
      z.object({
        kind: z.literal('upgrade'),
        to: text.nullable(),
        step: z.enum(['checking', 'installing', 'restarting', 'proving']),
        since: count,
        boot: text.nullable(),
        wasCordoned: z.boolean(),
        roll: text.nullable(),
      }),
      z.object({
        kind: z.literal('removal'),
        dead: z.boolean(),
        step: z.enum(['draining', 'leaving']),
        since: count,
        problem: text.nullable(),
      }),
    ])
    .nullable(),
  fault: z.object({ task: z.enum(['upgrade', 'removal']), message: text, at: count }).nullable(),
  etcd: z
    .object({
      member: text,
      peer: text,
      cluster: text.nullable(),
      state: z.enum(['wanted', 'learner', 'member']),
      problem: text.nullable(),
    })
    .nullable(),
  seen: z
    .object({ at: count, boot: text, system: text, version: text, health: text, failed: z.array(text) })
    .nullable(),
  away: text.nullable(),
  secrets: z.array(z.object({ name: text, bytes: count, at: count, boot: text })),
  rolled: text.nullable(),
  addedAt: count,
})
const rollShape = z.object({
  id: text,
  to: text.nullable(),
  left: z.array(text),
  done: z.array(text),
  state: z.enum(['running', 'stopped', 'done']),
  fault: text.nullable(),
  beganAt: count,
})
