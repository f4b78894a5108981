import { setTimeout as wait } from 'node:timers/promises'
import { TASK_LABEL, TASK_ROLE } from '../../common/task-place.ts'
import type { Engine } from '../engine/containers.ts'
import type { Standing } from '../standing.ts'
import type { Tasks } from './tasks.ts'

/** Milliseconds between attempts to follow an engine that is away. */
const RECONNECT = { first: 100, most: 5_000 }
/** Milliseconds between two attempts to wire what could not be: its owner's host may be on its way. */
const MEND_MS = 5_000

/**
 * Wires the tasks of a swarm that start here, and unwires those that end, until aborted. What happens while nothing can be
 * done (see {@link Standing}) is found by the next mending.
 */
export async function followTasks(options: {
  readonly engine: Pick<Engine, 'events'>
  readonly tasks: Tasks
  readonly standing: Pick<Standing, 'work' | 'beside' | 'fault'>
  readonly now: () => number
  readonly background: (what: string, work: () => Promise<void>) => void
  readonly signal: AbortSignal
}): Promise<void> {
  const { engine, tasks, standing, background, signal } = options
  /** Events since then have not all been seen. */
  let since = options.now()
  let backoff = RECONNECT.first
  const timer = setInterval(() => background('wire tasks', () => standing.beside(() => tasks.mend())), MEND_MS)
  while (!signal.aborted) {
    try {
      for await (const event of engine.events({ [TASK_LABEL.role]: TASK_ROLE }, since, signal)) {
        since = options.now()
        backoff = RECONNECT.first
        if (event.action !== 'start' && event.action !== 'die') continue
        if (standing.fault() !== null) {
          tasks.missed()
          continue
        }
        background(`follow a task that did ${event.action}`, () => standing.work(() => tasks.happened(event)))
      }
    } catch {
      // That the engine is away is told by whoever follows our own containers.
      await wait(backoff, undefined, { signal }).catch(() => {})
      backoff = Math.min(backoff * 2, RECONNECT.most)
    }
  }
  clearInterval(timer)
}
