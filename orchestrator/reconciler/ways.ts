import { HostUnreachable } from '../../common/errors.ts'
import type { Backend } from '../backends/backend.ts'
import type { HostName } from '../domain/host.ts'
import type { Instance, Reach } from '../domain/instance.ts'
import { type ReconcilerContext, settle, type Way } from './context.ts'

/**
 * Leads the owner to where its instance runs: stored first, so that whatever happens next the host of its lease is told the
 * truth when it connects.
 * @param reach null: on the host of its lease
 * @returns the instance as it is now; null: somebody changed it, look again
 */
export async function follow(
  context: ReconcilerContext,
  instance: Instance,
  reach: Reach | null,
  signal: AbortSignal,
): Promise<Instance | null> {
  const { store, ways } = context
  if (reach === null && instance.reach === null) return instance
  const home = instance.source as HostName
  if (JSON.stringify(reach) === JSON.stringify(instance.reach)) {
    if (reach !== null) await ways.open(home, wayOf(instance, reach), signal)
    return instance
  }
  if (!(await settle(context, instance, { reach }))) return null
  const now = await store.instance(instance.id)
  if (now === null || now.generation !== instance.generation) return null
  if (reach === null) await ways.close(home, now.id, now.generation, signal)
  else await ways.open(home, wayOf(now, reach), signal)
  return now
}

/** Cuts the owner off, before the instance goes. A host that is away is told all its ways when it is back. */
export async function closeWay(
  { ways }: ReconcilerContext,
  instance: Instance,
  backend: Backend,
  signal: AbortSignal,
): Promise<void> {
  if (backend.targets === undefined) return
  await ways.close(instance.source as HostName, instance.id, instance.generation, signal).catch((error) => {
    if (!(error instanceof HostUnreachable)) throw error
  })
}

/** Makes a host keep exactly the ways that are stored. @throws HostUnreachable */
export async function sendWays({ store, ways }: ReconcilerContext, host: HostName, signal: AbortSignal): Promise<void> {
  const instances = await store.elsewhere(host)
  const wanted = instances.filter((one) => one.wanted === 'running')
  await ways.set(
    host,
    wanted.flatMap((one) => (one.reach === null ? [] : [wayOf(one, one.reach)])),
    signal,
  )
}

function wayOf({ id, generation, ownerAddress, address }: Instance, reach: Reach): Way {
  return { instance: id, generation, owner: ownerAddress, address, reach }
}
