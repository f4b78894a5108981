import { z } from 'zod'
import type { Records } from '../backend.ts'

/** What is remembered of an instance in one region beyond a restart, because no provider can tell it. */
export interface Note {
  /** The newest that was asked for: the machine's tag has the one that it was made for. */
  readonly generation: number
  /** Since when a machine may be on its way whose making was never answered, epoch ms; null: none is. */
  readonly unsureSince: number | null
  /** Whether it tells outputs on its console. */
  readonly outputs: boolean
  /**
   * Ids of the last machines that spoiled each other, until one works: none of them does, whatever the provider says. They are
   * deleted.
   */
  readonly spoiled: readonly string[]
}

export interface Notes {
  get(instance: string): Promise<Note | null>
  /** Written when it is another than before. */
  change(instance: string, change: Partial<Note>): Promise<void>
  forget(instance: string): Promise<void>
}

const shape = z.strictObject({
  generation: z.number().int().nonnegative(),
  unsureSince: z.number().int().nullable(),
  outputs: z.boolean(),
  spoiled: z.array(z.string()).default([]),
})

const BLANK: Note = { generation: 0, unsureSince: null, outputs: false, spoiled: [] }

/** @param region name of the target: an instance may have been in another before */
export function createNotes(records: Records, region: string): Notes {
  const prefix = `machine/${region}/`
  let loading: Promise<Map<string, string>> | null = null
  const load = async () => {
    loading ??= records.all().then(
      (all) => new Map([...all].filter(([key]) => key.startsWith(prefix))),
      (error) => {
        loading = null
        throw error
      },
    )
    return await loading
  }
  const get = async (instance: string): Promise<Note | null> => {
    const text = (await load()).get(prefix + instance)
    return text === undefined ? null : shape.parse(JSON.parse(text))
  }
  return {
    get,
    async change(instance, change) {
      const note: Note = { ...BLANK, ...(await get(instance)), ...change }
      const known = await load()
      const key = prefix + instance
      const text = JSON.stringify(note)
      if (known.get(key) === text) return
      await records.put(key, text)
      known.set(key, text)
    },
    async forget(instance) {
      const known = await load()
      const key = prefix + instance
      if (!known.has(key)) return
      await records.put(key, null)
      known.delete(key)
    },
  }
}
