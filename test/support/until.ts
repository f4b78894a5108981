import { setTimeout as delay } from 'node:timers/promises'

/**
 * Waits until `look` gives something other than undefined, null or false, and returns it.
 * @param what names the promise; it stands in the error
 * @throws after `deadlineMs` (30,000 unless told), with the last error of `look`
 */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | null | false> | T | undefined | null | false,
  options: { deadlineMs?: number; everyMs?: number } = {},
): Promise<T> {
  const deadline = performance.now() + (options.deadlineMs ?? 30_000)
  let last: unknown
  for (;;) {
    try {
      const found = await look()
      if (found !== undefined && found !== null && found !== false) return found
      last = undefined
    } catch (error) {
      last = error
    }
    if (performance.now() > deadline) throw new Error(`not within the deadline: ${what}`, { cause: last })
    await delay(options.everyMs ?? 10)
  }
}
