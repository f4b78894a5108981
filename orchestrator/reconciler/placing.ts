import { errorCode, HostUnreachable, NoRoom, OrchestratorError } from '../../common/errors.ts'
import type { Backend } from '../backends/backend.ts'
import type { Host, HostName, Target } from '../domain/host.ts'
import type { Instance } from '../domain/instance.ts'
import { dearer, estimateOf, isLess, type Price } from '../domain/price.ts'
import type { Declined } from '../domain/second-choice.ts'
import type { Template } from '../domain/template.ts'
import { type ReconcilerContext, settle, tell } from './context.ts'

/** Puts an instance where its backend says, or on the host of its lease. */
export async function place(context: ReconcilerContext, instance: Instance, home: Host): Promise<void> {
  const marks = { ...instance.marks, decidedAt: context.clock.now() }
  await settle(context, instance, { host: await placeOf(context, instance, home), marks })
}

async function placeOf(context: ReconcilerContext, instance: Instance, home: Host): Promise<HostName> {
  const backend = backendOf(context, instance)
  const targets = backend.targets?.()
  if (targets === undefined) return home.name
  const load = await context.store.load(backend.name)
  if (backend.place) return backend.place(await templateOf(context, instance), load)
  const [emptiest] = targets.toSorted((a, b) => (load.get(a) ?? 0) - (load.get(b) ?? 0))
  if (emptiest === undefined) throw new NoRoom(`backend ${backend.name} has no targets`)
  return emptiest
}

/** @throws OrchestratorError `intent-incomplete` */
export async function templateOf({ store }: ReconcilerContext, { template: ref }: Instance): Promise<Template> {
  const template = await store.template(ref)
  if (template === null)
    throw new OrchestratorError('intent-incomplete', `template ${ref.name}@${ref.version} is not in the store`)
  return template
}

/** Where it was put is gone for good, with all that was there: it is put somewhere else. */
export async function placeAnew(context: ReconcilerContext, instance: Instance): Promise<void> {
  const message = `instance ${instance.name} is put elsewhere: ${instance.host} is no target of backend ${instance.backend} any more`
  if (!(await settle(context, instance, { host: null, reach: null, dueAt: context.clock.now() }))) return
  await tell(context, instance, { level: 'warning', kind: 'instance.moved', message })
}

/** Whether an error says that a backend does not take an instance now; null: it says something else. */
export function declinedBy(context: ReconcilerContext, { backend }: Instance, error: unknown): Declined | null {
  if (errorCode(error) === 'no-room') return 'full'
  if (error instanceof HostUnreachable) return 'away'
  // A target of its own that needs minutes says so at once; a host may well fetch an image for that long.
  const isHung = errorCode(error) === 'action-timeout' && context.backends.get(backend)?.targets !== undefined
  return isHung ? 'away' : null
}

/** Tries another backend. Whatever there may be of it where it was is removed when that can be compared. */
export async function tryNext(
  context: ReconcilerContext,
  instance: Instance,
  { backend, otherwise }: { readonly backend: string; readonly otherwise: readonly string[] },
  why: string,
): Promise<void> {
  const { decidedAt: _, acceptedAt: __, ...marks } = instance.marks
  const price = priceAmong(context, await templateOf(context, instance), [backend, ...otherwise])
  const nowhere = { host: null, reach: null, failures: 0, lastError: null, dueAt: context.clock.now(), marks }
  if (!(await settle(context, instance, { ...nowhere, backend, otherwise, price }))) return
  const message = `instance ${instance.name} is tried on backend ${backend}, as ${instance.backend} does not take it: ${why}`
  await tell(context, instance, { level: 'warning', kind: 'instance.moved', message })
  if (isLess(price, instance.price)) context.freed()
}

/** What an instance costs at most on one of these backends, as they say now; null: nothing, or not known. */
export function priceAmong(context: ReconcilerContext, template: Template, names: readonly string[]): Price | null {
  const estimates = names.map((name) => estimateOf(context.backends.get(name), template))
  return estimates.reduce<Price | null>((most, one) => dearer(most, typeof one === 'string' ? null : one), null)
}

function backendOf(context: ReconcilerContext, instance: Instance): Backend {
  const backend = context.backends.get(instance.backend)
  if (backend !== undefined) return backend
  throw new OrchestratorError(
    'backend-unknown',
    `backend ${instance.backend} of template ${instance.template.name} is not configured`,
  )
}

/** Where an instance was put; null: that target is gone for good. */
export async function target(
  context: ReconcilerContext,
  instance: Instance,
): Promise<{ backend: Backend; target: Target } | null> {
  const backend = backendOf(context, instance)
  const targets = backend.targets?.()
  if (targets !== undefined) {
    const name = targets.find((one) => one === instance.host)
    return name === undefined ? null : { backend, target: { name } }
  }
  const host = instance.host === null ? null : await context.store.host(instance.host)
  if (host === null) throw new HostUnreachable(instance.host ?? '', 'it has not joined')
  return { backend, target: host }
}
