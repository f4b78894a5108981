import type { Clock } from '../../../common/clock.ts'
import { type Ipv6, parseIpv6 } from '../../../common/ipv6.ts'
import type { Order } from '../../domain/instance.ts'
import type { Mishaps } from './mishaps.ts'

/** What stands on a machine so that its owner finds it again. A real target has labels, tags or metadata for it. */
export interface Labels {
  readonly installation: string
  readonly instance: string
  readonly generation: number
}

/** One machine of the place, as its answers show it. */
export interface Machine {
  readonly id: number
  readonly labels: Labels
  /** What it is to run. */
  readonly spec: Order
  readonly power: 'off' | 'starting' | 'on' | 'crashed'
  /** Known once it is on. */
  readonly address: Ipv6 | null
}

/** A page of a list. `next`: where it goes on; null: that was all. */
export interface MachinesPage {
  readonly machines: readonly Machine[]
  readonly next: number | null
}

/**
 * The imaginary target: a place that runs machines, and knows nothing of leases. It is as awkward as real ones: it hands
 * out numbers of its own, shows its list in pages, takes a while to start a machine, and says its address only then.
 */
export interface Place {
  /** @param from where the page begins: 0, or what the page before told */
  machines(from: number, signal: AbortSignal): Promise<MachinesPage>
  /** Makes a machine that is off. Asked twice it makes two. @returns its number */
  create(labels: Labels, spec: Order, signal: AbortSignal): Promise<number>
  relabel(id: number, labels: Labels, signal: AbortSignal): Promise<void>
  start(id: number, signal: AbortSignal): Promise<void>
  /** @returns false: there is none */
  destroy(id: number, signal: AbortSignal): Promise<boolean>
  /** Calls back with each machine whose power changes by itself. @returns what ends it */
  follow(told: (machine: Machine) => void): () => void
  /** Ends the machines of an instance from within, as a crash would. */
  crash(instance: string): void
  /** Everything that stands there, without any call. */
  readonly standing: readonly Machine[]
}

export interface PlaceOptions {
  readonly clock: Clock
  readonly mishaps: Mishaps
  /** Milliseconds from `start` until a machine is on. */
  readonly startsAfterMs: number
  readonly pageSize: number
}

export function createPlace({ clock, mishaps, startsAfterMs, pageSize }: PlaceOptions): Place {
  interface Kept {
    readonly id: number
    labels: Labels
    readonly spec: Order
    off: boolean
    crashed: boolean
    /** Epoch ms. */
    onAt: number
  }
  const kept = new Map<number, Kept>()
  const followers = new Set<(machine: Machine) => void>()
  let last = 0

  const show = ({ id, labels, spec, off, crashed, onAt }: Kept): Machine => {
    const on = !off && !crashed && clock.now() >= onAt
    const power = crashed ? 'crashed' : off ? 'off' : on ? 'on' : 'starting'
    return { id, labels, spec, power, address: on ? parseIpv6(`2001:db8:fa4e::${id.toString(16)}`) : null }
  }
  return {
    async machines(from, signal) {
      const page = await mishaps.pass('read', signal, () => {
        const all = [...kept.values()].filter(({ id }) => id > from)
        const machines = all.slice(0, pageSize).map(show)
        return { machines, next: all.length > pageSize ? (machines.at(-1)?.id ?? null) : null }
      })
      return mishaps.page(page, { machines: [], next: null })
    },
    create: (labels, spec, signal) =>
      mishaps.pass('write', signal, () => {
        const id = ++last
        kept.set(id, { id, labels, spec, off: true, crashed: false, onAt: 0 })
        return id
      }),
    relabel: (id, labels, signal) =>
      mishaps.pass('write', signal, () => {
        const machine = kept.get(id)
        if (machine) machine.labels = labels
      }),
    start: (id, signal) =>
      mishaps.pass('write', signal, () => {
        const machine = kept.get(id)
        if (machine?.off) Object.assign(machine, { off: false, onAt: clock.now() + startsAfterMs })
      }),
    destroy: (id, signal) => mishaps.pass('write', signal, () => kept.delete(id)),
    follow(told) {
      followers.add(told)
      return () => void followers.delete(told)
    },
    crash(instance) {
      for (const machine of kept.values()) {
        if (machine.labels.instance !== instance) continue
        machine.crashed = true
        for (const told of followers) told(show(machine))
      }
    },
    get standing() {
      return [...kept.values()].map(show)
    },
  }
}
