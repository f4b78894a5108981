import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { OrchestratorError } from '../../common/errors.ts'
import { writeAtomically } from '../atomic-file.ts'
import { orderShape, type WireOrder } from '../contract.ts'

/** An order or removal that was overtaken by a newer one. */
export class StaleGeneration extends OrchestratorError {
  constructor(instance: string, asked: number, seen: number) {
    super('stale-generation', `instance ${instance}: generation ${asked} is overtaken, ${seen} has been seen`)
  }
}

/** An order that was kept, maybe before there were outputs. */
const keptShape = z.preprocess((kept) => {
  return typeof kept === 'object' && kept !== null ? { outputs: false, ...kept } : kept
}, orderShape)
const recordShape = z.object({
  generation: z.number().int().nonnegative(),
  /** The order of that generation; null: the instance is to be gone. */
  order: keptShape.nullable(),
  /** Epoch ms. */
  at: z.number(),
})
type Record = z.infer<typeof recordShape>

/** Milliseconds for which a gone instance's generation is remembered: longer than any request can be under way. */
const REMEMBER_GONE_MS = 60 * 60_000

/**
 * The last word about each instance, kept on disk so that a restart forgets neither the generation nor the owner's
 * address (labels of containers cannot change; an order can).
 */
export interface Orders {
  load(): Promise<void>
  /** Notes an order. @throws StaleGeneration when a newer word was seen, or this generation was told to go */
  accept(order: WireOrder): Promise<void>
  /** Notes a removal. @throws StaleGeneration when a newer order was seen */
  retire(instance: string, generation: number): Promise<void>
  /** @throws StaleGeneration unless this order is still the last word */
  assertCurrent(order: WireOrder): void
  /** The order in force; null: none, or it is to be gone. */
  current(instance: string): WireOrder | null
  /** Highest generation seen; 0: never heard of. */
  generation(instance: string): number
  isRetired(instance: string): boolean
  /** When the last word was noted, epoch ms; 0: never heard of. */
  notedAt(instance: string): number
  /** The orders of all instances that are to exist. */
  wanted(): readonly WireOrder[]
  /** Number of instances that are to exist. */
  count(): number
  forget(instance: string): Promise<void>
  /** Forgets instances that have been gone for long. */
  forgetOld(): Promise<void>
}

/** @param options `directory` holds one file for each instance; it is made when absent */
export function createOrders(options: { directory: string; now: () => number }): Orders {
  const { directory, now } = options
  const records = new Map<string, Record>()

  const note = async (instance: string, record: Record): Promise<void> => {
    const former = records.get(instance)
    records.set(instance, record)
    try {
      await writeAtomically(join(directory, instance), JSON.stringify(record), { mode: 0o600, durable: false })
    } catch (error) {
      // What is not on disk was not accepted: else the same order, sent again, would pass without being kept.
      if (records.get(instance) === record) {
        if (former) records.set(instance, former)
        else records.delete(instance)
      }
      throw error
    }
  }
  const forget = async (instance: string): Promise<void> => {
    records.delete(instance)
    await rm(join(directory, instance), { force: true })
  }
  const refuseOlder = (instance: string, generation: number): void => {
    const seen = records.get(instance)?.generation ?? 0
    if (generation < seen) throw new StaleGeneration(instance, generation, seen)
  }

  return {
    async load() {
      await mkdir(directory, { recursive: true, mode: 0o700 })
      for (const file of await readdir(directory)) {
        const path = join(directory, file)
        // A crash may have left an interim file; a power cut an empty one: labels tell the rest.
        const record = file.startsWith('.') ? null : readRecord(await readFile(path, 'utf8'))
        if (record) records.set(file, record)
        else await rm(path, { force: true })
      }
    },
    async accept(order) {
      refuseOlder(order.instance, order.generation)
      const seen = records.get(order.instance)
      if (seen?.generation === order.generation) {
        if (seen.order === null) throw new StaleGeneration(order.instance, order.generation, seen.generation)
        return
      }
      await note(order.instance, { generation: order.generation, order: withoutSecrets(order), at: now() })
    },
    async retire(instance, generation) {
      refuseOlder(instance, generation)
      const seen = records.get(instance)
      if (seen?.generation === generation && seen.order === null) return
      await note(instance, { generation, order: null, at: now() })
    },
    assertCurrent(order) {
      const seen = records.get(order.instance)
      if (seen && (seen.generation > order.generation || seen.order === null)) {
        throw new StaleGeneration(order.instance, order.generation, seen.generation)
      }
    },
    current: (instance) => records.get(instance)?.order ?? null,
    generation: (instance) => records.get(instance)?.generation ?? 0,
    isRetired: (instance) => records.get(instance)?.order === null,
    notedAt: (instance) => records.get(instance)?.at ?? 0,
    wanted: () => [...records.values()].flatMap((record) => (record.order === null ? [] : [record.order])),
    count: () => [...records.values()].filter((record) => record.order !== null).length,
    forget,
    async forgetOld() {
      for (const [instance, record] of records) {
        if (record.order !== null || now() - record.at < REMEMBER_GONE_MS) continue
        await forget(instance)
      }
    },
  }
}

/** The order as it may be kept and shown: environment values and what is in files can be secret. */
export function withoutSecrets(order: WireOrder): WireOrder {
  const services = order.services.map((service) => {
    return { ...service, environment: {}, files: service.files.map((file) => ({ ...file, content: '' })) }
  })
  return { ...order, services }
}

/** The order that a label or a file holds; null: it cannot be read. */
export function readOrder(text: string | undefined): WireOrder | null {
  return parse(keptShape, text)
}

function readRecord(text: string): Record | null {
  return parse(recordShape, text)
}

function parse<T>(shape: z.ZodType<T>, text: string | undefined): T | null {
  if (text === undefined) return null
  try {
    return shape.parse(JSON.parse(text))
  } catch {
    return null
  }
}
