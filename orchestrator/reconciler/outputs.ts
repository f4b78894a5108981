import type { Instance, Observed } from '../domain/instance.ts'
import { readOutputs } from '../domain/outputs.ts'
import { type ReconcilerContext, tell } from './context.ts'

/** Milliseconds between two events of a kind about one instance's outputs, and how many of its last events are looked at. */
const SELDOM_MS = 60_000
const EVENTS_LOOKED_AT = 20

/**
 * Keeps what an instance wrote to its outputs file, as far as its template declares it. What it declares not is told:
 * the file is written by whoever owns the instance.
 */
export async function takeOutputs(context: ReconcilerContext, observed: Observed): Promise<void> {
  if (observed.outputs === undefined) return
  const { store } = context
  const instance = await store.instance(observed.instance)
  if (instance === null || instance.wanted === 'gone' || instance.generation !== observed.generation) return
  const template = await store.template(instance.template)
  if (template === null) return
  const { outputs, faults } = readOutputs(template.outputs, observed.outputs)
  const { name, outputs: former } = instance
  if (JSON.stringify(sorted(former ?? {})) !== JSON.stringify(sorted(outputs))) {
    await store.setOutputs(instance.id, outputs)
    const names = Object.keys(outputs)
    const said = names.length === 0 ? 'it has no outputs any more' : `its outputs are ${names.join(', ')}`
    // Values may change all the time; only what there is to read is news.
    if (
      Object.keys(former ?? {})
        .toSorted()
        .join() !== names.toSorted().join()
    ) {
      await tellSeldom(context, instance, 'info', 'instance.outputs', `instance ${name}: ${said}`)
    }
  }
  if (faults.length === 0) return
  const message = `instance ${name}: its outputs file is not as the template declares: ${faults.join('; ')}`
  await tellSeldom(context, instance, 'warning', 'instance.outputs-refused', message)
}

/** Tells it unless it was told lately: whoever owns an instance may write its file a thousand times a second. */
async function tellSeldom(
  context: ReconcilerContext,
  instance: Instance,
  level: 'info' | 'warning',
  kind: string,
  message: string,
): Promise<void> {
  const last = await context.store.events({ limit: EVENTS_LOOKED_AT, instance: instance.id })
  const since = context.clock.now() - SELDOM_MS
  if (last.some((event) => event.kind === kind && (event.message === message || event.at > since))) return
  await tell(context, instance, { level, kind, message })
}

function sorted(values: object): [string, unknown][] {
  return Object.entries(values).toSorted(([a], [b]) => (a < b ? -1 : 1))
}
