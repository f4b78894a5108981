import { PassThrough, type Readable } from 'node:stream'
import type { Request } from 'express'
import { Problem } from './problem.ts'

/** Milliseconds in which what is still sent of a refused body is read and thrown away, so that its sender reads why. */
const LINGER_MS = 5_000

/**
 * Hands a request's body to `use`, whose failure leaves the request whole: the answer still reaches who is sending. The
 * signal is aborted when the sender goes away.
 */
export async function withBody<T>(
  request: Request,
  what: string,
  use: (body: Readable, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const over = new AbortController()
  const body = new PassThrough()
  const left = () => {
    const error = new Problem(400, 'cut-off', `${what} was cut off`)
    over.abort(error)
    body.destroy(error)
  }
  request.once('close', () => {
    if (!request.complete) left()
  })
  request.pipe(body)
  try {
    return await use(body, over.signal)
  } catch (error) {
    request.unpipe(body)
    if (!request.complete) {
      request.resume()
      setTimeout(() => {
        if (!request.complete) request.destroy()
      }, LINGER_MS).unref()
    }
    throw error
  }
}
