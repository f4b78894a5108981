import { wording } from '../../common/errors.ts'
import type { Host, HostName } from '../domain/host.ts'
import type { Instance } from '../domain/instance.ts'
import { lost } from './act.ts'
import type { ReconcilerContext } from './context.ts'
import { takeOutputs } from './outputs.ts'

/**
 * Compares all that runs on a host with what is stored: what should run and does not is looked at again, what runs
 * and should not is removed. Nothing is concluded from a list that could not be had.
 * @param busy instances being acted on right now; they are left alone
 * @throws HostUnreachable
 */
export async function compareHost(
  context: ReconcilerContext,
  name: HostName,
  busy: (id: Instance['id']) => boolean,
  signal: AbortSignal,
): Promise<void> {
  const { store, clock } = context
  const host = await store.host(name)
  if (host === null) return
  const stored = await store.instances({ live: true, host: name })
  for (const backend of context.backends.values()) {
    const seen = new Map((await backend.list(host, signal)).map((observed) => [observed.instance, observed]))
    for (const instance of stored) {
      if (instance.backend !== backend.name || busy(instance.id)) continue
      const observed = seen.get(instance.id)
      if (observed?.outputs !== undefined) await takeOutputs(context, observed)
      if (observed?.state === 'running') continue
      await lost(context, instance, observed?.detail ?? `it was not found on ${name}`, clock.now())
    }
    for (const observed of seen.values()) {
      if (busy(observed.instance)) continue
      await removeOrphan(context, host, backend.name, observed, signal).catch((error) => {
        // The others must not wait for one that resists; the next comparison finds it again.
        signal.throwIfAborted()
        context.log.error('orphan.not-removed', wording(error), { instance: observed.instance, host: name })
      })
    }
  }
}

/** Removes what runs although no living instance of that id belongs on this host. */
async function removeOrphan(
  context: ReconcilerContext,
  host: Host,
  backendName: string,
  observed: { instance: Instance['id']; generation: number },
  signal: AbortSignal,
): Promise<void> {
  const { store, clock, log } = context
  const current = await store.instance(observed.instance)
  if (current !== null && current.state !== 'gone' && (current.host === host.name || current.host === null)) return
  const generation = Math.max(current?.generation ?? 0, observed.generation) + (current === null ? 1 : 0)
  await context.backends.get(backendName)?.remove({ id: observed.instance, generation }, host, signal)
  log.warn('orphan.removed', 'something ran that no lease asks for', { instance: observed.instance, host: host.name })
  const message = `${observed.instance} ran on ${host.name} although nothing asked for it; it was removed`
  await store.appendEvent({ level: 'warning', kind: 'orphan.removed', message, host: host.name }, clock.now())
}
