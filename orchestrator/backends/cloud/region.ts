import type { Clock } from '../../../common/clock.ts'
import { HostUnreachable, NoRoom, OrchestratorError, wording } from '../../../common/errors.ts'
import { parseIpv6 } from '../../../common/ipv6.ts'
import type { Log } from '../../../common/log.ts'
import type { InstanceId, Observed, Order } from '../../domain/instance.ts'
import { ownerKey } from '../../domain/lease.ts'
import type { TargetCheck } from '../backend.ts'
import type { Generations } from '../generations.ts'
import { createTurns } from '../turns.ts'
import type { Notes } from './notes.ts'
import { createOutputs } from './outputs.ts'
import { type CloudMachine, type Provider, TAG } from './provider.ts'
import { sharedList } from './shared-list.ts'
import { areSpoiled, createTwins } from './twins.ts'

/** What a machine is to be, from settings and template. */
export interface Wanted {
  readonly size: string
  readonly image: string
  readonly spot: boolean
  /** Its boot data, when they are needed. @throws InvalidInput naming what cannot be expressed */
  bootData(): string
}

/** The life of the machines in one region. Its calls are those of `Backend`. */
export interface Region {
  list(signal: AbortSignal): Promise<readonly Observed[]>
  ensure(order: Order, wanted: Wanted, signal: AbortSignal): Promise<Observed>
  remove(instance: { id: InstanceId; generation: number }, signal: AbortSignal): Promise<void>
  check(signal: AbortSignal): Promise<TargetCheck>
  close(): Promise<void>
}

export interface RegionParts {
  readonly name: string
  readonly provider: Provider
  readonly generations: Generations
  readonly notes: Notes
  readonly clock: Clock
  readonly log: Log
  /** The value of the tag `orchestrator-installation`. */
  readonly installation: string
  /** Machines at most. */
  readonly machines: number
}

/** Milliseconds for one list, every page. */
const LIST_MS = 50_000
/** Milliseconds until a machine is looked at again that is new, or older than that. */
const AGAIN = { newMs: 2000, oldMs: 5000, newForMs: 30_000 }
/** Milliseconds after which a machine that has not come up is taken for stuck. Images of some GB take minutes. */
const STUCK_MS = 20 * 60_000
/** Milliseconds after which one that runs and has no address will get none: another machine took its port, say. */
const NO_ADDRESS_MS = 60_000
/** Milliseconds in which a machine shows in the list whose making was never answered, or it was not made. */
const UNSURE_MS = 20_000
const LOOK_MS = 1000

export function createRegion(parts: RegionParts): Region {
  const { name, provider, generations, notes, clock, log } = parts
  const turns = createTurns()
  const machines = sharedList(name, (signal) => provider.list(signal), LIST_MS)
  const outputs = createOutputs(parts)
  const twins = createTwins(parts)
  /** Instances whose machine is being made, and not in the list yet. */
  const making = new Set<string>()

  /** Since when each machine was seen running without an address, epoch ms. */
  const blind = new Map<string, number>()
  /** Milliseconds for which it has run without an address, as far as we have seen. */
  const blindFor = ({ id, state, address }: CloudMachine): number => {
    if (state !== 'running' || address !== null) {
      blind.delete(id)
      return 0
    }
    const since = blind.get(id) ?? clock.now()
    blind.set(id, since)
    return clock.now() - since
  }

  const of = async (instance: string, signal: AbortSignal) =>
    await twins.known((await machines(signal)).filter((machine) => machine.instance === instance))

  const observe = async (machine: CloudMachine): Promise<Observed> => {
    const note = await notes.get(machine.instance)
    const generation = Math.max(machine.generation, note?.generation ?? 0)
    return observed(machine, generation, clock.now())
  }

  /** Deletes all but the one to keep: a machine whose making was never answered may have been made again. */
  const keepOne = async (mine: readonly CloudMachine[], signal: AbortSignal): Promise<CloudMachine | null> => {
    const [keep, ...others] = inOrder(mine)
    for (const { id, instance } of others) {
      log.warn('cloud.second-machine', 'an instance had a second machine, which is deleted', { instance, id })
      await provider.delete(id, signal)
    }
    return keep ?? null
  }

  /** No failure to tell of, since one that is made alone comes up. Again and again it is one, which is tried ever later. */
  const startOver = async (order: Order, mine: readonly CloudMachine[], signal: AbortSignal): Promise<Observed> => {
    const isAgain = await twins.remove(mine, signal)
    const roomless = mine.find(({ noRoom }) => noRoom)
    if (roomless !== undefined) throw failure(roomless, name)
    if (!isAgain) return starting(order, 'its request was carried out twice, and it is made anew', AGAIN.newMs)
    const why = `${name} carries out each request for a machine twice, and two spoil each other`
    throw new OrchestratorError('machine-failed', `${why}: see to what stands between us and it`, { retryable: true })
  }

  const create = async (order: Order, wanted: Wanted, signal: AbortSignal): Promise<Observed> => {
    const { instance, generation } = order
    const unsureSince = (await notes.get(instance))?.unsureSince ?? null
    if (unsureSince !== null && clock.now() - unsureSince < UNSURE_MS) {
      return starting(order, 'its machine was asked for, and is not in the list yet', AGAIN.newMs)
    }
    const others = (await machines(signal)).filter((machine) => machine.state !== 'ending')
    for (const machine of others) making.delete(machine.instance)
    const all = new Set([...others.map((machine) => machine.instance), ...making])
    all.delete(instance)
    const count = all.size
    if (count >= parts.machines) {
      const why = `${name} has ${count} machines, and settings.machines allows ${parts.machines}`
      throw new NoRoom(`${why}: raise it, or name a second choice in the rule`)
    }
    const admit = order.home.address
    if (admit === null) {
      const why = `host ${order.home.name} has told no IPv6 address of its own, and ${name} is to admit that alone`
      throw new OrchestratorError(
        'home-address-unknown',
        `${why}: set network.address in the settings of its unionize`,
        {
          retryable: true,
        },
      )
    }
    const bootData = wanted.bootData()
    making.add(instance)
    let asked = false
    const asking = async () => {
      await notes.change(instance, { unsureSince: clock.now() })
      asked = true
    }
    try {
      const { size, image, spot } = wanted
      const tags = tagsOf(order, parts.installation)
      const machine = { instance, generation, name: order.name, tags, bootData, size, image, admit, spot, asking }
      // Unsure until the list shows it: another process, which was not told of it here, would not know that there is one.
      return await observe(await provider.create(machine, signal))
    } catch (error) {
      // Refused: none is on its way. Anything else may have taken effect.
      const sure = !signal.aborted && error instanceof OrchestratorError && !(error instanceof HostUnreachable)
      making.delete(instance)
      if (sure && asked) await notes.change(instance, { unsureSince: null })
      throw error instanceof NoRoom ? full(error.message, error.retryAfterMs) : error
    }
  }

  const make = async (order: Order, wanted: Wanted, signal: AbortSignal): Promise<Observed> => {
    await generations.accept(order.instance, order.generation)
    await notes.change(order.instance, { generation: order.generation, outputs: order.outputs })
    const mine = await of(order.instance, signal)
    const standing = mine.filter(({ state }) => state !== 'ending')
    if (areSpoiled(standing)) return await startOver(order, standing, signal)
    const machine = await keepOne(standing, signal)
    if (machine === null) {
      if (mine.length > 0) return starting(order, 'its former machine is being deleted', AGAIN.newMs)
      return await create(order, wanted, signal)
    }
    const isSound = machine.state === 'running' && machine.address !== null
    await notes.change(order.instance, { unsureSince: null, ...(isSound && { spoiled: [] }) })
    const age = clock.now() - machine.createdAt
    const stuck = (machine.state === 'starting' && age > STUCK_MS) || blindFor(machine) > NO_ADDRESS_MS
    if (machine.state === 'failed' || stuck) {
      blind.delete(machine.id)
      await provider.delete(machine.id, signal)
      throw failure(machine, name)
    }
    if (machine.state === 'stopped') {
      log.warn('cloud.machine-stopped', 'a machine was stopped; it is made anew', { instance: order.instance })
      await provider.delete(machine.id, signal)
      return await create(order, wanted, signal)
    }
    return await observe(machine)
  }

  return {
    async list(signal) {
      const all = new Map((await twins.known(await machines(signal))).map((machine) => [machine.id, machine]))
      const byInstance = Map.groupBy(
        [...all.values()].filter(({ state }) => state !== 'ending'),
        ({ instance }) => instance,
      )
      const kept = [...byInstance.values()].flatMap((mine) => inOrder(mine).slice(0, 1))
      const told = await outputs(
        kept.filter(({ state }) => state === 'running'),
        signal,
      )
      for (const [instance, mine] of byInstance) {
        // Whoever wants it starts over.
        if (mine.length < 2 || areSpoiled(mine)) continue
        await turns
          .take(instance, signal, () => keepOne(mine, signal))
          .catch((error: unknown) => {
            signal.throwIfAborted()
            log.warn('cloud.second-machine-stays', wording(error), { instance, host: name })
          })
      }
      return await Promise.all(
        kept.map(async (machine) => {
          const text = told.get(machine.id)
          return { ...(await observe(machine)), ...(text !== undefined && { outputs: text }) }
        }),
      )
    },

    async ensure(order, wanted, signal) {
      return await turns.take(order.instance, signal, () => make(order, wanted, signal))
    },

    async remove({ id: instance, generation }, signal) {
      const work = async () => {
        await generations.accept(instance, generation)
        for (;;) {
          const mine = await of(instance, signal)
          for (const { id } of mine) await provider.delete(id, signal)
          const unsureSince = (await notes.get(instance))?.unsureSince ?? null
          const unsure = mine.length === 0 && unsureSince !== null && clock.now() - unsureSince < UNSURE_MS
          if (!unsure) break
          await clock.wait(LOOK_MS, signal)
        }
        making.delete(instance)
        await provider.tidy(signal)
        await notes.forget(instance)
      }
      await turns.take(instance, signal, work)
    },

    check: async (signal) => {
      signal.throwIfAborted()
      return await provider.check(signal)
    },
    close: () => provider.close(),
  }
}

/** The one to keep first: of the newest generation, and of those one that works and can be reached, the oldest. */
export function inOrder(machines: readonly CloudMachine[]): readonly CloudMachine[] {
  const rank = ({ state, address }: CloudMachine) => {
    if (state === 'running' && address === null) return 1.5
    return ['running', 'starting', 'stopped', 'failed', 'ending'].indexOf(state)
  }
  return machines.toSorted(
    (a, b) => b.generation - a.generation || rank(a) - rank(b) || a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1),
  )
}

function tagsOf(order: Order, installation: string): Record<string, string> {
  return {
    [TAG.installation]: installation,
    [TAG.instance]: order.instance,
    [TAG.generation]: String(order.generation),
    [TAG.owner]: plain(ownerKey(order.owner)),
  }
}

/** As tags may be: a-z, 0-9 and `-`, at most 63 characters. */
function plain(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, 63)
    .replace(/^-|-$/g, '')
}

function observed(machine: CloudMachine, generation: number, now: number): Observed {
  const { state, detail } = machine
  const base = { instance: machine.instance as InstanceId, generation, address: null }
  const told = detail === undefined ? {} : { detail }
  if (state === 'running' && machine.address !== null) {
    const address = parseIpv6(machine.address, 'the address of the machine')
    return { ...base, state: 'running', reach: { kind: 'translated', address } }
  }
  if (state === 'running' || state === 'starting') {
    const againMs = now - machine.createdAt < AGAIN.newForMs ? AGAIN.newMs : AGAIN.oldMs
    const why = state === 'running' ? 'its machine has no address yet' : 'its machine is being made'
    return { ...base, state: 'starting', againMs, detail: detail ?? why }
  }
  return { ...base, state: 'stopped', ...told }
}

function starting(order: Order, detail: string, againMs: number): Observed {
  const { instance, generation } = order
  return { instance, generation, state: 'starting', againMs, address: null, detail }
}

/** A quota, a sold-out size or a full cloud: which it is stands in the provider's own words. */
function full(why: string, retryAfterMs?: number): NoRoom {
  const remedy = 'have the quota raised, choose another size, or name a second choice in the rule'
  return new NoRoom(`${why.replace(/\.$/, '')}: ${remedy}`, { retryAfterMs })
}

function failure(machine: CloudMachine, target: string): OrchestratorError {
  const why = machine.detail ?? (machine.state === 'failed' ? 'the provider says no reason' : 'it does not come up')
  if (machine.noRoom) return full(`${target} has no room: ${why}`)
  return new OrchestratorError('machine-failed', `${target} could not make the machine, which is deleted: ${why}`, {
    retryable: true,
  })
}
