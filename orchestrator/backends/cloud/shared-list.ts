import { HostUnreachable } from '../../../common/errors.ts'
import type { CloudMachine } from './provider.ts'

/**
 * One list for all who ask at the same time. Each gets one that began after it asked, so that it shows what was done before.
 * @param target its name, for errors
 * @param look asks the provider, every page
 */
export function sharedList(
  target: string,
  look: (signal: AbortSignal) => Promise<readonly CloudMachine[]>,
  mostMs: number,
): (signal: AbortSignal) => Promise<readonly CloudMachine[]> {
  type Found = Promise<readonly CloudMachine[]>
  let running: Found | null = null
  let next: Found | null = null
  const start = (): Found => {
    const limit = AbortSignal.timeout(mostMs)
    const mine: Found = look(limit)
      .catch((error: unknown) => {
        if (limit.aborted) throw new HostUnreachable(target, `it gave no list within ${mostMs} ms`, { cause: error })
        throw error
      })
      .finally(() => {
        if (running === mine) running = null
      })
    running = mine
    return mine
  }
  return async (signal) => {
    signal.throwIfAborted()
    let wanted = next
    if (wanted === null) {
      const before = running
      if (before === null) wanted = start()
      else {
        // Whoever comes until that one has ended waits for the same next one.
        wanted = before.then(
          () => start(),
          () => start(),
        )
        next = wanted
        const begun = () => {
          next = null
        }
        before.then(begun, begun)
      }
    }
    const found = wanted
    return await new Promise((resolve, reject) => {
      const abort = () => reject(signal.reason)
      signal.addEventListener('abort', abort, { once: true })
      found.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
    })
  }
}
