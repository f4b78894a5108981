import { setTimeout as wait } from 'node:timers/promises'
import { errorCode, wording } from '../../../common/errors.ts'
import type { Engine } from '../../engine/containers.ts'
import { identify, namespaceId } from '../dhcp/processes.ts'
import type { Wired } from '../interfaces/interfaces.ts'
import type { WiringLog } from '../wiring.ts'
import type { Whereabouts } from './keeper.ts'

const CONTAINER = 'container:'
const PROCESS = 'pid:'
const NAMED = 'netns:'
/** Milliseconds between attempts to hear an engine that is away. */
const RECONNECT = { first: 100, most: 5_000 }

/**
 * Finds a wired target again by its key. A container may have another process now; a process or a name that is gone is
 * gone for good.
 * @throws ContainerFailure while the engine is away
 */
export async function whereaboutsOf(wired: Wired, engine: Pick<Engine, 'inspect'>): Promise<Whereabouts> {
  const { key, label } = wired
  if (key.startsWith(CONTAINER)) {
    try {
      const found = await engine.inspect(key.slice(CONTAINER.length))
      return found.running && found.pid > 0 ? { key, label, namespace: { pid: found.pid } } : 'stopped'
    } catch (error) {
      if (errorCode(error) === 'not-found') return 'gone'
      throw error
    }
  }
  if (key.startsWith(PROCESS)) {
    const pid = Number(key.slice(PROCESS.length))
    // Of another process that has its number now we know nothing: the engine remembers which namespace it was.
    return wired.alive && identify(pid) !== null ? { key, label, namespace: { pid } } : 'gone'
  }
  if (key.startsWith(NAMED)) {
    const path = key.slice(NAMED.length)
    return namespaceId(path) === null ? 'gone' : { key, label, namespace: { path } }
  }
  return 'stopped'
}

/**
 * Tells of each container that starts, ends or is removed, until aborted. While the engine is away that is said once; when
 * it is back, anything may have happened.
 */
export async function followContainers(options: {
  readonly engine: Pick<Engine, 'events' | 'version'>
  readonly look: (key?: string) => void
  readonly log: WiringLog
  readonly signal: AbortSignal
}): Promise<void> {
  const { engine, look, log, signal } = options
  let backoff = RECONNECT.first
  let fault: string | null = null
  while (!signal.aborted) {
    try {
      const since = Date.now()
      await engine.version(signal)
      if (fault !== null) log('info', 'the container engine is back', {})
      fault = null
      backoff = RECONNECT.first
      look()
      for await (const { action, id } of engine.events({}, since, signal)) {
        if (['start', 'die', 'destroy'].includes(action)) look(CONTAINER + id)
      }
    } catch (error) {
      if (signal.aborted) return
      if (fault !== errorCode(error)) {
        log('warn', 'containers that restart are not noticed while their engine cannot be asked', {
          error: wording(error),
        })
      }
      fault = errorCode(error)
      await wait(backoff, undefined, { signal }).catch(() => {})
      backoff = Math.min(backoff * 2, RECONNECT.most)
    }
  }
}
