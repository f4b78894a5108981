import { wording } from '../../common/errors.ts'

/** Errors in a row at most that one was caused by. */
const CAUSES = 10

/** The same error, its words and those of its causes shown as `show` says: whoever logs it or tells it shows no more. */
export function veiled(thrown: unknown, show: (text: string) => string, depth = 0): unknown {
  if (thrown === undefined || thrown === null || depth > CAUSES) return undefined
  if (!(thrown instanceof Error)) {
    const said = wording(thrown)
    return show(said) === said ? thrown : new Error(show(said))
  }
  const set = (key: string, value: unknown) =>
    Object.defineProperty(thrown, key, { value, configurable: true, writable: true, enumerable: false })
  for (const key of ['message', 'stack'] as const) {
    const said = thrown[key]
    if (said !== undefined && show(said) !== said) set(key, show(said))
  }
  if (thrown.cause !== undefined) {
    const cause = veiled(thrown.cause, show, depth + 1)
    if (cause !== thrown.cause) set('cause', cause)
  }
  if (thrown instanceof AggregateError) for (const one of thrown.errors) veiled(one, show, depth + 1)
  return thrown
}
