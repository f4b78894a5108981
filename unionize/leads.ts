import { readFile } from 'node:fs/promises'
import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import { errorCode, wording } from '../common/errors.ts'
import { writeAtomically } from './atomic-file.ts'
import { MAX_WAYS, type WireWay, waysShape } from './contract.ts'
import { StaleGeneration } from './instances/orders.ts'
import type { Way, Wiring } from './wiring/wiring.ts'

/**
 * The ways of this host's owners to instances elsewhere, by instance, as the orchestrator last said. They are on disk, so
 * that a restart keeps them though no orchestrator answers.
 */
export interface Leads {
  /** Reads what a former run knew. Comes first. */
  load(): Promise<void>
  /**
   * Leads an owner to an instance, in place of a former way to it. The same once more changes nothing, not even to which
   * of several instances `my.instance` leads. @throws StaleGeneration; what the wiring throws
   */
  lead(way: WireWay): Promise<void>
  /** Takes the way to an instance away, if there is one. @throws StaleGeneration; what the wiring throws */
  unlead(instance: string, generation: number): Promise<void>
  /** Makes exactly these the ways. All that can be taken away and led are, then the first failure is thrown. */
  set(ways: readonly WireWay[]): Promise<void>
  /** All of them, with when they were said (epoch ms), in that order. */
  all(): readonly { readonly way: Way; readonly at: number }[]
}

const keptShape = z.intersection(
  waysShape.element,
  z.object({
    /** The host's own address that a translated way leaves with; absent: as the kernel chooses. */
    from: z.ipv6().optional(),
    /** Epoch ms. */
    at: z.number(),
  }),
)
type Kept = z.infer<typeof keptShape>
const fileShape = z.object({ ways: z.array(keptShape).max(MAX_WAYS) })

export function createLeads(parts: {
  readonly wiring: Pick<Wiring, 'lead' | 'unlead'>
  /** Where they are kept. */
  readonly file: string
  /** The address by which others know this host, as last told. */
  readonly address: () => string | undefined
  readonly notice: (level: 'warning', code: string, message: string) => void
  readonly now: () => number
}): Leads {
  const { wiring, file, address, notice, now } = parts
  const known = new Map<string, Kept>()
  /** Generations of ways that were taken away: what is older comes too late. */
  const closed = new Map<string, number>()
  /** Changes come one after the other, each with what it does in the kernel. */
  let last: Promise<unknown> = Promise.resolve()
  let saving: Promise<void> = Promise.resolve()
  let next: Promise<void> | null = null

  const inTurn = <T>(change: () => Promise<T>): Promise<T> => {
    const turn = last.then(change)
    last = turn.catch(() => {})
    return turn
  }
  /** Writes what is known; what changes while that is under way is written with one more. */
  const save = (): Promise<void> => {
    next ??= saving
      .catch(() => {})
      .then(() => {
        next = null
        saving = writeAtomically(file, JSON.stringify({ ways: [...known.values()] }), { mode: 0o600, durable: false })
        return saving
      })
    return next
  }
  const refuseOlder = (instance: string, generation: number): void => {
    const seen = known.get(instance)?.generation ?? closed.get(instance) ?? 0
    if (generation < seen) throw new StaleGeneration(instance, generation, seen)
  }
  /** Takes a way out of the kernel, unless another instance has the same one by now. */
  const leave = async (kept: Kept): Promise<void> => {
    const same = (other: Kept) =>
      other.instance !== kept.instance && other.owner === kept.owner && other.address === kept.address
    if (![...known.values()].some(same)) await wiring.unlead({ owner: kept.owner, address: kept.address })
  }
  const open = async (way: WireWay): Promise<void> => {
    refuseOlder(way.instance, way.generation)
    const from = way.reach.kind === 'translated' ? address() : undefined
    const kept: Kept = { ...way, ...(from === undefined ? {} : { from }), at: now() }
    const former = known.get(way.instance)
    if (former && isDeepStrictEqual({ ...former, at: 0 }, { ...kept, at: 0 })) return
    const same = former?.owner === kept.owner && former.address === kept.address
    await wiring.lead(wayOf(kept)).catch((error) => {
      // Then there is none any more.
      if (same && errorCode(error) === 'next-hop-unreachable') known.delete(way.instance)
      throw error
    })
    known.delete(way.instance)
    known.set(way.instance, kept)
    closed.delete(way.instance)
    if (former && !same) await leave(former)
  }
  const close = async (instance: string, generation: number): Promise<void> => {
    const kept = known.get(instance)
    if (kept) {
      await leave(kept)
      known.delete(instance)
    }
    closed.delete(instance)
    closed.set(instance, generation)
    const [oldest] = closed.keys()
    if (closed.size > MAX_WAYS && oldest !== undefined) closed.delete(oldest)
  }

  return {
    async load() {
      try {
        const { ways } = fileShape.parse(JSON.parse(await readFile(file, 'utf8')))
        for (const way of ways) known.set(way.instance, way)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
        const message = `${file} cannot be read, so owners are led to instances elsewhere only when the orchestrator says so again`
        notice('warning', 'ways-lost', `${message}: ${wording(error, 300)}`)
      }
    },
    async lead(way) {
      const led = inTurn(() => open(way))
      await led.catch(() => {})
      await save()
      await led
    },
    async unlead(instance, generation) {
      await inTurn(async () => {
        refuseOlder(instance, generation)
        await close(instance, generation)
      })
      await save()
    },
    async set(ways) {
      const failures: unknown[] = []
      await inTurn(async () => {
        const wanted = new Set(ways.map(({ instance }) => instance))
        for (const { instance, generation } of [...known.values()]) {
          if (!wanted.has(instance)) await close(instance, generation).catch((error) => failures.push(error))
        }
        for (const way of ways) await open(way).catch((error) => failures.push(error))
      })
      await save()
      if (failures.length > 0) throw failures[0]
    },
    all: () => [...known.values()].map((kept) => ({ way: wayOf(kept), at: kept.at })),
  }
}

function wayOf({ owner, address, reach, from }: Kept): Way {
  if (reach.kind === 'routed' || from === undefined) return { owner, address, reach }
  return { owner, address, reach: { ...reach, from } }
}
