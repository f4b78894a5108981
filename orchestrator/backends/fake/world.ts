import type { Clock } from '../../../common/clock.ts'
import { HostUnreachable } from '../../../common/errors.ts'
import type { Target } from '../../domain/host.ts'
import type { InstanceId, Order } from '../../domain/instance.ts'
import { createMishaps, type Mishaps } from './mishaps.ts'
import { createPlace, type Machine, type Place } from './place.ts'

export type Call = 'list' | 'ensure' | 'remove'

/** How the next call of a kind goes wrong as a whole. `after`: it takes effect, but the answer is lost. */
export interface FailingCall {
  readonly call: Call
  readonly when: 'before' | 'after'
  readonly error: Error
}

/** All imaginary targets, by name. They outlive the backend, as real ones do, and tests turn their knobs. */
export interface FakeWorld {
  /** The way to a target, as any connection would be made. @throws HostUnreachable */
  reach(target: Target): Place
  /** What happens around each call of the backend: it is counted, takes its time, and fails if it is to. */
  around<T>(call: Call, target: Target, signal: AbortSignal, work: (place: Place) => Promise<T>): Promise<T>
  /** The next call of that kind fails, once. */
  failNext(fault: FailingCall): void
  /** Whether a target answers. */
  setReachable(host: string, reachable: boolean): void
  /** Ends an instance from within, as a crash would. */
  crash(id: InstanceId): void
  /** Makes single calls of the backend to its targets go wrong. */
  readonly mishaps: Mishaps
  /** Everything that exists, by target and id. */
  readonly running: ReadonlyMap<string, ReadonlyMap<InstanceId, Order>>
  readonly standing: readonly Machine[]
  /** How often each call came. */
  readonly calls: Readonly<Record<Call, number>>
}

/** Machines on a page: few, so that every list of more than two instances has several. */
const PAGE = 2

export interface WorldOptions {
  readonly clock: Clock
  /** Milliseconds from the start of a machine until it runs. */
  readonly startsAfterMs: number
  /** What each ensure and remove waits for first. */
  readonly latency?: ((signal: AbortSignal) => Promise<void>) | undefined
}

export function createFakeWorld({ clock, startsAfterMs, latency }: WorldOptions): FakeWorld {
  const mishaps = createMishaps()
  const places = new Map<string, Place>()
  const away = new Set<string>()
  const failing: FailingCall[] = []
  const calls = { list: 0, ensure: 0, remove: 0 }
  const reach = ({ name }: Target) => {
    if (away.has(name)) throw new HostUnreachable(name, 'the fake host is set to be away')
    const place = places.get(name) ?? createPlace({ clock, mishaps, startsAfterMs, pageSize: PAGE })
    places.set(name, place)
    return place
  }
  const fail = (call: Call, when: FailingCall['when']) => {
    const index = failing.findIndex((f) => f.call === call && f.when === when)
    if (index >= 0) throw failing.splice(index, 1)[0]?.error
  }
  return {
    reach,
    async around(call, target, signal, work) {
      calls[call]++
      signal.throwIfAborted()
      const place = reach(target)
      fail(call, 'before')
      if (call !== 'list') await latency?.(signal)
      signal.throwIfAborted()
      const result = await work(place)
      fail(call, 'after')
      return result
    },
    failNext: (fault) => void failing.push(fault),
    setReachable: (host, reachable) => void (reachable ? away.delete(host) : away.add(host)),
    crash: (id) => {
      for (const place of places.values()) place.crash(id)
    },
    mishaps,
    get running() {
      const orders = ({ standing }: Place) => standing.map(({ spec }) => [spec.instance, spec] as const)
      return new Map([...places].map(([name, place]) => [name, new Map(orders(place))]))
    },
    get standing() {
      return [...places.values()].flatMap(({ standing }) => standing)
    },
    calls,
  }
}
