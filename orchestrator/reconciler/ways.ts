import { HostUnreachable, wording } from '../../common/errors.ts'
import type { Backend } from '../backends/backend.ts'
import type { HostName } from '../domain/host.ts'
import type { Instance, Reach } from '../domain/instance.ts'
import { type ReconcilerContext, settle, type Way } from './context.ts'

/** Milliseconds that a host has to open or close a way while something that is none of its business waits for it, at most. */
const WAY_MS = 10_000

/** Aborts as that signal does, and when such a host has had its time, which leaves some of the action's own. */
export function soon({ actionMs }: ReconcilerContext, signal: AbortSignal): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(Math.min(WAY_MS, actionMs / 2))])
}

/** Tells of a way that could not be opened or closed. The host is told it again, with all that it is to keep. */
export function tellWay(
  { log }: ReconcilerContext,
  kind: 'way.not-opened' | 'way.not-closed',
  { id, source }: Instance,
  error: unknown,
): void {
  // That a host is away is told already, once.
  const level = error instanceof HostUnreachable ? 'debug' : 'warn'
  log[level](kind, wording(error), { instance: id, host: source })
}

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

/**
 * Cuts the owner off, before the instance goes. A host that cannot do so now keeps what costs money from going no longer than
 * a moment: it loses the way as soon as it can be told {@link sendWays all that it keeps}, for this one is not among them.
 */
export async function closeWay(
  context: ReconcilerContext,
  instance: Instance,
  backend: Backend,
  signal: AbortSignal,
): Promise<void> {
  if (backend.targets === undefined) return
  const { id, source, generation } = instance
  await context.ways.close(source as HostName, id, generation, soon(context, signal)).catch((error) => {
    signal.throwIfAborted()
    tellWay(context, 'way.not-closed', instance, error)
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
