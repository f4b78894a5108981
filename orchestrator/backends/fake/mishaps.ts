import { OrchestratorError } from '../../../common/errors.ts'

/** How a call to the place goes wrong; the contract suite (test/contract/subject.ts) says what each means. */
export type Fault = 'refuse' | 'lose-answer' | 'hang' | 'repeat' | 'wrong-page'

/** Makes calls to the place go wrong, one at a time. */
export interface Mishaps {
  readonly faults: readonly Fault[]
  /** The `call`-th call from now on goes wrong, once. What was armed before is forgotten. */
  arm(fault: Fault, call: number): { readonly hit: Promise<void>; end(): boolean }
  /** Carries out a call, or lets it go wrong. What only reads is never repeated. */
  pass<T>(kind: 'read' | 'write', signal: AbortSignal, work: () => T): Promise<T>
  /** @returns that page, or the wrong one */
  page<T>(page: T, wrong: T): T
}

export function createMishaps(): Mishaps {
  interface Armed {
    readonly fault: Fault
    left: number
    wasHit: boolean
    readonly hit: PromiseWithResolvers<void>
    readonly over: PromiseWithResolvers<void>
  }
  let armed: Armed | null = null
  const turn = (...faults: Fault[]): Armed | null => {
    if (armed === null || !faults.includes(armed.fault) || --armed.left !== 0) return null
    return armed
  }
  const hit = (mishap: Armed) => {
    mishap.wasHit = true
    mishap.hit.resolve()
  }
  const lost = (what: string) => new OrchestratorError('target-failed', `the fake place ${what}`, { retryable: true })
  return {
    faults: ['refuse', 'lose-answer', 'hang', 'repeat', 'wrong-page'],
    arm(fault, call) {
      armed?.over.resolve()
      const parts = { hit: Promise.withResolvers<void>(), over: Promise.withResolvers<void>() }
      const mine: Armed = { fault, left: call, wasHit: false, ...parts }
      armed = mine
      return {
        hit: mine.hit.promise,
        end() {
          mine.over.resolve()
          if (armed === mine) armed = null
          return mine.wasHit
        },
      }
    },
    async pass(kind, signal, work) {
      signal.throwIfAborted()
      const mishap = turn('refuse', 'lose-answer', 'hang', ...(kind === 'write' ? ['repeat' as const] : []))
      if (mishap === null) return work()
      if (mishap.fault !== 'refuse') work()
      hit(mishap)
      if (mishap.fault === 'refuse') throw lost('refused the call')
      if (mishap.fault === 'repeat') return work()
      if (mishap.fault === 'hang') await Promise.race([mishap.over.promise, aborted(signal)])
      signal.throwIfAborted()
      throw lost('took the call, and its answer was lost')
    },
    page(page, wrong) {
      const mishap = turn('wrong-page')
      if (mishap === null) return page
      hit(mishap)
      return wrong
    },
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
