import { z } from 'zod'
import { systemClock } from '../../../common/clock.ts'
import { InvalidInput, OrchestratorError } from '../../../common/errors.ts'
import type { HostName } from '../../domain/host.ts'
import type { InstanceId, Observed } from '../../domain/instance.ts'
import { type Backend, type BackendContext, type BackendKind, CONTRACT_VERSION } from '../backend.ts'
import { createGenerations } from '../generations.ts'
import { createTurns } from '../turns.ts'
import type { Labels, Machine, Place } from './place.ts'
import { createFakeWorld, type FakeWorld } from './world.ts'

/*
 * The model for whoever writes a backend: docs/write-a-backend.md walks through this file from here to its end. The targets
 * are imaginary (world.ts, place.ts); everything that is done with them is as it has to be with real ones.
 */

const settingsShape = z.strictObject({
  targets: z
    .array(z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'expected a DNS label: a-z, 0-9, -'))
    .min(1)
    .max(100),
  startsAfterMs: z.number().int().min(0).max(3_600_000).default(0),
  pricePerHour: z.number().min(0).max(1_000_000).optional(),
})

/** What the loader asks for; a package exports the same name. */
export const backend: BackendKind = {
  contract: CONTRACT_VERSION,
  async create(settings, context) {
    const parsed = settingsShape.safeParse(settings)
    if (!parsed.success) {
      const issue = parsed.error.issues[0]
      throw new InvalidInput(['settings', ...(issue?.path ?? [])].join('.'), issue?.message ?? 'not understood')
    }
    const { targets, startsAfterMs, pricePerHour } = parsed.data
    const world = createFakeWorld({ clock: context.clock, startsAfterMs })
    return fakeBackend({ targets: targets as HostName[], pricePerHour, world, context })
  },
}

export interface FakeOptions {
  /** Its targets; absent: an instance runs on the host of its lease, whatever that is called. */
  readonly targets?: readonly HostName[]
  /** EUR. */
  readonly pricePerHour?: number | undefined
  /** What each ensure and remove waits for first; only without `world`. */
  readonly latency?: (signal: AbortSignal) => Promise<void>
  /** The targets themselves, which outlive the backend; absent: new ones. */
  readonly world?: FakeWorld
  readonly context?: Pick<BackendContext, 'name' | 'installation' | 'clock' | 'records'>
}

/** A backend, and the knobs of the world that it works in. */
export type FakeBackend = Backend & FakeWorld

/** Milliseconds between two looks at a machine that starts. */
const LOOK_MS = 100

export function fakeBackend(options: FakeOptions = {}): FakeBackend {
  const { name, installation, clock, records } = options.context ?? alone()
  const world = options.world ?? createFakeWorld({ clock, startsAfterMs: 0, latency: options.latency })
  const generations = createGenerations(records, clock)
  const turns = createTurns()

  /** All of our machines, every page of them. Another orchestrator's are none of our business. */
  const ours = async (place: Place, signal: AbortSignal): Promise<Machine[]> => {
    const found: Machine[] = []
    for (let from: number | null = 0; from !== null; ) {
      const page = await place.machines(from, signal)
      found.push(...page.machines.filter(({ labels }) => labels.installation === installation))
      from = page.next
    }
    return found
  }

  /** Those of one instance, the best first: crashes and lost answers may have left more than one. */
  const machinesOf = async (place: Place, id: InstanceId, signal: AbortSignal): Promise<Machine[]> => {
    const best = ['on', 'starting', 'off', 'crashed']
    const found = (await ours(place, signal)).filter(({ labels }) => labels.instance === id)
    return found.toSorted((a, b) => best.indexOf(a.power) - best.indexOf(b.power))
  }

  /** Everything comes from the machine itself, nothing from our memory: after a restart there is none. */
  const observe = ({ power, address, labels, spec }: Machine): Observed => {
    const what = { instance: spec.instance, generation: labels.generation, address: null }
    if (power === 'crashed') return { ...what, state: 'stopped', detail: 'it crashed' }
    if (power === 'off') return { ...what, state: 'partial', detail: 'it was made, but never started' }
    if (address === null) return { ...what, state: 'starting', againMs: LOOK_MS, detail: 'the machine starts' }
    if (options.targets === undefined) return { ...what, state: 'running', address: spec.address }
    return { ...what, state: 'running', reach: { kind: 'translated', address } }
  }

  const calls: Backend = {
    name,

    checkTemplate(template) {
      if (template.options?.[name] === undefined) return
      throw new InvalidInput(`x-orchestrator.options.${name}`, `${name} has no options: leave it out`)
    },

    list(target, signal) {
      return world.around('list', target, signal, async (place) => {
        const byInstance = Map.groupBy(await ours(place, signal), ({ spec }) => spec.instance)
        // What is there twice is not as it should be: then it is ensured again, which takes the surplus away.
        return [...byInstance.values()].flatMap((found) =>
          found.slice(0, 1).map((machine) => ({
            ...observe(machine),
            ...(found.length > 1 && { state: 'partial' as const, detail: 'it is there twice' }),
          })),
        )
      })
    },

    ensure(order, target, signal) {
      const { instance, generation } = order
      const labels: Labels = { installation, instance, generation }
      return turns.take(instance, signal, () =>
        world.around('ensure', target, signal, async (place) => {
          // First of all: no older generation gets through from now on, not even after a restart.
          await generations.accept(instance, generation)
          const found = await machinesOf(place, instance, signal)
          const usable = found.find(({ power }) => power !== 'crashed')
          for (const { id } of found) if (id !== usable?.id) await place.destroy(id, signal)
          const id = usable?.id ?? (await place.create(labels, order, signal))
          if (usable && usable.labels.generation !== generation) await place.relabel(id, labels, signal)
          if (usable === undefined || usable.power === 'off') await place.start(id, signal)
          const machine = (await machinesOf(place, instance, signal)).find((one) => one.id === id)
          if (machine !== undefined) return observe(machine)
          throw new OrchestratorError('target-failed', `machine ${id} is not shown`, { retryable: true })
        }),
      )
    },

    remove({ id: instance, generation }, target, signal) {
      return turns.take(instance, signal, () =>
        world.around('remove', target, signal, async (place) => {
          await generations.accept(instance, generation)
          for (const { id } of await machinesOf(place, instance, signal)) await place.destroy(id, signal)
        }),
      )
    },

    async check(target, signal) {
      signal.throwIfAborted()
      await world.reach(target).machines(0, signal)
      return { version: 'an imaginary target', abilities: ['pretends to run instances'], missing: [] }
    },

    async close() {},
  }

  // Absent calls mean something: without targets, instances run on hosts; without a price, they cost nothing.
  const { targets, pricePerHour } = options
  if (pricePerHour !== undefined) calls.price = () => ({ perHour: pricePerHour, currency: 'EUR' })
  if (targets !== undefined) {
    calls.targets = () => targets
    calls.watch = async (target, tell, signal) => {
      signal.throwIfAborted()
      const place = world.reach(target)
      const end = place.follow((machine) => {
        if (machine.labels.installation === installation) tell(observe(machine))
      })
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
      end()
    }
  }
  return Object.defineProperties(calls, Object.getOwnPropertyDescriptors(world)) as FakeBackend
}

/** What a backend is given that nobody else knows of, as in tests. */
function alone(): Pick<BackendContext, 'name' | 'installation' | 'clock' | 'records'> {
  const kept = new Map<string, string>()
  const records: BackendContext['records'] = {
    all: async () => new Map(kept),
    put: async (key, value) => void (value === null ? kept.delete(key) : kept.set(key, value)),
  }
  return { name: 'fake', installation: '0000000000000000', clock: systemClock, records }
}
