import { wording } from '../../common/errors.ts'
import type { Backend } from '../backends/backend.ts'
import type { HostName } from '../domain/host.ts'
import type { InstanceId, Observed } from '../domain/instance.ts'
import { lost } from './act.ts'
import type { ReconcilerContext } from './context.ts'
import { compareTarget } from './observe.ts'

/** A backend that has targets of its own, and what is done with what is seen there. */
export interface FollowedBackend {
  readonly backend: Backend
  readonly context: ReconcilerContext
  /** Milliseconds between two comparisons of a target with the store. */
  readonly everyMs: number
  readonly busy: (id: InstanceId) => boolean
  readonly observed: (observed: Observed) => void
  /** Work may be due now. */
  readonly changed: () => void
}

/** Milliseconds between two looks at which targets there are. */
const LOOK_MS = 2_000
/** Milliseconds of rest after a target could not be followed. */
const REST_MS = 5_000

/** Compares and watches every target that a backend has, for as long as it has it. Resolves when aborted. */
export async function followTargets(followed: FollowedBackend, signal: AbortSignal): Promise<void> {
  const { clock } = followed.context
  const running = new Map<HostName, { readonly gone: AbortController; readonly ended: Promise<unknown> }>()
  let known: string | null = null
  while (!signal.aborted) {
    const names = new Set(followed.backend.targets?.())
    for (const [name, { gone }] of running) {
      if (names.has(name)) continue
      gone.abort(new Error(`${name} is no target any more`))
      running.delete(name)
    }
    for (const name of names) {
      if (running.has(name)) continue
      const gone = new AbortController()
      const until = AbortSignal.any([signal, gone.signal])
      running.set(name, { gone, ended: Promise.all([compare(followed, name, until), watch(followed, name, until)]) })
    }
    const these = [...names].toSorted().join()
    if (these !== known && (await strand(followed, names))) known = these
    await clock.wait(LOOK_MS, signal).catch(() => {})
  }
  await Promise.all([...running.values()].map(({ ended }) => ended))
}

/** Looks again at what was put where no target is any more. @returns whether the store could be asked. Never rejects. */
async function strand({ context, backend, changed }: FollowedBackend, names: ReadonlySet<HostName>): Promise<boolean> {
  const { store, clock, log } = context
  try {
    for (const host of (await store.load(backend.name)).keys()) {
      if (names.has(host)) continue
      for (const instance of await store.instances({ live: true, host })) {
        const why = `${host} is no target of backend ${backend.name} any more`
        if (instance.backend === backend.name) await lost(context, instance, why, clock.now())
      }
      changed()
    }
    return true
  } catch (error) {
    log.error('target.stranded', wording(error), { backend: backend.name })
    return false
  }
}

/** Never rejects. */
async function compare(followed: FollowedBackend, name: HostName, signal: AbortSignal): Promise<void> {
  const { context, backend, everyMs, busy, changed } = followed
  const { store, clock, log } = context
  let told = ''
  while (!signal.aborted) {
    try {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(context.actionMs)])
      await compareTarget(context, backend, { name }, busy, limit)
      if (told !== '') await store.wakeHost(name, clock.now())
      told = ''
      changed()
    } catch (error) {
      const fault = wording(error)
      if (!signal.aborted && fault !== told)
        log.warn('target.compare-failed', fault, { backend: backend.name, host: name })
      told = fault
    }
    await clock.wait(everyMs, signal).catch(() => {})
  }
}

/** Never rejects. */
async function watch(
  { context, backend, observed }: FollowedBackend,
  name: HostName,
  signal: AbortSignal,
): Promise<void> {
  const { clock, log } = context
  let told = ''
  while (!signal.aborted && backend.watch) {
    try {
      await backend.watch({ name }, observed, signal)
      told = ''
    } catch (error) {
      const fault = wording(error)
      if (!signal.aborted && fault !== told)
        log.warn('target.watch-failed', fault, { backend: backend.name, host: name })
      told = fault
    }
    await clock.wait(REST_MS, signal).catch(() => {})
  }
}
