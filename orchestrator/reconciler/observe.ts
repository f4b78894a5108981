import { wording } from '../../common/errors.ts'
import type { Backend } from '../backends/backend.ts'
import type { HostName, Target } from '../domain/host.ts'
import type { Instance } from '../domain/instance.ts'
import { lost, moved } from './act.ts'
import type { ReconcilerContext } from './context.ts'
import { takeOutputs } from './outputs.ts'

/**
 * Compares all that runs on a host that runs unionize with what is stored, as {@link compareTarget} does.
 * @throws HostUnreachable
 */
export async function compareHost(
  context: ReconcilerContext,
  name: HostName,
  busy: (id: Instance['id']) => boolean,
  signal: AbortSignal,
): Promise<void> {
  const host = await context.store.host(name)
  if (host === null) return
  for (const backend of context.backends.values()) {
    if (backend.targets === undefined) await compareTarget(context, backend, host, busy, signal)
  }
}

/**
 * Compares all that a backend has in one target with what is stored: what should run and does not is looked at again, what
 * runs and should not is removed. Nothing is concluded from a list that could not be had.
 * @param busy instances being acted on right now; they are left alone
 * @throws HostUnreachable
 */
export async function compareTarget(
  context: ReconcilerContext,
  backend: Backend,
  target: Target,
  busy: (id: Instance['id']) => boolean,
  signal: AbortSignal,
): Promise<void> {
  const { store, clock } = context
  // Stored first: what was made after the list was asked for is not missing from it.
  const stored = await store.instances({ live: true, host: target.name })
  const seen = new Map((await backend.list(target, signal)).map((observed) => [observed.instance, observed]))
  for (const instance of stored) {
    if (instance.backend !== backend.name) continue
    const observed = seen.get(instance.id)
    if (observed?.outputs !== undefined) await takeOutputs(context, observed)
    if (busy(instance.id)) continue
    if (observed?.state === 'running') {
      await moved(context, instance, observed)
      continue
    }
    await lost(context, instance, observed?.detail ?? `it was not found on ${target.name}`, clock.now())
  }
  for (const observed of seen.values()) {
    if (busy(observed.instance)) continue
    await removeOrphan(context, target, backend, observed, signal).catch((error) => {
      // The others must not wait for one that resists; the next comparison finds it again.
      signal.throwIfAborted()
      context.log.error('orphan.not-removed', wording(error), { instance: observed.instance, host: target.name })
    })
  }
}

/** Removes what runs although no living instance of that id belongs on this target. */
async function removeOrphan(
  context: ReconcilerContext,
  target: Target,
  backend: Backend,
  observed: { instance: Instance['id']; generation: number },
  signal: AbortSignal,
): Promise<void> {
  const { store, clock, log } = context
  const current = await store.instance(observed.instance)
  const isHere = current?.backend === backend.name && (current.host === target.name || current.host === null)
  if (current !== null && current.state !== 'gone' && isHere) return
  const generation = Math.max(current?.generation ?? 0, observed.generation) + (current === null ? 1 : 0)
  await backend.remove({ id: observed.instance, generation }, target, signal)
  log.warn('orphan.removed', 'something ran that no lease asks for', { instance: observed.instance, host: target.name })
  const message = `${observed.instance} ran on ${target.name} although nothing asked for it; it was removed`
  await store.appendEvent({ level: 'warning', kind: 'orphan.removed', message, host: target.name }, clock.now())
}
