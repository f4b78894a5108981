import type { Clock } from '../../../common/clock.ts'
import { wording } from '../../../common/errors.ts'
import type { Log } from '../../../common/log.ts'
import { outputsIn } from './boot/boot.ts'
import type { Notes } from './notes.ts'
import type { CloudMachine, Provider } from './provider.ts'

/** Consoles that are read with one list, in turn. */
const CONSOLES = 10

/** What machines that run have told of their outputs, by the machines' ids: of those whose consoles were read longest ago. */
export type Outputs = (running: readonly CloudMachine[], signal: AbortSignal) => Promise<ReadonlyMap<string, string>>

/** Reads outputs from the consoles of machines that have some. A console that cannot be read is logged, and read again. */
export function createOutputs(parts: {
  readonly name: string
  readonly provider: Pick<Provider, 'console'>
  readonly notes: Notes
  readonly clock: Clock
  readonly log: Log
}): Outputs {
  const { name, provider, notes, clock, log } = parts
  /** When each console was read, epoch ms. */
  const read = new Map<string, number>()
  return async (running, signal) => {
    const telling: CloudMachine[] = []
    for (const machine of running) if ((await notes.get(machine.instance))?.outputs) telling.push(machine)
    for (const id of read.keys()) if (!running.some((machine) => machine.id === id)) read.delete(id)
    const longest = telling.toSorted((a, b) => (read.get(a.id) ?? 0) - (read.get(b.id) ?? 0)).slice(0, CONSOLES)
    const told = new Map<string, string>()
    for (const { id, instance } of longest) {
      read.set(id, clock.now())
      try {
        const text = outputsIn((await provider.console(id, signal)) ?? '')
        if (text !== null) told.set(id, text)
      } catch (error) {
        signal.throwIfAborted()
        log.warn('cloud.console-unread', wording(error), { instance, host: name })
      }
    }
    return told
  }
}
