import { InvalidInput } from '../../common/errors.ts'
import type { CloudMachine, MachineOrder, Provider, ProviderKind } from '../../orchestrator/backends/cloud/provider.ts'

/** A machine of the cloud in memory, with all that it was ordered with. */
export interface MemoryMachine {
  id: string
  order: MachineOrder
  state: CloudMachine['state']
  address: string | null
  createdAt: number
  console: string | null
  detail?: string
  noRoom?: boolean
  spoiled?: boolean
}

/** A provider in memory, for what is the same with all of them. Its machines outlive the backends that use it. */
export interface MemoryCloud {
  readonly kind: ProviderKind
  /** By id, as the provider itself sees them. */
  readonly machines: Map<string, MemoryMachine>
  /** Machines that a list does not show yet, by id. */
  readonly hidden: Set<string>
  /** Called before each call takes effect (`before`) and after it; may throw or wait. */
  trouble: (call: keyof Provider, when: 'before' | 'after', signal: AbortSignal) => void | Promise<void>
  /** What a new machine becomes at once; `starting` ones run when they are listed. */
  newState: CloudMachine['state']
  readonly calls: string[]
}

/** @param options.instant its machines run as soon as they are made */
export function memoryCloud(options: { bootBytes?: number; instant?: boolean } = {}): MemoryCloud {
  const machines = new Map<string, MemoryMachine>()
  const hidden = new Set<string>()
  let last = 0
  const cloud: MemoryCloud = { machines, hidden, trouble: () => {}, newState: 'starting', calls: [], kind: makeKind() }

  function makeKind(): ProviderKind {
    return {
      bootBytes: options.bootBytes ?? 16_384,
      create(settings, context) {
        const extra = Object.keys(settings as object).find((key) => key !== 'zone')
        if (extra !== undefined) throw new InvalidInput(`settings.provider.${extra}`, 'there is no such setting')
        const { installation, clock, prices } = context
        const shown = (machine: MemoryMachine): CloudMachine => {
          const { order, console: _, ...rest } = machine
          return { ...rest, instance: order.instance, generation: order.generation }
        }
        const ours = () => [...machines.values()].filter((m) => Object.values(m.order.tags)[0] === installation)
        const call = async <T>(name: keyof Provider, signal: AbortSignal, work: () => T | Promise<T>): Promise<T> => {
          signal.throwIfAborted()
          cloud.calls.push(name)
          await cloud.trouble(name, 'before', signal)
          const result = await work()
          await cloud.trouble(name, 'after', signal)
          return result
        }
        return {
          list: (signal) =>
            call('list', signal, () => {
              const found = ours()
                .filter(({ id }) => !hidden.has(id))
                .map(shown)
              for (const machine of machines.values()) if (machine.state === 'starting') run(machine)
              return found
            }),
          create: (order, signal) =>
            call('create', signal, async () => {
              await order.asking()
              const id = `m${++last}`
              const machine = { id, order, state: cloud.newState, address: null, createdAt: clock.now(), console: null }
              machines.set(id, machine)
              if (options.instant) run(machine)
              return shown(machine)
            }),
          delete: (id, signal) => call('delete', signal, () => void machines.delete(id)),
          tidy: (signal) => call('tidy', signal, () => {}),
          console: (id, signal) => call('console', signal, () => machines.get(id)?.console ?? null),
          price: (size) => prices[size] ?? null,
          check: (signal) => call('check', signal, () => ({ version: 'memory 1', abilities: [], missing: [] })),
          async close() {},
        }
      },
    }
  }
  return cloud
}

function run(machine: MemoryMachine): void {
  machine.state = 'running'
  machine.address = `fd00:99::${machine.id.slice(1)}`
}
