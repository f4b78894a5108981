import type { Readable } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import { extract } from 'tar-stream'
import { OrchestratorError, wording } from '../../common/errors.ts'
import { MAX_OUTPUTS_BYTES, type WireOrder } from '../contract.ts'
import type { Engine, PathStat } from '../engine/containers.ts'
import type { Orders } from './orders.ts'
import { ORCHESTRATOR_DIRECTORY, serviceContainerName } from './service.ts'

/** Told what an instance wrote. */
type Report = (instance: string, text: string) => void

/** What instances write for their operator: `/orchestrator/outputs.json`, read through the engine. */
export interface Outputs {
  /**
   * Looks, until aborted, at the outputs of all instances that are to have some; what was not told of them before is
   * reported, while the order in force is the one that it was read of. What they wrote is not to be trusted: a link, a
   * folder, a device, too much, or no JSON is told as a notice.
   */
  watch(signal: AbortSignal, report: Report): Promise<void>
  /** Lets all of them be reported once more: what was told before may have been heard by nobody. */
  repeat(): void
}

/**
 * Milliseconds between two looks at one instance: `soon` until there is something to read, though not for longer than
 * `patience`; then `later`.
 */
const PACE = { soon: 1_000, patience: 60_000, later: 10_000 }
/** Milliseconds that a file has to be old to be known by its time: a second write may come within one tick of the clock. */
const SETTLED_MS = 2_000
/** Milliseconds that one look may take. */
const LOOK_MS = 10_000
/** Instances that are looked at at once. */
const PARALLEL = 4

const PATH = `${ORCHESTRATOR_DIRECTORY}/outputs.json`

/** What is known of the outputs of one instance. */
interface Known {
  /** Generation of the order: what is told of an older one is not heard. */
  readonly generation: number
  /** When they were first asked for, and are to be looked at next: epoch ms. */
  readonly since: number
  next: number
  /** What was told last; null: nothing. */
  text: string | null
  /** Time and size of the file that was read, or could not be for what it is; null: it may have changed since. */
  seen: string | null
  /** Why it could not be read, as told last; null: it could. */
  fault: string | null
}
/** What a look found, and what is then {@link Known.seen}. */
type Found = { readonly seen: string | null } & ({ readonly text: string } | { readonly fault: Unreadable })

export function createOutputs(parts: {
  readonly engine: Pick<Engine, 'statPath' | 'archive'>
  readonly orders: Pick<Orders, 'wanted'>
  readonly notice: (level: 'warning', code: string, message: string) => void
  readonly now: () => number
}): Outputs {
  const { engine, orders, notice, now } = parts
  const known = new Map<string, Known>()

  /** @returns what there is to read; null: nothing, or what was read before. @throws what the engine refuses */
  const look = async (order: WireOrder, entry: Known, signal: AbortSignal): Promise<Found | null> => {
    // Any container of an instance sees the same folder, whether it runs or not.
    const container = serviceContainerName(order.instance, order.services[0]?.name ?? '')
    const stat = await engine.statPath(container, PATH, signal)
    if (stat === null) return null
    const version = `${stat.modifiedAt} ${stat.size}`
    if (version === entry.seen) return null
    const seen = now() - Date.parse(stat.modifiedAt) > SETTLED_MS ? version : null
    try {
      return { seen, text: await read(container, stat, signal) }
    } catch (error) {
      if (error instanceof Unreadable) return { seen, fault: error }
      throw error
    }
  }

  /** @throws Unreadable, or what the engine refuses */
  const read = async (container: string, stat: PathStat, signal: AbortSignal): Promise<string> => {
    if (stat.kind !== 'file') throw new Unreadable(`it is no file, but a ${NAMES[stat.kind]}`)
    if (stat.size > MAX_OUTPUTS_BYTES) throw new Unreadable(TOO_LARGE)
    const text = await textIn(await engine.archive(container, PATH, signal), signal)
    mustBeJson(text)
    return text
  }

  const take = ({ instance }: WireOrder, entry: Known, found: Found, report: Report) => {
    entry.seen = found.seen
    if ('text' in found) {
      entry.fault = null
      if (found.text === entry.text) return
      entry.text = found.text
      report(instance, found.text)
    } else if (entry.fault !== found.fault.message) {
      entry.fault = found.fault.message
      notice('warning', found.fault.code, `outputs of instance ${instance} are not read: ${wording(found.fault)}`)
    }
  }

  const isInForce = ({ instance, generation }: WireOrder) =>
    orders.wanted().some((order) => order.instance === instance && order.generation === generation)

  const visit = async (order: WireOrder, signal: AbortSignal, report: Report) => {
    const { instance, generation } = order
    const former = known.get(instance)
    const entry =
      former?.generation === generation
        ? former
        : { generation, since: now(), next: 0, text: null, seen: null, fault: former?.fault ?? null }
    known.set(instance, entry)
    if (now() < entry.next) return
    const looking = look(order, entry, AbortSignal.any([signal, AbortSignal.timeout(LOOK_MS)]))
    // An engine that is away or a container that went meanwhile is no fault of the file: it is looked at again.
    const found = await looking.catch(() => null)
    if (signal.aborted) return
    // What was read before another order came would be told as that one's: it is read anew.
    if (found !== null && isInForce(order)) take(order, entry, found, report)
    const waiting = entry.text === null && now() - entry.since < PACE.patience
    entry.next = now() + (waiting ? PACE.soon : PACE.later)
  }

  return {
    async watch(signal, report) {
      while (!signal.aborted) {
        const wanted = orders.wanted().filter((order) => order.outputs)
        const instances = new Set(wanted.map((order) => order.instance))
        for (const instance of known.keys()) if (!instances.has(instance)) known.delete(instance)
        const queue = wanted.values()
        const worker = async () => {
          for (const order of queue) await visit(order, signal, report)
        }
        await Promise.all(Array.from({ length: PARALLEL }, worker))
        await wait(PACE.soon, undefined, { signal }).catch(() => {})
      }
    },
    repeat() {
      for (const [instance, { generation, since, fault }] of known) {
        known.set(instance, { generation, since, next: 0, text: null, seen: null, fault })
      }
    },
  }
}

/** The file is there, and is not what it should be. */
class Unreadable extends OrchestratorError {
  constructor(message: string) {
    super('outputs-unreadable', message)
  }
}
const NAMES = { directory: 'folder', link: 'symbolic link', other: 'device, pipe or socket', file: 'file' } as const
const TOO_LARGE = `it has more than ${MAX_OUTPUTS_BYTES} bytes`

/**
 * The text of the one file in a tar, which may have grown or changed its kind since it was looked at.
 * @throws Unreadable, what ended the tar too early, or the signal's reason
 */
async function textIn(archive: Readable, signal: AbortSignal): Promise<string> {
  const parts: Buffer[] = []
  let size = 0
  const entries = extract()
  archive.pipe(entries)
  archive.on('error', (error) => entries.destroy(error))
  // An answer that began may never end.
  const giveUp = () => entries.destroy(signal.reason as Error)
  signal.addEventListener('abort', giveUp, { once: true })
  try {
    signal.throwIfAborted()
    for await (const entry of entries) {
      if (entry.header.type !== 'file') throw new Unreadable(`it is no file, but a ${entry.header.type}`)
      for await (const chunk of entry as AsyncIterable<Buffer>) {
        size += chunk.length
        if (size > MAX_OUTPUTS_BYTES) throw new Unreadable(TOO_LARGE)
        parts.push(chunk)
      }
    }
  } finally {
    signal.removeEventListener('abort', giveUp)
    archive.destroy()
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(parts))
  } catch {
    throw new Unreadable('it is not UTF-8')
  }
}

function mustBeJson(text: string): void {
  try {
    JSON.parse(text)
  } catch {
    throw new Unreadable('it is not JSON, or only the beginning of it')
  }
}
