import type { Log } from '../../../common/log.ts'
import type { Notes } from './notes.ts'
import type { CloudMachine, Provider } from './provider.ts'

/** Machines that were made for one instance and spoil each other, where their provider tells so (`spoiled`). */
export interface Twins {
  /** The same machines, one that is left of such as the failure that it is: alone it may pass for one that works. */
  known(machines: readonly CloudMachine[]): Promise<readonly CloudMachine[]>
  /** Deletes those of one instance. @returns whether it had others before, and none since that worked */
  remove(mine: readonly CloudMachine[], signal: AbortSignal): Promise<boolean>
}

export function createTwins(parts: {
  readonly provider: Pick<Provider, 'delete' | 'tidy'>
  readonly notes: Notes
  readonly log: Log
}): Twins {
  const { provider, notes, log } = parts
  const notedOf = async (instance: string) => (await notes.get(instance))?.spoiled ?? []
  return {
    async known(machines) {
      const all: CloudMachine[] = []
      for (const machine of machines) {
        const isSpoiled = machine.state !== 'ending' && (await notedOf(machine.instance)).includes(machine.id)
        all.push(isSpoiled ? { ...machine, state: 'failed', spoiled: true } : machine)
      }
      return all
    },

    async remove(mine, signal) {
      const instance = mine[0]?.instance ?? ''
      const ids = mine.map(({ id }) => id)
      const before = await notedOf(instance)
      const isAnother = ids.every((id) => !before.includes(id))
      log.warn('cloud.machines-spoiled', 'two machines were made for one instance, and neither works', { instance })
      // Noted before the first is deleted: the other one alone would pass for one that works.
      const spoiled = isAnother ? ids : [...new Set([...before, ...ids])]
      await notes.change(instance, { unsureSince: null, spoiled })
      for (const id of ids) await provider.delete(id, signal)
      await provider.tidy(signal)
      return isAnother && before.length > 0
    },
  }
}

/** Whether one request made these, all that an instance has, and none is left to keep. */
export function areSpoiled(mine: readonly CloudMachine[]): boolean {
  return mine.some(({ spoiled }) => spoiled) && mine.every(({ state }) => state === 'failed')
}
