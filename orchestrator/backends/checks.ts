import { errorCode, wording } from '../../common/errors.ts'
import { unlessAborted } from '../../common/unless-aborted.ts'
import type { Host, Target } from '../domain/host.ts'
import type { TargetReport } from '../domain/standing.ts'
import type { Backend, TargetCheck } from './backend.ts'

/** Milliseconds that a target has to answer. */
const WITHIN_MS = 15_000

/** Asks all of these targets at once. Never rejects, unless the signal is aborted. */
export async function checkTargets(
  backend: Backend,
  targets: readonly Target[],
  signal: AbortSignal,
): Promise<readonly TargetReport[]> {
  return await Promise.all(targets.map((target) => checkTarget(backend, target, signal)))
}

async function checkTarget(backend: Backend, target: Target, signal: AbortSignal): Promise<TargetReport> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(WITHIN_MS)])
  const begun = performance.now()
  const report = (found: TargetCheck | null, error: TargetReport['error']): TargetReport => ({
    ...{ target: target.name, ms: Math.round(performance.now() - begun), found, error },
  })
  try {
    return report(await found(backend, target, limit), null)
  } catch (error) {
    signal.throwIfAborted()
    if (!limit.aborted) return report(null, { code: errorCode(error), message: wording(error) })
    return report(null, { code: 'timeout', message: `it did not answer within ${WITHIN_MS / 1000} s` })
  }
}

/**
 * A backend that has no check of its own is asked for its list: what answers that is there. One that does not heed its signal
 * holds nobody up.
 */
async function found(backend: Backend, target: Target, signal: AbortSignal): Promise<TargetCheck> {
  if (backend.check !== undefined) return await unlessAborted(backend.check(target, signal), signal)
  const listed = await unlessAborted(backend.list(target, signal), signal)
  const { engine } = 'facts' in target ? (target as Host).facts : {}
  const abilities = [`lists instances (${listed.length})`, 'makes and removes them']
  if (backend.logs !== undefined) abilities.push('shows what they print')
  if (backend.prepare !== undefined) abilities.push('fetches images beforehand')
  return { version: engine ?? backend.name, abilities, missing: [] }
}
