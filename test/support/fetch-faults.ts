import assert from 'node:assert/strict'
import type { FaultInjector } from '../contract/subject.ts'
import { createFaults, type Strike } from './faults.ts'

/**
 * Makes calls of this process's `fetch` go wrong, for backends whose target gives out its own addresses, so that no proxy can
 * stand before it. Take it back with `restore`: others of this process use the same.
 * @param faulty which calls count
 */
export function fetchFaults(faulty: (url: string) => boolean): FaultInjector & { restore(): void } {
  const real = globalThis.fetch
  const faults = createFaults({ counts: ({ path }) => faulty(path) })

  globalThis.fetch = async (input, init = {}) => {
    assert.ok(typeof input === 'string')
    const { method = 'GET', body = '' } = init
    const call = { method, path: input, body: String(body) }
    const strike = faults.strike(call)
    if (strike !== null) return await struck(strike, input, init)
    const answer = await real(input, init)
    const { status, headers } = answer
    const text = faults.answered(call, await answer.text())
    return new Response(status === 204 ? null : text, { status, headers })
  }

  const struck = async (strike: Strike, input: string, init: RequestInit): Promise<Response> => {
    if (strike.fault === 'refuse') {
      strike.hit()
      throw new TypeError('fetch failed: refused by the test')
    }
    // What takes effect does so although the caller gives up.
    const { signal, ...detached } = init
    const answer = await real(input, detached)
    await answer.clone().arrayBuffer()
    const second = strike.fault === 'repeat' ? await real(input, detached) : answer
    strike.hit()
    if (strike.fault === 'repeat') return second
    if (strike.fault === 'lose-answer') throw new TypeError('fetch failed: its answer was lost by the test')
    const aborted = new Promise<never>((_, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true })
    })
    await Promise.race([strike.over, aborted])
    throw new TypeError('fetch failed: it never answered')
  }

  return {
    faults: faults.faults,
    arm: faults.arm,
    restore() {
      globalThis.fetch = real
    },
  }
}
