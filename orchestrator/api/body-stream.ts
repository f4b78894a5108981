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
  // It may fail while nobody reads it yet, or any more: `use` learns it from the signal, or when it reads.
  body.on('error', () => {})
  const left = () => {
    const error = new Problem(400, 'cut-off', `${what} was cut off`)
    over.abort(error)
    body.destroy(error)
  }
  // Also when all of it had come: what is not read by then is gone with the connection.
  const closed = () => {
    if (!request.readableEnded) left()
  }
  if (request.destroyed) closed()
  else request.once('close', closed)
  request.pipe(body)
  try {
    return await use(body, over.signal)
  } catch (error) {
    request.unpipe(body)
    body.destroy()
    if (!request.complete) {
      request.resume()
      setTimeout(() => {
        if (!request.complete) request.destroy()
      }, LINGER_MS).unref()
    }
    throw error
  }
}
