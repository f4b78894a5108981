import type { Fault, FaultInjector } from '../contract/subject.ts'

/** Lists of OpenStack and the like: an object with one list in it, and perhaps links to the next page. */
function emptied(body: string): string {
  const parsed = JSON.parse(body) as Record<string, unknown>
  return JSON.stringify(Object.fromEntries(Object.entries(parsed).map(([k, v]) => [k, Array.isArray(v) ? [] : v])))
}

/**
 * Makes calls of this process's `fetch` go wrong, whatever they are addressed to. Take it back with `restore`: others of
 * this process use the same.
 * @param faulty which calls are counted
 */
export function fetchFaults(faulty: (url: string) => boolean): FaultInjector & { restore(): void } {
  const real = globalThis.fetch
  let armed: { fault: Fault; left: number; strike: () => void; ended: Promise<void> } | null = null

  const wrong = async (fault: Fault, ended: Promise<void>, input: Parameters<typeof fetch>[0], init?: RequestInit) => {
    if (fault === 'refuse') throw new TypeError('fetch failed: refused by the test')
    // What is to take effect does so although the caller gives up.
    const { signal: _, ...detached } = init ?? {}
    if (fault === 'repeat') await (await real(input, detached)).arrayBuffer()
    const answer = await real(input, detached)
    if (fault === 'repeat') return answer
    if (fault === 'wrong-page') {
      const body = await answer.text()
      const isList = (init?.method ?? 'GET') === 'GET' && body !== ''
      const { status, headers } = answer
      return new Response(status === 204 ? null : isList ? emptied(body) : body, { status, headers })
    }
    await answer.arrayBuffer()
    if (fault === 'lose-answer') throw new TypeError('fetch failed: its answer was lost by the test')
    await new Promise<void>((resolve, reject) => {
      init?.signal?.addEventListener('abort', () => reject(init.signal?.reason), { once: true })
      void ended.then(resolve)
    })
    throw new TypeError('fetch failed: it never answered')
  }

  globalThis.fetch = async (input, init) => {
    const url = input instanceof Request ? input.url : String(input)
    const strike = armed
    if (strike === null || !faulty(url) || --strike.left !== 0) return await real(input, init)
    strike.strike()
    return await wrong(strike.fault, strike.ended, input, init)
  }

  return {
    faults: ['refuse', 'lose-answer', 'hang', 'repeat', 'wrong-page'],
    arm(fault, call) {
      let isHit = false
      let release = () => {}
      const ended = new Promise<void>((resolve) => {
        release = resolve
      })
      const hit = new Promise<void>((resolve) => {
        const strike = () => {
          isHit = true
          resolve()
        }
        armed = { fault, left: call, strike, ended }
      })
      return {
        hit,
        end() {
          armed = null
          release()
          return isHit
        },
      }
    },
    restore() {
      globalThis.fetch = real
    },
  }
}
