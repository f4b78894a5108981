import { wording } from '../../common/errors.ts'
import type { Backend } from '../backends/backend.ts'
import type { HostName, Target } from '../domain/host.ts'
import type { Instance, Observed } from '../domain/instance.ts'
import { lead, lost } from './act.ts'
import type { ReconcilerContext } from './context.ts'
import { takeOutputs } from './outputs.ts'
import { soon, tellWay } from './ways.ts'

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
 * runs and should not is removed. Nothing is concluded from a list that could not be had. What cannot be done for one instance
 * is told, and keeps no other waiting: the next comparison finds it again.
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
  const { store, clock, log } = context
  const told = (kind: string, instance: Instance['id']) => (error: unknown) => {
    signal.throwIfAborted()
    log.error(kind, wording(error), { instance, host: target.name })
  }
  // Stored first: what was made after the list was asked for is not missing from it.
  const stored = await store.instances({ live: true, host: target.name })
  const seen = new Map((await backend.list(target, signal)).map((observed) => [observed.instance, observed]))
  const ours = stored.filter((instance) => instance.backend === backend.name)
  const running: Instance[] = []
  const compareOne = async (instance: Instance, observed: Observed | undefined) => {
    const why = fault(instance, observed, target)
    if (why === null) running.push(instance)
    if (observed?.outputs !== undefined) await takeOutputs(context, observed)
    if (why !== null && !busy(instance.id)) await lost(context, instance, why, clock.now())
  }
  for (const instance of ours) {
    await compareOne(instance, seen.get(instance.id)).catch(told('instance.not-compared', instance.id))
  }
  const removeOrphans = async () => {
    for (const observed of seen.values()) {
      if (busy(observed.instance)) continue
      await removeOrphan(context, target, backend, observed, signal).catch(
        told('orphan.not-removed', observed.instance),
      )
    }
  }
  await Promise.all([removeOrphans(), leadAll(context, running, seen, busy, signal)])
}

/** What is wrong with an instance that should run here; null: nothing. */
function fault(instance: Instance, observed: Observed | undefined, target: Target): string | null {
  if (observed === undefined) return `it was not found on ${target.name}`
  if (observed.state !== 'running') return observed.detail ?? `it was not found on ${target.name}`
  const { generation, settled } = instance
  // While a newer one is yet to be reached, that brings it right. A target only falls behind what it reached by losing it.
  if (settled !== generation || observed.generation >= settled) return null
  return `${target.name} has lost its newest order: it runs by generation ${observed.generation}, not ${generation}`
}

/**
 * Leads the owners to where their instances run by now. Each host by itself, and for a moment in all: these hosts have nothing
 * to do with the target, and one of them that hangs must keep nothing waiting but its own.
 */
async function leadAll(
  context: ReconcilerContext,
  running: readonly Instance[],
  seen: ReadonlyMap<Instance['id'], Observed>,
  busy: (id: Instance['id']) => boolean,
  signal: AbortSignal,
): Promise<void> {
  const leadThose = async (instances: readonly Instance[]) => {
    const limit = soon(context, signal)
    for (const instance of instances) {
      const observed = seen.get(instance.id)
      if (observed === undefined || busy(instance.id)) continue
      // The others of a host that hangs are stored all the same, so that it is told the truth as soon as it listens.
      const toldAlready = limit.aborted
      await leadOne(context, instance, observed, limit).catch((error) => {
        signal.throwIfAborted()
        if (!toldAlready) tellWay(context, 'way.not-opened', instance, error)
      })
    }
  }
  await Promise.allSettled([...Map.groupBy(running, ({ source }) => source).values()].map(leadThose))
  signal.throwIfAborted()
}

/** @param instance as it was before the list was asked for: whoever changed it since knows better where it runs */
async function leadOne(
  context: ReconcilerContext,
  instance: Instance,
  observed: Observed,
  signal: AbortSignal,
): Promise<void> {
  const now = await context.store.instance(instance.id)
  if (now?.updatedAt === instance.updatedAt) await lead(context, now, observed, signal)
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
