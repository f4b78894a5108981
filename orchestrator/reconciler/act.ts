import { errorCode, HostUnreachable, OrchestratorError, wording } from '../../common/errors.ts'
import { orderFor } from '../compose/order.ts'
import type { Host, HostName } from '../domain/host.ts'
import type { Instance, Observed } from '../domain/instance.ts'
import { type Action, backoff, nextLook, nextTry, plan } from '../domain/plan.ts'
import { isLess } from '../domain/price.ts'
import { secondChoice } from '../domain/second-choice.ts'
import type { SettleChange } from '../store/store.ts'
import { type ReconcilerContext, settle, tell } from './context.ts'
import { takeOutputs } from './outputs.ts'
import { declinedBy, place, placeAnew, priceAmong, target, templateOf, tryNext } from './placing.ts'
import { closeWay, follow, soon, tellWay } from './ways.ts'

/** Actions for one instance in a row, at most: place and ensure, with room for a change in between. */
const STEPS = 4
/** Milliseconds after which an unreachable or unknown host is tried again although nothing woke us. */
const UNREACHABLE_RETRY_MS = 15_000
/**
 * Failures that trying again does not mend: no order can be made of the template, its secrets cannot be opened, or the target
 * does not let us in.
 */
const HOPELESS = new Set([
  'invalid-input',
  'seal-broken',
  'credential-missing',
  'credential-refused',
  'not-permitted',
  'host-key-changed',
])
/** Milliseconds after which such a one is tried again: a key file may have been put back, a host brought up to date. */
const HOPELESS_RETRY_MS = 600_000
/** Milliseconds until an instance that starts by itself is looked at again, where its backend does not say. */
const AGAIN_MS = 5_000

/**
 * Carries out, for one instance, what plan() decides, until it decides nothing more, or the instance belongs elsewhere.
 * @param at host or target whose place this work takes. What is due on another one by now takes its turn there: a target
 *   that hangs must not take the places of the host's own.
 * @param stopping ends the work without a trace: the next start goes on with it
 */
export async function reconcile(
  context: ReconcilerContext,
  id: Instance['id'],
  at: HostName,
  stopping: AbortSignal,
): Promise<void> {
  const { store, clock } = context
  for (let step = 0; step < STEPS && !stopping.aborted; step++) {
    const instance = await store.instance(id)
    if (instance === null || (instance.host ?? instance.source) !== at) return
    const home = await store.host(instance.source as Host['name'])
    const now = clock.now()
    const action = plan(instance, home, now)
    if (action.kind === 'none') return park(context, instance, now)
    const begun = performance.now()
    const outcome = await act(context, instance, action, stopping)
    context.measured(action.kind, outcome, (performance.now() - begun) / 1000)
    if (outcome === 'failed' || action.kind === 'wait') return
  }
}

/** Nothing is to be done: an instance that was due no longer is, before its end. */
async function park(context: ReconcilerContext, instance: Instance, now: number): Promise<void> {
  if (instance.dueAt === null || instance.dueAt > now) return
  await context.store.settle(instance, { dueAt: nextLook(instance) }, now)
}

async function act(
  context: ReconcilerContext,
  instance: Instance,
  action: Action,
  stopping: AbortSignal,
): Promise<'ok' | 'failed'> {
  const { clock, actionMs } = context
  const limit = AbortSignal.timeout(actionMs)
  const signal = AbortSignal.any([stopping, limit])
  try {
    if (action.kind === 'place') await place(context, instance, action.home)
    else if (action.kind === 'wait') {
      await settle(context, instance, { dueAt: clock.now() + UNREACHABLE_RETRY_MS, lastError: action.why })
    } else if (action.kind === 'expire') await context.expire(instance.id)
    else if (action.kind === 'ensure') await ensure(context, instance, signal)
    else await remove(context, instance, signal)
    return 'ok'
  } catch (error) {
    if (stopping.aborted) return 'failed'
    await failed(context, instance, limit.aborted ? timedOut(action, actionMs, error) : error)
    return 'failed'
  }
}

/** @param last what ended it: what the host said that it was waiting for, if it did */
function timedOut({ kind }: Action, actionMs: number, last: unknown): OrchestratorError {
  const reason = last instanceof OrchestratorError ? `: ${wording(last)}` : ''
  const message = `${kind} took longer than ${actionMs / 1000} s${reason}`
  return new OrchestratorError('action-timeout', message, { retryable: true })
}

async function ensure(context: ReconcilerContext, given: Instance, signal: AbortSignal): Promise<void> {
  const { store, clock } = context
  const template = await templateOf(context, given)
  const lease = await store.lease(given.owner)
  if (lease === null) throw new OrchestratorError('intent-incomplete', 'its lease is not in the store')
  const decidedAt = given.marks.decidedAt ?? clock.now()
  const found = await target(context, given)
  if (found === null) return await placeAnew(context, given)
  const { backend, target: host } = found
  const home = (await store.host(given.source as HostName)) ?? { name: given.source as HostName, facts: {} }
  const order = orderFor(given, template, lease, home, context.open(given.parameters))
  const observed = await backend.ensure(order, host, signal)
  // It is told once: what is written before all of it runs counts, too.
  if (observed.state !== 'running') await takeOutputs(context, observed)
  if (observed.state === 'starting') {
    const lastError = observed.detail ?? 'it is starting'
    const marks = { ...given.marks, acceptedAt: given.marks.acceptedAt ?? clock.now() }
    await settle(context, given, { dueAt: clock.now() + (observed.againMs ?? AGAIN_MS), lastError, marks })
    return
  }
  const instance = observed.state === 'running' ? await follow(context, given, observed.reach ?? null, signal) : given
  if (instance === null) return
  if (observed.state !== 'running') {
    throw new OrchestratorError('not-running', observed.detail ?? 'the backend made it, but it does not run', {
      retryable: true,
    })
  }
  const price = priceAmong(context, template, [instance.backend])
  const change: SettleChange = {
    state: 'running',
    price,
    settled: instance.generation,
    dueAt: nextLook(instance),
    lastError: null,
    marks: { startedAt: clock.now(), ...observed.marks, ...instance.marks, decidedAt },
  }
  if (await settle(context, instance, change)) {
    const message = `instance ${instance.name} runs on ${host.name} at ${instance.address} for ${instance.ownerAddress}`
    await tell(context, instance, { level: 'info', kind: 'instance.running', message })
    if (isLess(price, instance.price)) context.freed()
  }
  await takeOutputs(context, observed)
}

async function remove(context: ReconcilerContext, instance: Instance, signal: AbortSignal): Promise<void> {
  const found = instance.host === null ? null : await target(context, instance)
  if (found !== null) {
    await closeWay(context, instance, found.backend, signal)
    await found.backend.remove({ id: instance.id, generation: instance.generation }, found.target, signal)
  }
  const done = { state: 'gone', settled: instance.generation, dueAt: null, lastError: null } as const
  if (await settle(context, instance, done)) {
    const message = `instance ${instance.name} is gone`
    await tell(context, instance, { level: 'info', kind: 'instance.gone', message })
    context.freed()
  }
}

/** Records a failure and when to try again. A host that is away is no fault of the instance: it is not counted. */
async function failed(context: ReconcilerContext, instance: Instance, error: unknown): Promise<void> {
  const { clock, log } = context
  const away = error instanceof HostUnreachable
  const declined = declinedBy(context, instance, error)
  const next = declined === null ? null : secondChoice(instance, declined)
  if (next !== null) return await tryNext(context, instance, next, wording(error))
  const failures = away ? instance.failures : instance.failures + 1
  const hopeless = HOPELESS.has(errorCode(error))
  const usual = away ? UNREACHABLE_RETRY_MS : hopeless ? HOPELESS_RETRY_MS : backoff(failures, context.random())
  const delay = Math.max(usual, (error instanceof OrchestratorError ? error.retryAfterMs : undefined) ?? 0)
  const lastError = wording(error)
  const now = clock.now()
  const dueAt = nextTry(instance, now + delay, now)
  const recorded = await settle(context, instance, { failures, lastError, dueAt })
  if (!recorded || instance.lastError === lastError) return
  log.warn('instance.failed', lastError, { instance: instance.id, code: errorCode(error), failures, retryMs: delay })
  const message = `instance ${instance.name}: ${lastError}`
  await tell(context, instance, { level: away ? 'warning' : 'error', kind: 'instance.failed', message })
}

/**
 * Notes what a backend saw by itself: an instance that no longer runs as it should is looked at again, and so is one that
 * runs at last.
 * What died soon after its start is tried again later and later.
 */
export async function notice(context: ReconcilerContext, observed: Observed): Promise<void> {
  const { store, clock } = context
  if (observed.marks?.reachableAt !== undefined) {
    const { reachableAt } = observed.marks
    await store.addMarks(observed.instance, observed.generation, { reachableAt })
  }
  await takeOutputs(context, observed)
  if (observed.state === 'running') {
    const instance = await store.instance(observed.instance)
    if (observed.detail !== undefined) await complain(context, observed, observed.detail)
    await hasten(context, instance, observed)
    if (instance === null) return
    // Last: it asks the host of the lease, which may be away or hang. The next comparison does it again.
    const signal = soon(context, AbortSignal.timeout(context.actionMs))
    return await lead(context, instance, observed, signal).catch((error) =>
      tellWay(context, 'way.not-opened', instance, error),
    )
  }
  await lost(context, await store.instance(observed.instance), observed.detail ?? 'it stopped', clock.now())
}

/** It may run elsewhere than it did: its owner is led there. @throws when the host of the lease cannot do it */
export async function lead(
  context: ReconcilerContext,
  instance: Instance,
  observed: Observed,
  signal: AbortSignal,
): Promise<void> {
  if (instance.state !== 'running' || instance.wanted !== 'running') return
  if (instance.generation !== observed.generation) return
  await follow(context, instance, observed.reach ?? null, signal)
}

/** What was to be tried again later runs by now: it is looked at at once. */
async function hasten(
  { store, clock }: ReconcilerContext,
  instance: Instance | null,
  { generation }: Observed,
): Promise<void> {
  const now = clock.now()
  if (instance === null || instance.wanted !== 'running' || instance.generation !== generation) return
  if (instance.state === 'running' && instance.settled === generation) return
  if (instance.dueAt !== null && instance.dueAt > now) await store.settle(instance, { dueAt: now }, now)
}

/** Something is wrong with an instance that runs: its entry port is silent, say. */
async function complain(context: ReconcilerContext, observed: Observed, detail: string): Promise<void> {
  const instance = await context.store.instance(observed.instance)
  if (instance === null || instance.wanted !== 'running') return
  await tell(context, instance, {
    level: 'warning',
    kind: 'instance.silent',
    message: `instance ${instance.name}: ${detail}`,
  })
}

/** Milliseconds that an instance must run for its next fault to count as the first. */
const SETTLED_RUN_MS = 60_000

/** Marks a running instance as not running, unless somebody changed it since it was read. */
export async function lost(
  context: ReconcilerContext,
  instance: Instance | null,
  why: string,
  now: number,
): Promise<void> {
  if (instance === null || instance.state !== 'running' || instance.wanted !== 'running') return
  const failures = now - (instance.marks.startedAt ?? 0) < SETTLED_RUN_MS ? instance.failures + 1 : 0
  const dueAt = failures > 1 ? now + backoff(failures, context.random()) : now
  // The next start has times of its own: what dies young again and again must not pass for old.
  const { sandboxAt: _, startedAt: __, reachableAt: ___, ...marks } = instance.marks
  if (await settle(context, instance, { state: 'pending', failures, dueAt, lastError: why, marks })) {
    const message = `instance ${instance.name} no longer runs: ${why}`
    await tell(context, instance, { level: 'warning', kind: 'instance.lost', message })
  }
}
