import type { WiringSpec } from '../../../common/wiring-spec.ts'
import { Thread } from '../threads/thread.ts'
import type { WiringLog } from '../wiring.ts'
import type { Difference, Interfaces, Step, Target, Wired } from './interfaces.ts'

/** What the engine's thread is given for each verb. */
export interface EngineCalls {
  readonly plan: { readonly target: Target; readonly spec: WiringSpec }
  readonly wire: { readonly target: Target; readonly spec: WiringSpec }
  readonly check: { readonly key: string }
  readonly unwire: { readonly key: string; readonly names: readonly string[] | undefined }
  readonly show: { readonly keys: readonly string[] | undefined }
}

interface EngineAnswers {
  readonly plan: readonly Step[]
  readonly wire: readonly Step[]
  readonly check: readonly Difference[]
  readonly unwire: readonly Step[]
  readonly show: readonly Wired[]
}

const WORKER = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url)

/**
 * Starts the engine for this network namespace in a thread of its own: removing a link takes the kernel some 15 ms, and who
 * else changes wirings is waited for.
 * @param options.directory where is kept what is needed to find and undo every wiring; made if it is missing
 */
export function startInterfaces(options: { readonly directory: string; readonly log: WiringLog }): Interfaces {
  const worker = { file: WORKER, data: options.directory }
  const thread = new Thread<EngineCalls, EngineAnswers>('interfaces', worker, options.log)
  return {
    plan: (target, spec) => thread.call('plan', { target, spec }),
    wire: (target, spec) => thread.call('wire', { target, spec }),
    check: (key) => thread.call('check', { key }),
    unwire: (key, names) => thread.call('unwire', { key, names }),
    show: (keys) => thread.call('show', { keys }),
    stop: () => thread.stop(),
  }
}
