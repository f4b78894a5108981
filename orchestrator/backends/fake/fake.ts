import { HostUnreachable, OrchestratorError } from '../../../common/errors.ts'
import type { Host } from '../../domain/host.ts'
import type { InstanceId, Observed, Order } from '../../domain/instance.ts'
import type { Backend } from '../backend.ts'

/** How the next call of a kind goes wrong. `after`: it takes effect, but the answer is lost. */
export interface Fault {
  readonly call: 'list' | 'ensure' | 'remove'
  readonly when: 'before' | 'after'
  readonly error: Error
}

/** A backend in memory: the model for plugin authors, and what the reconciler's tests run against. */
export interface FakeBackend extends Backend {
  /** The next call of that kind fails, once. */
  failNext(fault: Fault): void
  /** Whether a host answers. */
  setReachable(host: string, reachable: boolean): void
  /** Ends an instance from within, as a crash would. */
  crash(id: InstanceId): void
  /** Everything that exists, by host and id. */
  readonly running: ReadonlyMap<string, ReadonlyMap<InstanceId, Order>>
  /** How often each call came. */
  readonly calls: Readonly<Record<Fault['call'], number>>
}

interface Kept {
  order: Order
  state: Observed['state']
}

/** @param latency milliseconds that each ensure and remove takes */
export function fakeBackend(options: { latency?: (signal: AbortSignal) => Promise<void> } = {}): FakeBackend {
  const hosts = new Map<string, Map<InstanceId, Kept>>()
  const newest = new Map<string, number>()
  const away = new Set<string>()
  const faults: Fault[] = []
  const calls = { list: 0, ensure: 0, remove: 0 }

  const on = (host: Host) => {
    const kept = hosts.get(host.name) ?? new Map<InstanceId, Kept>()
    hosts.set(host.name, kept)
    return kept
  }
  const fault = (call: Fault['call'], when: Fault['when']) => {
    const index = faults.findIndex((f) => f.call === call && f.when === when)
    if (index >= 0) throw faults.splice(index, 1)[0]?.error
  }
  const enter = async (call: Fault['call'], host: Host, signal: AbortSignal) => {
    calls[call]++
    signal.throwIfAborted()
    if (away.has(host.name)) throw new HostUnreachable(host.name, 'the fake host is set to be away')
    fault(call, 'before')
    if (call !== 'list') await options.latency?.(signal)
    signal.throwIfAborted()
  }
  const refuseOlder = (id: InstanceId, host: Host, generation: number) => {
    const key = `${host.name}/${id}`
    const seen = newest.get(key) ?? 0
    if (generation < seen) {
      throw new OrchestratorError('stale-generation', `${id}: generation ${generation} is older than ${seen}`)
    }
    newest.set(key, generation)
  }

  return {
    name: 'fake',
    calls,
    get running() {
      return new Map([...hosts].map(([h, kept]) => [h, new Map([...kept].map(([id, k]) => [id, k.order]))]))
    },
    checkTemplate: () => {},
    async list(host, signal) {
      await enter('list', host, signal)
      const found = [...on(host).values()].map(({ order, state }) => observe(order, state))
      fault('list', 'after')
      return found
    },
    async ensure(order, host, signal) {
      await enter('ensure', host, signal)
      refuseOlder(order.instance, host, order.generation)
      on(host).set(order.instance, { order, state: 'running' })
      fault('ensure', 'after')
      return observe(order, 'running')
    },
    async remove({ id, generation }, host, signal) {
      await enter('remove', host, signal)
      refuseOlder(id, host, generation)
      on(host).delete(id)
      fault('remove', 'after')
    },
    async close() {},
    failNext: (f) => void faults.push(f),
    setReachable: (host, reachable) => void (reachable ? away.delete(host) : away.add(host)),
    crash(id) {
      for (const kept of hosts.values()) {
        const found = kept.get(id)
        if (found) found.state = 'stopped'
      }
    },
  }
}

function observe(order: Order, state: Observed['state']): Observed {
  const { instance, generation, address } = order
  return { instance, generation, state, address }
}
